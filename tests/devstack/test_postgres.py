from __future__ import annotations

import asyncio
import statistics
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest

from devstack.errors import MigrationFailed, PostgresError
from devstack.postgres import Cluster, Database
from devstack.seed import LiveData

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]


async def session_of(cluster: Cluster, database: Database, name: str | None = None) -> Any:
    dsn = database.dsn(cluster.host, cluster.port)
    return await psycopg.AsyncConnection.connect(dsn, dbname=name or database.name, autocommit=True)


async def test_a_role_holds_no_more_sessions_than_its_limit(cluster: Cluster, database: Database) -> None:
    sessions = [await session_of(cluster, database) for _ in range(3)]
    try:
        with pytest.raises(psycopg.OperationalError, match="too many connections for role"):
            await session_of(cluster, database)
        assert (await cluster.sessions(database)).total == 3
    finally:
        for session in sessions:
            await session.close()


async def test_sessions_are_counted_by_state_and_by_role(
    cluster: Cluster, template: str, database: Database
) -> None:
    other = await cluster.clone(template, connection_limit=3)
    async with (
        await session_of(cluster, database) as one,
        await session_of(cluster, database) as two,
        await session_of(cluster, other),
    ):
        await one.execute("BEGIN")
        sleeping = asyncio.create_task(two.execute("SELECT pg_sleep(0.5)"))
        await asyncio.sleep(0.2)
        sample = await cluster.sessions(database)
        await sleeping
    await cluster.drop(other)

    assert (sample.total, sample.active, sample.idle, sample.idle_in_transaction) == (2, 1, 0, 1)


async def test_a_sample_takes_milliseconds(cluster: Cluster, database: Database) -> None:
    taken_s = []
    for _ in range(20):
        started = time.monotonic()
        await cluster.sessions(database)
        taken_s.append(time.monotonic() - started)

    print(f"a sample of the sessions: {statistics.median(taken_s) * 1000:.2f} ms")
    assert statistics.median(taken_s) < 0.05


async def test_a_role_enters_its_own_database_only(
    cluster: Cluster, template: str, database: Database
) -> None:
    for other in ("postgres", "template1", "boxoffice_history", template):
        with pytest.raises(psycopg.OperationalError, match="permission denied"):
            await session_of(cluster, database, other)


