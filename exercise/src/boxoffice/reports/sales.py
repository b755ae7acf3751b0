"""Sales by day.

Reads the same export as the monthly statement for accounting, so that the two always agree.
"""

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import TypedDict

import psycopg
from psycopg.rows import dict_row
from pydantic import BaseModel

from boxoffice.money import format_amount

SALES_EXPORT = """
    SELECT o.id AS order_id, o.status, o.created_at, l.event_id, l.quantity, l.unit_price_eur
    FROM orders o
    JOIN order_lines l ON l.order_id = o.id
"""


class SoldLine(TypedDict):
    """A row of the export."""

    order_id: object
    status: str
    created_at: datetime
    event_id: int
    quantity: int
    unit_price_eur: Decimal


class SalesDay(BaseModel):
    """What an event sold on one day; ``gross`` is in EUR."""

    day: date
    tickets: int
    gross: str
    orders: int


class SalesReport(BaseModel):
    """Days with sales, in order."""

    items: list[SalesDay]


def event_exists(connection: psycopg.Connection, event_id: int) -> bool:
    """Whether there is such an event."""
    return connection.execute("SELECT 1 FROM events WHERE id = %s", (event_id,)).fetchone() is not None


def export(connection: psycopg.Connection) -> list[SoldLine]:
    """All lines of all orders."""
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(SALES_EXPORT).fetchall()


def by_day(lines: Iterable[SoldLine], event_id: int) -> SalesReport:
    """Add up the confirmed sales of one event."""
    tickets: dict[date, int] = {}
    gross: dict[date, float] = {}
    orders: dict[date, set[object]] = {}
    for line in lines:
        if line["event_id"] != event_id or line["status"] != "confirmed":
            continue
        day = line["created_at"].date()
        tickets[day] = tickets.get(day, 0) + line["quantity"]
        gross[day] = gross.get(day, 0.0) + float(line["unit_price_eur"]) * line["quantity"]
        orders.setdefault(day, set()).add(line["order_id"])
    return SalesReport(
        items=[
            SalesDay(
                day=day,
                tickets=tickets[day],
                gross=format_amount(gross[day]),
                orders=len(orders[day]),
            )
            for day in sorted(tickets)
        ]
    )
