"""Sales by day: an event's order lines are read and added up."""

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from itertools import groupby
from uuid import UUID

import psycopg
from psycopg.rows import dict_row
from pydantic import BaseModel

from boxoffice.money import format_amount

SOLD_LINES = """
    SELECT o.id AS order_id, o.created_at, l.quantity, l.unit_price_eur
    FROM orders o
    JOIN order_lines l ON l.order_id = o.id
    WHERE l.event_id = %s AND o.status = 'confirmed'
"""


class SoldLine(BaseModel):
    """A line of a confirmed order."""

    order_id: UUID
    created_at: datetime
    quantity: int
    unit_price_eur: Decimal

    @property
    def day(self) -> date:
        """The day of the sale."""
        return self.created_at.date()


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


def sold_lines(connection: psycopg.Connection, event_id: int) -> list[SoldLine]:
    """All confirmed lines of an event."""
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(SOLD_LINES, (event_id,)).fetchall()
    return [SoldLine.model_validate(row) for row in rows]


def by_day(lines: Iterable[SoldLine]) -> SalesReport:
    """Add up the lines of an event."""
    items = []
    for day, group in groupby(sorted(lines, key=lambda line: line.day), key=lambda line: line.day):
        sold = list(group)
        items.append(
            SalesDay(
                day=day,
                tickets=sum(line.quantity for line in sold),
                gross=format_amount(sum(float(line.unit_price_eur) * line.quantity for line in sold)),
                orders=len({line.order_id for line in sold}),
            )
        )
    return SalesReport(items=items)
