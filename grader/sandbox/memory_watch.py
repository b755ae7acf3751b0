"""How much memory a tree of processes has, where no control group counts it: read from ``/proc``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class _Parts:
    """Bytes of one process that cannot be read anew from a file. ``shared``: of files in memory and between processes."""

    own: int
    shared: int


def used_bytes(pids: Sequence[int], filesystems: Mapping[str, int], *, limit: int) -> int:
    """Bytes that the processes ``pids`` have between them, with what lies in their file systems in memory.

    ``filesystems``: where those are mounted inside, and their sizes in bytes. Pages of files on disk do not count: the
    kernel drops them when it needs room. Memory that forked processes still share is counted once only as far as it
    matters, because finding out is slow: as soon as counting it often would lead above ``limit``. Memory of open files
    without a name that nobody has mapped is not seen. Processes that have gone count nothing.
    """
    files = max((_file_bytes(pid, filesystems) for pid in pids), default=0)
    rough = _total([_quick(pid) for pid in pids], files)
    return rough if rough <= limit else _total([_exact(pid) for pid in pids], files)


def _total(parts: Sequence[_Parts | None], files: int) -> int:
    found = [each for each in parts if each is not None]
    # Shared memory that is mapped mostly lies in /dev/shm: the larger of the two, so that nothing counts twice.
    return sum(each.own for each in found) + max(sum(each.shared for each in found), files)


def _quick(pid: int) -> _Parts | None:
    values = _kilobytes(Path("/proc", str(pid), "status"))
    if "RssAnon" not in values:
        return None
    return _Parts(own=values["RssAnon"], shared=values.get("RssShmem", 0))


def _exact(pid: int) -> _Parts | None:
    """As :func:`_quick`, a page that n processes have counted as 1/n. Other users' processes may not be asked that."""
    values = _kilobytes(Path("/proc", str(pid), "smaps_rollup"))
    if "Pss_Anon" not in values:
        return _quick(pid)
    return _Parts(own=values["Pss_Anon"], shared=values.get("Pss_Shmem", 0))


def _kilobytes(path: Path) -> dict[str, int]:
    """The lines ``Name:  123 kB`` of a file, in bytes."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return {}
    rows = (line.split() for line in text.splitlines())
    return {
        row[0].rstrip(":"): int(row[1]) * 1024
        for row in rows
        if len(row) == 3 and row[2] == "kB" and row[1].isdigit()
    }


def _file_bytes(pid: int, filesystems: Mapping[str, int]) -> int:
    """What lies in the file systems of ``pid``. All of a sandbox see the same ones."""
    found = 0
    for place, size in filesystems.items():
        try:
            seen = os.statvfs(f"/proc/{pid}/root{place}")
        except OSError:
            continue
        # Any other size: the sandbox is not made yet, and this is the machine's own.
        if seen.f_blocks * seen.f_frsize == size:
            found += (seen.f_blocks - seen.f_bfree) * seen.f_frsize
    return found