async def test_a_role_owns_its_tables_and_nothing_else(cluster: Cluster, database: Database) -> None:
    async with await session_of(cluster, database) as session:
        await session.execute("ALTER TABLE orders ADD COLUMN note text")
        await session.execute("CREATE TABLE extra (id integer)")
        for forbidden in (
            "CREATE ROLE another",
            "CREATE DATABASE another",
            "SET session_replication_role = 'replica'",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await session.execute(forbidden)


async def test_terminated_sessions_are_ended_and_new_ones_welcome(
    cluster: Cluster, database: Database
) -> None:
    session = await session_of(cluster, database)
    await cluster.terminate_sessions(database)
    with pytest.raises(psycopg.OperationalError):
        await session.execute("SELECT 1")

    async with await session_of(cluster, database):
        assert (await cluster.sessions(database)).total == 1


async def test_sampling_goes_on_after_the_server_restarted_its_backends(
    cluster: Cluster, database: Database
) -> None:
    await cluster.sessions(database)
    assert cluster._sampler is not None
    await cluster.fetch("SELECT pg_terminate_backend(%s)", cluster._sampler.info.backend_pid)

    assert (await cluster.sessions(database)).total == 0


async def test_databases_are_cloned_in_parallel_and_dropped_with_their_sessions(
    cluster: Cluster, template: str
) -> None:
    started = time.monotonic()
    clones = await asyncio.gather(*(cluster.clone(template, connection_limit=2) for _ in range(4)))
    print(f"four clones at once: {time.monotonic() - started:.2f} s")
    session = await session_of(cluster, clones[0])
    for clone in clones:
        await cluster.drop(clone)
    names = [
        name
        for (name,) in await cluster.fetch(
            "SELECT datname FROM pg_database UNION SELECT rolname FROM pg_roles"
        )
    ]

    assert not {clone.name for clone in clones} & set(names)
    await session.close()


async def test_migrations_run_as_the_owner_after_the_data_is_there(
    cluster: Cluster, live: LiveData, tmp_path: Path
) -> None:
    (tmp_path / "0001_initial.sql").write_text("not applied again")
    (tmp_path / "0002_index.sql").write_text(
        "CREATE INDEX lines_by_event ON order_lines (event_id); SET search_path = ''"
    )
    (tmp_path / "0003_copy.sql").write_text(
        "BEGIN; CREATE TABLE sold AS SELECT event_id, sum(quantity) AS seats, '100%'::text AS note"
        " FROM order_lines GROUP BY 1; COMMIT;"
    )
    started = time.monotonic()
    name = await cluster.make_template("migrated", live=live, migrations=tmp_path)
    print(f"template with migrations: {time.monotonic() - started:.2f} s")
    clone = await cluster.clone(name, connection_limit=2)
    async with await session_of(cluster, clone) as session:
        [(count,)] = await (await session.execute("SELECT count(*) FROM sold")).fetchall()
        await session.execute("DROP TABLE sold")
    owners = await cluster.fetch(
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        " AND relname NOT LIKE 'pg_stat_statements%%'",
        database=clone.name,
    )
    await cluster.drop(clone)

    assert count == 201
    assert owners == [(clone.role,)]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("0002_typo.sql", "SELECT 1;\nCREATE TABEL x ();", 'syntax error at or near "TABEL" (line 2)'),
        (
            "0002_locks.sql",
            "CREATE INDEX CONCURRENTLY i ON orders (status)",
            "cannot run inside a transaction block",
        ),
        ("0002_root.sql", "COPY orders TO PROGRAM 'id'", "permission denied"),
        ("0002_long.sql", "SELECT pg_sleep(30)", "migrations may take 1 s in all"),
        ("2_name.sql", "SELECT 1", "NNNN_name.sql"),
    ],
)
async def test_a_migration_that_fails_says_which_and_why_and_leaves_nothing(
    cluster: Cluster, live: LiveData, tmp_path: Path, name: str, text: str, reason: str
) -> None:
    (tmp_path / name).write_text(text)

    with pytest.raises(MigrationFailed) as failure:
        await cluster.make_template("broken", live=live, migrations=tmp_path, timeout_s=1)

    assert failure.value.file == name
    assert reason in failure.value.message
    assert "\n" not in str(failure.value)
    assert await cluster.fetch("SELECT datname FROM pg_database WHERE datname = 'broken'") == []
    assert await cluster.fetch("SELECT rolname FROM pg_roles WHERE rolname LIKE 'broken%%'") == []


async def test_statements_can_be_counted(cluster: Cluster, database: Database) -> None:
    async with await session_of(cluster, database) as session:
        await session.execute("SELECT count(*) FROM venues")
    rows = await cluster.fetch(
        "SELECT calls FROM pg_stat_statements s JOIN pg_roles r ON r.oid = s.userid"
        " WHERE rolname = %s AND query ILIKE '%%FROM venues%%'",
        database.role,
    )

    assert rows == [(1,)]


async def test_a_wrong_query_is_one_line(cluster: Cluster) -> None:
    with pytest.raises(PostgresError, match="does not exist") as failure:
        await cluster.fetch("SELECT *\nFROM nothing")

    assert "\n" not in str(failure.value)


async def test_a_role_cannot_keep_its_database_from_being_dropped(cluster: Cluster, template: str) -> None:
    clone = await cluster.clone(template, connection_limit=3)
    async with await session_of(cluster, clone) as session:
        await session.execute(f"ALTER DATABASE {clone.name} IS_TEMPLATE true")
    await cluster.drop(clone)
    assert not await cluster.fetch("SELECT 1 FROM pg_database WHERE datname = %s", clone.name)
