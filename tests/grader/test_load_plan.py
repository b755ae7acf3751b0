from __future__ import annotations

import datetime as dt
import itertools
from collections import Counter
from decimal import Decimal

import pytest

from devstack.seed import LiveData
from grader.load.plan import (
    CURRENCIES,
    FIRST_ORDER_READ_S,
    MAIN_DECK,
    MIXED_DECK,
    RATE_PER_S,
    TICKETS_SETTLE_S,
    Arrival,
    LoadPlan,
    catalogue,
    schedule,
    side_by_side,
    total_of,
)

RATES = {currency: Decimal("1.0937") for currency in CURRENCIES}
LIVE = LiveData.from_seed(11, dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC))


@pytest.fixture(scope="module")
def arrivals() -> tuple[Arrival, ...]:
    return schedule(LIVE, RATES, seed=11)


def test_the_same_seed_gives_the_same_traffic_and_another_seed_another(
    arrivals: tuple[Arrival, ...],
) -> None:
    assert schedule(LIVE, RATES, seed=11) == arrivals
    assert schedule(LIVE, RATES, seed=12) != arrivals


def test_the_offered_rate_and_the_mix_are_exact(arrivals: tuple[Arrival, ...]) -> None:
    assert len(arrivals) == 28 * RATE_PER_S
    per_second = Counter(int(arrival.due_s) for arrival in arrivals)
    assert set(per_second.values()) == {RATE_PER_S}
    assert all(earlier.due_s < later.due_s for earlier, later in itertools.pairwise(arrivals))
    for first, deck in ((100, MIXED_DECK), (400, MAIN_DECK)):
        found = Counter(arrival.endpoint for arrival in arrivals[first : first + 300])
        assert found == {endpoint: 3 * count for endpoint, count in deck.items()}


def test_no_ticket_or_report_is_due_while_cpu_time_is_counted(arrivals: tuple[Arrival, ...]) -> None:
    plan = LoadPlan(arms=(), arrivals=arrivals, catalogue=catalogue(LIVE, []))
    costed = {
        arrival.endpoint for arrival in arrivals if arrival.due_s >= plan.costed_from_s - TICKETS_SETTLE_S
    }
    assert costed == set(MAIN_DECK)


def test_orders_are_placed_before_any_is_read(arrivals: tuple[Arrival, ...]) -> None:
    early = {arrival.endpoint for arrival in arrivals if arrival.due_s < FIRST_ORDER_READ_S}
    assert "order" in early
    assert not early & {"order-read", "ticket"}


def test_orders_never_sell_an_event_out_and_never_share_a_key_or_a_card(
    arrivals: tuple[Arrival, ...],
) -> None:
    orders = [arrival.order for arrival in arrivals if arrival.order is not None]
    seats = Counter[int]()
    for order in orders:
        for event_id, quantity in order.items:
            seats[event_id] += quantity
    totals = {event.id: event.seats_total for event in LIVE.open_events()}
    assert all(asked < totals[event_id] for event_id, asked in seats.items())
    assert len({order.key for order in orders}) == len({order.card_token for order in orders}) == len(orders)
    assert {order.currency for order in orders} == {"EUR", *CURRENCIES}


def test_a_foreign_total_rounds_the_unit_price_half_to_even_before_multiplying() -> None:
    assert total_of([(Decimal("2.50"), 3), (Decimal("0.07"), 2)], Decimal("1.05")) == Decimal("8.00")


def test_services_side_by_side_are_not_asked_at_the_same_instant() -> None:
    first, second = side_by_side(("a", "http://a"), ("b", "http://b"))
    assert (first.offset_s, second.offset_s) == (0, 0.5 / RATE_PER_S)
