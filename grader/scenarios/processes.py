"""Which processes of the service serve requests, as the operating system shows it."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil

from devstack.service import Service

_ESTABLISHED = "01"
"""Of the state column of /proc/PID/net/tcp."""

SAMPLE_INTERVAL_S = 0.3
ACTIVE_SHARE = 0.3
"""A process with this share of the busiest one's CPU time serves too: a front process may hold all connections."""


@dataclass
class ServingProcesses:
    """Pids that held an accepted connection to the service's port, and CPU seconds spent by each process."""

    connected: set[int] = field(default_factory=set)
    cpu_s: dict[int, float] = field(default_factory=dict)

    def count(self) -> int:
        """How many processes served: those that held connections, or else those that worked."""
        busiest = max(self.cpu_s.values(), default=0.0)
        active = {pid for pid, spent in self.cpu_s.items() if spent > 0 and spent >= ACTIVE_SHARE * busiest}
        return len(self.connected) if len(self.connected) > 1 else max(len(self.connected), len(active))


def _serves(pid: int, port: int) -> bool:
    """Whether the process holds an established TCP connection whose own end is ``port``.

    Not by psutil: it looks into the caller's network namespace only, and a service may have one of its own.
    """
    inodes: set[str] = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _ESTABLISHED and int(fields[1].rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return False
    for descriptor in _descriptors(pid):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/fd/{descriptor}") in inodes:
                return True
    return False


def _descriptors(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []


@contextlib.asynccontextmanager
async def watch_processes(service: Service) -> AsyncIterator[ServingProcesses]:
    """Sample the service's processes while the block runs."""
    port = httpx.URL(service.base_url).port
    seen = ServingProcesses()
    first: dict[int, float] = {}

    def sample() -> None:
        for pid in service.members():
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                spent = process.cpu_times()
                total = spent.user + spent.system
                seen.cpu_s[pid] = total - first.setdefault(pid, total)
                if port is not None and _serves(pid, port):
                    seen.connected.add(pid)

    async def sampler() -> None:
        while True:
            await asyncio.to_thread(sample)
            await asyncio.sleep(SAMPLE_INTERVAL_S)

    await asyncio.to_thread(sample)
    running = asyncio.create_task(sampler())
    try:
        yield seen
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
