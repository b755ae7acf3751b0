from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from devstack.artifacts import Artifact
from devstack.errors import PostgresError, ServiceDied
from devstack.postgres import Cluster
from devstack.seed import LiveData
from devstack.world import World, WorldSettings
from grader.driving import LOG_TAIL_CHARACTERS, drive
from grader.scenarios.stage import Scenario, Stage

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]

Settings = Callable[..., WorldSettings]
Driver = Callable[[Stage], Awaitable[None]]


async def driven(settings: WorldSettings, directory: Path, driver: Driver, budget_s: float = 20) -> Artifact:
    scenario = Scenario(name="sample", drive=driver, budget_s=budget_s)
    return await drive(scenario, settings, directory, attempt=2)


async def one_read(stage: Stage) -> None:
    await stage.start()
    await stage.get("reads", "/events")
    await stage.ledger()


async def databases(cluster: Cluster) -> list[str]:
    return sorted(name for (name,) in await cluster.fetch("SELECT datname FROM pg_database"))


async def test_a_driven_scenario_is_completed(world_settings: Settings, tmp_path: Path) -> None:
    artifact = await driven(world_settings(), tmp_path / "1", one_read)

    assert (artifact.scenario, artifact.attempt, artifact.outcome.kind) == ("sample", 2, "completed")
    assert artifact.exchange("reads").status == 200
    assert artifact.ledger().calls == ()
    assert artifact.log_tail.split() == ["serving"]
    assert sorted(path.name for path in (tmp_path / "1").iterdir()) == ["faults.log", "service.log"]


async def test_a_service_that_does_not_start_blocks(world_settings: Settings, tmp_path: Path) -> None:
    artifact = await driven(world_settings("dies-at-once"), tmp_path / "1", one_read)

    assert artifact.outcome.kind == "blocked"
    assert artifact.outcome.reason == (
        "the service ended with status 1 before it was ready; "
        "its log ends: cannot import the payments module[2J"
    )


