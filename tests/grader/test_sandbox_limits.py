from __future__ import annotations

import asyncio
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from grader.sandbox import control_groups, limits
from grader.sandbox.limits import Confinement, Grouped, Scoped, Watched

MIB = 1 << 20
NAME = f"test-{os.getpid()}"
SMALL = 128 * MIB

HOARD = """
import sys, time
kept = []
for _ in range(int(sys.argv[1])):
    kept.append(b"x" * (1 << 20) + bytes(1))
print("kept", flush=True)
time.sleep(600)
"""
FORKS = """
import os, sys, time
started = 0
try:
    while started < 2000:
        if os.fork() == 0:
            time.sleep(600)
        started += 1
except OSError:
    print(started, flush=True)
time.sleep(600)
"""
IN_A_CHILD = """
import subprocess, sys
print(subprocess.run([sys.executable, "-c", sys.argv[1], sys.argv[2]]).returncode)
import time
time.sleep(600)
"""


class Service:
    """A service of one process in a session of its own, with the part of a sandbox that limits need."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.kills = 0

    @classmethod
    async def start(cls, confinement: Confinement, code: str, *arguments: str) -> Service:
        process = await asyncio.create_subprocess_exec(
            *confinement.prefix(), sys.executable, "-I", "-S", "-c", code, *arguments,
            preexec_fn=confinement.enter, start_new_session=True, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        service = cls(process)
        confinement.started(service.members, service.kill)
        return service

    def members(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        with suppress(OSError):
            return [self.process.pid, *map(int, children.read_text().split())]
        return []

    def kill(self) -> None:
        self.kills += 1
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await self.process.stdout.readline()).decode().strip()

    async def ended(self) -> int:
        await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


def groups_left() -> list[Path]:
    places = control_groups.find()
    assert places is not None
    parents = set(places.parents.values())
    return [found for parent in parents for found in parent.glob(f"{control_groups.PREFIX}{NAME}-*")]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MEMORY_BYTES", SMALL)


@pytest.fixture
async def grouped(small: None) -> AsyncIterator[Grouped]:
    if control_groups.find() is None:
        pytest.skip("this account can make no control groups here")
    found = limits.confine(NAME, account_uid=None)
    assert isinstance(found, Grouped)
    yield found
    await found.close()


@pytest.mark.integration
async def test_a_group_ends_a_service_that_takes_too_much_memory_and_says_so(grouped: Grouped) -> None:
    service = await Service.start(grouped, HOARD, "1000")
    assert await service.ended() == -9
    assert grouped.exceeded() == "it used more than the 128 MiB of memory that a service may use"
    peak = grouped.peak_bytes()
    assert peak is not None
    assert SMALL * 0.9 < peak <= SMALL
    await grouped.close()
    assert grouped.exceeded() is not None
    assert grouped.peak_bytes() == peak
    await grouped.close()


@pytest.mark.integration
async def test_a_group_ends_the_whole_service_when_one_of_its_processes_takes_too_much(
    grouped: Grouped,
) -> None:
    service = await Service.start(grouped, IN_A_CHILD, HOARD, "1000")
    assert await service.ended() == -9
    assert service.kills == 1
    assert grouped.exceeded() is not None


@pytest.mark.integration
async def test_memory_of_all_processes_and_of_files_in_memory_counts(grouped: Grouped) -> None:
    several = (
        "import mmap, os, time\n"
        "descriptor = os.memfd_create('x')\n"
        "os.write(descriptor, bytes(50 << 20))\n"
        "for _ in range(2):\n"
        "    if os.fork() == 0:\n"
        "        kept = b'x' * (50 << 20)\n"
        "        time.sleep(600)\n"
        "time.sleep(600)\n"
    )
    service = await Service.start(grouped, several)
    assert await service.ended() == -9
    assert grouped.exceeded() is not None


@pytest.mark.integration
async def test_a_group_contains_a_fork_bomb_and_ends_all_of_it(grouped: Grouped) -> None:
    service = await Service.start(grouped, FORKS)
    started = int(await service.line())
    assert started < limits.PROCESSES + limits.SANDBOX_PROCESSES
    assert grouped.exceeded() is None
    await grouped.close()
    assert await service.ended() == -9
    assert not groups_left()


@pytest.mark.integration
async def test_a_service_within_its_limits_is_left_alone_until_its_group_is_closed(grouped: Grouped) -> None:
    service = await Service.start(grouped, HOARD, "40")
    assert await service.line() == "kept"
    assert grouped.exceeded() is None
    assert not grouped.soft
    assert (grouped.peak_bytes() or 0) > 40 * MIB
    assert groups_left()
    await grouped.close()
    assert await service.ended() == -9
    assert service.kills == 0
    assert grouped.exceeded() is None
    assert not groups_left()


@pytest.mark.integration
def test_what_a_killed_grader_left_is_removed_and_what_a_living_one_has_is_not() -> None:
    if control_groups.find() is None:
        pytest.skip("this account can make no control groups here")
    code = (
        "import sys, time\nfrom grader.sandbox import limits\n"
        "kept = limits.confine(sys.argv[1], account_uid=None)\nprint('made', flush=True)\ntime.sleep(600)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, NAME], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == b"made\n"
        assert groups_left()  # which removes what is abandoned
    finally:
        other.kill()
        other.communicate()
    assert not groups_left()


@pytest.mark.integration
@pytest.mark.usefixtures("small")
async def test_the_watch_ends_a_service_that_takes_too_much_memory_and_says_so() -> None:
    confinement = Watched()
    assert confinement.soft
    service = await Service.start(confinement, HOARD, "400")
    assert await service.ended() == -9
    assert service.kills == 1
    await confinement.close()
    assert confinement.exceeded() == "it used more than the 128 MiB of memory that a service may use"
    assert (confinement.peak_bytes() or 0) > SMALL


@pytest.mark.integration
@pytest.mark.usefixtures("small")
async def test_the_watch_counts_children_and_leaves_small_services_alone() -> None:
    confinement = Watched()
    service = await Service.start(confinement, IN_A_CHILD, HOARD, "60")
    assert await service.line() == "kept"
    assert confinement.exceeded() is None
    assert 60 * MIB < (confinement.peak_bytes() or 0) < SMALL
    service.kill()
    await service.ended()
    await confinement.close()
    assert confinement.exceeded() is None
    assert service.kills == 1


@pytest.mark.integration
@pytest.mark.usefixtures("small")
async def test_the_watch_counts_files_in_the_memory_of_a_sandbox() -> None:
    program = shutil.which("bwrap")
    if program is None:
        pytest.skip("bubblewrap is not installed")
    fill = "import os, time\nos.write(os.open('/tmp/x', os.O_CREAT | os.O_WRONLY), bytes(160 << 20))\ntime.sleep(600)\n"
    confinement = Watched()
    process = await asyncio.create_subprocess_exec(
        program, "--unshare-user", "--unshare-pid", "--die-with-parent", "--ro-bind", "/", "/",
        "--size", str(limits.TEMPORARY_BYTES), "--tmpfs", "/tmp", "--", sys.executable, "-I", "-c", fill,
        preexec_fn=confinement.enter, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip

    def members() -> list[int]:
        with suppress(psutil.Error):
            return [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        return []

    confinement.started(members, process.kill)
    _, told = await process.communicate()
    if told:
        pytest.skip(f"bubblewrap does not work here: {told.decode().strip()}")
    assert confinement.exceeded() is not None
    await confinement.close()


def test_a_service_gets_the_limits_that_are_written_down() -> None:
    told = dict(part.removeprefix("--").split("=") for part in limits.prlimit_arguments())
    assert told["nproc"] == "256:256"
    assert told["fsize"] == f"{256 * MIB}:{256 * MIB}"
    assert told["core"] == "0:0"
    assert told["rtprio"] == "0:0"
    assert {"nofile", "memlock", "stack"} < told.keys()


def test_limits_of_the_caller_that_are_lower_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    lower = {resource.RLIMIT_NOFILE: 1000, resource.RLIMIT_MEMLOCK: 0}
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (lower.get(kind, resource.RLIM_INFINITY),) * 2)
    told = limits.prlimit_arguments()
    assert "--nofile=1000:1000" in told
    assert "--memlock=0:0" in told
    assert "--nproc=256:256" in told


@pytest.mark.integration
def test_prlimit_takes_the_limits() -> None:
    done = subprocess.run(
        ["/usr/bin/prlimit", *limits.prlimit_arguments(), "--", "/bin/sh", "-c", "ulimit -Hc; ulimit -Hf"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["0", str(limits.FILE_BYTES // 512)]


@pytest.fixture
def no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_places", lambda: None)


@pytest.mark.usefixtures("no_groups")
def test_without_groups_the_users_systemd_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "scopes", lambda: "memory by a systemd scope")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    found = limits.confine("shop", account_uid=None)
    assert isinstance(found, Scoped)
    assert found.description == "memory by a systemd scope"
    command = found.prefix()
    assert command[:2] == ("/usr/bin/env", "XDG_RUNTIME_DIR=/run/user/1000")
    assert command[2].endswith("systemd-run")
    assert command[3:7] == ("--user", "--scope", "--quiet", "--collect")
    assert command[7].startswith("--unit=boxoffice-shop-")
    assert set(command[8 : command.index("--")]) == {
        "-p", "MemoryMax=1073741824", "MemorySwapMax=0", "TasksMax=264", "CPUWeight=50",
    }  # fmt: skip
    assert command[command.index("--") + 1 :] == (
        "/usr/bin/env", "-u", "XDG_RUNTIME_DIR", "-u", "DBUS_SESSION_BUS_ADDRESS", "-u", "INVOCATION_ID",
    )  # fmt: skip


@pytest.mark.usefixtures("no_groups")
def test_each_scope_has_a_name_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "scopes", lambda: "")
    assert (
        limits.confine("shop", account_uid=None).prefix() != limits.confine("shop", account_uid=None).prefix()
    )


@pytest.mark.usefixtures("no_groups")
def test_another_account_has_no_systemd_to_ask_and_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "scopes", lambda: "memory by a systemd scope")
    found = limits.confine("shop", account_uid=65_533)
    assert isinstance(found, Watched)
    assert found.prefix() == ()


@pytest.mark.usefixtures("no_groups")
def test_where_nothing_else_works_the_grader_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "scopes", lambda: None)
    assert isinstance(limits.confine("shop", account_uid=None), Watched)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("1073741824\n264\n50\n", "memory, processes and CPU weight by a systemd scope"),
        ("1073741824\n264\n", "memory and processes by a systemd scope, CPU by niceness"),
        ("max\n264\n50\n", None),
        ("", None),
    ],
)
def test_scopes_count_for_as_much_as_the_kernel_was_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, told: str, expected: str | None
) -> None:
    program = tmp_path / "systemd-run"
    program.write_text(f"#!/bin/sh\nprintf '{told}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    limits.scopes.cache_clear()
    try:
        assert limits.scopes() == expected
    finally:
        limits.scopes.cache_clear()


async def test_a_scope_that_met_its_limit_is_ended_and_said_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = Scoped("shop", "")
    folder = tmp_path / "boxoffice-shop.scope"
    folder.mkdir()
    (folder / "memory.events").write_text("max 9\noom 1\noom_kill 1\n")
    (folder / "memory.peak").write_text("1073741824\n")
    monkeypatch.setattr(control_groups, "group_of", {7: None, 8: tmp_path / "another", 9: folder}.get)
    monkeypatch.setattr(limits, "WATCH_INTERVAL_S", 0.0)
    killed = asyncio.Event()
    found.started(lambda: [7, 8, 9], killed.set)
    await killed.wait()
    assert found.exceeded() == "it used more than the 1,024 MiB of memory that a service may use"
    assert found.peak_bytes() == 1 << 30
    await found.close()


async def test_a_fault_of_the_watch_is_told_when_it_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[int]:
        raise ZeroDivisionError

    found = Watched()
    monkeypatch.setattr(limits, "WATCH_INTERVAL_S", 0.0)
    found.started(broken, lambda: None)
    await asyncio.sleep(0.01)
    with pytest.raises(ZeroDivisionError):
        await found.close()
