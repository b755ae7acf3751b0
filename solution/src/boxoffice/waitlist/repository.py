"""Statements on the waitlist."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.exc import IntegrityError

from boxoffice.db import Database

TIMEOUT_S = 2.6

_COLUMNS = "w.id, w.event_id, w.email, w.quantity, w.position"
_LOOK = text(f"""
    SELECT e.seats_total - e.seats_taken AS seats_available, {_COLUMNS}
    FROM events e
    LEFT JOIN waitlist_entries w ON w.event_id = e.id AND lower(w.email) = lower(CAST(:email AS text))
    WHERE e.id = :event_id
""")

# The event's counter hands the positions out: its row lock makes the next request wait for this one's commit.
# When the e-mail turns out to be taken, the unique index undoes the whole statement, the counter included.
_JOIN = text("""
    WITH counted AS (
        UPDATE events SET waitlist_length = waitlist_length + 1
        WHERE id = :event_id AND seats_taken >= seats_total
        RETURNING id, waitlist_length
    )
    INSERT INTO waitlist_entries AS w (event_id, email, quantity, position)
    SELECT id, CAST(:email AS text), CAST(:quantity AS integer), waitlist_length FROM counted
    RETURNING w.id, w.event_id, w.email, w.quantity, w.position
""")
_GET = text(f"SELECT {_COLUMNS} FROM waitlist_entries w WHERE w.event_id = :event_id AND w.id = :id")


@dataclass(frozen=True, slots=True)
class Look:
    """An event as someone sees it who wants to join: their entry if they have one."""

    seats_available: int
    entry: dict[str, Any] | None


async def look(database: Database, event_id: int, email: str) -> Look | None:
    """The event and this e-mail's entry; None if there is no such event."""
    row = await database.fetch_one(_LOOK, {"event_id": event_id, "email": email}, timeout_s=TIMEOUT_S)
    if row is None:
        return None
    return Look(row.seats_available, None if row.id is None else _entry(row))


async def join(database: Database, event_id: int, email: str, quantity: int) -> dict[str, Any] | None:
    """A new entry; None when seats are available again, or the e-mail has joined meanwhile."""
    parameters = {"event_id": event_id, "email": email, "quantity": quantity}
    try:
        row = await database.fetch_one(_JOIN, parameters, timeout_s=TIMEOUT_S)
    except IntegrityError:
        return None
    return None if row is None else _entry(row)


async def get_entry(database: Database, event_id: int, entry_id: int) -> dict[str, Any] | None:
    """One entry of an event's waitlist."""
    row = await database.fetch_one(_GET, {"event_id": event_id, "id": entry_id}, timeout_s=TIMEOUT_S)
    return None if row is None else _entry(row)


def _entry(row: Row[Any]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("id", "event_id", "email", "quantity", "position")}
