"""How many seats of an event are taken.

Asked more often than anything else, so it has a warm connection of its own instead of a session per
request. Autocommit: the numbers must be current, not those of the request's transaction.
"""

import psycopg

from boxoffice.settings import settings

SEATS_TAKEN = """
    SELECT coalesce(sum(l.quantity), 0)
    FROM order_lines l
    JOIN orders o ON o.id = l.order_id
    WHERE l.event_id = %s AND o.status IN ('pending', 'confirmed')
"""

_connection: psycopg.Connection | None = None


def connect() -> None:
    """Open the connection; called once at start."""
    global _connection
    _connection = psycopg.connect(settings.database_url, autocommit=True)


def _get_connection() -> psycopg.Connection:
    if _connection is None:
        raise RuntimeError("availability.connect() was not called")
    return _connection


def seats_taken(event_id: int) -> int:
    """Seats of confirmed orders and of those that are being paid."""
    row = _get_connection().execute(SEATS_TAKEN, (event_id,)).fetchone()
    return int(row[0]) if row else 0


def seats_available(event_id: int, seats_total: int) -> int:
    """Seats that can still be sold."""
    return max(0, seats_total - seats_taken(event_id))


def ping() -> None:
    """Raise when the database does not answer."""
    _get_connection().execute("SELECT 1")
