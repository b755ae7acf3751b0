"""The wire proxy before a real PostgreSQL, with the drivers that submissions use."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest
import pytest_asyncio

from devstack.artifacts import DatabaseCounters
from devstack.faults import FaultServer
from devstack.postgres import Cluster, Database

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

LOOPBACK = "127.0.0.1"


@pytest_asyncio.fixture(loop_scope="session")
async def faults(cluster: Cluster, tmp_path: Path) -> AsyncIterator[FaultServer]:
    address = (cluster.host, cluster.port)
    async with await FaultServer.start(
        tmp_path, bind_address=LOOPBACK, database=address, epoch=time.monotonic(), seed=7
    ) as started:
        yield started
    assert (tmp_path / "faults.log").read_text() == ""


@pytest.fixture
def dsn(database: Database, faults: FaultServer) -> str:
    return database.dsn(LOOPBACK, faults.proxy_port)


@pytest_asyncio.fixture(loop_scope="session")
async def connection(dsn: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    opened = await asyncpg.connect(dsn)
    yield opened
    opened.terminate()


class Stopwatch:
    elapsed_s = 0.0


@contextlib.contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    watch = Stopwatch()
    started = time.monotonic()
    yield watch
    watch.elapsed_s = time.monotonic() - started


def gained(before: DatabaseCounters, after: DatabaseCounters) -> tuple[int, int]:
    return after.statements - before.statements, after.round_trips - before.round_trips


async def sessions_become(cluster: Cluster, database: Database, number: int) -> None:
    for _ in range(150):
        if (await cluster.sessions(database)).total == number:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"sessions: {await cluster.sessions(database)}")


# Counting


async def test_connections_statements_and_round_trips_are_counted(
    faults: FaultServer, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    start = await faults.counters()
    assert (start.connections_opened, start.connections_open) == (1, 1)
    await connection.execute("SELECT 1")
    simple = await faults.counters()
    assert gained(start, simple) == (1, 1)
    await connection.fetchval("SELECT $1::int", 1)
    prepared = await faults.counters()
    assert gained(simple, prepared) == (1, 2)  # prepare, then bind and execute
    for number in range(10):
        await connection.fetchval("SELECT $1::int", number)
    assert gained(prepared, await faults.counters()) == (10, 10)
    await connection.close()
    end = await faults.counters()
    assert (end.connections_opened, end.connections_open) == (1, 0)


async def test_asyncpg_works_through_the_proxy(
    faults: FaultServer, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await connection.execute("CREATE TEMP TABLE t (n int, s text)")
    await connection.executemany("INSERT INTO t VALUES ($1, $2)", [(n, "x") for n in range(200)])
    await connection.copy_records_to_table("t", records=[(n, "y" * 100) for n in range(50_000)])
    assert await connection.fetchval("SELECT count(*) FROM t") == 50_200
    rows = await connection.fetch("SELECT repeat('z', 1000) AS z FROM generate_series(1, 20000)")
    assert sum(len(row["z"]) for row in rows) == 20_000_000
    with pytest.raises(TimeoutError):
        await connection.fetchval("SELECT pg_sleep(20)", timeout=0.2)  # sends a CancelRequest
    assert await connection.fetchval("SELECT 1") == 1
    assert (await faults.counters()).connections_opened == 1


async def test_psycopg_works_through_the_proxy(faults: FaultServer, dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        await connection.execute("CREATE TEMP TABLE t (n int)")
        cursor = connection.cursor()
        await cursor.executemany("INSERT INTO t VALUES (%s)", [(n,) for n in range(200)])
        async with cursor.copy("COPY t FROM STDIN") as copy:
            for number in range(10_000):
                await copy.write_row((number,))
        await faults.set_proxy(delay_s=0.5)
        with stopwatch() as watch:
            async with connection.pipeline():
                cursors = [await connection.execute("SELECT %s::int", (number,)) for number in range(20)]
                assert [await cursor.fetchone() for cursor in cursors] == [(number,) for number in range(20)]
        assert 0.5 <= watch.elapsed_s < 5  # pipelined: not 20 times
        await faults.set_proxy()
        found = await (await connection.execute("SELECT count(*) FROM t")).fetchone()
        assert found == (10_200,)
        sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(20)"))
        await asyncio.sleep(0.2)
        await connection.cancel_safe()
        with pytest.raises(psycopg.errors.QueryCanceled):
            await sleeping


async def test_encryption_is_declined(dsn: str) -> None:
    with pytest.raises(psycopg.OperationalError, match="SSL"):
        await psycopg.AsyncConnection.connect(dsn, sslmode="require")


# Delays


async def test_a_round_trip_is_delayed_once_and_connections_wait_independently(
    faults: FaultServer, dsn: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    other = await asyncpg.connect(dsn)
    await faults.set_proxy(delay_s=1)
    with stopwatch() as watch:
        await asyncio.gather(connection.execute("SELECT 1"), other.execute("SELECT 1"))
    assert 1 <= watch.elapsed_s < 1.9
    with stopwatch() as watch:
        await connection.execute("SELECT 1; SELECT 2")
        await connection.execute("SELECT 3")
    assert 2 <= watch.elapsed_s < 2.9
    await faults.set_proxy()
    with stopwatch() as watch:
        await connection.execute("SELECT 1")
    assert watch.elapsed_s < 0.9
    other.terminate()


async def test_logging_in_and_big_results_are_delayed_and_complete(faults: FaultServer, dsn: str) -> None:
    await faults.set_proxy(delay_s=0.1)
    with stopwatch() as watch:
        connection = await asyncpg.connect(dsn)
    assert watch.elapsed_s >= 0.2
    rows = await connection.fetch("SELECT n, repeat('z', 1000) AS z FROM generate_series(1, 20000) n")
    assert [row["n"] for row in rows] == list(range(1, 20_001))
    connection.terminate()


async def test_a_commit_is_held_and_what_commits_itself_is_not(
    faults: FaultServer, dsn: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await connection.execute("CREATE TABLE held (n integer)")
    other = await asyncpg.connect(dsn)
    await faults.set_proxy(commit_delay_s=1.5)
    with stopwatch() as watch:
        await connection.execute("BEGIN")
        await connection.execute("INSERT INTO held VALUES (1)")
        committing = asyncio.create_task(connection.execute("COMMIT"))
        await asyncio.sleep(0.05)
        assert await other.fetchval("SELECT count(*) FROM held") == 0
        await other.execute("INSERT INTO held VALUES (2)")
        assert not committing.done()
        await committing
    assert 1.5 <= watch.elapsed_s < 2.9
    assert await connection.fetchval("SELECT count(*) FROM held") == 2
    await faults.set_proxy()
    with stopwatch() as watch:
        async with connection.transaction():
            await connection.execute("DROP TABLE held")
    assert watch.elapsed_s < 1.4
    other.terminate()


# Freezing


async def test_frozen_bytes_stop_and_are_delivered_afterwards(
    faults: FaultServer, dsn: str, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    await faults.set_proxy(frozen=True)
    query = asyncio.create_task(connection.fetchval("SELECT 42"))
    connecting = asyncio.create_task(asyncpg.connect(dsn))
    await asyncio.sleep(0.4)
    assert not query.done()
    assert not connecting.done()
    assert (await faults.counters()).connections_opened == 1
    await faults.set_proxy()
    assert await query == 42
    (await connecting).terminate()


async def test_an_answer_under_way_is_frozen_too(
    faults: FaultServer, connection: "asyncpg.Connection[asyncpg.Record]"
) -> None:
    query = asyncio.create_task(connection.execute("SELECT pg_sleep(0.2)"))
    await asyncio.sleep(0.1)
    await faults.set_proxy(frozen=True)
    await asyncio.sleep(0.4)
    assert not query.done()
    await faults.set_proxy(delay_s=0.1)
    await query


async def test_a_client_that_leaves_while_frozen_ends_its_session(
    faults: FaultServer,
    cluster: Cluster,
    database: Database,
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    await faults.set_proxy(frozen=True)
    await sessions_become(cluster, database, 1)
    connection.terminate()
    await sessions_become(cluster, database, 0)
    assert (await faults.counters()).connections_open == 0


# Refusing and cutting


async def test_refusing_leaves_existing_connections_until_they_are_cut(
    faults: FaultServer,
    cluster: Cluster,
    database: Database,
    dsn: str,
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    await faults.set_proxy(refuse=True)
    with pytest.raises(ConnectionRefusedError):
        await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT 1") == 1
    sleeping = asyncio.create_task(connection.execute("SELECT pg_sleep(20)"))
    await asyncio.sleep(0.1)
    await faults.cut()
    with pytest.raises(asyncpg.ConnectionDoesNotExistError):
        await sleeping
    await sessions_become(cluster, database, 0)
    await faults.set_proxy()
    (await asyncpg.connect(dsn)).terminate()


async def test_a_cut_reaches_the_client_as_a_reset(faults: FaultServer, dsn: str) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, faults.proxy_port)
    await faults.set_proxy(frozen=True)  # answered: the proxy has accepted the connection before
    await faults.cut()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_session_that_the_server_ends_is_closed_after_its_last_words(
    cluster: Cluster,
    database: Database,
    faults: FaultServer,
    connection: "asyncpg.Connection[asyncpg.Record]",
) -> None:
    await faults.set_proxy(delay_s=0.1)
    query = asyncio.create_task(connection.execute("SELECT pg_sleep(20)"))
    await asyncio.sleep(0.1)
    await cluster.terminate_sessions(database)
    with pytest.raises(asyncpg.ConnectionDoesNotExistError, match="administrator command"):
        await query


async def test_what_is_not_postgresql_is_reset(faults: FaultServer) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, faults.proxy_port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_server_that_is_away_resets_its_clients(tmp_path: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind((LOOPBACK, 0))
        async with await FaultServer.start(
            tmp_path, bind_address=LOOPBACK, database=reserved.getsockname(), epoch=time.monotonic(), seed=7
        ) as faults:
            with pytest.raises((ConnectionError, asyncpg.ConnectionDoesNotExistError)):
                await asyncpg.connect(host=LOOPBACK, port=faults.proxy_port, user="x", ssl=False)
            assert (await faults.counters()).connections_open == 0
