"""CPU-heavy work: twelve tickets at once, one large sales report; is everybody else slowed?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from pydantic import JsonValue

from devstack.seed import flagship_sales
from grader.answers import order_id_of
from grader.scenarios.stage import Scenario, Stage

TICKETS = 12
BEAT_S = 0.03
READ_EVERY_S = 0.1


async def drive(stage: Stage) -> None:
    """Place orders, fetch their tickets together, then one report; heartbeats and reads beside each."""
    await stage.start()
    live = stage.world.live
    events = live.open_events(minimum_seats=300)
    stage.fact("ticket-secret", stage.world.settings.ticket_secret)
    placed = await asyncio.gather(*(stage.order("orders", [(events[n].id, 1)]) for n in range(TICKETS)))
    readings = await stage.settle("orders-read", placed, within_s=15)
    await stage.get("warm", f"/events/{events[0].id}")
    ids = [order_id for answer in placed if (order_id := order_id_of(answer)) is not None]
    stage.record.exchanges["tickets"] = []
    if readings and ids:
        async with _watched(stage, "tickets"):
            await asyncio.gather(
                *(stage.get("tickets", f"/orders/{found}/ticket", fresh=True) for found in ids)
            )
    await asyncio.sleep(0.5)
    sales = await flagship_sales(stage.world.cluster)
    stage.fact(
        "sales-expected",
        [_row(row.day.isoformat(), row.tickets, str(row.gross), row.orders) for row in sales],
    )
    async with _watched(stage, "report"):
        await stage.get("report", f"/events/{live.flagship_id}/sales", fresh=True)


def _row(day: str, tickets: int, gross: str, orders: int) -> JsonValue:
    return {"day": day, "tickets": tickets, "gross": gross, "orders": orders}


@contextlib.asynccontextmanager
async def _watched(stage: Stage, name: str) -> AsyncIterator[None]:
    """Heartbeats and event reads beside the block, recorded as ``<name>-live`` and ``<name>-reads``."""
    event = stage.world.live.open_events(minimum_seats=300)[0]
    reading: set[asyncio.Task[object]] = set()

    async def readers() -> None:
        while True:
            task = asyncio.create_task(stage.get(f"{name}-reads", f"/events/{event.id}", fresh=True))
            reading.add(task)
            task.add_done_callback(reading.discard)
            await asyncio.sleep(READ_EVERY_S)

    stage.record.exchanges.setdefault(f"{name}-reads", [])
    async with stage.heartbeats(f"{name}-live", interval_s=BEAT_S):
        await asyncio.sleep(0.2)
        stage.fact(f"{name}-from-s", stage.now())
        running = asyncio.create_task(readers())
        try:
            yield
        finally:
            stage.fact(f"{name}-until-s", stage.now())
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            if reading:
                await asyncio.wait(reading, timeout=15)


SCENARIO = Scenario(name="tickets-and-reports", drive=drive, budget_s=60)
