"""What a load must have left: orders, cards, seats."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from devstack.seed import LiveData
from grader.load.books import accepted_orders, refused_cards, seats
from grader.load.plan import CURRENCIES, Arm, Arrival, LoadPlan, catalogue, schedule
from grader.load.result import Outcome, PlacedOrder

LIVE = LiveData.from_seed(5, dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC))
ARRIVALS = schedule(LIVE, {currency: Decimal("1.0937") for currency in CURRENCIES}, seed=5)
ORDERS = [arrival for arrival in ARRIVALS if arrival.endpoint == "order"]
INVALID = next(arrival for arrival in ARRIVALS if arrival.endpoint == "invalid")
ARM = Arm(name="submission", base_url="http://h:1", asked_before=((LIVE.events[0].id, 1),))
PLAN = LoadPlan(arms=(ARM,), arrivals=ARRIVALS, catalogue=catalogue(LIVE, []))


def answered(arrival: Arrival, status: int | None) -> Outcome:
    return Outcome(number=arrival.number, endpoint=arrival.endpoint, due_s=0, status=status)


def placed(arrival: Arrival, *, confirmed: bool = True) -> PlacedOrder:
    return PlacedOrder(number=arrival.number, id=f"o-{arrival.number}", confirmed=confirmed)


def test_all_accepted_orders_are_in_the_books_and_some_are_read() -> None:
    first, second = ORDERS[:2]
    found = accepted_orders(PLAN, [placed(first), placed(second, confirmed=False)], {first.number})
    assert [(order.id, order.confirmed, order.read) for order in found] == [
        (f"o-{first.number}", True, True),
        (f"o-{second.number}", False, False),
    ]
    assert first.order is not None
    assert (found[0].card_token, found[0].total) == (first.order.card_token, first.order.total)


def test_only_a_refusal_for_good_says_that_a_card_is_never_charged() -> None:
    outcomes = [
        answered(order, status)
        for order, status in zip(ORDERS, [402, 409, 429, 503, 201, None, 425], strict=False)
    ]
    outcomes.append(answered(INVALID, 422))
    refused = refused_cards(PLAN, outcomes)
    assert refused == tuple(
        arrival.order.card_token for arrival in (ORDERS[0], ORDERS[1], INVALID) if arrival.order
    )


def test_seats_that_may_be_sold_are_a_range_and_those_that_must_be_are_gone() -> None:
    sold = next(order for order in ORDERS if order.order and len(order.order.items) == 1)
    assert sold.order is not None
    ((event_id, quantity),) = sold.order.items
    total = next(event.seats_total for event in LIVE.events if event.id == event_id)
    certain = seats(PLAN, ARM, [answered(sold, 201)], [placed(sold)], events=3)
    assert [(event.event_id, event.least, event.most) for event in certain] == [
        (event_id, total - quantity, total - quantity)
    ]
    again = sold.model_copy(update={"number": 5_000})
    plan = PLAN.model_copy(update={"arrivals": (*ARRIVALS, again)})
    for status, least in ((None, total - 2 * quantity), (503, total - 2 * quantity), (409, total - quantity)):
        outcomes = [answered(sold, 201), answered(again, status)]
        (event,) = seats(plan, ARM, outcomes, [placed(sold)], events=3)
        assert (event.least, event.most) == (least, total - quantity)


def test_what_was_asked_for_before_the_load_may_be_sold_too() -> None:
    sold = next(order for order in ORDERS if order.order and len(order.order.items) == 1)
    assert sold.order is not None
    ((event_id, quantity),) = sold.order.items
    arm = ARM.model_copy(update={"asked_before": ((event_id, 2),)})
    (event,) = seats(PLAN, arm, [answered(sold, 201)], [placed(sold)], events=3)
    assert event.most - event.least == 2
    assert event.event_id == event_id
    assert quantity > 0
