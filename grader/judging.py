"""Judging a run from disk: checks in a pytest of their own, then scores, then ``scorecard.json``.

The only way to a scorecard, for a fresh run and for a regrade: the same record gives the same bytes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from grader.checks import collect_checks
from grader.errors import Cause, JudgingFailed, RubricError, RunDirectoryError
from grader.model import CheckMeta, CheckOutcome, CheckResult, RunLock, Scorecard
from grader.paths import RunPaths, write_json
from grader.rubric import Rubric, load_rubric
from grader.scoring import result_of, score
from grader.text import one_line
from grader.verdicts import outcome

# Checks are arithmetic on a few megabytes: a second or two. This long means that one of them hangs.
JUDGING_TIMEOUT_S = 120.0


def regrade(run_dir: Path, *, extra_checks: Sequence[Path] = ()) -> Scorecard:
    """Judge the record in ``run_dir`` again and write its ``scorecard.json``.

    The rubric is the run's own copy (``rubric.toml``), else the grader's. Starts nothing but the checks.
    Raises RunDirectoryError if there is no readable ``lock.json``, RubricError, JudgingFailed.
    """
    return judge_record(run_dir, extra_checks=extra_checks)[0]


def judge_record(
    run_dir: Path, *, extra_checks: Sequence[Path] = ()
) -> tuple[Scorecard, tuple[CheckOutcome, ...]]:
    """:func:`regrade`, with the outcomes behind the scorecard: they say what is worth driving again."""
    run = RunPaths(run_dir)
    lock = read_lock(run)
    rubric = load_rubric(run.rubric if run.rubric.exists() else None)
    checks = collect_checks(*extra_checks)
    outcomes = _outcomes(run, rubric.select(lock.selection), checks, extra_checks)
    scorecard = score(lock, rubric, [result_of(checks[found.id], found, rubric) for found in outcomes])
    try:
        write_json(run.scorecard, scorecard)
    except OSError as error:
        raise RunDirectoryError(f"cannot write {run.scorecard}: {error.strerror}") from error
    return scorecard, outcomes


def read_lock(run: RunPaths) -> RunLock:
    """What the run was made of. Raises RunDirectoryError."""
    try:
        return RunLock.model_validate_json(run.lock.read_bytes())
    except OSError as error:
        raise RunDirectoryError(
            f"{run.root} is not a run directory: no readable lock.json",
            hint="give the folder of `grader run --out`",
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RunDirectoryError(
            f"{run.lock} was not written by this version of the grader: {place}: {first['msg']}"
        ) from error


def judge_run(
    run: RunPaths, rubric: Rubric, selection: Sequence[str] = (), *, extra_checks: Sequence[Path] = ()
) -> list[CheckResult]:
    """The results of the selected checks (none named: all), in the order of the rubric.

    ``extra_checks`` are folders with further ``test_*.py``. A check that gives no result is errored.
    Raises RubricError, UnknownCheck, and JudgingFailed if pytest cannot be started.
    """
    checks = collect_checks(*extra_checks)
    outcomes = _outcomes(run, rubric.select(selection), checks, extra_checks)
    return [result_of(checks[found.id], found, rubric) for found in outcomes]


def _outcomes(
    run: RunPaths, wanted: Sequence[str], checks: Mapping[str, CheckMeta], extra_checks: Sequence[Path]
) -> tuple[CheckOutcome, ...]:
    for name in wanted:
        if name not in checks:
            raise RubricError(f"the rubric lists {name!r}, but there is no such check")
    outcomes, ending = _run_pytest(run, wanted, extra_checks)
    return tuple(outcomes.get(name) or outcome(name, Cause.NO_RESULT, ending) for name in wanted)


def _run_pytest(
    run: RunPaths, wanted: Sequence[str], extra_checks: Sequence[Path]
) -> tuple[dict[str, CheckOutcome], str]:
    """Outcomes by check, and how pytest ended."""
    package = Path(str(resources.files("grader")))
    with TemporaryDirectory(prefix="judging-") as scratch:
        results = Path(scratch) / "results.jsonl"
        command = [
            sys.executable, "-I", "-B", "-m", "pytest",
            "-c", str(package / "judging.ini"), "--rootdir", scratch,
            "-p", "no:cacheprovider", "-p", "grader.judge",
            "--run-dir", str(run.root.resolve()), "--results", str(results),
            *(f"--check={name}" for name in wanted),
            "--", str(package / "checks"), *(str(path.resolve()) for path in extra_checks),
        ]  # fmt: skip
        ending = _ending(command, scratch)
        return _read_results(results), ending


def _ending(command: list[str], scratch: str) -> str:
    try:
        finished = subprocess.run(
            command,
            cwd=scratch,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=JUDGING_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"judging took longer than {JUDGING_TIMEOUT_S:g} s"
    except OSError as error:
        raise JudgingFailed(f"cannot start pytest: {error.strerror}") from error
    lines = finished.stdout.decode("utf-8", errors="replace").replace(scratch, "").splitlines()
    errors = [line for line in lines if line.startswith(("E  ", "ERROR", "INTERNALERROR"))]
    return one_line(errors[0] if errors else f"pytest ended with {finished.returncode}")


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}


def _read_results(path: Path) -> dict[str, CheckOutcome]:
    """A line that is cut off (the process died while writing it) is no result."""
    found: dict[str, CheckOutcome] = {}
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    for line in lines:
        try:
            outcome_read = CheckOutcome.model_validate_json(line)
        except ValidationError:
            continue
        found[outcome_read.id] = outcome_read
    return found
