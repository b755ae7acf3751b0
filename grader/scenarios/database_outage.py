"""The database goes away for eight seconds and comes back; then it stands still for as long."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence

from devstack.artifacts import Exchange, Heartbeat
from grader.answers import PLACED
from grader.scenarios.clients import new_order, require_an_answer, send_order
from grader.scenarios.pool import fill_the_pool
from grader.scenarios.stage import Scenario, Stage

OUTAGE_S = 8.0
"""Within the 10 s for which the contract promises recovery."""

LONG_OUTAGE_S = 18.0
"""Contract: not ready ≤ 15 s after the loss, + 20 %. Only for a service that the first outage did not tell."""

FROZEN_S = 8.0
"""Two seconds above what a judged answer may take: one that waits for the return shows it."""

RECOVERY_S = 18.0
"""Contract: right again ≤ 15 s after the return, + 20 %."""

READY_AGAIN_S = 24.0
"""Contract: ready again ≤ 20 s after the return, + 20 %."""

STREAK = 20
ORDERS_AFTER = 2
READ_TIMEOUT_S = 4.0
ASK_AFTER_S = 1.0
"""Between readings of what readiness says: heartbeats do not keep its words."""

BEAT_TIMEOUT_S = 9.0
"""Above the 5 s + 20 % that readiness may take, so that a slow answer is told from none."""


async def drive(stage: Stage) -> None:
    """Heartbeats on both health endpoints through the outages, light traffic beside, then the way back."""
    await stage.start()
    event = stage.world.live.open_events(minimum_seats=300)[0]
    warm = [await stage.get("warm", path) for path in ("/events?limit=5", f"/events/{event.id}")]
    require_an_answer(warm, "warming up")
    await send_order(stage, "warm", new_order(stage, event.id))
    async with (
        stage.heartbeats("live", interval_s=0.25, timeout_s=BEAT_TIMEOUT_S),
        stage.heartbeats("ready", interval_s=0.5, path="/health/ready", timeout_s=BEAT_TIMEOUT_S) as ready,
    ):
        await asyncio.sleep(2)
        lost_s = await _outage(stage, "outage", event.id, ready)
        await _recover(stage, event.id)
        if not _answered_since(ready, lost_s, _not_ready):
            await _outage(stage, "long-outage", event.id, ready)
        await _ready_again(stage, ready)
        await fill_the_pool(stage, event.id)
        stage.fact("frozen-from-s", stage.now())
        await stage.world.faults.set_proxy(frozen=True)
        await asyncio.sleep(FROZEN_S)
        await stage.world.faults.set_proxy()
        stage.fact("frozen-until-s", stage.now())
        await _ready_again(stage, ready)
    await stage.ledger()


async def _outage(stage: Stage, name: str, event_id: int, ready: Sequence[Heartbeat]) -> float:
    """Refuse and cut all connections. Returns when it began.

    The short one lasts a fixed time; the long one until the service said that it is not ready.
    """
    lost_s = stage.now()
    stage.fact(f"{name}-from-s", lost_s)
    await stage.world.faults.set_proxy(refuse=True)
    await stage.world.faults.cut()
    async with _light_traffic(stage, name, event_id):
        if name == "outage":
            await asyncio.sleep(OUTAGE_S)
        else:
            await _until(stage, LONG_OUTAGE_S, lambda: _answered_since(ready, lost_s, _not_ready))
    await stage.world.faults.set_proxy()
    stage.fact(f"{name}-until-s", stage.now())
    return lost_s


@contextlib.asynccontextmanager
async def _light_traffic(stage: Stage, name: str, event_id: int) -> AsyncIterator[None]:
    """A list every half second, an order every two and readiness until it says no, while the block runs."""

    async def sender(group: asyncio.TaskGroup) -> None:
        for number in itertools.count():
            read = stage.get(f"{name}-reads", "/events?limit=5", fresh=True, timeout_s=READ_TIMEOUT_S)
            sent.append(group.create_task(read))
            if number % 4 == 0:
                order = send_order(stage, f"{name}-orders", new_order(stage, event_id))
                sent.append(group.create_task(order))
            await asyncio.sleep(0.5)

    sent: list[asyncio.Task[Exchange]] = []
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(sender(group)), group.create_task(_ask_readiness(stage))]
        yield
        # What still waits when the outage is over is given up: only what comes after is judged.
        for task in (*running, *sent):
            task.cancel()


async def _ask_readiness(stage: Stage) -> None:
    """Record what readiness says, until it says that it is not."""
    status = None
    while status != 503:
        await asyncio.sleep(ASK_AFTER_S)
        status = (await stage.get("ready-lost", "/health/ready", fresh=True, timeout_s=BEAT_TIMEOUT_S)).status


async def _recover(stage: Stage, event_id: int) -> None:
    """Read and order until 20 reads in a row and then two orders succeed, or the promised time is over."""
    until_s = stage.now() + RECOVERY_S
    paths = ("/events?limit=5", f"/events/{event_id}")
    stage.record.exchanges["orders-after"] = []
    in_a_row = number = bought = 0
    while stage.now() < until_s and bought < ORDERS_AFTER:
        if in_a_row < STREAK:
            path = paths[number % len(paths)]
            read = await stage.get("reads-after", path, fresh=True, timeout_s=READ_TIMEOUT_S)
            in_a_row = in_a_row + 1 if read.status == 200 else 0
            number += 1
            await asyncio.sleep(0.05 if read.ok else 0.4)
        else:
            order = await send_order(stage, "orders-after", new_order(stage, event_id), timeout_s=RECOVERY_S)
            bought = bought + 1 if order.status in PLACED else 0
            await asyncio.sleep(0.0 if order.ok else 1.0)


async def _ready_again(stage: Stage, ready: Sequence[Heartbeat]) -> None:
    returned_s = stage.now()
    await _until(stage, READY_AGAIN_S, lambda: _answered_since(ready, returned_s, lambda b: b.status == 200))


async def _until(stage: Stage, within_s: float, reached: Callable[[], bool]) -> None:
    until_s = stage.now() + within_s
    while stage.now() < until_s:
        if reached():
            return
        await asyncio.sleep(0.2)


def _answered_since(beats: Sequence[Heartbeat], since_s: float, wanted: Callable[[Heartbeat], bool]) -> bool:
    return any(beat.intended_s >= since_s and wanted(beat) for beat in beats)


def _not_ready(beat: Heartbeat) -> bool:
    return beat.status == 503


SCENARIO = Scenario(name="database-outage", drive=drive, budget_s=75, quiet=False)
