"""How much a service may use, and who holds it to that: control groups, systemd's, or else the grader itself.

The numbers are for all processes of one service together, unless they say otherwise.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import resource
import secrets
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from grader.sandbox import control_groups, memory_watch
from grader.sandbox.control_groups import ControlGroup, Places, Share

_MIB = 1 << 20

MEMORY_BYTES = 1024 * _MIB
"""Swap included, and what lies in ``/tmp`` and ``/dev/shm``. A process of the reference solution has 90 MB after its
imports: ten of them fit."""

PROCESSES = 256
"""Processes and threads. Python's thread pools have at most 32 threads each by default, AnyIO's 40: two server
processes with one of each have less than 150."""

SANDBOX_PROCESSES = 8
"""Added to :data:`PROCESSES` where the sandbox's own are counted, too: bubblewrap's two and what starts them."""

OPEN_FILES = 4096
"""Of each process, sockets included. The load has 64 clients."""

FILE_BYTES = 256 * _MIB
"""Of a single file."""

TEMPORARY_BYTES = 256 * _MIB
"""In ``/tmp``. It is memory, and counts as such."""

SHARED_MEMORY_BYTES = 64 * _MIB
"""In ``/dev/shm``, as in containers. It is memory, and counts as such."""

LOCKED_BYTES = 8 * _MIB
"""Memory of a process that is never swapped out; systemd's default."""

STACK_BYTES = 8 * _MIB
"""Of a thread; Linux' default. Fixed, because threads reserve as much and callers' limits differ."""

CPU_WEIGHT = 50
"""Of the 100 that the grader has, and its stubs, PostgreSQL and load generator: a service that spins, in however many
threads, leaves them two thirds of a core that they share. It takes whatever nobody else wants."""

NICENESS = 3
"""The same where there is no control group for the CPU: each step is worth a quarter, 1.25 ** 3 ≈ 100 / 50. It holds
for each process by itself. Desktops that group processes by session (autogroup) weigh services alike instead."""

WATCH_INTERVAL_S = 0.1
_END_INTERVAL_S = 0.02
_END_ROUNDS = 250
PROBE_LIMIT_S = 10.0

_FILESYSTEMS = {"/tmp": TEMPORARY_BYTES, "/dev/shm": SHARED_MEMORY_BYTES}
_SYSTEMD_VARIABLES = ("XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")


def prlimit_arguments() -> tuple[str, ...]:
    """Options of ``prlimit`` for the first program inside: only there do processes count for the sandbox alone.

    Limits that the caller already has and that are lower stay: nobody may raise them. There is no limit of address
    space: runtimes reserve far more than they use.
    """
    hard = {
        "nproc": (resource.RLIMIT_NPROC, PROCESSES),
        "nofile": (resource.RLIMIT_NOFILE, OPEN_FILES),
        "fsize": (resource.RLIMIT_FSIZE, FILE_BYTES),
        "memlock": (resource.RLIMIT_MEMLOCK, LOCKED_BYTES),
        "stack": (resource.RLIMIT_STACK, STACK_BYTES),
        "core": (resource.RLIMIT_CORE, 0),
        "rtprio": (resource.RLIMIT_RTPRIO, 0),
    }
    return tuple(f"--{name}={value}:{value}" for name, value in ((n, _allowed(*h)) for n, h in hard.items()))


def _allowed(kind: int, wanted: int) -> int:
    hard = resource.getrlimit(kind)[1]
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


class Confinement(ABC):
    """What holds one service to its limits. Made by :func:`confine`, closed by whoever made it."""

    description: str
    """One phrase for the scorecard."""
    soft = False
    """Whether a service can exceed its limits for a moment, or hide from who counts."""

    def __init__(self) -> None:
        self._watch: asyncio.Task[None] | None = None
        self._members: Callable[[], Sequence[int]] = tuple
        self._exceeded = False
        self._peak: int | None = None
        self._closed = False

    def prefix(self) -> tuple[str, ...]:
        """What comes before the command of the service's sandbox."""
        return ()

    @abstractmethod
    def enter(self) -> None:
        """Confine the calling process: to be called between fork and exec. Raises OSError."""

    def started(self, members: Callable[[], Sequence[int]], kill: Callable[[], None]) -> None:
        """Watch the service from now on: one that ran out of memory is ended as a whole, not in parts.

        ``members``: its pids at the moment; ``kill``: ends it. To be called from the event loop, once.
        """
        self._members = members
        self._watch = asyncio.create_task(self._keep_watch(kill))

    def exceeded(self) -> str | None:
        """The limit that it was ended for, as a sentence about it; ``None``: none."""
        self._look()
        if not self._exceeded:
            return None
        return f"it used more than the {MEMORY_BYTES // _MIB:,} MiB of memory that a service may use"

    def peak_bytes(self) -> int | None:
        """The most memory that it had at once, as far as is known."""
        self._look()
        return self._peak

    async def close(self) -> None:
        """End what is left of it and remove what it was confined by."""
        watch, self._watch = self._watch, None
        try:
            self._look()
        finally:
            self._closed = True
            if watch is not None:
                watch.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await watch

    def _look(self) -> None:
        if not self._closed:
            ran_out, peak = self._state()
            self._exceeded = self._exceeded or ran_out
            self._peak = max((each for each in (self._peak, peak) if each is not None), default=None)

    @abstractmethod
    def _state(self) -> tuple[bool, int | None]:
        """Whether memory ran out, and the most there was of it."""

    async def _keep_watch(self, kill: Callable[[], None]) -> None:
        while not self._exceeded:
            await asyncio.sleep(WATCH_INTERVAL_S)
            self._look()
        kill()


