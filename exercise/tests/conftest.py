"""Shared fixtures.

Tests that use ``live_event`` or ``live_client`` run against DATABASE_URL, a database with the migrations
applied (``make dev`` prints its address), and are skipped without one. They bring their own event and remove
it again.
"""

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import httpx
import psycopg
import pytest

from boxoffice.app import app, lifespan
from boxoffice.models import Event, Order, OrderLine, Venue

NOW = datetime.now(timezone.utc)
FIRST_ID = 2_000_000_000  # far from the ids of real events


@pytest.fixture
def event() -> Event:
    """An event on sale that is in no database."""
    return Event(
        id=7,
        venue_id=1,
        title="Harbour Lights",
        starts_at=NOW + timedelta(days=30),
        sales_open_at=NOW - timedelta(days=1),
        sales_close_at=NOW + timedelta(days=30),
        price=Decimal("19.90"),
        seats_total=100,
        venue=Venue(id=1, name="Old Dock", city="Porto"),
    )


@pytest.fixture
def order(event: Event) -> Order:
    """A confirmed order that is in no database."""
    return Order(
        id=uuid.UUID("6f1f6f1e-6d6c-4f39-9f0c-0d8f9a3f5a10"),
        buyer_email="ana@example.com",
        status="confirmed",
        currency="EUR",
        total=Decimal("39.80"),
        total_eur=Decimal("39.80"),
        charge_id="ch_1",
        created_at=NOW,
        lines=[
            OrderLine(
                line_no=1,
                event_id=event.id,
                quantity=2,
                unit_price=Decimal("19.90"),
                unit_price_eur=Decimal("19.90"),
            )
        ],
    )


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    """The application, not started: endpoints that need no connection."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://boxoffice") as client:
        yield client


@pytest.fixture
def live_event() -> Iterator[int]:
    """The id of an event with ten seats at 19.90 EUR that is on sale, in the database."""
    url = os.environ.get("DATABASE_URL")
    if not url:
        pytest.skip("DATABASE_URL is not set")
    event_id = FIRST_ID + uuid.uuid4().int % 100_000_000
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("INSERT INTO venues VALUES (%s, 'Old Dock', %s)", (event_id, f"City {event_id}"))
        connection.execute(
            "INSERT INTO events VALUES (%s, %s, 'Harbour Lights', %s, %s, %s, 19.90, 10)",
            (event_id, event_id, NOW + timedelta(days=30), NOW - timedelta(days=1), NOW + timedelta(days=30)),
        )
        yield event_id
        connection.execute(
            "DELETE FROM orders WHERE id IN (SELECT order_id FROM order_lines WHERE event_id = %s)",
            (event_id,),
        )
        connection.execute("DELETE FROM events WHERE id = %s", (event_id,))
        connection.execute("DELETE FROM venues WHERE id = %s", (event_id,))


@pytest.fixture
async def live_client(live_event: int, client: httpx.AsyncClient) -> AsyncIterator[httpx.AsyncClient]:
    """The application, started, with a database."""
    async with lifespan(app):
        yield client
