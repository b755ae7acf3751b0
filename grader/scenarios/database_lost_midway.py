"""The database stands still, and later goes away, in the middle of orders."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from devstack.artifacts import Exchange
from devstack.seed import LiveEvent
from grader.answers import order_id_of
from grader.scenarios.aftermath import Buyers, fill_the_pool, reached
from grader.scenarios.clients import PATIENCE_S, require_an_answer
from grader.scenarios.stage import Scenario, Stage

PAYMENT_S = 3.0
NORMAL_S = 0.05
WAITING = 4
"""Orders that are at payments when the database stands still, or goes away."""

REACHED_WITHIN_S = 3.0

READS = 6
LISTS = 2
ORDER_READS = 4
ORDERS = 6
TICKETS = 3
REPORTS = 3
"""With those at payments 28 requests at a time: below the 30 that nobody may shed."""

APART_S = 0.2
SECOND_WAVE_AFTER_S = 4.5
"""Reads of the first wave are over then (3 s + 20 %), and with them the connections on which they waited."""

READ_PATIENCE_S = 8.0
REPORT_PATIENCE_S = PATIENCE_S

RECOVERY_S = 18.0
STREAK = 5

STREAM = 8
STREAM_APART_S = 0.12
STREAM_ROUND_TRIP_S = 0.3
OUTAGE_S = 8.0


async def drive(stage: Stage) -> None:
    """Deadlines while the database stands still; recovery; its loss amid orders; then what became of all of them."""
    await stage.start()
    events = stage.world.live.open_events(minimum_seats=300)[:10]
    buyers = Buyers(stage, events[:4])
    control, waiting, tried, lost = buyers.events
    stage.fact("control-event", control.id)
    bought = await buyers.send_all("control", buyers.new(control, max(TICKETS, ORDER_READS)))
    require_an_answer(bought, "orders were placed")
    await stage.settle("bought", bought, within_s=5)
    await _standstill(buyers, waiting, tried, events[4:], bought)
    await _recovered(stage, control)
    await _lost(buyers, lost)
    await buyers.see_to_the_end()


async def _standstill(
    buyers: Buyers, waiting: LiveEvent, tried: LiveEvent, pages: Sequence[LiveEvent], bought: Sequence[Exchange]
) -> None:  # fmt: skip
    """Freeze the network to the database: first its idle connections are met, then new ones have to be made.

    Lasts until everything has been answered or given up.
    """
    stage = buyers.stage
    # An id made up where none was told: the database has to be asked about these, too.
    ids = [order_id_of(answer) or stage.key() for answer in bought]
    await fill_the_pool(stage, waiting)
    stage.fact("sessions-before", (await stage.world.cluster.sessions(stage.world.database)).total)
    await stage.world.faults.set_latency(payments=PAYMENT_S)
    async with asyncio.TaskGroup() as group:
        since_s = stage.now()
        group.create_task(buyers.send_all("waiting", buyers.new(waiting, WAITING)))
        await reached(stage, "payments", "charge", WAITING, since_s=since_s, within_s=REACHED_WITHIN_S)
        stage.fact("frozen-from-s", stage.now())
        await stage.world.faults.set_proxy(frozen=True)
        # Reads come last, and once more later: what is asked for less often shall meet idle connections, too.
        group.create_task(_reports(stage, "frozen-reports", pages, ids))
        await asyncio.sleep(APART_S)
        group.create_task(buyers.send_all("frozen", buyers.new(tried, ORDERS)))
        await asyncio.sleep(APART_S)
        group.create_task(_reads(stage, "frozen-reads", pages, ids))
        await asyncio.sleep(SECOND_WAVE_AFTER_S)
        group.create_task(_reads(stage, "frozen-reads-anew", pages, ids))
    await stage.world.faults.set_proxy()
    await stage.world.faults.set_latency(payments=NORMAL_S)
    stage.fact("frozen-until-s", stage.now())


async def _reads(stage: Stage, name: str, pages: Sequence[LiveEvent], ids: Sequence[str]) -> None:
    paths = [f"/events/{event.id}" for event in pages[:READS]]
    paths += [f"/events?limit={5 + number}" for number in range(LISTS)]
    paths += [f"/orders/{order_id}" for order_id in ids[:ORDER_READS]]
    await asyncio.gather(*(stage.get(name, path, fresh=True, timeout_s=READ_PATIENCE_S) for path in paths))


async def _reports(stage: Stage, name: str, pages: Sequence[LiveEvent], ids: Sequence[str]) -> None:
    paths = [f"/orders/{order_id}/ticket" for order_id in ids[:TICKETS]]
    paths += [f"/events/{event.id}/sales" for event in pages[:REPORTS]]
    await asyncio.gather(*(stage.get(name, path, fresh=True, timeout_s=REPORT_PATIENCE_S) for path in paths))


async def _recovered(stage: Stage, event: LiveEvent) -> None:
    """Read until several reads in a row succeed."""
    until_s = stage.now() + RECOVERY_S
    in_a_row = 0
    while in_a_row < STREAK and stage.now() < until_s:
        read = await stage.get("recovery-reads", f"/events/{event.id}", fresh=True, timeout_s=4)
        in_a_row = in_a_row + 1 if read.status == 200 else 0
        await asyncio.sleep(0.05 if read.ok else 0.5)
    stage.fact("recovered", in_a_row >= STREAK)


async def _lost(buyers: Buyers, event: LiveEvent) -> None:
    """Cut and refuse all connections: some orders are at payments, others between any two statements."""
    stage = buyers.stage
    await stage.world.faults.set_latency(payments=PAYMENT_S)
    async with asyncio.TaskGroup() as group:
        since_s = stage.now()
        group.create_task(buyers.send_all("charging", buyers.new(event, WAITING)))
        await reached(stage, "payments", "charge", WAITING, since_s=since_s, within_s=REACHED_WITHIN_S)
        await stage.world.faults.set_latency(payments=NORMAL_S)
        await stage.world.faults.set_proxy(delay_s=STREAM_ROUND_TRIP_S)
        group.create_task(buyers.send_all("stream", buyers.new(event, STREAM), apart_s=STREAM_APART_S))
        await asyncio.sleep(STREAM * STREAM_APART_S)
        stage.fact("lost-from-s", stage.now())
        await stage.world.faults.set_proxy(refuse=True)
        await stage.world.faults.cut()
        await asyncio.sleep(OUTAGE_S)
        await stage.world.faults.set_proxy()
        stage.fact("lost-until-s", stage.now())


SCENARIO = Scenario(name="database-lost-midway", drive=drive, budget_s=100, processes=1, quiet=False)
