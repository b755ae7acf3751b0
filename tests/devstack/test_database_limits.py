"""What a service, and its migrations, may use of the database server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from devstack import database_limits, postgres, world
from devstack.cluster_cache import connect
from devstack.database_limits import Weight
from devstack.errors import MigrationFailed
from devstack.paths import first_migration
from devstack.postgres import Cluster
from devstack.seed import LiveData
from devstack.world import World, WorldSettings

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]
MIB = 2**20


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_limits, "INTERVAL_S", 0.05)
    monkeypatch.setattr(postgres, "MIGRATION_GROWTH_BYTES", 8 * MIB)
    monkeypatch.setattr(world, "GROWTH_BYTES", 8 * MIB)


@pytest.fixture
def migrations(tmp_path: Path) -> Callable[[str], Path]:
    def make(text: str) -> Path:
        folder = tmp_path / "migrations"
        folder.mkdir()
        (folder / first_migration().name).write_bytes(first_migration().read_bytes())
        (folder / "0002_mine.sql").write_text(text)
        return folder

    return make


@pytest.mark.usefixtures("hasty")
async def test_migrations_that_add_too_much_fail(
    cluster: Cluster, live: LiveData, migrations: Callable[[str], Path]
) -> None:
    folder = migrations(
        "CREATE TABLE big AS SELECT repeat('x', 1000) || n AS t FROM generate_series(1, 3000000) AS n;"
    )
    with pytest.raises(MigrationFailed, match="its database grew by more than 8 MiB"):
        await cluster.make_template("too_big", live=live, migrations=folder)


@pytest.mark.parametrize(
    "text",
    [
        "DO $$ BEGIN RAISE EXCEPTION 'out of disk' USING ERRCODE = '53100'; END $$;",
        "SELECT pg_terminate_backend(pg_backend_pid());",
    ],
    ids=["says that the disk is full", "ends its own session"],
)
async def test_a_migration_cannot_put_the_blame_on_the_server(
    cluster: Cluster, live: LiveData, migrations: Callable[[str], Path], text: str
) -> None:
    with pytest.raises(MigrationFailed, match="0002_mine"):
        await cluster.make_template("blaming", live=live, migrations=migrations(text))


@pytest.mark.usefixtures("hasty")
async def test_a_service_whose_database_grows_too_much_is_ended_and_it_is_said_why(
    world_settings: Callable[..., WorldSettings], tmp_path: Path
) -> None:
    async with World(world_settings("ok"), tmp_path / "world") as world:
        service = await world.start_service()
        database = world.database
        async with await connect(
            world.cluster.host, world.cluster.port, database.password, database.name, user=database.role
        ) as connection:
            with pytest.raises(psycopg.Error):
                await connection.execute(
                    "CREATE TABLE big AS SELECT repeat('x', 1000) || n AS t FROM generate_series(1, 3000000) AS n"
                )
        assert await service.wait_gone(5)
        assert "its database grew by more than 8 MiB" in service.how_it_ended()


async def test_a_session_cannot_fill_the_disk_with_temporary_files(
    world_settings: Callable[..., WorldSettings], tmp_path: Path
) -> None:
    async with World(world_settings("ok"), tmp_path / "world") as world:
        database = world.database
        async with await connect(
            world.cluster.host, world.cluster.port, database.password, database.name, user=database.role
        ) as connection:
            for refused in (
                "SET temp_file_limit = -1",
                f"ALTER ROLE {database.role} SET temp_file_limit = -1",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    await connection.execute(refused.encode())
                await connection.rollback()
            with pytest.raises(psycopg.errors.ConfigurationLimitExceeded, match="temporary file size"):
                await connection.execute(
                    "SELECT count(*) FROM (SELECT n FROM generate_series(1, 1000000) n, repeat('x', 500) "
                    "ORDER BY md5(n::text) || repeat) AS sorted"
                )


async def test_memory_of_sessions_is_counted_and_its_limit_is_told() -> None:
    told: list[str] = []
    weights = iter([Weight(0, 0), Weight(0, 10), Weight(0, database_limits.MEMORY_BYTES + 1)])

    async def weigh() -> Weight:
        return next(weights)

    async def exceeded(reason: str) -> None:
        told.append(reason)

    interval, database_limits.INTERVAL_S = database_limits.INTERVAL_S, 0.001
    try:
        await asyncio.wait_for(database_limits.watch(weigh, growth_bytes=1, exceeded=exceeded), 10)
    finally:
        database_limits.INTERVAL_S = interval
    assert told == ["its database sessions used more than 1024 MiB of memory"]
