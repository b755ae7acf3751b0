"""What must be true of orders, money and seats when a failure is over."""

from __future__ import annotations

from collections.abc import Sequence

from devstack.artifacts import Artifact, Exchange
from grader.answers import FINAL_STATUSES, UNAVAILABLE, seats_available_of
from grader.checks.purchases import Purchase, judge_money, purchases, recorded
from grader.judge import Judge

_REQUESTS = "orders-"
_SHOWN = 3


def judge_aftermath(judge: Judge, artifact: Artifact) -> None:
    """Orders, money and seats at the end of a scenario with buyers who live through a failure."""
    sent = recorded(artifact, _REQUESTS)
    orders = purchases(sent, artifact.exchanges_of("settled"))
    judge_money(judge, orders, artifact.ledger(), strays=True)
    judge.equal(
        "orders whose client learns how they ended", sum(map(_has_ended, orders)), len(orders),
        source="contract: one key is one order, also across restarts; after a 503 a replay returns the order or its failure",
    )  # fmt: skip
    judge.evidence(*_last_words(orders))
    _judge_seats(judge, artifact, orders)
    controls = [order for order in orders if order.quantity_of(int(artifact.number("control-event")))]
    judge.equal(
        "undisturbed orders that are confirmed", sum(order.status == "confirmed" for order in controls), len(controls),
        source="contract: seats are left, the card is good and nothing fails, so the order is confirmed",
    )  # fmt: skip


def _has_ended(order: Purchase) -> bool:
    """A final status, or a failure told under the key: seats are left and each card is good, so no 4xx is right."""
    if order.order_id is not None:
        return order.status in FINAL_STATUSES
    return order.attempts[-1].status in UNAVAILABLE


def _last_words(orders: Sequence[Purchase]) -> list[Exchange]:
    """What the service said last about orders that never ended."""
    return [order.reading or order.attempts[-1] for order in orders if not _has_ended(order)][:_SHOWN]


def _judge_seats(judge: Judge, artifact: Artifact, orders: Sequence[Purchase]) -> None:
    totals = artifact.fact("seats-total")
    pages = artifact.exchanges_of("availability")
    wrong = []
    for event_id, total in totals.items() if isinstance(totals, dict) else ():
        sold = sum(order.quantity_of(int(event_id)) for order in orders if order.status == "confirmed")
        page = next((found for found in pages if found.path == f"/events/{event_id}"), None)
        free = seats_available_of(page) if page is not None else None
        if not isinstance(total, int) or free != total - sold:
            wrong.append(f"event {event_id}: {sold} of {total} seats are confirmed, {free} are shown as free")
    judge.true(
        "every seat that nobody bought is on sale", not wrong, "; ".join(wrong[:_SHOWN]),
        source="contract: seats_available = seats_total − seats of confirmed orders − seats held by pending ones",
    )  # fmt: skip
    judge.evidence(*pages)
