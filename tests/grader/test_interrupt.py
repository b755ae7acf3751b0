"""Ctrl-C, SIGTERM and a lost terminal in every phase of a run: exit 130, nothing left but the run directory."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from traces import Traces

pytestmark = [pytest.mark.integration, pytest.mark.slow]

GRADER = (sys.executable, "-c", "from grader.cli import main; main()")
PATIENCE_S = 30.0
ENDS_WITHIN_S = 15.0

WAITING = ("--only", "liveness-independence", "--only", "charge-exactly-once")


@dataclass(frozen=True)
class Phase:
    """When to interrupt: ``after_s`` seconds after the line that begins with ``line``."""

    line: str
    behaviour: str = "ok"
    options: tuple[str, ...] = ("--only", "order-validation")
    after_s: float = 0.0


TAKING_IN = Phase("taking the submission in")
STARTING = Phase("starting PostgreSQL", after_s=0.2)
LOADING = Phase("loading data", after_s=0.3)
DRIVING = Phase("contract …", behaviour="hangs", after_s=1.0)
STARTING_SERVICE = Phase("contract …", behaviour="never-listens", after_s=1.0)
SIDE_BY_SIDE = Phase("lost-answers …", behaviour="forks-daemon", options=WAITING, after_s=1.5)
LOAD = Phase("load …", options=("--only", "load-errors"), after_s=6.0)
JUDGING = Phase("judging", behaviour="dies-at-once")


class Run:
    """A run of ``grader`` in a session of its own, watched through a file with its progress."""

    def __init__(self, submission: Path, directory: Path, options: tuple[str, ...]) -> None:
        self.directory = directory
        self.traces = Traces(directory)
        self._told = directory.with_name("told")
        with self._told.open("wb") as told:
            self.process = subprocess.Popen(
                [*GRADER, "run", str(submission), "--out", str(directory), *options],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=told,
                start_new_session=True,
            )

    def wait_for_service(self) -> None:
        """Wait until something runs in a sandbox."""
        deadline = time.monotonic() + PATIENCE_S
        while not (seen := any("bwrap" in line for line in self.traces.processes())):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
        assert seen, self.told

    @property
    def told(self) -> str:
        return self._told.read_text()

    def wait_for(self, line: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while line not in self.told and self.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert line in self.told, self.told


@pytest.fixture
def started(tiny: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[[Phase], Run]]:
    runs: list[Run] = []

    def start(phase: Phase) -> Run:
        run = Run(tiny(phase.behaviour), tmp_path / "run", phase.options)
        runs.append(run)
        run.wait_for(phase.line)
        time.sleep(phase.after_s)
        return run

    yield start
    for run in runs:
        run.process.kill()
        run.process.wait()
        run.traces.kill()


@pytest.mark.parametrize(
    ("phase", "signals"),
    [
        pytest.param(TAKING_IN, [signal.SIGINT], id="taking in"),
        pytest.param(STARTING, [signal.SIGINT], id="starting PostgreSQL"),
        pytest.param(LOADING, [signal.SIGTERM], id="loading data"),
        pytest.param(STARTING_SERVICE, [signal.SIGINT], id="starting the service"),
        pytest.param(DRIVING, [signal.SIGINT, signal.SIGINT, signal.SIGTERM], id="driving, three times"),
        pytest.param(SIDE_BY_SIDE, [signal.SIGINT, signal.SIGINT], id="side by side, twice"),
        pytest.param(SIDE_BY_SIDE, [signal.SIGHUP], id="side by side, terminal lost"),
        pytest.param(LOAD, [signal.SIGINT], id="load"),
        pytest.param(JUDGING, [signal.SIGINT], id="judging"),
    ],
)
def test_an_interrupted_run_leaves_its_directory_and_nothing_else(
    started: Callable[[Phase], Run], phase: Phase, signals: list[signal.Signals]
) -> None:
    run = started(phase)
    data = run.traces.data_directories()
    print(run.told, *run.traces.processes(), sep="\n")
    if phase in (DRIVING, SIDE_BY_SIDE, LOAD):
        assert len(data) == 1, "PostgreSQL runs"
        run.wait_for_service()
        assert not run.traces.open_ports(), "nothing listens in the network that everybody shares"
    interrupted = time.monotonic()
    for number in signals:
        run.process.send_signal(number)
        time.sleep(0.1)
    try:
        code = run.process.wait(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        pytest.fail(f"it goes on:\n{run.told}")

    assert code == 130, run.told
    assert time.monotonic() - interrupted < ENDS_WITHIN_S
    assert run.traces.gone(), run.traces.processes()
    assert not [
        path for directory in data for path in (directory, directory.with_suffix(".lock")) if path.exists()
    ]
    assert run.directory.is_dir()
    assert "Traceback" not in run.told
    assert run.told.splitlines()[-1] == "grader: interrupted; everything that ran has been stopped"


def test_a_grader_that_is_killed_takes_everything_with_it(started: Callable[[Phase], Run]) -> None:
    run = started(replace(SIDE_BY_SIDE, behaviour="ok"))
    [data] = run.traces.data_directories()
    run.wait_for_service()
    run.process.kill()
    run.process.wait()

    assert run.traces.gone(PATIENCE_S), run.traces.processes()
    assert not data.exists()


def test_ctrl_c_on_a_terminal_gives_the_cursor_back(tiny: Callable[..., Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover (another process)
        os.environ["TERM"] = "xterm"
        os.execv(
            GRADER[0],
            [*GRADER, "run", str(tiny("hangs")), "--out", str(run), "--only", "order-validation"],
        )
    shown = b""
    while b"contract" not in shown:
        shown += os.read(terminal, 65536)
    time.sleep(0.5)
    os.write(terminal, b"\x03")
    try:
        while chunk := os.read(terminal, 65536):
            shown += chunk
    except OSError:
        pass  # Linux tells the end of a terminal by an error
    _, status = os.waitpid(pid, 0)
    os.close(terminal)

    assert os.waitstatus_to_exitcode(status) == 130
    assert b"\x1b[?25l" in shown, "the view hid the cursor"
    assert shown.rindex(b"\x1b[?25h") > shown.rindex(b"\x1b[?25l")
    assert b"grader: interrupted" in shown
    assert Traces(run).gone()
