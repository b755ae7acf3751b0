from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from rich.console import Console
from traces import Traces

from devstack.artifacts import Artifact
from grader import pipeline
from grader.model import RunLock, Scorecard, Verdict
from grader.paths import RunPaths
from grader.pipeline import RunRequest, default_out, run
from grader.reports.terminal import RunView
from grader.scenarios.stage import Scenario, Stage

pytestmark = pytest.mark.integration

Driver = Callable[[Stage], Awaitable[None]]
DEADLOCK = "event-loop-deadlock"


async def first_calls(stage: Stage) -> None:
    """As much of the scenario ``cold-endpoints`` as its check looks at."""
    await stage.start()
    async with stage.heartbeats("live", interval_s=0.02):
        await stage.get("calls", "/events")
        await asyncio.sleep(0.1)


def scenario(name: str, driver: Driver = first_calls, *, quiet: bool = True) -> Scenario:
    return Scenario(name=name, drive=driver, budget_s=20, quiet=quiet)


@pytest.fixture
def told() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def graded(
    tiny: Callable[..., Path], tmp_path: Path, told: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Awaitable[tuple[Scorecard, RunPaths]]]:
    """Grade a tiny submission by the given scenarios; the scorecard and the run directory."""

    async def grade(
        *scenarios: Scenario, behaviour: str = "ok", **options: object
    ) -> tuple[Scorecard, RunPaths]:
        monkeypatch.setattr(pipeline, "SCENARIOS", scenarios)
        request = RunRequest(submission=tiny(behaviour), out=tmp_path / "run", **options)  # type: ignore[arg-type]
        with RunView(Console(file=told, width=200)) as view:
            scorecard = await run(request, view)
        assert Traces(request.out).gone()
        return scorecard, RunPaths(request.out)

    return grade


def attempts(paths: RunPaths, name: str) -> list[Artifact]:
    return [Artifact.model_validate_json(path.read_bytes()) for path in paths.attempts(name)]


async def test_a_run_leaves_the_whole_record_behind(
    graded: Callable[..., Awaitable[tuple[Scorecard, RunPaths]]],
) -> None:
    scorecard, paths = await graded(scenario("cold-endpoints"), only=(DEADLOCK,), seed=11)

    [result] = scorecard.results
    assert (result.id, result.verdict) == (DEADLOCK, Verdict.PASSED)
    assert scorecard.score is None, "a part of the checks makes no total"
    lock = RunLock.model_validate_json(paths.lock.read_bytes())
    assert (lock.seed, lock.quick, lock.selection) == (11, False, (DEADLOCK,))
    assert lock.submission_name == "a-submission"
    assert re.fullmatch("[0-9a-f]{64}", lock.submission_digest)
    assert lock.machine.cpus >= 1
    assert (paths.submission / "src" / "boxoffice" / "__main__.py").is_file()
    assert '"preparation"' in paths.timing.read_text()
    assert (paths.logs / "cold-endpoints" / "1" / "service.log").read_text().split()[0] == "serving"
    assert paths.rubric.is_file()


async def test_quiet_scenarios_come_first_then_the_waiting_ones_together_and_the_load_last(
    graded: Callable[..., Awaitable[tuple[Scorecard, RunPaths]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    together = asyncio.Barrier(2)

    def noting(name: str, *, quiet: bool) -> Scenario:
        async def driver(stage: Stage) -> None:
            events.append(name)
            if not quiet:
                await together.wait()
            if name == "load":
                assert stage.reference is not None
                assert stage.reference.submission.source.name == "solution"
            else:
                assert stage.reference is None

        return scenario(name, driver, quiet=quiet)

    _, paths = await graded(
        noting("load", quiet=True),
        noting("shutdown", quiet=False),
        noting("lost-answers", quiet=False),
        noting("economy", quiet=True),
        only=("load-errors", "graceful-shutdown", "charge-exactly-once", "database-session-reuse"),
    )
    assert events[0] == "economy"
    assert set(events[1:3]) == {"shutdown", "lost-answers"}
    assert events[3:] == ["load"]
    assert attempts(paths, "load")[0].outcome.kind == "completed", attempts(paths, "load")[0].outcome


async def test_what_troubled_a_scenario_is_given_a_second_chance(
    graded: Callable[..., Awaitable[tuple[Scorecard, RunPaths]]], told: io.StringIO
) -> None:
    driven = 0

    async def troubled_once(stage: Stage) -> None:
        nonlocal driven
        driven += 1
        if driven == 1:
            raise OSError("a passing trouble of ours")
        await first_calls(stage)

    scorecard, paths = await graded(scenario("cold-endpoints", troubled_once), only=(DEADLOCK,))
    assert [found.outcome.kind for found in attempts(paths, "cold-endpoints")] == ["trouble", "completed"]
    assert scorecard.results[0].verdict is Verdict.PASSED
    assert "cold-endpoints completed" in told.getvalue()


async def test_trouble_twice_is_undecided(
    graded: Callable[..., Awaitable[tuple[Scorecard, RunPaths]]],
) -> None:
    async def troubled(stage: Stage) -> None:
        raise OSError("ours again")

    scorecard, paths = await graded(scenario("cold-endpoints", troubled), only=(DEADLOCK,))
    [result] = scorecard.results
    assert len(attempts(paths, "cold-endpoints")) == 2
    assert result.verdict is Verdict.ERRORED
    assert "OSError: ours again" in (result.error or "")


async def test_a_service_that_does_not_start_is_tried_twice_and_then_not_again(
    graded: Callable[..., Awaitable[tuple[Scorecard, RunPaths]]], told: io.StringIO
) -> None:
    scorecard, paths = await graded(
        scenario("cold-endpoints"), scenario("economy"), scenario("shutdown", quiet=False),
        behaviour="dies-at-once", only=(DEADLOCK, "database-session-reuse", "graceful-shutdown"),
    )  # fmt: skip
    assert {result.verdict for result in scorecard.results} == {Verdict.BLOCKED}
    assert len(attempts(paths, "cold-endpoints")) == 2
    for name in ("economy", "shutdown"):
        [record] = attempts(paths, name)
        assert "ended with status 1 before it was ready" in record.outcome.reason
    assert "economy" not in told.getvalue()


async def test_a_quick_run_leaves_out_what_waits(
    graded: Callable[..., Awaitable[tuple[Scorecard, RunPaths]]],
) -> None:
    scorecard, _ = await graded(scenario("cold-endpoints"), only=("async-fundamentals", "graceful-shutdown"), quick=True)  # fmt: skip
    ids = {result.id for result in scorecard.results}
    assert DEADLOCK in ids
    assert "graceful-shutdown" not in ids
    assert scorecard.lock.quick


def test_runs_go_to_a_folder_of_their_own() -> None:
    assert re.fullmatch(r"runs/\d{8}-\d{6}-exercise", str(default_out("exercise")))
