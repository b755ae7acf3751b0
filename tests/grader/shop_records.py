"""Records as a scenario would write them of a service that does everything right, to be spoiled by a test."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from devstack.artifacts import Artifact, Charge, Exchange, Heartbeat, Heartbeats, Ledger, Message
from grader.judge import Judge, meta_of, parameter_of
from grader.model import CheckOutcome
from grader.verdicts import run_check

CHECK = Callable[..., None]
Spoil = Callable[[Artifact], Artifact]


def outcome_of(check: CHECK, *artifacts: Artifact) -> CheckOutcome:
    """Run one check on hand-made artifacts."""
    meta = meta_of(check)
    assert meta is not None
    given = {artifact.scenario: artifact for artifact in artifacts}
    assert set(given) == set(meta.requires)
    judge = Judge(meta)
    arguments = {parameter_of(name): artifact for name, artifact in given.items()}
    return run_check(judge, lambda: check(**arguments, judge=judge), given)


def failures(outcome: CheckOutcome) -> set[str]:
    """Names of the measurements that cost points."""
    assert outcome.judgement is not None, outcome.error
    return {found.name for found in outcome.judgement.measurements if found.score < 1}


def placed(
    name: str, number: int, *, status: int | None = 201, quantity: int = 1, event_id: int = 1, at_s: float = 1.0,
    elapsed_s: float = 0.1, order_id: str | None = None, error: str | None = None,
) -> Exchange:  # fmt: skip
    """The order ``number`` being placed; its id, key and card follow from the number."""
    payload: Any = {"id": order_id or f"o{number}", "status": "confirmed"} if status in (200, 201) else None
    if status == 202:
        payload = {"id": order_id or f"o{number}", "status": "pending"}
    return Exchange(
        label=name, method="POST", path="/orders", started_s=at_s, elapsed_s=elapsed_s,
        request_headers={"Idempotency-Key": f"key-{number}"},
        request_json={"card_token": f"tok_{number}", "items": [{"event_id": event_id, "quantity": quantity}]},
        status=status, payload=payload, error=error,
    )  # fmt: skip


def reading(number: int, *, status: str = "confirmed", at_s: float = 2.0, total: str = "10.00") -> Exchange:
    """The order ``number`` as it is read at the end."""
    payload: Any = {"id": f"o{number}", "status": status, "total": {"amount": total, "currency": "EUR"}}
    return Exchange(
        label="settled", method="GET", path=f"/orders/o{number}", started_s=at_s, elapsed_s=0.01,
        status=200, payload=payload,
    )  # fmt: skip


def charge(number: int, *, amount: str = "10.00", status: Any = "captured", again: int = 0) -> Charge:
    """A charge of the order ``number``."""
    return Charge(
        charge_id=f"ch_{number}_{again}", order_ref=f"o{number}", amount=amount, currency="EUR", status=status,
        idempotency_key=f"charge-{number}-{again}", captured_s=1.0, card_token=f"tok_{number}",
    )  # fmt: skip


def mail(number: int) -> Message:
    """The mail of the order ``number``."""
    return Message(
        to="a@example.com",
        template="confirmed",
        order_id=f"o{number}",
        idempotency_key=f"m{number}",
        accepted_s=3,
    )


def ledger(charges: Iterable[Charge], messages: Iterable[Message] = ()) -> Ledger:
    """A ledger snapshot."""
    return Ledger(taken_s=9.0, charges=tuple(charges), messages=tuple(messages))


def beats(
    until_s: float, *, interval_s: float = 0.5, answer: Callable[[float], tuple[int | None, float]]
) -> Heartbeats:
    """A series whose status and latency are ``answer(at)``."""
    found = []
    for number in range(int(until_s / interval_s)):
        at_s = number * interval_s
        status, latency_s = answer(at_s)
        found.append(Heartbeat(intended_s=at_s, latency_s=latency_s, status=status))
    return Heartbeats(interval_s=interval_s, beats=tuple(found))


def read(
    name: str, path: str, *, status: int | None = 200, at_s: float = 1.0, payload: Any = None
) -> Exchange:
    """A GET."""
    error = "timeout" if status is None else None
    return Exchange(
        label=name, method="GET", path=path, started_s=at_s, elapsed_s=0.05, status=status, payload=payload, error=error
    )  # fmt: skip


def with_exchanges(artifact: Artifact, **changed: Iterable[Exchange]) -> Artifact:
    """``artifact`` with other exchanges under some names (underscores become dashes)."""
    new = {name.replace("_", "-"): tuple(found) for name, found in changed.items()}
    return artifact.model_copy(update={"exchanges": {**artifact.exchanges, **new}})


def with_facts(artifact: Artifact, **changed: Any) -> Artifact:
    """``artifact`` with other facts (underscores become dashes)."""
    new = {name.replace("_", "-"): value for name, value in changed.items()}
    return artifact.model_copy(update={"facts": {**artifact.facts, **new}})


def with_ledger(artifact: Artifact, name: str, book: Ledger) -> Artifact:
    """``artifact`` with another ledger."""
    return artifact.model_copy(update={"ledgers": {**artifact.ledgers, name: book}})


def steady(latency_s: float = 0.02) -> Heartbeats:
    """Ten seconds of heartbeats that are all answered alike."""
    return beats(10, interval_s=0.05, answer=lambda _: (200, latency_s))


def frozen(from_s: float, until_s: float) -> Heartbeats:
    """Nothing is answered while the loop is blocked; what was due then is answered at its end."""

    def answer(at_s: float) -> tuple[int, float]:
        return 200, until_s - at_s if from_s <= at_s < until_s else 0.02

    return beats(10, interval_s=0.05, answer=answer)


def with_beats(artifact: Artifact, name: str, series: Heartbeats) -> Artifact:
    """``artifact`` with another series of heartbeats."""
    return artifact.model_copy(update={"heartbeats": {**artifact.heartbeats, name: series}})


def lasting(exchange: Exchange, elapsed_s: float) -> Exchange:
    """``exchange``, had it taken so long."""
    return exchange.model_copy(update={"elapsed_s": elapsed_s})
