"""The verdict policy on whole runs: who disturbs decides between failed and errored, and what is close is repeated."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from devstack.artifacts import Artifact, Disturbance
from grader import pipeline, sources
from grader.errors import ExitCode, KitChanged
from grader.model import Scorecard, Verdict
from grader.paths import RunPaths
from grader.pipeline import NOT_WATCHED_WARNING, RunRequest, run
from grader.reports.terminal import RunView
from grader.scenarios.stage import Scenario, Stage
from grader.scoring import exit_code
from grader.watch import NOT_WATCHED, Watch

pytestmark = pytest.mark.integration

DEADLOCK = "event-loop-deadlock"
CALM = Disturbance(cores=2, memory_mib=8000)
Grade = Callable[..., Awaitable[tuple[Scorecard, RunPaths]]]


def driven(pause_s: float = 2.5, latencies_s: tuple[float, ...] = (9.0,)) -> Scenario:
    """What the check of ``cold-endpoints`` needs; each attempt records the next of the latencies, as if it were real."""
    left = list(latencies_s)

    async def drive(stage: Stage) -> None:
        await stage.start()
        async with stage.heartbeats("live", interval_s=0.05):
            await stage.get("calls", "/events")
            await asyncio.sleep(pause_s)
        latency_s = left.pop(0) if len(left) > 1 else left[0]
        series = stage.record.heartbeats["live"]
        late = tuple(beat.model_copy(update={"latency_s": latency_s}) for beat in series.beats)
        stage.record.heartbeats["live"] = series.model_copy(update={"beats": late})

    return Scenario(name="cold-endpoints", drive=drive, budget_s=30)


@pytest.fixture(autouse=True)
def watched(not_watched: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOT_WATCHED, "0")


@pytest.fixture
def grade(tiny: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Grade:
    async def graded(scenario: Scenario, behaviour: str = "ok") -> tuple[Scorecard, RunPaths]:
        monkeypatch.setattr(pipeline, "SCENARIOS", (scenario,))
        request = RunRequest(submission=tiny(behaviour), out=tmp_path / "run", only=(DEADLOCK,), seed=5)
        with RunView(Console(quiet=True)) as view:
            return await run(request, view), RunPaths(request.out)

    return graded


@pytest.fixture
def calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else this machine does."""
    monkeypatch.setattr(Watch, "_between", lambda *_: CALM)


@pytest.fixture
def foreign_hog() -> Iterator[None]:
    """Processes that are none of the run's: their parent is not the grader when they are looked at."""
    code = (
        "import os\n"
        "for _ in range(8):\n"
        "    if os.fork() == 0:\n"
        "        leader = os.getsid(0)\n"
        "        while os.path.exists(f'/proc/{leader}'): sum(range(2_000_000))\n"
        "        os._exit(0)\n"
        "input()\n"
    )
    # `setsid --fork` gives it away to init.
    launcher = subprocess.Popen(
        ["setsid", "--fork", sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    yield
    launcher.communicate()


def attempts(paths: RunPaths) -> list[Artifact]:
    return [Artifact.model_validate_json(path.read_bytes()) for path in paths.attempts("cold-endpoints")]


async def test_a_submission_that_hogs_the_cpu_has_failed(grade: Grade) -> None:
    scorecard, paths = await grade(driven(), "hogs-cpu")
    samples = [
        sample for record in attempts(paths) if record.disturbance for sample in record.disturbance.samples
    ]
    assert max(sample.submission for sample in samples) > 0.2
    if any(sample.foreign > 0.7 for sample in samples):
        pytest.skip("this machine is busy with other work: it cannot be told whose doing it was")
    assert scorecard.results[0].verdict is Verdict.FAILED
    assert len(attempts(paths)) == 1


async def test_foreign_work_makes_a_failure_undecided_after_a_second_attempt(
    grade: Grade, foreign_hog: None
) -> None:
    scorecard, paths = await grade(driven())
    [result] = scorecard.results
    assert result.verdict is Verdict.ERRORED
    assert "other programs used" in (result.error or "")
    assert len(attempts(paths)) == 2
    assert exit_code(scorecard) is ExitCode.UNDECIDED
    assert scorecard.categories[0].score is None


async def test_what_passes_beside_foreign_work_has_passed(grade: Grade, foreign_hog: None) -> None:
    scorecard, paths = await grade(driven(latencies_s=(0.01,)))
    assert scorecard.results[0].verdict is Verdict.PASSED
    assert len(attempts(paths)) == 1


async def test_foreign_work_can_be_ignored_and_the_scorecard_says_so(
    grade: Grade, foreign_hog: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(NOT_WATCHED, "1")
    scorecard, _ = await grade(driven(0.2))
    assert scorecard.results[0].verdict is Verdict.FAILED
    assert NOT_WATCHED_WARNING in scorecard.warnings


async def test_the_median_of_three_decides_what_is_close(grade: Grade, calm: None) -> None:
    limit_s = 1.2
    scenario = driven(0.2, latencies_s=(1.05 * limit_s, 0.95 * limit_s, 0.5 * limit_s))
    scorecard, paths = await grade(scenario)
    assert len(attempts(paths)) == 3
    assert scorecard.results[0].verdict is Verdict.PASSED
    assert [found["attempt"] for found in _timing(paths)] == [1, 2, 3]


async def test_what_is_far_from_its_limit_is_driven_once(grade: Grade, calm: None) -> None:
    scorecard, paths = await grade(driven(0.2))
    assert (scorecard.results[0].verdict, len(attempts(paths))) == (Verdict.FAILED, 1)


async def test_a_kit_that_changes_while_it_runs_judges_nothing(
    grade: Grade, calm: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    digests = iter(["before", "after"])
    monkeypatch.setattr(sources, "digest", lambda *_: next(digests))
    with pytest.raises(KitChanged, match="grade again") as caught:
        await grade(driven(0.2))
    assert caught.value.exit_code is ExitCode.UNDECIDED
    assert not (tmp_path / "run" / "scorecard.json").exists()


def _timing(paths: RunPaths) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(paths.timing.read_text())["attempts"]
    return found
