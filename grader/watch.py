"""Watching the machine while scenarios are driven: who uses the CPU, the memory that is left, our own punctuality.

One watch serves all scenarios of a run, also those side by side: everything that the grader started is told from
everything else. Costs well below 1 % of a core: only the run's own processes are read each second.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import psutil

from devstack.artifacts import Disturbance, MachineSample, quantile
from devstack.placement import TREE_MARK, tree_tag
from grader.cpu import TICK_S, Cpu, content

NOT_WATCHED = "GRADER_NOT_WATCHED"
"""Environment variable: 1 turns watching off, for working on the kit where others work, too."""

SAMPLE_S = 1.0
SHORTEST_SAMPLE_S = 0.5
"""Kernel ticks are 10 ms long: shorter samples would be coarse."""

BEAT_S = 0.02
Group = Literal["submission", "database", "kit"]

_PROC = Path("/proc")
_MIB = 2**20
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Family:
    """A process that the grader started, with all that came of it; ``group`` says whose it is."""

    group: Group
    name: str


_GRADER = Family("kit", "grader")


@dataclass(frozen=True)
class _Stat:
    parent: int
    own_s: float
    reaped_s: float
    resident_bytes: int


class ProcessTable:
    """The run's processes by family. ``source`` is the tree of the submission whose services are told from others."""

    def __init__(self, source: Path) -> None:
        self._tag = f"{TREE_MARK}={tree_tag(source)}-".encode()
        self._families: dict[int, Family | None] = {os.getpid(): _GRADER}
        """Of every living pid; ``None``: foreign, and not read again."""

    def read(self) -> tuple[dict[Family, float], int]:
        """CPU seconds so far by family, and the resident bytes of the submission."""
        living = {int(name) for name in os.listdir(_PROC) if name.isdigit()}
        for gone in self._families.keys() - living:
            del self._families[gone]
        used: defaultdict[Family, float] = defaultdict(float)
        resident_bytes = 0
        for pid in living:
            family = self._family(pid)
            stat = _stat(pid) if family else None
            if family is None or stat is None:
                continue
            # What a parent has reaped was its child's: the sum of a family goes on when one of it ends. The grader's
            # own children are families of their own.
            used[family] += stat.own_s + (0.0 if family is _GRADER else stat.reaped_s)
            resident_bytes += stat.resident_bytes if family.group == "submission" else 0
        return dict(used), resident_bytes

    def _family(self, pid: int) -> Family | None:
        if pid not in self._families:
            stat = _stat(pid)
            parent = self._family(stat.parent) if stat and stat.parent else None
            if parent is not None and parent is not _GRADER:
                self._families[pid] = parent
            else:
                self._families[pid] = self._recognised(pid, ours=parent is _GRADER)
        return self._families[pid]

    def _recognised(self, pid: int, *, ours: bool) -> Family | None:
        """The family of a process that has no relative in one: a child of the grader, or left behind by a double fork."""
        environment = content(_PROC / str(pid) / "environ").split(b"\0")
        mark = next((entry for entry in environment if entry.startswith(self._tag)), b"")
        if mark:
            return Family("submission", mark.decode(errors="replace"))
        if not ours:
            return None
        is_database = b"postmaster_guard" in content(_PROC / str(pid) / "cmdline")
        return Family("database" if is_database else "kit", str(pid))


@dataclass
class Window:
    """The time that one scenario takes; :attr:`found` is there when it has been left."""

    quiet: bool = True
    found: Disturbance | None = None


@dataclass
class _Reading:
    at_s: float
    busy_s: float
    used_s: dict[Family, float] = field(default_factory=dict)
    resident_bytes: int = 0