async def test_a_service_that_never_gets_ready_blocks(
    world_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(World.start_service.__kwdefaults__, "ready_timeout_s", 0.5)
    artifact = await driven(world_settings("never-listens"), tmp_path / "1", one_read)
    assert artifact.outcome.kind == "blocked"
    assert "nothing listened on its port" in artifact.outcome.reason


async def three_reads(stage: Stage) -> None:
    await stage.start()
    for _ in range(3):
        await stage.get("reads", "/events")


async def stumbling(stage: Stage) -> None:
    await three_reads(stage)
    raise IndexError("no third answer")


async def starting_it_again(stage: Stage) -> None:
    await three_reads(stage)
    raise ServiceDied("the service ended with status 4 while it was restarted")


@pytest.mark.parametrize("driver", [three_reads, stumbling, starting_it_again])
async def test_a_service_that_dies_midway_cuts_its_scenario_short_whatever_follows(
    world_settings: Settings, tmp_path: Path, driver: Driver
) -> None:
    artifact = await driven(world_settings("dies-midway"), tmp_path / "1", driver)

    assert artifact.outcome.kind == "cut-short"
    assert artifact.outcome.reason.startswith("the service ended with status 4 while it was ")
    assert artifact.outcome.reason.endswith("its log ends: out of luck")
    assert [read.status for read in artifact.exchanges_of("reads")] == [200, 200, None]
    assert artifact.ledger().charges == (), "what reached the upstreams is kept"


async def test_a_service_that_was_asked_to_end_did_not_die(world_settings: Settings, tmp_path: Path) -> None:
    async def ending(stage: Stage) -> None:
        await stage.start()
        stage.service.terminate()
        stage.fact("gone", await stage.service.wait_gone(5))

    artifact = await driven(world_settings(), tmp_path / "1", ending)
    assert (artifact.outcome.kind, artifact.fact("gone")) == ("completed", True)


async def test_a_scenario_that_uses_up_its_time_is_cut_short(
    world_settings: Settings, tmp_path: Path
) -> None:
    artifact = await driven(world_settings("hangs"), tmp_path / "1", one_read, budget_s=1.5)
    assert artifact.outcome.kind == "cut-short"
    assert artifact.outcome.reason == "the scenario's 2 s were used up"
    assert artifact.ledger().messages == ()


async def own_timeout(stage: Stage) -> None:
    raise TimeoutError("ours")


async def own_mistake(stage: Stage) -> None:
    await stage.start()
    raise KeyError("events")


async def two_mistakes(stage: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(own_timeout(stage))
        group.create_task(own_timeout(stage))


@pytest.mark.parametrize(
    ("driver", "reason"),
    [
        (own_timeout, "TimeoutError: ours"),
        (own_mistake, "KeyError: 'events'"),
        (two_mistakes, "TimeoutError: ours"),
    ],
)
async def test_anything_else_is_trouble_of_ours(
    world_settings: Settings, tmp_path: Path, driver: Driver, reason: str
) -> None:
    artifact = await driven(world_settings(), tmp_path / "1", driver)
    assert (artifact.outcome.kind, artifact.outcome.reason) == ("trouble", reason)


async def test_deaths_met_side_by_side_are_one_reason(world_settings: Settings, tmp_path: Path) -> None:
    async def two_deaths(stage: Stage) -> None:
        await stage.start()

        async def die() -> None:
            raise ServiceDied("the service stopped answering")

        async with asyncio.TaskGroup() as group:
            group.create_task(die())
            group.create_task(die())

    artifact = await driven(world_settings(), tmp_path / "1", two_deaths)
    assert artifact.outcome.kind == "cut-short"
    assert artifact.outcome.reason == "the service stopped answering; its log ends: serving"


async def test_a_world_that_does_not_open_is_trouble_of_ours(
    world_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object, **__: object) -> None:
        raise PostgresError("no space left")

    monkeypatch.setattr(Cluster, "clone", full)
    artifact = await driven(world_settings(), tmp_path / "1", one_read)
    assert (artifact.outcome.kind, artifact.outcome.reason) == ("trouble", "PostgresError: no space left")
    assert artifact.log_tail == ""


async def test_only_the_end_of_a_long_log_is_kept(world_settings: Settings, tmp_path: Path) -> None:
    artifact = await driven(world_settings("chatty"), tmp_path / "1", one_read)
    assert artifact.outcome.kind == "completed"
    assert len(artifact.log_tail) == LOG_TAIL_CHARACTERS


async def interrupted(settings: WorldSettings, directory: Path) -> None:
    """Drive until the service is there, then cancel; CancelledError comes out of it, or pytest fails."""
    ready = asyncio.Event()

    async def waiting(stage: Stage) -> None:
        await stage.start()
        ready.set()
        await asyncio.sleep(60)

    running = asyncio.create_task(driven(settings, directory, waiting))
    await ready.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_an_interruption_leaves_nothing_and_makes_no_record(
    world_settings: Settings, cluster: Cluster, tmp_path: Path
) -> None:
    before = await databases(cluster)
    await interrupted(world_settings("forks-daemon"), tmp_path / "1")
    assert await databases(cluster) == before


async def test_a_tear_down_that_fails_does_not_swallow_the_interruption(
    world_settings: Settings, cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop = Cluster.drop

    async def fails(self: Cluster, database: object) -> None:
        await drop(self, database)  # type: ignore[arg-type]
        raise PostgresError("cannot drop")

    monkeypatch.setattr(Cluster, "drop", fails)
    await interrupted(world_settings(), tmp_path / "1")


async def test_a_scenario_that_brings_data_has_a_template_of_its_own_that_goes_with_it(
    world_settings: Settings, cluster: Cluster, tmp_path: Path
) -> None:
    before = await databases(cluster)
    settings = world_settings()

    def one_event(live: LiveData, now: dt.datetime) -> LiveData:
        assert now.tzinfo is not None
        return replace(live, events=live.events[:1])

    async def count(stage: Stage) -> None:
        await stage.start()
        name = stage.world.database.name
        [(events,)] = await cluster.fetch(
            "SELECT count(*) FROM events WHERE starts_at > now()", database=name
        )
        stage.fact("events", events)
        stage.fact("known", len(stage.world.live.events))

    scenario = Scenario(name="sample", drive=count, budget_s=20, data=one_event)
    artifact = await drive(scenario, settings, tmp_path / "1", attempt=1)
    assert (artifact.outcome.kind, artifact.fact("events"), artifact.fact("known")) == ("completed", 1, 1)
    assert await databases(cluster) == before


async def test_migrations_that_fail_on_a_scenarios_own_data_block_it(
    world_settings: Settings, cluster: Cluster, tmp_path: Path
) -> None:
    before = await databases(cluster)
    settings = world_settings()
    (settings.submission.source / "migrations" / "0002_wrong.sql").write_text("SELECT nothing;")
    scenario = Scenario(name="sample", drive=one_read, budget_s=20, data=lambda live, now: live)
    artifact = await drive(scenario, settings, tmp_path / "1", attempt=1)
    assert artifact.outcome.kind == "blocked"
    assert "0002_wrong.sql" in artifact.outcome.reason
    assert await databases(cluster) == before
