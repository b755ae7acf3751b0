from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from traces import Ended

from devstack.errors import PostgresError
from grader import cli
from grader.errors import RunDirectoryError
from grader.paths import RunPaths


def outcome_of(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_help_is_there() -> None:
    ended = outcome_of("import sys; sys.argv = ['grader', '--help']; from grader.cli import main; main()")
    assert (ended.returncode, "regrade" in ended.stdout) == (0, True)


def test_the_command_line_loads_neither_the_load_generator_nor_a_service() -> None:
    """What would keep everybody waiting who only asks for help; said by name, for seconds differ by machine."""
    ended = outcome_of("import grader.cli, sys; print(*sys.modules)")
    loaded = {name.partition(".")[0] for name in ended.stdout.split()}
    assert "typer" in loaded
    assert not loaded & {
        "locust",
        "gevent",
        "fastapi",
        "uvicorn",
        "sqlalchemy",
        "boxoffice",
        "pytest",
        "numpy",
    }


def test_without_arguments_the_help_is_shown(grader: Callable[..., Ended]) -> None:
    ended = grader()
    assert ended.code == 0
    assert "doctor" in ended.out


@pytest.mark.integration
def test_nothing_of_a_submission_is_executed_by_the_grader_itself(
    tiny: Callable[..., Path], tmp_path: Path
) -> None:
    """Traps at every place that Python or pytest runs by itself spring in the service's process only."""
    root, trap = tiny("dies-at-once"), tmp_path / "trap"
    code = f"import os, sys\nopen({str(trap)!r}, 'a').write(' '.join(sys.argv) + chr(10))\n"
    for place in (
        "conftest.py",
        "sitecustomize.py",
        "setup.py",
        "src/grader.py",
        "src/boxoffice/__init__.py",
    ):
        (root / place).write_text(code)
    (root / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    ended = subprocess.run(
        [sys.executable, "-c", "from grader.cli import main; main()", "run", str(root), "--out", str(tmp_path / "run"),
         "--only", "order-validation", "--unsafe-no-sandbox"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    sprung = trap.read_text().splitlines()
    assert sprung == ["-m"] * len(sprung)  # python -m boxoffice, while it looks for the package
    assert len(sprung) == 2


@pytest.mark.integration
def test_a_run_can_be_judged_again(
    grader: Callable[..., Ended], tiny: Callable[..., Path], tmp_path: Path
) -> None:
    run = tmp_path / "a run"
    graded = grader("run", tiny("dies-at-once"), "--out", run, "--seed", "3")
    first = RunPaths(run).scorecard.read_bytes()
    again = grader("regrade", run)

    assert (graded.code, again.code) == (0, 0)
    assert RunPaths(run).scorecard.read_bytes() == first
    assert again.out == graded.out
    assert f"Run directory: {run}" in graded.out
    assert cli.NO_SANDBOX in graded.err
    assert grader("regrade", run, "--fail-under", "50").code == 1


# -- interruptions --------------------------------------------------------------------------------------------


def interrupting(
    then: BaseException | None, *numbers: signal.Signals, then_kill: signal.Signals | None = None
) -> tuple[list[str], BaseException | None]:
    """Run something that is interrupted and then ends as told; what it went through, and what came out."""
    steps: list[str] = []

    async def work() -> str:
        for number in numbers:
            os.kill(os.getpid(), number)
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            steps.append("cancelled")
            await asyncio.sleep(0.05)  # tearing down
            steps.append("torn down")
            if then is not None:
                raise then from None
            raise
        return "done"

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        cli._interruptible(work(), lambda: steps.append("stopping"))
    except BaseException as error:
        if then_kill is not None:
            os.kill(os.getpid(), then_kill)
        return steps, error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return steps, None


@pytest.mark.parametrize("numbers", [[signal.SIGINT], [signal.SIGTERM], [signal.SIGHUP], [signal.SIGINT] * 3])
@pytest.mark.parametrize("then", [None, PostgresError("cannot drop"), ExceptionGroup("both", [OSError()])])
def test_an_interruption_lets_the_tear_down_finish_whatever_comes_of_it(
    numbers: list[signal.Signals], then: BaseException | None
) -> None:
    steps, error = interrupting(then, *numbers)
    assert steps == ["stopping", "cancelled", "torn down"]
    assert isinstance(error, KeyboardInterrupt)


def test_a_signal_after_the_tear_down_changes_nothing() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        _, error = interrupting(None, signal.SIGINT, then_kill=signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert isinstance(error, KeyboardInterrupt)


def test_signals_are_as_before_when_nothing_was_interrupted() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    async def work() -> str:
        return "done"

    assert cli._interruptible(work()) == "done"
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def work() -> str:
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.05)
        return "done"

    try:
        assert cli._interruptible(work()) == "done"
    finally:
        signal.signal(signal.SIGHUP, before)


def test_of_several_failures_the_first_is_told() -> None:
    async def work() -> None:
        raise ExceptionGroup("both", [RunDirectoryError("first"), OSError("second")])

    with pytest.raises(RunDirectoryError, match="first"):
        cli._interruptible(work())


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "/run"), "No space left on device: /run; make room there"),
        (OSError(5, "Input/output error", "/run"), "Input/output error: /run; see whether it can be read and written (grader doctor helps)"),
        (OSError("strange"), "strange: this machine; see whether it can be read and written (grader doctor helps)"),
    ],
)  # fmt: skip
def test_what_the_machine_refuses_is_told_with_the_place(error: OSError, told: str) -> None:
    assert cli._told(error) == told
