"""Prints tickets off the event loop: few at a time, each once, none without end."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

from boxoffice.errors import Overloaded
from boxoffice.single_flight import SingleFlight
from boxoffice.tickets.signing import render

THREADS = 2
NICENESS = 5
"""Requests go first when threads and event loop want the same core."""

MAX_WAITING = 32
"""At 0.4 s each on two threads the last of them waits 6.4 s; a ticket has 10 s (contract)."""

TIMEOUT_S = 9.0
CACHED_TICKETS = 1000
"""About 10 KB each. A ticket never changes: its order is confirmed for good."""


class TicketPrinter:
    """Renders tickets in threads of low priority and keeps the latest ones."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._threads = ThreadPoolExecutor(THREADS, "tickets", initializer=_lower_priority)
        self._printing: SingleFlight[str, bytes] = SingleFlight()
        self._printed: OrderedDict[str, bytes] = OrderedDict()

    def cached(self, order_id: str) -> bytes | None:
        """The ticket if it has been printed lately."""
        ticket = self._printed.get(order_id)
        if ticket is not None:
            self._printed.move_to_end(order_id)
        return ticket

    async def print(self, order_id: str) -> bytes:
        """The ticket of a confirmed order. Raises Overloaded."""
        if len(self._printing) >= MAX_WAITING:
            raise Overloaded("too many tickets at once, please try again", retry_after_s=5)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._printing.run(order_id, lambda: self._render(order_id))
        except TimeoutError:
            raise Overloaded("printing takes too long, please try again", retry_after_s=5) from None

    async def close(self) -> None:
        """Drop what waits; a ticket being rendered is finished."""
        await self._printing.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _render(self, order_id: str) -> bytes:
        ticket = await asyncio.get_running_loop().run_in_executor(
            self._threads, render, order_id, self._secret
        )
        self._printed[order_id] = ticket
        if len(self._printed) > CACHED_TICKETS:
            self._printed.popitem(last=False)
        return ticket


def _lower_priority() -> None:
    """On Linux priorities belong to threads."""
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