class Watch:
    """Samples the machine while it is entered. An async context manager; :meth:`window` cuts out a scenario's time."""

    def __init__(self, source: Path) -> None:
        self._table = ProcessTable(source)
        self._cpu = Cpu()
        self._memory_mib = psutil.virtual_memory().total // _MIB
        self._samples: list[MachineSample] = []
        self._lags: list[tuple[float, float]] = []
        self._last = _Reading(0.0, 0.0)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Watch:
        self._last = self._read()
        self._tasks = [asyncio.create_task(self._keep_time()), asyncio.create_task(self._keep_sampling())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def window(self, *, quiet: bool, epoch_s: float | None = None) -> AsyncIterator[Window]:
        """Watch the block. ``epoch_s``: the monotonic instant that is 0 in the record; without it, the block's begin."""
        window = Window(quiet)
        begun_s = time.monotonic()
        try:
            yield window
        finally:
            self._sample()
            window.found = (
                None
                if not_watched()
                else self._between(begun_s, quiet, begun_s if epoch_s is None else epoch_s)
            )

    def _between(self, begun_s: float, quiet: bool, epoch_s: float) -> Disturbance:
        lags = [lag_s for at_s, lag_s in self._lags[bisect_left(self._lags, (begun_s, 0.0)) :]]
        samples = [sample for sample in self._samples if sample.at_s > begun_s + sample.seconds / 4]
        return Disturbance(
            cores=self._cpu.cores,
            memory_mib=self._memory_mib,
            quiet=quiet,
            lag_p99_s=round(quantile(lags, 0.99), 4) if lags else 0.0,
            samples=tuple(
                sample.model_copy(update={"at_s": round(sample.at_s - epoch_s, 3)}) for sample in samples
            ),
        )

    async def _keep_time(self) -> None:
        """Beat on the event loop. What the loop itself worked since the beat before makes nobody else late."""
        due_s, worked_s = time.monotonic() + BEAT_S, time.thread_time()
        while True:
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            now_s, before_s, worked_s = time.monotonic(), worked_s, time.thread_time()
            kept_waiting_s = now_s - due_s - (worked_s - before_s)
            while due_s <= now_s:
                self._lags.append((now_s, max(0.0, kept_waiting_s)))
                due_s += BEAT_S
                kept_waiting_s -= BEAT_S

    async def _keep_sampling(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_S)
            self._sample()

    def _sample(self) -> None:
        """Add a sample, unless the last one was a moment ago."""
        if time.monotonic() - self._last.at_s < SHORTEST_SAMPLE_S:
            return
        before, now = self._last, self._read()
        seconds = now.at_s - before.at_s
        used = _used_since(before.used_s, now.used_s)
        first = bisect_left(self._lags, (before.at_s, 0.0))
        self._samples.append(
            MachineSample(
                at_s=now.at_s,
                seconds=round(seconds, 3),
                busy=round(max(0.0, now.busy_s - before.busy_s) / seconds, 3),
                submission=round(used["submission"] / seconds, 3),
                database=round(used["database"] / seconds, 3),
                kit=round(used["kit"] / seconds, 3),
                lag_worst_s=round(max((lag_s for _, lag_s in self._lags[first:]), default=0.0), 4),
                available_mib=psutil.virtual_memory().available // _MIB,
                submission_mib=now.resident_bytes // _MIB,
            )
        )
        self._last = now

    def _read(self) -> _Reading:
        if not _PROC.is_dir():
            return _Reading(time.monotonic(), 0.0)
        used_s, resident_bytes = self._table.read()
        return _Reading(time.monotonic(), self._cpu.busy_s(), used_s, resident_bytes)


def not_watched() -> bool:
    """Whether neither disturbances nor changes of the kit are to be noticed: the former then count against the submission."""
    return os.environ.get(NOT_WATCHED) == "1"


def _used_since(before: Mapping[Family, float], now: Mapping[Family, float]) -> dict[Group, float]:
    """CPU seconds by group. A family that ended is left out: what it last used is known to nobody."""
    used: dict[Group, float] = {"submission": 0.0, "database": 0.0, "kit": 0.0}
    for family, seconds in now.items():
        used[family.group] += max(0.0, seconds - before.get(family, 0.0))
    return used


def _stat(pid: int) -> _Stat | None:
    fields = content(_PROC / str(pid) / "stat").rpartition(b")")[2].split()
    if not fields:
        return None
    user, system, reaped_user, reaped_system = (int(fields[index]) * TICK_S for index in range(11, 15))
    return _Stat(int(fields[1]), user + system, reaped_user + reaped_system, int(fields[21]) * _PAGE_BYTES)
