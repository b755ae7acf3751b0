"""Two serving processes in a burst: do they keep to one budget of connections, and tell one story in the metrics?"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

import httpx

from devstack.artifacts import Exchange
from grader.scenarios.clients import new_order, require_an_answer, send_order
from grader.scenarios.processes import ServingProcesses, watch_processes
from grader.scenarios.stage import Scenario, Stage

IN_FLIGHT = 30
WAVES = 4
WAVE_ORDERS, WAVE_PAGES, WAVE_LISTS = 10, 14, 6
FREEZE_S = 0.4
"""While the database stands still, all thirty requests come to need a connection: pools grow as far as they ever will."""

ROLLING_REQUESTS = 80
HOPELESS_WAVE_S = 12.0
"""A wave that took longer leaves nothing open about deadlines."""

COUNTED_REQUESTS = 60
COUNTED_AT_ONCE = 6
"""Fresh connections, a few at a time: all processes get some of them."""

COUNTED_PAUSE_S = 0.02
HELD_CONNECTIONS = 12
"""They stay open meanwhile: who holds them is seen, however short the requests are."""

SECOND_PROCESS_PATIENCE_S = 7.0
"""The service is ready when its first process is: another may still be starting."""

PAUSE_BEFORE_SCRAPES_S = 1.0
"""Figures that processes hand to one another may be that old."""

SCRAPES = 12


async def drive(stage: Stage) -> None:
    """Reads until all processes serve, a burst of reads and orders, then the metrics page, again and again."""
    await stage.start()
    events = [event.id for event in stage.world.live.open_events(minimum_seats=300)]
    require_an_answer([await send_order(stage, "warm", new_order(stage, events[0]))], "warming up")
    async with watch_processes(stage.service) as seen:
        await _until_all_serve(stage, seen, events)
        await _burst(stage, events)
    stage.fact("serving-processes", seen.count())
    await asyncio.sleep(PAUSE_BEFORE_SCRAPES_S)
    for _ in range(SCRAPES):
        page = await stage.get("scrapes", "/metrics", fresh=True, timeout_s=5)
        if page.error == "timeout":
            break


async def _until_all_serve(stage: Stage, seen: ServingProcesses, events: Sequence[int]) -> None:
    """Read events until each process was seen with a connection; where one process accepts for all, a while."""
    until_s = stage.now() + SECOND_PROCESS_PATIENCE_S
    held: list[asyncio.StreamWriter] = []
    sent = 0
    try:
        while sent < COUNTED_REQUESTS or len(seen.connected) < stage.scenario.processes:
            if len(held) < HELD_CONNECTIONS:
                held += await _connect(stage)
            pages = [f"/events/{events[(sent + number) % len(events)]}" for number in range(COUNTED_AT_ONCE)]
            await asyncio.gather(
                *(stage.get("counted-reads", page, fresh=True, timeout_s=5) for page in pages)
            )
            sent += len(pages)
            if stage.now() > until_s:
                return
            await asyncio.sleep(COUNTED_PAUSE_S)
    finally:
        for writer in held:
            writer.close()


async def _connect(stage: Stage) -> list[asyncio.StreamWriter]:
    """A connection on which nothing is asked for, if there is one to be had."""
    address = httpx.URL(stage.service.base_url)
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1):
            _, writer = await asyncio.open_connection(address.host, address.port)
            return [writer]
    return []


async def _burst(stage: Stage, events: Sequence[int]) -> None:
    async with stage.connection_samples("sessions"):
        for number in range(WAVES):
            begun_s = stage.now()
            await _wave(stage, events[number * WAVE_ORDERS :])
            if stage.now() - begun_s > HOPELESS_WAVE_S:
                break
        else:
            await _rolling(stage, events)
    await stage.counters("after-burst")
    sent = [*stage.record.exchanges["burst-reads"], *stage.record.exchanges["burst-orders"]]
    require_an_answer(sent, "30 requests were in flight")


async def _wave(stage: Stage, events: Sequence[int]) -> None:
    """Thirty requests while the database stands still for a moment."""
    await stage.world.faults.set_proxy(frozen=True)
    asking = asyncio.gather(
        *(_buy(stage, events[number]) for number in range(WAVE_ORDERS)),
        *(_read(stage, f"/events/{events[number]}") for number in range(WAVE_PAGES)),
        *(_read(stage, f"/events?limit={5 + number}") for number in range(WAVE_LISTS)),
    )
    try:
        await asyncio.sleep(FREEZE_S)
        await stage.world.faults.set_proxy()
        await asking
    finally:
        asking.cancel()
        await stage.world.faults.set_proxy()


async def _rolling(stage: Stage, events: Sequence[int]) -> None:
    """As many requests in flight as before, now without a pause, every third an order."""
    room = asyncio.Semaphore(IN_FLIGHT)

    async def one(number: int) -> None:
        event_id = events[number % len(events)]
        async with room:
            await (_read(stage, f"/events/{event_id}") if number % 3 else _buy(stage, event_id))

    await asyncio.gather(*map(one, range(ROLLING_REQUESTS)))


async def _buy(stage: Stage, event_id: int) -> Exchange:
    return await send_order(stage, "burst-orders", new_order(stage, event_id))


async def _read(stage: Stage, path: str) -> Exchange:
    return await stage.get("burst-reads", path, fresh=True, timeout_s=10)


SCENARIO = Scenario(name="two-processes-traffic", drive=drive, budget_s=75, processes=2, quiet=True)
