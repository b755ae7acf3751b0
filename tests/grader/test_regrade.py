from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from grader.errors import ExitCode, RubricError, RunDirectoryError
from grader.judging import regrade
from grader.paths import RunPaths

CHECKS = """
@check(id="quick-reads", category="first")
def test_reads(busy_minute, judge):
    judge.at_most("latency", busy_minute.number("latency_s"), 0.3, unit="s")

@check(id="slow-writes", category="first")
def test_writes(busy_minute, judge):
    judge.graded("latency", busy_minute.number("latency_s"), full=0.2, zero=0.3)

@check(id="retries", category="second")
def test_retries(busy_minute, judge):
    judge.true("retries", True)

@check(id="timeouts", category="second")
def test_timeouts(busy_minute, judge):
    judge.not_applicable("no timeouts")
"""


def test_the_same_record_gives_the_same_bytes(run: RunPaths, checks_folder: Callable[[str], Path]) -> None:
    folder = checks_folder(CHECKS)
    before = {path for path in run.root.rglob("*") if path.is_file()}
    first = regrade(run.root, extra_checks=[folder])
    written = run.scorecard.read_bytes()
    run.scorecard.unlink()
    os.utime(run.artifact("busy-minute", 1), (0, 0))
    regrade(run.root, extra_checks=[folder])
    assert run.scorecard.read_bytes() == written
    assert first.score == 79.0  # 0.6 · (30 + 0.5 · 70) + 0.4 · 100
    assert {path for path in run.root.rglob("*") if path.is_file()} == before | {run.scorecard}


def test_a_folder_without_a_run_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match="not a run directory") as caught:
        regrade(tmp_path)
    assert caught.value.exit_code is ExitCode.USAGE
    assert "\n" not in str(caught.value)


def test_a_lock_of_another_version_is_refused(run: RunPaths) -> None:
    run.lock.write_text('{"kit_version": "9"}')
    with pytest.raises(RunDirectoryError, match="this version"):
        regrade(run.root)


def test_a_rubric_with_a_check_that_is_gone_is_refused(run: RunPaths) -> None:
    with pytest.raises(RubricError, match="'quick-reads'"):
        regrade(run.root)


def test_a_run_without_artifacts_is_errored_not_zero(
    run: RunPaths, checks_folder: Callable[[str], Path]
) -> None:
    run.artifact("busy-minute", 1).unlink()
    scorecard = regrade(run.root, extra_checks=[checks_folder(CHECKS)])
    assert (scorecard.score, scorecard.complete) == (None, False)
