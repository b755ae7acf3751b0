"""Queries on events."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text

from boxoffice.db import Database, Rehearsal

TIMEOUT_S = 2.6
"""The contract's limit for reads is 3 s."""

_COLUMNS = """
SELECT e.id, e.title, e.starts_at, e.sales_open_at, e.sales_close_at, e.price,
       e.seats_total, e.seats_total - e.seats_taken AS seats_available,
       v.id AS venue_id, v.name AS venue_name, v.city
FROM events e JOIN venues v ON v.id = e.venue_id
"""
_GET = text(f"{_COLUMNS} WHERE e.id = :id")
_IN_CITY = "AND v.city = :city"
_AFTER = "AND (e.starts_at, e.id) > (:starts_at, :id)"
_LIST = {
    (in_city, after): text(
        f"{_COLUMNS} WHERE e.starts_at > now() {_IN_CITY if in_city else ''} {_AFTER if after else ''}"
        " ORDER BY e.starts_at, e.id LIMIT :limit"
    )
    for in_city in (False, True)
    for after in (False, True)
}

REHEARSAL: tuple[Rehearsal, ...] = ((_GET, {"id": 0}), (_LIST[False, False], {"limit": 0}))


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last event of a page; the next page begins after it, however the list has changed."""

    starts_at: datetime
    id: int

    def encode(self) -> str:
        """Opaque text, so that clients do not compute with it."""
        return base64.urlsafe_b64encode(f"{self.starts_at.isoformat()}|{self.id}".encode()).decode()

    @classmethod
    def decode(cls, encoded: str) -> Cursor:
        """Raises ValueError for anything but the text of a cursor."""
        raw = base64.b64decode(encoded.encode(), altchars=b"-_", validate=True).decode()
        starts_at, _, number = raw.partition("|")
        cursor = cls(datetime.fromisoformat(starts_at), int(number))
        if cursor.starts_at.tzinfo is None or not 0 <= cursor.id < 2**31 or cursor.encode() != encoded:
            raise ValueError("not a cursor of ours")
        return cursor


async def get_event(database: Database, event_id: int) -> Row[Any] | None:
    """One event."""
    return await database.fetch_one(_GET, {"id": event_id}, timeout_s=TIMEOUT_S)


async def list_upcoming(
    database: Database, *, city: str | None, cursor: Cursor | None, limit: int
) -> Sequence[Row[Any]]:
    """Events that have not begun, soonest first: one more than ``limit`` when there are more."""
    parameters: dict[str, object] = {"limit": limit + 1}
    if city is not None:
        parameters["city"] = city
    if cursor is not None:
        parameters |= {"starts_at": cursor.starts_at, "id": cursor.id}
    statement = _LIST[city is not None, cursor is not None]
    return await database.fetch_all(statement, parameters, timeout_s=TIMEOUT_S)