class Grouped(Confinement):
    """By a control group of our own."""

    def __init__(self, group: ControlGroup, version: int) -> None:
        super().__init__()
        self._group = group
        what = (
            "memory, processes and CPU weight by control groups (v{})"
            if group.weighs_cpu
            else "memory and processes by control groups (v{}), CPU by niceness"
        )
        self.description = what.format(version)

    def enter(self) -> None:
        """Move into the group."""
        self._group.enter()
        if not self._group.weighs_cpu:
            os.nice(NICENESS)

    def _state(self) -> tuple[bool, int | None]:
        return self._group.memory_ran_out(), self._group.peak_bytes()

    async def close(self) -> None:
        """Besides, end everything in the group and remove it; the next grader removes what cannot be removed now."""
        try:
            await super().close()
        finally:
            for _ in range(_END_ROUNDS):
                self._group.kill()
                if self._group.empty():
                    break
                await asyncio.sleep(_END_INTERVAL_S)
            self._group.remove()


class Scoped(Confinement):
    """By a scope that the user's systemd makes, because the user may not make groups where it is."""

    def __init__(self, name: str, description: str) -> None:
        super().__init__()
        self._name = name
        self.description = description
        self._folder: Path | None = None

    def prefix(self) -> tuple[str, ...]:
        """Move into the scope, then forget the way to the user's systemd."""
        known = (f"{name}={os.environ[name]}" for name in _SYSTEMD_VARIABLES if name in os.environ)
        forgotten = (part for name in (*_SYSTEMD_VARIABLES, "INVOCATION_ID") for part in ("-u", name))
        return (
            "/usr/bin/env", *known,
            *scope_command(f"{control_groups.PREFIX}{self._name}"),
            "/usr/bin/env", *forgotten,
        )  # fmt: skip

    def enter(self) -> None:
        """Take a smaller share of the CPU; the prefix does the rest."""
        os.nice(NICENESS)

    def _state(self) -> tuple[bool, int | None]:
        if self._folder is None:
            groups = (control_groups.group_of(pid) for pid in self._members())
            self._folder = next(
                (each for each in groups if each is not None and self._name in each.name), None
            )
        # The scope goes with its last process: what was not seen before is not known afterwards.
        if self._folder is None:
            return False, None
        return control_groups.memory_ran_out(self._folder), control_groups.peak_bytes(self._folder)


class Watched(Confinement):
    """By the grader, which looks ten times a second. What is faster than that has its memory until then."""

    description = "memory by a watchdog (soft), CPU by niceness"
    soft = True

    def enter(self) -> None:
        """Take a smaller share of the CPU."""
        os.nice(NICENESS)

    def _state(self) -> tuple[bool, int | None]:
        used = memory_watch.used_bytes(self._members(), _FILESYSTEMS, limit=MEMORY_BYTES)
        return used > MEMORY_BYTES, used or None


def confine(name: str, *, account_uid: int | None) -> Confinement:
    """The firmest confinement that this machine has for a service. ``name``: letters, digits and dashes.

    ``account_uid``: whom the service's sandbox is started as; ``None``: the caller.
    """
    name = f"{name}-{secrets.token_hex(4)}"
    places = _places()
    if places is not None:
        share = Share(MEMORY_BYTES, PROCESSES + SANDBOX_PROCESSES, CPU_WEIGHT)
        with contextlib.suppress(OSError):
            return Grouped(places.make(name, share), places.version)
    described = scopes() if account_uid is None else None
    return Watched() if described is None else Scoped(name, described)


@functools.cache
def _places() -> Places | None:
    return control_groups.find()


def scope_command(unit: str) -> tuple[str, ...]:
    """The command that runs what follows in a scope of the user's systemd, with the limits of a service."""
    settings = {
        "MemoryMax": MEMORY_BYTES,
        "MemorySwapMax": 0,
        "TasksMax": PROCESSES + SANDBOX_PROCESSES,
        "CPUWeight": CPU_WEIGHT,
    }
    properties = (part for key, value in settings.items() for part in ("-p", f"{key}={value}"))
    program = shutil.which("systemd-run") or "/usr/bin/systemd-run"
    return (program, "--user", "--scope", "--quiet", "--collect", f"--unit={unit}", *properties, "--")


@functools.cache
def scopes() -> str | None:
    """What scopes of the user's systemd are limited in, tried once with a harmless one; ``None``: not in memory."""
    program = shutil.which("systemd-run")
    if os.geteuid() == 0 or program is None:
        return None
    told = 'cd "/sys/fs/cgroup$(sed -n s/^0:://p /proc/self/cgroup)" && cat memory.max pids.max && cat cpu.weight || :'
    unit = f"{control_groups.PREFIX}probe-{secrets.token_hex(4)}"
    try:
        done = subprocess.run(
            [*scope_command(unit), "/bin/sh", "-c", told],
            capture_output=True,
            text=True,
            timeout=PROBE_LIMIT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    memory_and_processes, weight = done.stdout.split()[:2], done.stdout.split()[2:]
    if memory_and_processes != [str(MEMORY_BYTES), str(PROCESSES + SANDBOX_PROCESSES)]:
        return None
    if weight == [str(CPU_WEIGHT)]:
        return "memory, processes and CPU weight by a systemd scope"
    return "memory and processes by a systemd scope, CPU by niceness"
