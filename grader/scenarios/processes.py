"""Which processes of the service serve requests, as the operating system shows it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import psutil

from devstack.service import Service

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
                if any(
                    found.status == psutil.CONN_ESTABLISHED and getattr(found.laddr, "port", None) == port
                    for found in process.net_connections("tcp")
                ):
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
