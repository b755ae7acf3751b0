"""Bubblewrap around the installer, where it works: it writes below two folders and sees no other process."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

from grader.errors import SandboxUnavailable
from grader.sandbox import bubblewrap

_PROBE_LIMIT_S = 10.0

_BASE = (
    "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc",
    # Sockets of other services (containers, desktop, agents) are out of reach; those that resolve names are not.
    "--tmpfs", "/run",
    "--ro-bind-try", "/run/systemd/resolve", "/run/systemd/resolve",
    "--ro-bind-try", "/run/NetworkManager", "/run/NetworkManager",
    "--ro-bind-try", "/run/resolvconf", "/run/resolvconf",
    "--ro-bind-try", "/run/nscd", "/run/nscd",
    "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL",
    "--die-with-parent", "--new-session",
)  # fmt: skip


def isolation_prefix(building: Path, cache: Path, *, network: bool = True) -> list[str]:
    """What to put before a command so that it can write only below ``building`` and ``cache`` (both exist).

    It then has processes, IPC and a host name of its own, no capabilities (as root too), and the network only with
    ``network``. Empty where bubblewrap does not work for this user: the limits of :mod:`grader.environment.tools` are
    then all there is. Called for programs that execute nothing of a submission or a package, as a second line.
    """
    program = _working_bubblewrap()
    if program is None:
        return []
    found = [program, *_BASE]
    for folder in (building, cache):
        found += ["--bind", str(folder), str(folder)]
    if not network:
        found.append("--unshare-net")
    return [*found, "--"]


@functools.cache
def _working_bubblewrap() -> str | None:
    """The program, tried for real once per process."""
    if sys.platform != "linux":
        return None
    try:
        program = str(bubblewrap.find().program)
        subprocess.run(
            [program, *_BASE, "--unshare-net", "--", sys.executable, "-I", "-S", "-c", ""],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_LIMIT_S,
            check=True,
        )
    except (SandboxUnavailable, OSError, subprocess.SubprocessError):
        return None
    return program
