from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg
import pytest

from devstack.artifacts import Upstream
from devstack.errors import NeverReady, PostgresError, ServiceDied
from devstack.postgres import Cluster
from devstack.world import World, WorldSettings

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

Settings = Callable[..., WorldSettings]


async def databases(cluster: Cluster) -> set[str]:
    return {name for (name,) in await cluster.fetch("SELECT datname FROM pg_database")}


async def test_a_world_is_a_database_a_fault_server_and_a_service(
    world_settings: Settings, tmp_path: Path
) -> None:
    async with World(world_settings(), tmp_path / "world") as world:
        service = await world.start_service(environment={"MORE": "2"})
        async with httpx.AsyncClient(base_url=service.base_url, trust_env=False) as client:
            given = (await client.get("/environment")).json()

        upstreams: tuple[Upstream, ...] = ("payments", "risk", "rates", "mailer")
        assert [given[f"{name.upper()}_URL"] for name in upstreams] == [
            world.faults.urls[name] for name in upstreams
        ]
        assert (given["KIT"], given["MORE"], given["DATABASE_MAX_CONNECTIONS"]) == ("1", "2", "3")
        # The service reaches its own clone, through the proxy.
        async with await psycopg.AsyncConnection.connect(given["DATABASE_URL"]) as session:
            found = await (await session.execute("SELECT current_database(), current_user")).fetchone()
            assert found == (world.database.name, world.database.role)
            assert (await world.faults.counters()).connections_open == 1
            assert (await world.cluster.sessions(world.database)).total == 1
        assert world.live is world.settings.live
        assert 0 < world.now() < 60


async def test_leaving_a_world_leaves_nothing_behind(
    world_settings: Settings, cluster: Cluster, tmp_path: Path
) -> None:
    before = await databases(cluster)
    async with World(world_settings("forks-daemon"), tmp_path / "world") as world:
        service = await world.start_service()
        proxy, url = world.faults.proxy_port, service.base_url
        assert await databases(cluster) == before | {world.database.name}

    assert service.members() == []
    assert await databases(cluster) == before
    for port in (proxy, int(url.rpartition(":")[2])):
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


async def test_a_world_that_cannot_open_leaves_nothing_behind(
    world_settings: Settings, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise PostgresError("no stubs today")

    before = await databases(cluster)
    monkeypatch.setattr("devstack.faults.client.FaultServer.start", fails)
    with pytest.raises(PostgresError, match="no stubs today"):
        async with World(world_settings(), tmp_path / "world"):
            pytest.fail("the world opened")
    assert await databases(cluster) == before


async def test_a_cancelled_world_is_torn_down(
    world_settings: Settings, cluster: Cluster, tmp_path: Path
) -> None:
    before = await databases(cluster)
    started = asyncio.Event()

    async def live_in_it() -> None:
        async with World(world_settings("ignores-sigterm"), tmp_path / "world") as world:
            await world.start_service()
            started.set()
            await asyncio.sleep(60)

    running = asyncio.create_task(live_in_it())
    await started.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await databases(cluster) == before


async def test_a_port_that_somebody_took_is_replaced_once(world_settings: Settings, tmp_path: Path) -> None:
    async with World(world_settings("port-in-use"), tmp_path / "world") as world:
        service = await world.start_service()
        assert not service.died
        assert "Address already in use" in world.log.read_text()
        assert "Address already in use" not in service.log_text()


async def test_a_service_whose_port_is_always_taken_is_told(world_settings: Settings, tmp_path: Path) -> None:
    async with World(world_settings("port-always-in-use"), tmp_path / "world") as world:
        with pytest.raises(ServiceDied, match="ended with status 1"):
            await world.start_service()


async def test_a_service_that_does_not_get_ready_in_time_is_told(
    world_settings: Settings, tmp_path: Path
) -> None:
    async with World(world_settings("never-ready"), tmp_path / "world") as world:
        with pytest.raises(NeverReady, match="answered 503"):
            await world.start_service(ready_timeout_s=0.5)
        waiting = await world.start_service(wait=False)
        assert waiting.returncode is None
