"""Buyers who live through a failure: they keep their keys, ask again, and look in the end at what became of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

from devstack.artifacts import Exchange, Upstream
from devstack.seed import LiveEvent
from grader.answers import (
    FINAL_STATUSES,
    PLACED,
    UNAVAILABLE,
    order_id_of,
    order_status_of,
    seats_available_of,
)
from grader.scenarios.clients import Order, new_order, send_order
from grader.scenarios.stage import Stage

JUDGED_AFTER_S = 36.0
"""Contract: money is judged 30 s after the last of request, fault, restart; + 20 %."""

PAUSE_S = 2.0
PATIENCE_WITH_500 = 5
"""So many times a client asks again after a 500; whoever answers it has said that it does not know either."""

SEATS_PAUSE_S = 0.5
PATIENCE_WITH_PAGES = 10
"""So many times in a row an event may fail to be read before nobody tries any more."""

READ_TIMEOUT_S = 5.0
POOL_READS = 20
POOL_ROUND_TRIP_S = 0.1

OPEN: frozenset[int | None] = UNAVAILABLE | {None, 409, 425, 500}
"""Nothing certain is known yet. Seats are left on every event, so 409 can only say that the key is in progress."""


class Buyers:
    """All orders of a scenario, and everything that their clients were answered.

    Requests are recorded under names that begin with ``orders-``.
    """

    def __init__(self, stage: Stage, events: Sequence[LiveEvent]) -> None:
        self.stage = stage
        self.events = events
        self.orders: list[Order] = []
        self.answers: list[Exchange] = []
        self._wanted: dict[str, tuple[int, int]] = {}

    def new(self, event: LiveEvent, count: int) -> list[Order]:
        """``count`` new orders of one to three seats each."""
        made = []
        for number in range(count):
            quantity = 1 + number % 3
            order = new_order(self.stage, event.id, quantity)
            self._wanted[order.key] = (event.id, quantity)
            made.append(order)
        self.orders += made
        return made

    def undecided(self) -> list[Order]:
        """Orders whose clients know nothing certain yet."""
        told = {_key(answer) for answer in self.answers if answer.status not in OPEN}
        failed = Counter(_key(answer) for answer in self.answers if answer.status == 500)
        return [
            order for order in self.orders if order.key not in told and failed[order.key] < PATIENCE_WITH_500
        ]

    def answered(self) -> set[str]:
        """Keys of the orders that have got an answer, whatever it says."""
        return {_key(answer) for answer in self.answers if answer.status is not None}

    async def send(self, name: str, order: Order) -> Exchange:
        """Send ``order``, for the first time or again."""
        answer = await send_order(self.stage, f"orders-{name}", order)
        self.answers.append(answer)
        return answer

    async def send_all(self, name: str, orders: Sequence[Order], *, apart_s: float = 0) -> list[Exchange]:
        """Send ``orders``, one begun ``apart_s`` after the other, and wait for all answers."""
        async with asyncio.TaskGroup() as group:
            tasks = []
            for order in orders:
                tasks.append(group.create_task(self.send(name, order)))
                await asyncio.sleep(apart_s)
        return [task.result() for task in tasks]

    async def see_to_the_end(self) -> None:
        """Ask again where nothing is certain, read all orders until they are final, then the seats of the events.

        Records ``settled`` and ``availability`` (the last readings), the fact ``seats-total`` and the final
        ledger. Ends when everything is as it must be, at the latest when it is judged.
        """
        stage = self.stage
        stage.fact("seats-total", {str(event.id): event.seats_total for event in self.events})
        asking_until_s = stage.now() + JUDGED_AFTER_S
        while (again := self.undecided()) and stage.now() < asking_until_s:
            await self.send_all("again", again)
            await asyncio.sleep(PAUSE_S if self.undecided() else 0)
        last_s = max((answer.started_s for answer in self.answers), default=stage.now())
        until_s = max(stage.now() + PAUSE_S, last_s + JUDGED_AFTER_S)
        told = [answer for answer in self.answers if answer.status in PLACED | UNAVAILABLE]
        readings = await stage.settle("settled", told, within_s=until_s - stage.now())
        final = all(order_status_of(reading) in FINAL_STATUSES for reading in readings)
        await self._read_seats(self._sold(readings), until_s if final else stage.now())
        await stage.ledger()

    def _sold(self, readings: Sequence[Exchange]) -> Counter[int]:
        """Confirmed seats by event."""
        confirmed = {order_id_of(found) for found in readings if order_status_of(found) == "confirmed"}
        buyers = {_key(answer) for answer in self.answers if order_id_of(answer) in confirmed - {None}}
        sold: Counter[int] = Counter()
        for key, (event_id, quantity) in self._wanted.items():
            if key in buyers:
                sold[event_id] += quantity
        return sold

    async def _read_seats(self, sold: Counter[int], until_s: float) -> None:
        """Read the events until each has as many free seats as nobody bought."""
        right, failures = False, 0
        while not right and failures < PATIENCE_WITH_PAGES:
            pages = await self._pages()
            right = [seats_available_of(page) for page in pages] == [
                event.seats_total - sold[event.id] for event in self.events
            ]
            failures = 0 if all(page.ok for page in pages) else failures + 1
            if self.stage.now() + SEATS_PAUSE_S > until_s:
                break
            await asyncio.sleep(0 if right else SEATS_PAUSE_S)

    async def _pages(self) -> list[Exchange]:
        """Read each event once; the last readings are kept."""
        self.stage.record.exchanges["availability"] = []
        return [
            await self.stage.get("availability", f"/events/{event.id}", timeout_s=READ_TIMEOUT_S)
            for event in self.events
        ]


async def fill_the_pool(stage: Stage, event: LiveEvent) -> None:
    """Overlapping reads, so that what follows meets many idle connections and not only new ones."""
    await stage.world.faults.set_proxy(delay_s=POOL_ROUND_TRIP_S)
    reads = [
        stage.get("filling-reads", f"/events/{event.id}", fresh=True, timeout_s=READ_TIMEOUT_S)
        for _ in range(POOL_READS)
    ]
    await asyncio.gather(*reads)
    await stage.world.faults.set_proxy()


async def reached(
    stage: Stage, upstream: Upstream, operation: str, count: int, *, since_s: float, within_s: float
) -> None:
    """Wait until ``count`` calls have come to an upstream since ``since_s``, at most ``within_s``."""
    until_s = stage.now() + within_s
    while stage.now() < until_s:
        calls = (await stage.world.faults.ledger()).calls_to(upstream, operation)
        if sum(call.started_s >= since_s for call in calls) >= count:
            return
        await asyncio.sleep(0.1)


def _key(exchange: Exchange) -> str:
    return exchange.request_headers.get("Idempotency-Key", "")
