"""Slow upstreams: what stands still while payments, risk and rates take their time?"""

from __future__ import annotations

import asyncio

from grader.scenarios.stage import PATH_THAT_NEEDS_NOTHING, Scenario, Stage

SLOW_PAYMENT_S = 1.5
PARALLEL_ORDERS = 6
PARKED_PAYMENT_S = 3.0
PARKED_ORDERS = 30
"""Contract: 30 orders in flight are never shed, and 20 sessions are the budget of all of them together."""

READS_BESIDE = 5
SLOW_READ_S = 0.7
COLD_CURRENCIES = ("GBP", "CHF", "SEK", "NOK", "PLN")
"""One per order, none used before: a rate that is cached already would not be asked for."""


async def drive(stage: Stage) -> None:
    """Three phases: parallel orders with a heartbeat, orders parked at payments beside reads, independent reads."""
    await stage.start()
    events = stage.world.live.open_events(minimum_seats=300)
    await stage.get("warm", f"/events/{events[0].id}")
    await stage.order("warm", [(events[0].id, 1)])
    await _independent_reads(stage)
    await _parallel_orders(stage)
    await _parked_orders(stage)
    await stage.ledger()


async def _parallel_orders(stage: Stage) -> None:
    events = stage.world.live.open_events(minimum_seats=300)
    await stage.world.faults.set_latency(payments=SLOW_PAYMENT_S)
    async with stage.heartbeats("probe", path=PATH_THAT_NEEDS_NOTHING):
        await asyncio.sleep(0.3)
        stage.fact("parallel-from-s", stage.now())
        orders = (
            stage.order("parallel-orders", [(events[n].id, 1)], fresh=True) for n in range(PARALLEL_ORDERS)
        )
        await asyncio.gather(*orders)
        stage.fact("parallel-until-s", stage.now())


async def _parked_orders(stage: Stage) -> None:
    events = stage.world.live.open_events(minimum_seats=300)
    await stage.world.faults.set_latency(payments=PARKED_PAYMENT_S)
    async with stage.connection_samples("sessions"):
        parked = [
            asyncio.create_task(
                stage.order("parked-orders", [(events[number % len(events)].id, 1)], fresh=True)
            )
            for number in range(PARKED_ORDERS)
        ]
        try:
            await asyncio.sleep(0.8)
            for number in range(READS_BESIDE):
                await stage.get("reads-beside", f"/events/{events[number].id}", fresh=True)
            await asyncio.gather(*parked)
        finally:
            for task in parked:
                task.cancel()
    await stage.world.faults.set_latency(payments=0.05)


async def _independent_reads(stage: Stage) -> None:
    events = stage.world.live.open_events(minimum_seats=300)
    await stage.world.faults.set_latency(risk=SLOW_READ_S, rates=SLOW_READ_S)
    for number, currency in enumerate(COLD_CURRENCIES):
        answer = await stage.order("currency-orders", [(events[number].id, 1)], currency=currency)
        if answer.error == "timeout":
            break
    await stage.ledger("independent-reads")
    await stage.world.faults.set_latency(risk=0.02, rates=0.02)


SCENARIO = Scenario(name="slow-upstreams", drive=drive, budget_s=60)
