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
    HABITS,
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
    assert not early & {"order-read", "ticket", "replay"}


def test_every_habit_is_asked_for_in_each_half_of_the_measured_load(arrivals: tuple[Arrival, ...]) -> None:
    for half in (arrivals[100:400], arrivals[400:]):
        asked = Counter(habit for arrival in half for habit in arrival.habits)
        assert set(asked) == set(HABITS)
        assert min(asked.values()) >= 3


def test_some_requests_come_on_a_connection_of_their_own_and_some_with_an_id(
    arrivals: tuple[Arrival, ...],
) -> None:
    fresh = sum(arrival.fresh for arrival in arrivals) / len(arrivals)
    named = sum(arrival.request_id is not None for arrival in arrivals) / len(arrivals)
    assert 0.05 < fresh < 0.15
    assert 0.1 < named < 0.3
    ids = [arrival.request_id for arrival in arrivals if arrival.request_id is not None]
    assert len(set(ids)) == len(ids)


def test_lists_of_another_length_ask_for_as_many_events_on_average(arrivals: tuple[Arrival, ...]) -> None:
    limits = [arrival.limit for arrival in arrivals if arrival.endpoint == "list"]
    assert 18 < sum(limits) / len(limits) < 22


def test_much_is_asked_right_after_it_was_sold(arrivals: tuple[Arrival, ...]) -> None:
    recent = Counter(arrival.endpoint for arrival in arrivals if arrival.recent)
    assert set(recent) == {"detail", "order-read", "replay"}
    assert recent["detail"] > 50


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
