"""The service is killed three times in the middle of orders: before the charge, during it, and all around it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from devstack.artifacts import Upstream
from devstack.seed import LiveEvent
from grader.scenarios.aftermath import Buyers, fill_the_pool, reached
from grader.scenarios.clients import Order, require_an_answer
from grader.scenarios.stage import Scenario, Stage

ORDERS = 4
RISK_S = 3.0
PAYMENT_S = 4.0
"""A charge has its effect after half of it: after the kill, when its caller has gone."""

REACHED_WITHIN_S = 3.0
KILL_AFTER_S = 0.5

STREAM = 14
STREAM_APART_S = 0.15
STREAM_ROUND_TRIP_S = 0.4
"""Each round trip to the database takes so long, so that orders stand between any two statements when it ends."""

STREAM_AT_LEAST_S = 1.0
STREAM_AT_MOST_S = 6.0

NORMAL_S = 0.05


async def drive(stage: Stage) -> None:
    """Three rounds of orders, each ended by SIGKILL of the whole tree; clients ask again after each restart."""
    await stage.start()
    control, assessed, charged, streamed = stage.world.live.open_events(minimum_seats=300)[:4]
    buyers = Buyers(stage, (control, assessed, charged, streamed))
    stage.fact("control-event", control.id)
    bought = await buyers.send_all("control", buyers.new(control, 1))
    require_an_answer(bought, "one order was placed")
    await stage.settle("bought", bought, within_s=5)
    await _killed_while_waiting(buyers, "assessing", assessed, ("risk", "assess", RISK_S))
    await _killed_while_waiting(buyers, "charging", charged, ("payments", "charge", PAYMENT_S))
    await _killed_amid_a_stream(buyers, streamed)
    buyers.new(control, 1)  # is sent together with all that is asked again
    await buyers.see_to_the_end()


async def _killed_while_waiting(
    buyers: Buyers, name: str, event: LiveEvent, upstream: tuple[Upstream, str, float]
) -> None:
    """Kill while all new orders wait for a slow upstream."""
    stage = buyers.stage
    called, operation, seconds = upstream
    open_orders, new_orders = buyers.undecided(), buyers.new(event, ORDERS)
    since_s = stage.now()
    await stage.world.faults.set_latency(**{called: seconds})
    async with asyncio.TaskGroup() as group:
        _send(group, buyers, name, open_orders, new_orders)
        await reached(stage, called, operation, ORDERS, since_s=since_s, within_s=REACHED_WITHIN_S)
        await asyncio.sleep(KILL_AFTER_S)
        await _kill(stage, name)
    await stage.world.faults.set_latency(**{called: NORMAL_S})
    await stage.start()


async def _killed_amid_a_stream(buyers: Buyers, event: LiveEvent) -> None:
    """Kill amid orders of which each is a step behind the one before it, as soon as the first is answered."""
    stage = buyers.stage
    await fill_the_pool(stage, event)
    open_orders, new_orders = buyers.undecided(), buyers.new(event, STREAM)
    await stage.world.faults.set_proxy(delay_s=STREAM_ROUND_TRIP_S)
    async with asyncio.TaskGroup() as group:
        _send(group, buyers, "stream", open_orders, new_orders, apart_s=STREAM_APART_S)
        await asyncio.sleep(STREAM_AT_LEAST_S)
        await _first_answer(buyers, new_orders, within_s=STREAM_AT_MOST_S - STREAM_AT_LEAST_S)
        await _kill(stage, "stream")
    await stage.world.faults.set_proxy()
    await stage.start()


async def _first_answer(buyers: Buyers, orders: Sequence[Order], *, within_s: float) -> None:
    """Wait until one of ``orders`` has been answered: then the others stand at every step before that."""
    keys = {order.key for order in orders}
    until_s = buyers.stage.now() + within_s
    while buyers.stage.now() < until_s:
        if keys & buyers.answered():
            return
        await asyncio.sleep(0.02)


def _send(
    group: asyncio.TaskGroup, buyers: Buyers, name: str, again: Sequence[Order], new: Sequence[Order],
    *, apart_s: float = 0,
) -> None:  # fmt: skip
    group.create_task(buyers.send_all(f"{name}-again", again))
    group.create_task(buyers.send_all(name, new, apart_s=apart_s))


async def _kill(stage: Stage, name: str) -> None:
    stage.fact(f"killed-{name}-s", stage.now())
    stage.service.kill()
    await stage.service.close()


SCENARIO = Scenario(name="crash", drive=drive, budget_s=90, processes=1, quiet=False)
