from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from devstack import placement
from devstack.placement import LocalPlacement, LocalProcess

Spawn = Callable[[str], Awaitable[LocalProcess]]

PYTHON = sys.executable
SLEEPER = "import time; time.sleep(600)"
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(600)
    os._exit(0)
os.wait()
print("done", flush=True)
time.sleep(600)
"""
SPINNER_IN_A_CHILD = """
import subprocess, sys, time
subprocess.run([sys.executable, "-c", "import time\\nend = time.process_time() + 0.5\\nwhile time.process_time() < end: pass"])
print("done", flush=True)
time.sleep(600)
"""


@pytest_asyncio.fixture
async def spawn(tmp_path: Path) -> AsyncIterator[Spawn]:
    started: list[LocalProcess] = []

    async def start(code: str) -> LocalProcess:
        process = await LocalPlacement().spawn(
            [PYTHON, "-S", "-c", code], cwd=tmp_path, env={}, log=tmp_path / "log"
        )
        started.append(process)
        return process

    yield start
    for process in started:
        await process.kill_all()


async def eventually(condition: Callable[[], bool], within_s: float = 20) -> bool:
    for _ in range(round(within_s / 0.02)):
        if condition():
            return True
        await asyncio.sleep(0.02)
    return False


def runs(pid: int) -> bool:
    """Whether the process lives; in some containers nobody buries the dead."""
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def says_done(log: Path) -> bool:
    return log.exists() and "done" in log.read_text()


async def test_what_a_process_prints_goes_to_its_log(spawn: Spawn, tmp_path: Path) -> None:
    process = await spawn("import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)")

    assert await process.wait_gone(5)
    await process.kill_all()
    assert process.returncode == 7
    assert set((tmp_path / "log").read_text().split()) == {"out", "err"}


async def test_output_beyond_the_cap_is_read_and_dropped(
    spawn: Spawn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "LOG_CAP_BYTES", 1000)
    process = await spawn("for _ in range(3_000): print('x' * 999)")

    assert await process.wait_gone(10), "the process waits for a reader"
    await process.kill_all()
    assert process.returncode == 0
    assert (tmp_path / "log").stat().st_size == 1000


async def test_a_signal_reaches_the_process_itself(spawn: Spawn) -> None:
    process = await spawn(SLEEPER)
    process.signal(signal.SIGTERM)

    assert await process.wait_gone(5)
    assert process.returncode == -signal.SIGTERM
    process.signal(signal.SIGTERM)  # no error once it has ended


async def test_a_daemon_of_its_own_session_belongs_to_the_tree(spawn: Spawn, tmp_path: Path) -> None:
    process = await spawn(DAEMON)
    assert await eventually(lambda: says_done(tmp_path / "log"))
    [daemon] = set(process.members()) - {process.pid}
    assert os.getsid(daemon) != process.pid

    process.signal(signal.SIGKILL)
    assert not await process.wait_gone(0.3), "the daemon still runs"
    assert process.members() == [daemon]
    await process.kill_all()
    assert not runs(daemon)
    assert await process.wait_gone(0)


async def test_usage_counts_children_that_have_ended(spawn: Spawn, tmp_path: Path) -> None:
    process = await spawn(SPINNER_IN_A_CHILD)
    assert await eventually(lambda: says_done(tmp_path / "log"))

    usage = process.usage()
    assert usage.cpu_s >= 0.5
    assert usage.processes == 1
    assert usage.rss_bytes > 1_000_000


async def test_killing_a_process_that_ended_is_no_error(spawn: Spawn) -> None:
    process = await spawn("pass")
    assert await process.wait_gone(5)

    await process.kill_all()
    await process.kill_all()
    assert (process.returncode, process.members(), process.usage().processes) == (0, [], 0)


async def test_the_service_dies_with_the_grader(tmp_path: Path) -> None:
    code = f"""
import asyncio, os, pathlib
from devstack.placement import LocalPlacement
async def main():
    process = await LocalPlacement().spawn(
        [{PYTHON!r}, "-S", "-c", {SLEEPER!r}], cwd=pathlib.Path("/"), env={{}}, log=pathlib.Path("log")
    )
    print(process.pid, flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    killed = await asyncio.create_subprocess_exec(
        PYTHON, "-c", code, cwd=tmp_path, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await killed.communicate()

    assert await eventually(lambda: not runs(int(output)))


async def test_a_program_that_is_not_there_raises(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="missing"):
        await LocalPlacement().spawn(["/missing"], cwd=tmp_path, env={}, log=tmp_path / "log")


def test_a_free_port_can_be_bound() -> None:
    local = LocalPlacement()
    assert 1024 < local.free_port() < 65536
    assert local.address_for_grader() == local.submission_address
