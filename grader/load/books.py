"""What a load must have left behind: its orders, the cards that must not have been charged, the seats. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from devstack.artifacts import Frozen
from grader.load.plan import Arm, Endpoint, LoadPlan, PlannedOrder
from grader.load.result import Outcome, PlacedOrder

_MAYBE_LATER = frozenset({408, 425, 429})
"""Refusals that do not say that nothing happened, or will."""


class AcceptedOrder(Frozen):
    """An order that the service accepted, and what it was to come to.

    ``confirmed``: the service has said so (201); ``read``: it is among those that are read back.
    """

    id: str
    card_token: str
    total: str
    currency: str
    confirmed: bool = True
    read: bool = True


class Seats(Frozen):
    """An event of which orders were placed, and the seats that it may still have."""

    event_id: int
    least: int
    most: int


def accepted_orders(
    plan: LoadPlan, placed: Iterable[PlacedOrder], read: Collection[int]
) -> tuple[AcceptedOrder, ...]:
    """All orders that were accepted; ``read``: the arrivals' numbers of those that will be read back."""
    planned = _planned(plan, "order")
    return tuple(
        AcceptedOrder(
            id=order.id,
            card_token=planned[order.number].card_token,
            total=planned[order.number].total,
            currency=planned[order.number].currency,
            confirmed=order.confirmed,
            read=order.number in read,
        )
        for order in placed
    )


def refused_cards(plan: LoadPlan, outcomes: Iterable[Outcome]) -> tuple[str, ...]:
    """The card tokens of orders that were refused for good (4xx), valid ones and others."""
    planned = _planned(plan, "order", "invalid")
    return tuple(planned[outcome.number].card_token for outcome in outcomes if _is_refused(outcome, planned))


def seats(
    plan: LoadPlan, arm: Arm, outcomes: Iterable[Outcome], placed: Iterable[PlacedOrder], *, events: int
) -> tuple[Seats, ...]:
    """The ``events`` events of which most was sold. What was not refused may be sold, what was confirmed is."""
    planned = _planned(plan, "order", "invalid")
    asked, sold = Counter[int](dict(arm.asked_before)), Counter[int]()
    for outcome in outcomes:
        if outcome.number in planned and not _is_refused(outcome, planned):
            # an invalid order may be for one more than allowed
            extra = 7 if outcome.endpoint == "invalid" else 0
            _count(asked, planned[outcome.number].items, extra)
    for order in placed:
        if order.confirmed:
            _count(sold, planned[order.number].items)
    totals = {event.id: event.seats_total for event in plan.catalogue.events}
    return tuple(
        Seats(event_id=event_id, least=totals[event_id] - asked[event_id], most=totals[event_id] - quantity)
        for event_id, quantity in sold.most_common(events)
    )


def _planned(plan: LoadPlan, *endpoints: Endpoint) -> dict[int, PlannedOrder]:
    """The orders that arrivals at ``endpoints`` carry, by the arrival's number."""
    return {
        arrival.number: arrival.order
        for arrival in plan.arrivals
        if arrival.endpoint in endpoints and arrival.order is not None
    }


def _is_refused(outcome: Outcome, planned: dict[int, PlannedOrder]) -> bool:
    status = outcome.status
    return (
        outcome.number in planned
        and status is not None
        and 400 <= status < 500
        and status not in _MAYBE_LATER
    )


def _count(seats: Counter[int], items: Sequence[tuple[int, int]], extra: int = 0) -> None:
    for event_id, quantity in items:
        seats[event_id] += quantity + extra
