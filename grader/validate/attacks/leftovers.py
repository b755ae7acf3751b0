"""What of this machine is not as it was before: processes, ports, mounts, interfaces, namespaces, groups, files."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from devstack.paths import cache_directory
from grader.sandbox.control_groups import PREFIX

PATIENCE_S = 5.0
"""For what is ending: the kernel takes its time to end a namespace."""

_LOOK_AGAIN_S = 0.2
_PR_SET_CHILD_SUBREAPER = 36
_LISTENING = "0A"
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")


@dataclass(frozen=True)
class Machine:
    """What there is, each as a text that says what it is."""

    things: frozenset[str]

    def left_since(self, before: Machine) -> tuple[str, ...]:
        """What is here that was not there ``before``."""
        return tuple(sorted(self.things - before.things))


def adopt_orphans() -> None:
    """From now on whatever loses its parent below this process becomes its child, where it is found."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def look() -> Machine:
    """What there is now. Processes: those below this one; namespaces: those of all that can be seen."""
    found = {
        *(f"process {_told(process)}" for process in _descendants()),
        *(f"port {port}" for port in _listening()),
        *(f"mount {mount}" for mount in _mounts()),
        *(f"interface {name}" for name in psutil.net_if_addrs()),
        *_namespaces(),
        *(f"control group {path}" for path in Path("/sys/fs/cgroup").glob(f"**/{PREFIX}*")),
        *(f"file {path}" for path in _files()),
    }
    return Machine(frozenset(found))


def left_since(before: Machine) -> tuple[str, ...]:
    """What is left when everything had its time to end. No child of this process may be waited for by anybody else."""
    deadline = time.monotonic() + PATIENCE_S
    _reap()
    while (left := look().left_since(before)) and time.monotonic() < deadline:
        time.sleep(_LOOK_AGAIN_S)
        _reap()
    return left


def end_orphans() -> None:
    """End what is still running below this process."""
    for process in _descendants():
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGKILL)
    _reap()


def _reap() -> None:
    """Take leave of adopted children that have ended, as init would; until then their namespaces can be seen."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _descendants() -> list[psutil.Process]:
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if _state(process) != psutil.STATUS_ZOMBIE
    ]


def _state(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.Error:
        return str(psutil.STATUS_ZOMBIE)


def _told(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {process.name()}"
    except psutil.Error:
        return str(process.pid)


def _listening() -> set[str]:
    found: set[str] = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            lines = Path("/proc/net", table).read_text().splitlines()[1:]
            rows = [line.split() for line in lines]
            found.update(
                f"{table} {int(row[1].rpartition(':')[2], 16)}" for row in rows if row[3] == _LISTENING
            )
    return found


def _mounts() -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def _namespaces() -> set[str]:
    found: set[str] = set()
    for process in Path("/proc").glob("[0-9]*"):
        for kind in _NAMESPACES:
            with contextlib.suppress(OSError):
                found.add(f"namespace {os.readlink(process / 'ns' / kind)}")
    return found


def _files() -> set[Path]:
    found: set[Path] = set()
    for folder in (
        tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm", "/run/netns", "/run/user",
        cache_directory() / "running", cache_directory() / "canaries",
    ):  # fmt: skip
        with contextlib.suppress(OSError):
            found.update(Path(folder).iterdir())
    return found
