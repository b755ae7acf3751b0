"""Who uses the CPU: told from the processes of this machine, and of containers by files in their form."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from devstack.artifacts import Artifact
from devstack.placement import TREE_MARK, tree_tag
from devstack.postgres import Cluster
from devstack.world import WorldSettings
from grader.cpu import Cpu
from grader.driving import DATABASE_DIED, drive
from grader.scenarios.stage import Scenario, Stage
from grader.watch import NOT_WATCHED, ProcessTable, Watch


@pytest.fixture(autouse=True)
def watched(not_watched: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOT_WATCHED, "0")


SPIN = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(10_000))"
# The grandchild has no living parent in the family and a session of its own. It tells its pid, and ends by itself.
DOUBLE_FORK = (
    "import os, sys, time\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        print(os.getpid(), flush=True)\n"
    "        os.close(1)\n"
    "        end = time.monotonic() + 20\n"
    "        while time.monotonic() < end: sum(range(10_000))\n"
    "    os._exit(0)\n"
    "os.wait()\n"
)


@contextlib.contextmanager
def spinning(code: str = SPIN, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **environment})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def services_environment(source: Path, mark: str) -> dict[str, str]:
    return {TREE_MARK: f"{tree_tag(source)}-{mark}"}


def used(table: ProcessTable, group: str, seconds: float = 1.0) -> float:
    before, _ = table.read()
    time.sleep(seconds)
    after, _ = table.read()
    return sum(total - before.get(family, 0.0) for family, total in after.items() if family.group == group)


def test_a_services_processes_are_the_submissions(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path)
    with spinning(**services_environment(tmp_path, "a")):
        assert used(table, "submission") > 0.1
        assert table.read()[1] > 1_000_000, "its memory is seen, too"


def test_another_services_are_the_kits(tmp_path: Path) -> None:
    """The reference solution beside the load, the load generator, stubs."""
    table = ProcessTable(tmp_path)
    with spinning(**services_environment(tmp_path / "reference", "b")):
        assert used(table, "kit") > 0.1
        assert used(table, "submission", 0.1) == 0


@contextlib.contextmanager
def left_behind(**environment: str) -> Iterator[None]:
    """A process that spins, whose parents are gone."""
    done = subprocess.run(
        [sys.executable, "-c", DOUBLE_FORK],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        check=True,
    )
    try:
        yield
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


def test_what_a_double_fork_leaves_behind_is_still_the_submissions(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path)
    with left_behind(**services_environment(tmp_path, "c")):
        assert used(table, "submission") > 0.1


def test_a_stranger_is_nobodys(tmp_path: Path) -> None:
    table = ProcessTable(tmp_path)
    with left_behind():
        before, _ = table.read()
        time.sleep(0.5)
        after, _ = table.read()
    assert sum(after.values()) - sum(before.values()) < 0.2


async def test_a_window_sees_foreign_work_and_what_kept_the_loop_from_running(tmp_path: Path) -> None:
    async with Watch(tmp_path) as watch, watch.window(quiet=True) as window:
        await asyncio.sleep(0.6)
        time.sleep(0.3)  # noqa: ASYNC251 - asleep, the loop runs as little as without a CPU
        await asyncio.sleep(0.1)
    assert window.found is not None
    [sample] = window.found.samples
    assert 0.9 < sample.seconds < 3
    assert 0.25 < sample.lag_worst_s < 3
    assert window.found.lag_p99_s > 0.2
    assert window.found.cores > 0
    assert sample.available_mib is not None


async def test_the_graders_own_work_is_no_lag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "thread_time", time.monotonic)  # as if all of the time had been worked through
    async with Watch(tmp_path) as watch, watch.window(quiet=True) as window:
        await asyncio.sleep(0.3)
        time.sleep(0.3)  # noqa: ASYNC251
        await asyncio.sleep(0.1)
    assert window.found is not None
    assert window.found.lag_p99_s < 0.01


async def test_watching_can_be_turned_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOT_WATCHED, "1")
    async with Watch(tmp_path) as watch, watch.window(quiet=True) as window:
        await asyncio.sleep(0.01)
    assert window.found is None


@pytest.mark.parametrize(
    ("files", "cores", "busy_s"),
    [
        ({"proc/self/cgroup": "0::/\n"}, None, 0.0),
        (
            {
                "proc/self/cgroup": "0::/box\n",
                "sys/fs/cgroup/cpu.max": "max 100000\n",
                "sys/fs/cgroup/box/cpu.max": "50000 100000\n",
                "sys/fs/cgroup/box/cpu.stat": "usage_usec 2500000\nuser_usec 1\n",
            },
            0.5,
            2.5,
        ),
        (
            {
                "proc/self/cgroup": "2:cpuacct:/docker/x\n1:cpu:/docker/x\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "25000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/cpuacct/cpuacct.usage": "3000000000\n",
            },
            0.25,
            3.0,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu,cpuacct:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            None,
            0.0,
        ),
        ({}, None, 0.0),
    ],
    ids=["no limit", "version 2", "version 1", "version 1 without a limit", "no such kernel"],
)
def test_a_container_has_its_share(
    tmp_path: Path, files: dict[str, str], cores: float | None, busy_s: float
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    cpu = Cpu(tmp_path)
    assert cpu.cores == (Cpu().cores if cores is None else cores)
    assert cpu.busy_s() == pytest.approx(busy_s)


def test_a_machine_is_busy_with_work_and_with_what_was_stolen(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    lines = [
        "cpu  9 9 9 9 9 9 9 9 9 9",
        *(f"cpu{n} 100 0 50 9000 7 7 7 50 0 0" for n in range(1024)),
        "intr 5",
    ]
    (tmp_path / "proc" / "stat").write_text("\n".join(lines))
    cpu = Cpu(tmp_path)
    assert cpu.busy_s() == pytest.approx(2.0 * len(os.sched_getaffinity(0)))


@pytest.mark.integration
@pytest.mark.asyncio(loop_scope="session")
async def test_a_database_that_dies_is_trouble_of_ours(
    world_settings: Callable[..., WorldSettings], cluster: Cluster, tmp_path: Path
) -> None:
    async def killing(stage: Stage) -> None:
        await stage.start()
        crashes = cluster.crashes()
        [[pid]] = await cluster.fetch("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'")
        os.kill(pid, signal.SIGKILL)
        for _ in range(100):
            await asyncio.sleep(0.05 if cluster.crashes() == crashes else 0.01)

    artifact: Artifact = await drive(
        Scenario(name="sample", drive=killing, budget_s=20), world_settings(), tmp_path / "1", attempt=1
    )
    assert (artifact.outcome.kind, artifact.outcome.reason) == ("trouble", DATABASE_DIED)
    assert artifact.disturbance is not None
