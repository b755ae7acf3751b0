"""The database: one pool per process, every statement a transaction of its own.

The connections are in autocommit mode and whatever has to be atomic is one statement. So a write is committed
when its call returns, a statement costs one round trip, and no lock and no connection is ever held while the
service waits for anything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
from sqlalchemy import TextClause, event, text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import Row, make_url
from sqlalchemy.exc import DBAPIError, DisconnectionError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from boxoffice.errors import DatabaseUnavailable
from boxoffice.telemetry import DB_CONNECTIONS, DB_FAILURES, get_logger

CONNECT_TIMEOUT_S = 3.0
WARM_UP_TIMEOUT_S = 5.0
LOCK_TIMEOUT_S = 2.0
STATEMENT_TIMEOUT_S = 8.0
"""The server's own limits, for statements whose client has gone; calls have shorter ones."""

CLOSE_TIMEOUT_S = 2.0
ATTEMPTS = 2
"""A statement is repeated once when its connection was lost: all of them are safe to repeat."""

# PostgreSQL's classes of errors that say nothing about the statement: connection, transaction rollback,
# resources, not in the right state (lock timeout), operator intervention, system.
TRANSIENT_SQLSTATES = ("08", "40", "53", "55", "57", "58")

Parameters = Mapping[str, Any]
Rehearsal = tuple[TextClause, Parameters]
"""A statement of a busy path with parameters that make it find and change nothing."""

_PING = text("SELECT 1")

log = get_logger("boxoffice.db")


class _Connection(asyncpg.Connection):  # type: ignore[misc]  # the driver has no types
    """Closing never waits for a server that does not answer."""

    async def close(self, *, timeout: float | None = None) -> None:
        """With a timeout SQLAlchemy gives a broken connection up, without one it empties the pool."""
        if timeout is not None:
            self.terminate()
            return
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await super().close()
        except TimeoutError:
            self.terminate()


class Database:
    """Runs statements within a time limit. Raises DatabaseUnavailable when there is no answer in time."""

    def __init__(self, url: str, *, pool_size: int) -> None:
        self.pool_size = pool_size
        self._engine = _create_engine(url, pool_size)

    async def open(self, rehearsal: Sequence[Rehearsal] = ()) -> None:
        """Fill the pool and prepare the statements of the busy paths on each of its connections.

        As far as the database answers: what is missing is made up for on demand.
        """
        DB_CONNECTIONS.labels("max").set(self.pool_size)
        DB_CONNECTIONS.labels("in_use").set(0)
        all_open = asyncio.Barrier(self.pool_size)  # else the first connection would be taken again and again
        tasks = [asyncio.create_task(self._warm_up(rehearsal, all_open)) for _ in range(self.pool_size)]
        _, late = await asyncio.wait(tasks, timeout=WARM_UP_TIMEOUT_S)
        for task in late:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        if failed := sum(isinstance(result, BaseException) for result in results):
            log.warning("database connections not warmed up", connections=failed)

    async def close(self) -> None:
        """Close all sessions cleanly."""
        await self._engine.dispose()

    async def fetch_all(
        self, statement: TextClause, parameters: Parameters, *, timeout_s: float
    ) -> Sequence[Row[Any]]:
        """All rows. ``timeout_s`` covers the wait for a connection too.

        Raises DatabaseUnavailable, and sqlalchemy.exc.IntegrityError.
        """
        try:
            async with asyncio.timeout(timeout_s):
                for attempt in range(1, ATTEMPTS + 1):
                    try:
                        return await self._execute(statement, parameters)
                    except DBAPIError as error:
                        if attempt == ATTEMPTS or not error.connection_invalidated:
                            raise
        except (TimeoutError, PoolTimeout) as error:
            raise _unavailable("timeout") from error
        except OSError as error:
            raise _unavailable("refused") from error
        except IntegrityError:
            raise
        except DBAPIError as error:
            if not _is_transient(error):
                raise
            raise _unavailable("connection lost") from error
        raise AssertionError("unreachable")

    async def fetch_one(
        self, statement: TextClause, parameters: Parameters, *, timeout_s: float
    ) -> Row[Any] | None:
        """The first row, if there is any. See fetch_all."""
        rows = await self.fetch_all(statement, parameters, timeout_s=timeout_s)
        return rows[0] if rows else None

    async def ping(self, *, timeout_s: float) -> None:
        """Raise DatabaseUnavailable when the database does not answer."""
        await self.fetch_all(_PING, {}, timeout_s=timeout_s)

    async def _execute(self, statement: TextClause, parameters: Parameters) -> Sequence[Row[Any]]:
        async with self._engine.connect() as connection:
            in_use = DB_CONNECTIONS.labels("in_use")
            in_use.inc()
            try:
                result = await connection.execute(statement, parameters)
                return result.all() if result.returns_rows else ()
            finally:
                in_use.dec()

    async def _warm_up(self, rehearsal: Sequence[Rehearsal], all_open: asyncio.Barrier) -> None:
        async with self._engine.connect() as connection:
            for statement, parameters in rehearsal:
                await connection.execute(statement, parameters)
            await all_open.wait()


def _create_engine(url: str, pool_size: int) -> AsyncEngine:
    engine = create_async_engine(
        make_url(url).set(drivername="postgresql+asyncpg"),
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=STATEMENT_TIMEOUT_S,
        pool_use_lifo=True,  # the same few connections while it is quiet, with their statements prepared
        pool_reset_on_return=None,  # in autocommit mode there is nothing to reset
        hide_parameters=True,
        connect_args={
            "timeout": CONNECT_TIMEOUT_S,
            "command_timeout": STATEMENT_TIMEOUT_S,
            "connection_class": _Connection,
            "server_settings": {
                "application_name": "boxoffice",
                "timezone": "UTC",
                "jit": "off",
                "max_parallel_workers_per_gather": "0",  # a report must not take every core
                "lock_timeout": f"{LOCK_TIMEOUT_S * 1000:.0f}",
                "statement_timeout": f"{STATEMENT_TIMEOUT_S * 1000:.0f}",
            },
        },
    )
    _skip_json_codecs(engine)
    event.listen(engine.sync_engine, "checkout", _refuse_closed)
    return engine


def _skip_json_codecs(engine: AsyncEngine) -> None:
    """No JSON is read through the driver, and looking its types up costs a new connection round trips."""

    async def nothing(connection: object) -> None:
        """Leave asyncpg's codecs alone."""

    dialect = engine.dialect
    assert isinstance(dialect, PGDialect_asyncpg)
    dialect.setup_asyncpg_json_codec = dialect.setup_asyncpg_jsonb_codec = nothing  # type: ignore[method-assign]


def _refuse_closed(connection: Any, record: ConnectionPoolEntry, proxy: PoolProxiedConnection) -> None:
    """The driver knows when the server has gone: checking that costs no round trip, unlike a ping."""
    driver_connection = record.driver_connection
    if driver_connection is not None and driver_connection.is_closed():
        raise DisconnectionError("the server closed the connection")


def _is_transient(error: DBAPIError) -> bool:
    sqlstate = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or sqlstate is None or sqlstate.startswith(TRANSIENT_SQLSTATES)


def _unavailable(kind: str) -> DatabaseUnavailable:
    DB_FAILURES.labels(kind).inc()
    return DatabaseUnavailable()
