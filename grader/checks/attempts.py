"""Calls to upstreams as attempts at one thing: which order or page they were made for, when, and after which answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from urllib.parse import parse_qs, urlsplit

from pydantic import JsonValue

from devstack.artifacts import Artifact, Exchange, Ledger, Upstream, UpstreamCall
from grader.checks.values import member

CALL_ATTEMPTS = 4
"""Contract: attempts at one upstream call."""

OPERATION: dict[Upstream, str] = {"payments": "charge", "risk": "assess", "rates": "rate"}


@dataclass(frozen=True)
class Attempts:
    """The attempts at one upstream call, for one order or page."""

    upstream: Upstream
    exchange: Exchange
    calls: tuple[UpstreamCall, ...]

    @property
    def answering(self) -> tuple[UpstreamCall, ...]:
        """Those that were made before the answer."""
        return tuple(call for call in self.calls if call.started_s < self.exchange.ended_s)

    @property
    def first(self) -> tuple[UpstreamCall, ...]:
        """As many as the contract allows for one call, whether or not the answer waited for them."""
        return self.calls[:CALL_ATTEMPTS]

    @property
    def paused_s(self) -> float:
        """Seconds between the end of one of the first attempts and the beginning of the next, all together."""
        return sum(begun - ended for ended, begun in pauses(self.first))

    @property
    def background_gaps_s(self) -> list[float]:
        """Seconds from start to start, between attempts beyond the first that were made after the answer."""
        return [
            later.started_s - earlier.started_s
            for earlier, later in pairwise(self.calls[CALL_ATTEMPTS:])
            if later.started_s >= self.exchange.ended_s
        ]


def attempts_of(
    ledger: Ledger, upstream: Upstream, exchange: Exchange, *, until_s: float = float("inf")
) -> Attempts:
    """What was tried at ``upstream`` for ``exchange`` before ``until_s``."""
    belongs = _belongs(upstream, exchange)
    calls = (
        call
        for call in ledger.calls_to(upstream, OPERATION[upstream])
        if exchange.started_s <= call.started_s < until_s and belongs(call)
    )
    return Attempts(upstream, exchange, tuple(sorted(calls, key=lambda call: call.started_s)))


def pauses(calls: Sequence[UpstreamCall]) -> list[tuple[float, float]]:
    """When each call ended and the one after it began; one that never ended counts as ended when it began."""
    return [
        (earlier.started_s if earlier.ended_s is None else earlier.ended_s, later.started_s)
        for earlier, later in pairwise(calls)
    ]


def charge_keys(ledger: Ledger) -> dict[tuple[str, str], set[str]]:
    """The keys under which each order was charged, by card and order; a call without one counts as a key of its own."""
    keys: dict[tuple[str, str], set[str]] = {}
    for number, call in enumerate(ledger.calls_to("payments", "charge")):
        order = (text_of(call.body, "card_token"), text_of(call.body, "order_ref"))
        keys.setdefault(order, set()).add(call.idempotency_key or f"none {number}")
    return keys


def assessed_before(ledger: Ledger, exchange: Exchange, instant_s: float) -> bool:
    """Whether risk had decided on this buyer."""
    calls = attempts_of(ledger, "risk", exchange, until_s=instant_s).calls
    return any(call.status == 200 for call in calls)


def rate_known_before(ledger: Ledger, exchange: Exchange, instant_s: float) -> bool:
    """Whether the rate of this order or page had been fetched by anybody."""
    belongs = _belongs("rates", exchange)
    return any(
        call.status == 200 and call.started_s < instant_s and belongs(call)
        for call in ledger.calls_to("rates", OPERATION["rates"])
    )


def phase_exchanges(artifact: Artifact, upstream: Upstream, kinds: Sequence[str]) -> list[Exchange]:
    """The orders that met these faults, as far as the scenario came."""
    return [found for kind in kinds for found in artifact.exchanges.get(f"{upstream}-{kind}", ())]


def text_of(value: JsonValue, name: str) -> str:
    """A field of a JSON object as text, empty where there is none."""
    found = member(value, name)
    return found if isinstance(found, str) else ""


def _belongs(upstream: Upstream, exchange: Exchange) -> Callable[[UpstreamCall], bool]:
    wanted = exchange.request_json
    if upstream == "payments":
        token = text_of(wanted, "card_token")
        return lambda call: text_of(call.body, "card_token") == token
    if upstream == "risk":
        email = text_of(wanted, "buyer_email").lower()
        return lambda call: text_of(call.body, "buyer_email").lower() == email
    asked = parse_qs(urlsplit(exchange.path).query).get("currency", [""])[0]
    currency = text_of(wanted, "currency") or asked
    return lambda call: currency in call.path.split("/")
