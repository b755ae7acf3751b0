"""Do something once for all that want it at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class SingleFlight(Generic[K, V]):
    """At most one call per key is in flight; whoever asks meanwhile gets its result.

    The work runs in a task of its own: a caller that is cancelled takes nothing from the others.
    """

    def __init__(self) -> None:
        self._tasks: dict[K, asyncio.Task[V]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def start(self, key: K, work: Callable[[], Awaitable[V]]) -> asyncio.Task[V]:
        """The task in flight for ``key``, started with ``work`` if there is none."""
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(_run(work))
            task.add_done_callback(lambda done: self._forget(key, done))
        return task

    async def run(self, key: K, work: Callable[[], Awaitable[V]]) -> V:
        """The result for ``key``. Raises what the work raised."""
        return await asyncio.shield(self.start(key, work))

    async def close(self) -> None:
        """Cancel what is in flight."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, key: K, task: asyncio.Task[V]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # retrieved here too, in case that every caller has gone


async def _run(work: Callable[[], Awaitable[V]]) -> V:
    return await work()
