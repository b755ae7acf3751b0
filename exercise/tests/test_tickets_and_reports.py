"""Tickets and sales reports."""

import uuid
from datetime import datetime, timezone
from decimal import Decimal

import httpx
import pytest

from boxoffice.reports.sales import SoldLine, by_day
from boxoffice.settings import settings
from boxoffice.tickets import signing


def test_the_signature_is_the_one_that_the_turnstiles_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "ticket_secret", "turnstile")
    assert signing.sign("o1") == "ce10490a4c282697154d2d8af79b24aa17e957f5e8a10e85777015740163d29f"


def test_a_ticket_says_what_its_code_says() -> None:
    svg = signing.render("o1").decode()
    assert svg.startswith("<?xml")
    assert f"<desc>{signing.payload('o1')}</desc>" in svg


def line(order_id: uuid.UUID, day: int, quantity: int, price: str) -> SoldLine:
    """A line sold at noon on a day of March."""
    return SoldLine(
        order_id=order_id,
        created_at=datetime(2025, 3, day, 12, tzinfo=timezone.utc),
        quantity=quantity,
        unit_price_eur=Decimal(price),
    )


def test_sales_are_added_up_by_day() -> None:
    first, second, third = (uuid.uuid4() for _ in range(3))
    report = by_day(
        [
            line(third, 4, 1, "39.95"),
            line(first, 3, 2, "49.90"),
            line(second, 3, 1, "49.90"),
            line(second, 3, 3, "20.00"),
        ]
    )
    assert [(str(day.day), day.tickets, day.gross, day.orders) for day in report.items] == [
        ("2025-03-03", 6, "209.70", 2),
        ("2025-03-04", 1, "39.95", 1),
    ]


def test_an_event_without_sales_has_an_empty_report() -> None:
    assert by_day([]).items == []


async def test_sales_of_an_unsold_event_are_empty(live_client: httpx.AsyncClient, live_event: int) -> None:
    answer = await live_client.get(f"/events/{live_event}/sales")
    assert answer.json() == {"items": []}
