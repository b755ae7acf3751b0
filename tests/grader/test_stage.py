from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
import pytest

from devstack import asking
from devstack.artifacts import Artifact, Exchange, Ledger, Outcome
from devstack.errors import StoppedAnswering
from devstack.seed import LiveData
from devstack.world import World, WorldSettings
from grader.scenarios.recorder import Recorder
from grader.scenarios.stage import FloodedUpstreams, Scenario, Stage

Answer = Callable[[httpx.Request], httpx.Response]


async def nothing(stage: Stage) -> None:
    """A scenario for stages that a test drives itself."""


SAMPLE = Scenario(name="sample", drive=nothing, budget_s=1)


def refusing(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("no")


class Theatre:
    """A stage whose world is hollow and whose service is a function."""

    def __init__(self, answer: Answer, live: LiveData, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock_s: Callable[[], float] = time.monotonic
        self.recorder = Recorder()
        world: Any = SimpleNamespace(now=lambda: self.clock_s(), start_service=self._start, live=live)
        self.stage = Stage(SAMPLE, world, self.recorder, seed=7)
        monkeypatch.setattr(asking, "bounded_transport", lambda **_: httpx.MockTransport(answer))

    async def _start(self, **options: Any) -> Any:
        self.options = options
        return SimpleNamespace(base_url="http://service")


@pytest.fixture
def theatre(live: LiveData, monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], Theatre]:
    return lambda answer: Theatre(answer, live, monkeypatch)


async def test_a_stage_starts_its_service_as_the_scenario_says(theatre: Callable[[Answer], Theatre]) -> None:
    made = theatre(lambda _: httpx.Response(200))
    assert not made.stage.started
    await made.stage.start(environment={"A": "1"})
    assert made.stage.started
    assert made.options == {"processes": 1, "environment": {"A": "1"}}
    await made.stage.start(processes=2)
    assert made.options["processes"] == 2
    await made.stage.close()


async def test_orders_have_buyers_cards_and_keys_of_their_own_that_repeat_with_the_seed(
    theatre: Callable[[Answer], Theatre],
) -> None:
    def orders(stage: Stage) -> list[object]:
        return [(stage.order_body([(1, 2)], currency="USD"), stage.key()) for _ in range(3)]

    made = [orders(theatre(lambda _: httpx.Response(200)).stage) for _ in range(2)]
    assert made[0] == made[1]
    bodies = [body for body, _ in made[0]]  # type: ignore[misc]
    assert len({body["buyer_email"] for body in bodies}) == 3
    assert len({body["card_token"] for body in bodies}) == 3
    assert bodies[0]["items"] == [{"event_id": 1, "quantity": 2}]
    assert bodies[0]["currency"] == "USD"


async def test_an_order_carries_its_key(theatre: Callable[[Answer], Theatre]) -> None:
    made = theatre(lambda _: httpx.Response(201, json={"id": "o1", "status": "confirmed"}))
    await made.stage.start()
    placed = await made.stage.order("orders", [(1, 1)], key="k1", headers={"X-Request-ID": "r"}, fresh=True)
    assert placed.request_headers["Idempotency-Key"] == "k1"
    assert placed.request_headers["X-Request-ID"] == "r"
    assert made.recorder.exchanges == {"orders": [placed]}
    await made.stage.close()


async def test_orders_are_read_until_they_are_settled(theatre: Callable[[Answer], Theatre]) -> None:
    readings = itertools.count()

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(202, json={"id": "o1", "status": "pending"})
        return httpx.Response(200, json={"id": "o1", "status": ("pending", "confirmed")[next(readings) > 0]})

    made = theatre(answer)
    await made.stage.start()
    placed = await made.stage.order("orders", [(1, 1)])
    refused = placed.model_copy(update={"payload": None, "headers": {}})
    [settled] = await made.stage.settle("settled", [placed, placed, refused], within_s=5)

    assert settled.payload == {"id": "o1", "status": "confirmed"}
    assert set(made.recorder.exchanges) == {"orders", "settled"}
    await made.stage.close()


async def test_reading_stops_when_its_time_is_over(theatre: Callable[[Answer], Theatre]) -> None:
    made = theatre(lambda _: httpx.Response(200, json={"id": "o1", "status": "pending"}))
    await made.stage.start()
    placed = await made.stage.order("orders", [(1, 1)])
    [last] = await made.stage.settle("settled", [placed], within_s=-1)
    assert last.payload == {"id": "o1", "status": "pending"}
    await made.stage.close()


async def test_a_service_that_stopped_answering_is_given_up(theatre: Callable[[Answer], Theatre]) -> None:
    made = theatre(refusing)
    await made.stage.start()

    def unanswered() -> Exchange:
        exchange = made.recorder.exchanges["reads"][0]
        return exchange.model_copy(update={"error": "timeout"})

    await made.stage.get("reads", "/events")  # refused is an answer of a kind
    began = time.monotonic()
    for passed_s in (10, 20):
        made.clock_s = lambda passed_s=passed_s: began + passed_s  # type: ignore[misc]
        made.stage._notice(unanswered())
    made.clock_s = lambda: began + 30
    with pytest.raises(StoppedAnswering, match="3 requests in a row timed out"):
        made.stage._notice(unanswered())
    await made.stage.close()


async def test_a_flood_of_calls_to_upstreams_ends_the_scenario(theatre: Callable[[Answer], Theatre]) -> None:
    made = theatre(lambda _: httpx.Response(200))
    book = Ledger(taken_s=1)

    async def ledger() -> Ledger:
        return book

    world: Any = made.stage.world
    world.faults = SimpleNamespace(ledger=ledger, calls_dropped=3)
    with pytest.raises(FloodedUpstreams, match="called its upstreams 3 times"):
        await made.stage.ledger("final")
    assert made.recorder.ledgers == {"final": book}


def test_a_record_is_frozen_as_it_is() -> None:
    recorder = Recorder()
    recorder.facts["seats"] = 4
    recorder.texts["log"] = "line"
    artifact = recorder.artifact("sample", 2, Outcome(kind="cut-short", reason="why"), "tail")
    assert artifact == Artifact(
        scenario="sample",
        attempt=2,
        outcome=Outcome(kind="cut-short", reason="why"),
        facts={"seats": 4},
        texts={"log": "line"},
        log_tail="tail",
    )


@pytest.mark.integration
@pytest.mark.asyncio(loop_scope="session")
async def test_a_stage_observes_a_real_world(
    world_settings: Callable[..., WorldSettings], tmp_path: Path
) -> None:
    async with World(world_settings(), tmp_path / "world") as world:
        recorder = Recorder()
        stage = Stage(SAMPLE, world, recorder, seed=7)
        await stage.start()
        url = (await stage.get("environment", "/environment")).payload
        assert isinstance(url, dict)
        async with (
            stage.heartbeats("live", interval_s=0.02) as beats,
            stage.connection_samples("sessions", interval_s=0.02),
            await psycopg.AsyncConnection.connect(str(url["DATABASE_URL"])) as session,
        ):
            await session.execute("SELECT 1")
            await asyncio.sleep(0.4)
            assert len(beats) > 5
            counted = await stage.counters("counted")
        book = await stage.ledger()
        stage.fact("done", True)
        stage.text("page", "x" * 100, cap=10)
        await stage.close()

    series = recorder.heartbeats["live"]
    assert all(beat.status == 200 for beat in series.beats)
    assert [beat.intended_s for beat in series.beats] == sorted(beat.intended_s for beat in series.beats)
    assert series.prober_lag_p99_s < 0.5
    assert max(sample.total for sample in recorder.connections["sessions"]) == 1
    assert all(0 < sample.at_s < 60 for sample in recorder.connections["sessions"])
    assert (recorder.counters["counted"], counted.connections_opened) == (counted, 1)
    assert recorder.ledgers["final"] == book
    assert (recorder.facts, recorder.texts) == ({"done": True}, {"page": "x" * 10})


@pytest.mark.integration
@pytest.mark.asyncio(loop_scope="session")
async def test_heartbeats_of_a_dead_service_have_no_status(
    world_settings: Callable[..., WorldSettings], tmp_path: Path
) -> None:
    async with World(world_settings(), tmp_path / "world") as world:
        recorder = Recorder()
        stage = Stage(SAMPLE, world, recorder, seed=7)
        service = await stage.start()
        service.kill()
        await service.wait_gone(5)
        async with stage.heartbeats("live", interval_s=0.02):
            await asyncio.sleep(0.1)
        await stage.close()
    assert {beat.status for beat in recorder.heartbeats["live"].beats} == {None}


async def given_up(stage: Stage) -> None:
    async with stage.heartbeats("events", interval_s=0.02, path="/events"):
        await asyncio.sleep(0.2)
        raise StoppedAnswering("given up")


@pytest.mark.integration
@pytest.mark.asyncio(loop_scope="session")
async def test_an_interruption_does_not_wait_for_heartbeats_that_hang(
    world_settings: Callable[..., WorldSettings], tmp_path: Path
) -> None:
    async with World(world_settings("hangs"), tmp_path / "world") as world:
        recorder = Recorder()
        stage = Stage(SAMPLE, world, recorder, seed=7)
        await stage.start()
        began = time.monotonic()
        with pytest.raises(StoppedAnswering):
            await given_up(stage)
        assert time.monotonic() - began < 5
        await stage.close()
    series = recorder.heartbeats["events"]
    assert {beat.status for beat in series.beats} == {None}
    assert series.worst_s > 0.15


@pytest.mark.integration
@pytest.mark.asyncio(loop_scope="session")
async def test_a_block_that_is_over_at_once_has_heartbeats_too(
    world_settings: Callable[..., WorldSettings], tmp_path: Path
) -> None:
    async with World(world_settings(), tmp_path / "world") as world:
        recorder = Recorder()
        stage = Stage(SAMPLE, world, recorder, seed=7)
        await stage.start()
        async with stage.heartbeats("live", interval_s=0.02):
            over_s = stage.now()
        await stage.close()
    series = recorder.heartbeats["live"]
    assert series.between(over_s, over_s + 5 * series.interval_s).beats
