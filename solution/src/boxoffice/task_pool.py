"""A bounded number of background tasks that nobody waits for."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

from boxoffice.telemetry import describe_error, get_logger

log = get_logger("boxoffice.background")


class TaskPool:
    """Keeps its tasks referenced, logs their failures, and waits for them at the end."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def free(self) -> int:
        """How many more tasks may start now."""
        return self._size - len(self._tasks)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start a task outside of the caller's context: its log lines are not those of a request."""
        task = asyncio.create_task(work, context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._finish)

    async def drain(self, *, timeout_s: float) -> None:
        """Wait for all tasks, and cancel what takes longer."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("background task failed", **describe_error(error))
