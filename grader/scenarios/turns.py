"""A database whose processes take turns: what is in flight at the same time overlaps, however short it is.

On a busy server the kernel interrupts whoever computes, at any point, for as long as others need. Here that happens
on purpose, many times a second, so that it does not depend on luck.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import AsyncIterator, Sequence

import psutil

from devstack.postgres import Cluster

SLICE_S = 0.0002
"""A statement that books seats computes for a millisecond or more: several slices."""


@contextlib.asynccontextmanager
async def taking_turns(cluster: Cluster, role: str, order: random.Random) -> AsyncIterator[None]:
    """While inside, the processes that serve ``role`` compute one at a time, a slice each, in random order.

    Sessions that are opened meanwhile are not interrupted. Raises PostgresError.
    """
    rows = await cluster.fetch("SELECT pid FROM pg_stat_activity WHERE usename = %s", role)
    processes: list[psutil.Process] = []
    for (pid,) in rows:
        with contextlib.suppress(psutil.NoSuchProcess):
            processes.append(psutil.Process(pid))
    over = threading.Event()
    turning = asyncio.create_task(asyncio.to_thread(_turn, processes, order, over))
    try:
        yield
    finally:
        over.set()
        await turning


def _turn(processes: Sequence[psutil.Process], order: random.Random, over: threading.Event) -> None:
    # psutil looks whether a number still belongs to the process that it was asked about
    try:
        _each(processes, "suspend")
        while not over.is_set():
            for process in order.sample(processes, len(processes)):
                _each([process], "resume")
                time.sleep(SLICE_S)
                _each([process], "suspend")
            if not processes:
                return
    finally:
        _each(processes, "resume")


def _each(processes: Sequence[psutil.Process], deed: str) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            getattr(process, deed)()
