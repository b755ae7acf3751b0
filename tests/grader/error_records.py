"""Records of failing upstreams as the scenario would write them, to be spoiled by a test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shop_records import charge, placed, read, reading, steady

from devstack.artifacts import Artifact, Charge, Exchange, Ledger, UpstreamCall

BASE, FOREIGN, DENIED, DECLINED = 1, 2, 3, 4
PHASES = {"payments": 10, "risk": 20}
"""Numbers of the orders that meet each upstream's faults, the first of them."""


def order(
    name: str, number: int, status: int | None, at_s: float, elapsed_s: float = 1.0, **more: Any
) -> Exchange:
    """An order as it was answered, with Retry-After where that is due."""
    found = placed(name, number, status=status, at_s=at_s, elapsed_s=elapsed_s)
    assert isinstance(found.request_json, dict)
    body = {**found.request_json, "buyer_email": f"Buyer{number}@example.com", **more}
    headers = {"retry-after": "1"} if status in (429, 503) else {}
    return found.model_copy(update={"request_json": body, "headers": headers})


def assess(number: int, at_s: float, status: int | None = 200) -> UpstreamCall:
    """A call to risk for the order ``number``."""
    return UpstreamCall(
        upstream="risk", operation="assess", connection=1, started_s=at_s, ended_s=at_s + 0.02, method="POST",
        path="/assessments", body={"buyer_email": f"buyer{number}@example.com"}, status=status,
    )  # fmt: skip


def charging(number: int, at_s: float, status: int | None = 503, key: str | None = "k") -> UpstreamCall:
    """A call to charge the order ``number``."""
    return UpstreamCall(
        upstream="payments", operation="charge", connection=1, started_s=at_s, ended_s=at_s + 0.05, method="POST",
        path="/charges", body={"card_token": f"tok_{number}", "order_ref": f"o{number}"},
        idempotency_key=key, status=status,
    )  # fmt: skip


def rate(currency: str, at_s: float, status: int = 503) -> UpstreamCall:
    """A call for a rate."""
    return UpstreamCall(
        upstream="rates", operation="rate", connection=1, started_s=at_s, ended_s=at_s + 0.02, method="GET",
        path=f"/rates/EUR/{currency}", status=status,
    )  # fmt: skip


def tried(make: Callable[..., UpstreamCall], number: int, at_s: float, status: int) -> list[UpstreamCall]:
    """Four attempts with pauses that double."""
    return [make(number, at_s + offset, status) for offset in (0.0, 0.15, 0.4, 0.95)]


def good_calls() -> list[UpstreamCall]:
    """What the stubs saw of a service that does everything right."""
    calls = [assess(number, 2.0) for number in (BASE, FOREIGN, DENIED, DECLINED)]
    for upstream, make in (("payments", charging), ("risk", assess)):
        first = PHASES[upstream]
        for number, status in ((first + 1, 500), (first + 2, 503)):
            calls += tried(make, number, float(number), status)
        calls += [make(first + 3, first + 3.0, 400), make(first + 4, first + 4.0, 429)]
        calls.append(make(first + 4, first + 7.06, 201 if upstream == "payments" else 200))
    # Somebody's background work: the order was accepted, and is charged again a while after the fault.
    calls += [charging(12, 14.5), charging(12, 16.5, 201)]
    calls += [rate("SEK", 11.0, 500), rate("SEK", 11.3, 500), rate("NOK", 11.0, 500)]
    return calls


def right() -> Artifact:
    """Every order answered as it should be, some of them accepted and settled later."""
    exchanges: dict[str, Sequence[Exchange]] = {
        "base-currency": (order("base-currency", BASE, 201, 2.0),),
        "denied": (order("denied", DENIED, 403, 2.0),),
        "declined": (order("declined", DECLINED, 402, 2.0),),
        "list": (read("list", "/events?limit=5"),),
        "rates-refuse": (order("rates-refuse", FOREIGN, 503, 2.0, currency="CHF"),),
        "rates-refuse-page": (page("CHF"),),
        "rates-500": (order("rates-500", FOREIGN + 100, 503, 11.0, currency="SEK"),),
        "rates-500-page": (page("NOK", at_s=11.0),),
        "settled": (reading(BASE), reading(12), reading(14), reading(24)),
        "settled-replays": (),
    }
    for upstream, first in PHASES.items():
        for number, kind in enumerate(("refuse", "500", "503", "400", "429"), start=first):
            status = 202 if number == 12 else 201 if kind == "429" else 503
            name = f"{upstream}-{kind}"
            elapsed_s = 3.2 if kind == "429" else 1.1
            exchanges[name] = (order(name, number, status, float(number), elapsed_s),)
    return Artifact(
        scenario="upstream-errors",
        facts={"faults-over-s": 30.0},
        exchanges={name: tuple(found) for name, found in exchanges.items()},
        heartbeats={"payments-503": steady(), "risk-503": steady()},
        ledgers={"final": book(good_calls(), [good_charge(number) for number in (BASE, 12, 14, 24)])},
    )


def page(currency: str, *, at_s: float = 1.0, **changed: Any) -> Exchange:
    """An event page in another currency, without a price in it."""
    found = read("page", f"/events/1?currency={currency}", at_s=at_s, payload={"display_price": None})
    return found.model_copy(update=changed)


def good_charge(number: int, at_s: float = 27.5) -> Charge:
    """A charge of the order ``number``, by default after all faults."""
    return charge(number).model_copy(update={"captured_s": at_s})


def book(calls: Sequence[UpstreamCall], charges: Sequence[Charge]) -> Ledger:
    """A ledger."""
    return Ledger(taken_s=40.0, calls=tuple(calls), charges=tuple(charges))


def with_calls(artifact: Artifact, *more: UpstreamCall) -> Artifact:
    """``artifact`` with further calls."""
    found = artifact.ledger()
    return artifact.model_copy(update={"ledgers": {"final": book([*found.calls, *more], found.charges)}})


def number_of(call: UpstreamCall) -> str:
    """The number of the order that a call was made for."""
    assert call.body is None or isinstance(call.body, dict)
    told = (call.body or {}).get("card_token") or (call.body or {}).get("buyer_email") or ""
    return "".join(letter for letter in str(told) if letter.isdigit())


def with_charges(artifact: Artifact, *more: Charge) -> Artifact:
    """``artifact`` with further charges."""
    found = artifact.ledger()
    return artifact.model_copy(update={"ledgers": {"final": book(found.calls, [*found.charges, *more])}})
