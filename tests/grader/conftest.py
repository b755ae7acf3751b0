"""Runs on disk, and results in memory, for the tests of the judging half."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from traces import Ended

from devstack.artifacts import Artifact
from grader import cli
from grader.model import CheckMeta, CheckOutcome, CheckResult, Machine, RunLock, Verdict
from grader.paths import RunPaths, write_json
from grader.rubric import Rubric, load_rubric
from grader.scoring import result_of
from grader.watch import NOT_WATCHED

# Two categories and four checks: small enough to reckon by hand.
SMALL_RUBRIC = """\
schema_version = 1
[categories.first]
title = "First"
weight = 60
[categories.first.checks]
quick-reads = { points = 30, tag = "core", reason = "test" }
slow-writes = { points = 70, tag = "core", reason = "test" }
[categories.second]
title = "Second"
weight = 40
[categories.second.checks]
retries = { points = 50, tag = "core", reason = "test" }
timeouts = { points = 50, tag = "stretch", reason = "test" }
"""

HEADER = """\
from functools import partial

import pytest
from grader.judge import check

check = partial(check, title="holds", failure_title="is broken", why="w", remediation="r", question="q", level="mid")

"""


@pytest.fixture(autouse=True)
def not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever else this machine does: a verdict is the submission's. Tests of disturbances turn watching on."""
    monkeypatch.setenv(NOT_WATCHED, "1")


@pytest.fixture
def lock() -> RunLock:
    return RunLock(
        kit_version="0.1.0",
        submission_name="sample",
        submission_digest="d1",
        dependencies_digest="d2",
        rubric_digest="d3",
        postgres_version="18.1",
        python_version="3.11.7",
        machine=Machine(system="Linux", processor="x86_64", cpus=2, memory_mib=4096),
        sandbox_level="none",
        seed=7,
    )


@pytest.fixture
def rubric(tmp_path: Path) -> Rubric:
    path = tmp_path / "small.toml"
    path.write_text(SMALL_RUBRIC)
    return load_rubric(path)


@pytest.fixture
def result(rubric: Rubric) -> Callable[..., CheckResult]:
    """Make a result of a check of the small rubric."""

    def make(check_id: str, verdict: Verdict, score: float | None = None, **extra: object) -> CheckResult:
        meta = CheckMeta(
            id=check_id,
            category=rubric.category_of(check_id),
            title=f"{check_id} holds",
            failure_title=f"{check_id} is broken",
            why="w",
            remediation="r",
            question="q",
            level="mid",
            requires=(),
        )
        return result_of(meta, CheckOutcome(id=check_id, verdict=verdict, score=score, **extra), rubric)

    return make


@pytest.fixture
def run(tmp_path: Path, lock: RunLock) -> RunPaths:
    """A run directory with a lock, the small rubric and the record of one scenario."""
    paths = RunPaths(tmp_path / "a run")
    write_json(paths.lock, lock)
    paths.rubric.write_text(SMALL_RUBRIC)
    write_json(paths.artifact("busy-minute", 1), Artifact(scenario="busy-minute", facts={"latency_s": 0.25}))
    return paths


@pytest.fixture
def checks_folder(tmp_path: Path) -> Callable[[str], Path]:
    """Write a module of checks; ``@check(id=…, category=…)`` fills in the rest."""

    def write(body: str) -> Path:
        folder = tmp_path / "own checks"
        folder.mkdir()
        (folder / "test_own.py").write_text(HEADER + body)
        return folder

    return write


@pytest.fixture
def grader(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Call the command line as the console script does, without a sandbox: this process must not move into one."""

    def call(*arguments: str | Path) -> Ended:
        levels = {"run": ("--unsafe-no-sandbox",), "validate": ("--sandbox", "none")}
        level = levels.get(str(arguments[0]), ()) if len(arguments) > 1 else ()
        monkeypatch.setattr(sys, "argv", ["grader", *map(str, arguments), *level])
        with pytest.raises(SystemExit) as ending:
            cli.main()
        captured = capsys.readouterr()
        assert isinstance(ending.value.code, int)
        return Ended(ending.value.code, captured.out, captured.err)

    return call
