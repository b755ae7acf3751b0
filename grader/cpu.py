"""How much CPU there is for this process, and how much of it has been used, by whomever."""

from __future__ import annotations

import os
from pathlib import Path

_BUSY_FIELDS = (1, 2, 3, 8)
"""user, nice, system, steal. Interrupts are left out: no process is charged for them."""

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Cpu:
    """The CPU that the grader and all that it starts may use: the machine's, or a container's share of it.

    ``cores`` is how much, :meth:`busy_s` the seconds used of it since the machine or the container started, time that
    other virtual machines took included. Where the kernel does not tell, nothing was used.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._stat = root / "proc" / "stat"
        self._cpus = _usable_cpus()
        self.cores = float(len(self._cpus))
        self._container: tuple[Path, str, float] | None = None
        for limit, usage, key, unit_s in _containers(root):
            quota = _quota(limit)
            if quota is not None and quota < self.cores:
                self.cores, self._container = quota, (usage, key, unit_s)

    def busy_s(self) -> float:
        """Seconds used so far."""
        if self._container is not None:
            path, key, unit_s = self._container
            return _number_after(content(path), key) * unit_s
        total = 0
        for line in content(self._stat).splitlines():
            fields = line.split()
            name = fields[0]
            if name.startswith(b"cpu") and name[3:].isdigit() and int(name[3:]) in self._cpus:
                total += sum(int(fields[index]) for index in _BUSY_FIELDS)
        return total * TICK_S


def content(path: Path) -> bytes:
    """The file's bytes; none if it is not there any more, or not for us."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _usable_cpus() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _containers(root: Path) -> list[tuple[Path, Path, str, float]]:
    """Of each control group that this process is in: where its limit is, where its usage is and in which unit.

    A container sees its own group as the topmost one, a service of the machine sees it by its path.
    """
    found: list[tuple[Path, Path, str, float]] = []
    top = root / "sys" / "fs" / "cgroup"
    for line in content(root / "proc" / "self" / "cgroup").decode(errors="replace").splitlines():
        _, controllers, path = line.split(":", 2)
        inner = path.lstrip("/")
        if not controllers:
            folders = {top, top / inner}
            found += [(each / "cpu.max", each / "cpu.stat", "usage_usec", 1e-6) for each in folders]
        elif "cpu" in controllers.split(","):
            found += [
                (top / "cpu" / each / "cpu.cfs_quota_us", top / "cpuacct" / each / "cpuacct.usage", "", 1e-9)
                for each in {"", inner}
            ]
    return found


def _quota(limit: Path) -> float | None:
    """Cores that ``limit`` allows: ``cpu.max`` has quota and period, of version 1 the period is in a file beside it."""
    period = content(limit.with_name("cpu.cfs_period_us")) if limit.name.startswith("cpu.cfs") else b""
    numbers = (content(limit) + b" " + period).split()
    if len(numbers) < 2 or not all(number.isdigit() for number in numbers[:2]) or int(numbers[1]) == 0:
        return None
    return int(numbers[0]) / int(numbers[1])


def _number_after(text: bytes, key: str) -> int:
    words = text.split()
    place = words.index(key.encode()) + 1 if key.encode() in words else 0
    return int(words[place]) if place < len(words) and words[place].isdigit() else 0
