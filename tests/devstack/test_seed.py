from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from devstack.postgres import Cluster, Database
from devstack.seed import AWKWARD_PRICES, LiveData, flagship_sales

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=dt.UTC)
on_session_loop = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture(scope="module")
def data() -> LiveData:
    return LiveData.from_seed(7, NOW)


def test_the_same_seed_gives_the_same_events_and_only_times_move_with_now(data: LiveData) -> None:
    later = LiveData.from_seed(7, NOW + dt.timedelta(days=2))

    assert LiveData.from_seed(7, NOW) == data
    assert [(e.id, e.title, e.city, e.price, e.seats_total) for e in later.events] == [
        (e.id, e.title, e.city, e.price, e.seats_total) for e in data.events
    ]
    assert later.events[0].starts_at - data.events[0].starts_at == dt.timedelta(days=2)


def test_another_seed_gives_other_ids_and_addresses(data: LiveData) -> None:
    other = LiveData.from_seed(8, NOW)

    assert {e.id for e in other.events} != {e.id for e in data.events}
    assert other.buyer(1) != data.buyer(1)


def test_there_are_events_of_every_class(data: LiveData) -> None:
    assert len(data.open_events(minimum_seats=300)) >= 80
    assert len(data.open_events(20, 20)) == 12
    assert len(data.open_events(4, 4)) == 6
    assert len(data.open_events(500, 500)) >= 6
    assert len(data.not_yet_open()) == 6
    assert len(data.closed()) == 6
    assert len(data.events) == 130


def test_every_event_is_upcoming_at_an_instant_and_an_id_of_its_own(data: LiveData) -> None:
    assert len({e.id for e in data.events}) == len({e.starts_at for e in data.events}) == len(data.events)
    assert all(10_000 <= e.id < 100_000 for e in data.events)
    assert all(dt.timedelta(days=1) < e.starts_at - data.now < dt.timedelta(days=60) for e in data.events)
    assert all(e.sales_open_at < e.sales_close_at <= e.starts_at for e in data.events)


def test_prices_have_two_decimals_and_the_awkward_ones_are_on_sale(data: LiveData) -> None:
    assert all(e.price.as_tuple().exponent == -2 for e in data.events)
    assert set(AWKWARD_PRICES) <= {e.price for e in data.open_events(300)}


def test_buyers_are_distinct_and_none_is_denied(data: LiveData) -> None:
    buyers = {data.buyer(n) for n in range(2000)}

    assert len(buyers) == 2000
    assert not any(buyer.startswith("deny") for buyer in buyers)


@pytest.mark.integration
@on_session_loop
async def test_live_events_are_in_the_database_of_every_service(
    cluster: Cluster, database: Database, live: LiveData
) -> None:
    rows = await cluster.fetch(
        "SELECT id, price, starts_at FROM events WHERE starts_at > now()", database=database.name
    )

    assert {(e.id, e.price, e.starts_at) for e in live.events} == set(rows)


@pytest.mark.integration
@on_session_loop
async def test_the_flagship_sold_on_every_day_of_its_year(
    cluster: Cluster, database: Database, live: LiveData
) -> None:
    sales = await flagship_sales(cluster)
    [(seats, starts_at)] = await cluster.fetch(
        "SELECT seats_total, starts_at FROM events WHERE id = %s", live.flagship_id, database=database.name
    )

    assert [day.day for day in sales] == [dt.date(2025, 1, 1) + dt.timedelta(days=n) for n in range(365)]
    assert sum(day.orders for day in sales) >= 300_000
    assert sum(day.tickets for day in sales) <= seats
    assert starts_at < live.now


@pytest.mark.integration
@on_session_loop
async def test_a_report_that_forgets_status_or_lines_or_currency_is_seen(
    cluster: Cluster, database: Database
) -> None:
    sales = await flagship_sales(cluster)
    gross = sum((day.gross for day in sales), Decimal(0))
    [(any_status, foreign, whole_orders)] = await cluster.fetch(
        """
        SELECT sum(quantity * unit_price_eur),
               sum(quantity * unit_price) FILTER (WHERE status = 'confirmed'),
               sum(total_eur) FILTER (WHERE status = 'confirmed')
        FROM orders JOIN order_lines ON order_id = id WHERE event_id = 1
        """,
        database=database.name,
    )

    assert any_status > gross * Decimal("1.02")
    assert abs(foreign - gross) > 10_000
    assert whole_orders > gross * Decimal("1.1")


@pytest.mark.integration
@on_session_loop
async def test_the_history_is_consistent(cluster: Cluster, database: Database) -> None:
    [counts] = await cluster.fetch(
        """
        SELECT (SELECT count(*) FROM orders WHERE card_token IS NOT NULL),
               (SELECT count(*) FROM orders WHERE (charge_id IS NULL) = (status = 'confirmed')),
               (SELECT count(*) FROM orders o WHERE (total, total_eur) IS DISTINCT FROM (
                   SELECT ROW(sum(quantity * unit_price), sum(quantity * unit_price_eur))
                   FROM order_lines WHERE order_id = o.id)),
               (SELECT count(*) FROM order_lines l
                WHERE NOT EXISTS (SELECT FROM orders WHERE id = l.order_id)
                   OR NOT EXISTS (SELECT FROM events WHERE id = l.event_id)),
               (SELECT count(*) FROM (SELECT event_id FROM order_lines GROUP BY event_id
                HAVING sum(quantity) > (SELECT seats_total FROM events WHERE id = event_id)) AS oversold)
        """,
        database=database.name,
    )

    assert counts == (0, 0, 0, 0, 0)
