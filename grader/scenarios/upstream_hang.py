"""Upstreams that take a request and never finish an answer: one after the other, under five orders each."""

from __future__ import annotations

import asyncio

from devstack.artifacts import Exchange, Upstream
from devstack.faults import Fault
from grader.scenarios.clients import Order, new_order, send_order, settle_all
from grader.scenarios.stage import Scenario, Stage

ORDERS = 5
HANGING_CALLS = 3
"""All calls after them are answered with a byte per second: a limit for each read never ends that, a deadline does."""

SETTLE_S = 18.0
"""Contract: an open outcome settles ≤ 15 s after payments answers again, + 20 %."""

COLD_CURRENCY = "CHF"
"""Not used before the rates hang, so that its rate can only come from there."""

MINIMUM_HANG_S = 5.0
"""Also for a design that answers before it has called the upstream."""

BEAT_S = 0.25
BEAT_TIMEOUT_S = 3.0


async def drive(stage: Stage) -> None:
    """Payments, risk, rates: each hangs until its five orders are answered or given up."""
    await stage.start()
    events = stage.world.live.open_events(minimum_seats=300)
    await send_order(stage, "warm", new_order(stage, events[0].id))
    settling: list[asyncio.Task[None]] = []

    def settle(name: str, hung: tuple[list[Order], list[Exchange]]) -> list[Exchange]:
        """Bring the orders of a phase to their end beside the next phase; their first answers."""
        settling.append(asyncio.create_task(settle_all(stage, name, *hung, within_s=SETTLE_S)))
        return hung[1]

    async with stage.heartbeats("live", interval_s=BEAT_S, timeout_s=BEAT_TIMEOUT_S):
        await asyncio.sleep(2 * BEAT_S)
        stage.fact("hang-from-s", stage.now())
        try:
            hung = await _hang(stage, "payments", events[1].id)
            stage.fact("payments-back-s", stage.now())
            answers = settle("settled", hung)
            if any(answer.status is not None for answer in answers):
                answers = settle("settled-risk", await _hang(stage, "risk", events[2].id))
            if any(answer.status is not None for answer in answers):
                settle("settled-rates", await _hang(stage, "rates", events[3].id, currency=COLD_CURRENCY))
            await asyncio.sleep(2 * BEAT_S)
            stage.fact("hang-until-s", stage.now())
        except BaseException:
            for task in settling:
                task.cancel()
            raise
    await asyncio.gather(*settling)
    await stage.ledger()


async def _hang(
    stage: Stage, upstream: Upstream, event_id: int, *, currency: str | None = None
) -> tuple[list[Order], list[Exchange]]:
    await stage.world.faults.set_faults(
        Fault(upstream=upstream, kind="hang", first=HANGING_CALLS), Fault(upstream=upstream, kind="drip")
    )
    orders = [new_order(stage, event_id, currency=currency) for _ in range(ORDERS)]
    hang_until_s = stage.now() + MINIMUM_HANG_S
    answers = await asyncio.gather(*(send_order(stage, f"{upstream}-hang", order) for order in orders))
    await asyncio.sleep(max(0.0, hang_until_s - stage.now()))
    await stage.world.faults.clear_faults()
    return orders, list(answers)


SCENARIO = Scenario(name="upstream-hang", drive=drive, budget_s=70, quiet=False)
