from __future__ import annotations

import asyncio
import hashlib
import importlib.resources
import re
from collections.abc import Iterator

import httpx
import pytest

from devstack.seed import LiveData
from devstack.world import World
from tests.conftest import SECRET
from tests.orders import order_body, place

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_pages_hold_every_upcoming_event_once_soonest_first(
    client: httpx.AsyncClient, live: LiveData
) -> None:
    items, cursor = [], ""
    while cursor is not None:
        page = (await client.get("/events", params={"limit": 17, "cursor": cursor})).json()
        items += page["items"]
        cursor = page["next_cursor"]
    expected = sorted(live.events, key=lambda event: (event.starts_at, event.id))
    assert [item["id"] for item in items] == [event.id for event in expected if event.starts_at > live.now]


async def test_a_city_has_only_its_own_events(client: httpx.AsyncClient, live: LiveData) -> None:
    city = live.events[0].city
    page = (await client.get("/events", params={"city": city, "limit": 100})).json()
    assert {item["venue"]["city"] for item in page["items"]} == {city}
    assert len(page["items"]) == sum(event.city == city for event in live.events)


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "cursor=nonsense", "city=%00", "limit=x"])
async def test_a_list_that_makes_no_sense_is_invalid(client: httpx.AsyncClient, query: str) -> None:
    assert (await client.get(f"/events?{query}")).status_code == 422


async def test_a_list_is_one_statement_and_one_round_trip_however_long(
    client: httpx.AsyncClient, world: World
) -> None:
    await client.get("/events?limit=50")
    statements, round_trips = [], []
    for _ in range(5):
        before = await world.faults.counters()
        for _ in range(10):
            await client.get("/events?limit=50")
        after = await world.faults.counters()
        statements.append(after.statements - before.statements)
        round_trips.append(after.round_trips - before.round_trips)
    # The loops in the background take a few of their own, now and then many at once.
    assert min(statements) <= 14
    assert min(round_trips) <= 14


async def test_what_does_not_exist_is_not_found(client: httpx.AsyncClient, event_id: int) -> None:
    order_id = "00000000-0000-0000-0000-000000000000"
    for path in ("/events/999999999", "/events/999999999/sales", f"/orders/{order_id}", "/orders/none",
                 f"/orders/{order_id}/ticket", f"/events/{event_id}/waitlist/1", "/nothing"):  # fmt: skip
        assert (await client.get(path)).status_code == 404, path


async def test_without_rates_the_price_is_shown_in_euro_only(
    client: httpx.AsyncClient, world: World, event_id: int
) -> None:
    await world.faults.set_latency(rates=8)
    async with asyncio.timeout(2.5):
        detail = (await client.get(f"/events/{event_id}?currency=NOK")).json()
    assert detail["display_price"] is None
    assert detail["price"]["currency"] == "EUR"


async def test_sales_agree_with_the_history(client: httpx.AsyncClient, world: World, live: LiveData) -> None:
    query = (importlib.resources.files("devstack") / "sql" / "flagship_sales.sql").read_text()
    rows = await world.cluster.fetch(query, database=world.database.name)
    report = (await client.get(f"/events/{live.flagship_id}/sales")).json()
    assert report["items"] == [
        {"day": str(day), "tickets": tickets, "gross": f"{gross:.2f}", "orders": orders}
        for day, tickets, gross, orders in rows
    ]


async def test_an_event_without_sales_has_an_empty_report(
    client: httpx.AsyncClient, event_ids: Iterator[int]
) -> None:
    assert (await client.get(f"/events/{next(event_ids)}/sales")).json() == {"items": []}


async def test_a_ticket_is_signed_and_cached(client: httpx.AsyncClient, event_id: int) -> None:
    order_id = (await place(client, order_body(event_id))).json()["id"]
    first, second = await asyncio.gather(*(client.get(f"/orders/{order_id}/ticket") for _ in range(2)))
    assert first.content == second.content
    assert first.headers["content-type"].startswith("image/svg+xml")
    signature = hashlib.pbkdf2_hmac("sha256", order_id.encode(), SECRET.encode(), 800_000, dklen=32).hex()
    assert re.search(r"<desc>(.*)</desc>", first.text)[1] == f"boxoffice:{order_id}:{signature}"  # type: ignore[index]


async def test_a_declined_order_has_no_ticket(client: httpx.AsyncClient, world: World, event_id: int) -> None:
    await place(client, order_body(event_id, card_token="tok_decline"), "no ticket")
    [(order_id,)] = await world.cluster.fetch(
        "SELECT order_id::text FROM idempotency_keys WHERE key = 'no ticket'", database=world.database.name
    )
    assert (await client.get(f"/orders/{order_id}/ticket")).status_code == 409
