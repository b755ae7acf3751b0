"""Orders as their clients know them, beside the money that really moved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from devstack.artifacts import Artifact, Charge, Exchange, Ledger
from grader.answers import order_id_of, order_status_of
from grader.checks.reading import field
from grader.checks.values import is_money, member
from grader.judge import Judge

MONEY = (
    "contract: confirmed ⇔ exactly one unrefunded charge of exactly the total, any other final status ⇔ none"
)

_REFUSED = frozenset({400, 402, 403, 404, 409, 422})


@dataclass(frozen=True)
class Purchase:
    """One order: all attempts under its key, and the last reading of it (``None`` if its id was never told)."""

    key: str
    attempts: tuple[Exchange, ...]
    reading: Exchange | None

    @property
    def order_id(self) -> str | None:
        """The id that the service told."""
        return next((found for attempt in self.attempts if (found := order_id_of(attempt))), None)

    @property
    def card_token(self) -> str:
        """The card that the client sent; each order of the scenarios has its own."""
        return str(member(self.attempts[0].request_json, "card_token") or "")

    @property
    def told_confirmed(self) -> bool:
        """Whether an answer said that the order is confirmed."""
        return any(attempt.status == 201 for attempt in self.attempts)

    @property
    def status(self) -> str:
        """The order's last known status; ``refused`` where none came about, ``unknown`` where nobody can say."""
        if self.reading is not None and (found := order_status_of(self.reading)) is not None:
            return found
        return "refused" if self.attempts[-1].status in _REFUSED and not self.told_confirmed else "unknown"

    def quantity_of(self, event_id: int) -> int:
        """Tickets that the client asked for."""
        lines = member(self.attempts[0].request_json, "items")
        found = 0
        for line in lines if isinstance(lines, list) else ():
            quantity = member(line, "quantity")
            if member(line, "event_id") == event_id and isinstance(quantity, int):
                found += quantity
        return found

    def charges_in(self, ledger: Ledger) -> list[Charge]:
        """All charges of this order, refunded ones included."""
        return [
            charge
            for charge in ledger.charges
            if charge.card_token == self.card_token or charge.order_ref == self.order_id
        ]


def purchases(attempts: Iterable[Exchange], readings: Iterable[Exchange]) -> list[Purchase]:
    """The orders among ``attempts``, by key in the order of their first attempt, each with its reading."""
    by_key: dict[str, list[Exchange]] = {}
    for attempt in sorted(attempts, key=lambda exchange: exchange.started_s):
        key = attempt.request_headers.get("Idempotency-Key", "")
        if isinstance(attempt.request_json, dict) or key in by_key:
            by_key.setdefault(key, []).append(attempt)
    last = {reading.path.rpartition("/")[2]: reading for reading in readings}
    found = []
    for key, sent in by_key.items():
        order_id = next((told for attempt in sent if (told := order_id_of(attempt))), None)
        found.append(Purchase(key, tuple(sent), last.get(order_id or "")))
    return found


def recorded(artifact: Artifact, prefix: str) -> list[Exchange]:
    """All exchanges recorded under names that begin with ``prefix``."""
    return [
        exchange
        for name, found in artifact.exchanges.items()
        if name.startswith(prefix)
        for exchange in found
    ]


def judge_money(judge: Judge, orders: Sequence[Purchase], ledger: Ledger, *, strays: bool) -> None:
    """Orders and charges must agree. ``strays``: ``orders`` are all there were, so no other charge may exist."""
    faults = money_faults(orders, ledger) + (stray_charges(orders, ledger) if strays else [])
    judge.true("every order and the money agree", not faults, "; ".join(faults[:3]), source=MONEY)
    charges = tuple(charge for order in orders for charge in order.charges_in(ledger))
    judge.evidence(Ledger(taken_s=ledger.taken_s, charges=charges), name="charges")


def money_faults(orders: Sequence[Purchase], ledger: Ledger) -> list[str]:
    """What is wrong between the orders and their charges, a sentence each."""
    return [fault for order in orders if (fault := _money_fault(order, ledger))]


def stray_charges(orders: Sequence[Purchase], ledger: Ledger) -> list[str]:
    """Unrefunded charges that belong to none of ``orders``, a sentence each."""
    owned = {charge.charge_id for order in orders for charge in order.charges_in(ledger)}
    return [
        f"charge {charge.charge_id} belongs to no order that was placed"
        for charge in ledger.charges
        if charge.status == "captured" and charge.charge_id not in owned
    ]


def _money_fault(order: Purchase, ledger: Ledger) -> str | None:
    captured = [charge for charge in order.charges_in(ledger) if charge.status == "captured"]
    name = f"order {order.order_id}" if order.order_id else f"the order with key {order.key[:8]}…"
    if order.status == "pending":
        return f"{name} was left pending"
    if order.status == "confirmed":
        if len(captured) != 1:
            return f"{name} is confirmed and has {len(captured)} unrefunded charges"
        if not _is_total(captured[0], order):
            return f"{name} was charged {captured[0].amount} {captured[0].currency}, which is not its total"
        return None
    if order.told_confirmed:
        return f"{name} was answered 201, and is {order.status} now"
    if captured:
        return f"{name} is {order.status}, and its card was charged"
    return None


def _is_total(charge: Charge, order: Purchase) -> bool:
    total = field(order.reading, "total") if order.reading else None
    return is_money(total, Decimal(charge.amount), charge.currency)
