"""A few connections for reports, so that they do not get in the way of sales."""

import queue

import psycopg

from boxoffice.errors import ServiceUnavailable
from boxoffice.settings import settings

SIZE = 4
WAIT_S = 2.0


class ReportConnections:
    """Up to SIZE connections, opened when they are needed for the first time."""

    def __init__(self, size: int = SIZE) -> None:
        self._free: queue.LifoQueue[psycopg.Connection | None] = queue.LifoQueue()
        for _ in range(size):
            self._free.put(None)

    def take(self) -> psycopg.Connection:
        """A connection that nobody else uses. Raises ServiceUnavailable when all are busy."""
        try:
            connection = self._free.get(timeout=WAIT_S)
        except queue.Empty:
            raise ServiceUnavailable("too many reports at once") from None
        if connection is None:
            connection = psycopg.connect(settings.database_url, autocommit=True)
        return connection

    def give_back(self, connection: psycopg.Connection) -> None:
        """Return a connection after use."""
        self._free.put(connection)


connections = ReportConnections()
