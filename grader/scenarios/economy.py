"""What a request costs in sessions, statements and connections, one request at a time."""

from __future__ import annotations

import asyncio

from pydantic import JsonValue

from devstack.artifacts import Exchange
from devstack.errors import StoppedAnswering
from grader.scenarios.stage import Scenario, Stage

READS = 200
ORDERS = 40
REPEATS = 3
"""Few, so that what only the first of them costs still counts."""

SMALL_PAGE, LARGE_PAGE = 5, 50
CACHES_EXPIRE_S = 5.5
"""Contract: a list's availability is at most 5 s old. What the reads before left in a cache is over then."""

ORDER_SIZES, ORDER_REPEATS = (1, 4), 5
FOLLOWS_WITHIN_S, BETWEEN_ORDERS_S = 0.6, 0.15
"""An order's mail and the note that it is sent; where mails are sent by a slow poll, they come on top of another."""

MAILS_WITHIN_S = 8.0
WARM_UP_READS = 20
"""Enough for lazy pools and for each driver's first introspection queries."""


async def drive(stage: Stage) -> None:
    """Orders of two sizes, sequential reads, pages of two sizes, sequential orders; counters before and after each."""
    await stage.start()
    # First, so that a service whose lists are slow gets this far.
    await _order_lines(stage)
    events = stage.world.live.open_events(minimum_seats=300)
    for number in range(WARM_UP_READS):
        _must_answer(await stage.get("_warm", f"/events/{events[number % len(events)].id}"))
        await stage.get("_warm", f"/events?limit={LARGE_PAGE if number % 2 else SMALL_PAGE}")
    await stage.counters("before-reads")
    for number in range(READS // 2):
        _must_answer(await stage.get("reads", f"/events?limit={SMALL_PAGE}"))
        await stage.get("reads", f"/events/{events[number % len(events)].id}")
    await stage.counters("after-reads")
    await asyncio.sleep(CACHES_EXPIRE_S)
    for size in (SMALL_PAGE, LARGE_PAGE):
        await stage.counters(f"before-page-{size}")
        for _ in range(REPEATS):
            await stage.get(f"page-{size}", f"/events?limit={size}")
        await stage.counters(f"after-page-{size}")
    await _orders(stage)
    for name in ("reads", "_warm"):
        _forget_payloads(stage, name)


async def _orders(stage: Stage) -> None:
    events = stage.world.live.open_events(minimum_seats=300)
    for number in range(3):
        await stage.order("_warm", [(events[number].id, 1)], currency="USD")
    await stage.ledger("before-orders")
    for number in range(ORDERS):
        event = events[number % len(events)]
        answer = await stage.order("orders", [(event.id, 1)], currency="USD" if number % 2 else None)
        _must_answer(answer)
    await _mails(stage, len(stage.record.exchanges["orders"]))
    await stage.ledger("after-orders")


async def _order_lines(stage: Stage) -> None:
    """Orders of one line and of several in turn, each with the counters around it and what follows from it."""
    events = stage.world.live.open_events(minimum_seats=300)
    costs: dict[int, list[JsonValue]] = {size: [] for size in ORDER_SIZES}
    mails = len((await stage.world.faults.ledger()).messages)
    for number in range(1 + ORDER_REPEATS):
        for size in ORDER_SIZES:
            before = await stage.world.faults.counters()
            answer = await stage.order(
                f"lines-{size}", [(event.id, 1) for event in events[number : number + size]]
            )
            _must_answer(answer)
            mails += 1
            await _mails(stage, mails, within_s=FOLLOWS_WITHIN_S, every_s=0.05)
            await asyncio.sleep(BETWEEN_ORDERS_S)
            after = await stage.world.faults.counters()
            if number > 0:  # the first of each size may prepare statements
                costs[size].append(
                    [after.statements - before.statements, after.round_trips - before.round_trips]
                )
    stage.fact("order-costs", {str(size): found for size, found in costs.items()})


async def _mails(stage: Stage, count: int, *, within_s: float = MAILS_WITHIN_S, every_s: float = 0.5) -> None:
    """Give the mails of the orders time to leave, so that what they cost is counted too."""
    until_s = stage.now() + within_s
    while stage.now() < until_s:
        if len((await stage.world.faults.ledger()).messages) >= count:
            return
        await asyncio.sleep(every_s)


def _must_answer(answer: Exchange) -> None:
    """One request at a time on a quiet day: a service that leaves one unanswered is not driven on."""
    if answer.error == "timeout":
        raise StoppedAnswering(answer.describe())


def _forget_payloads(stage: Stage, name: str) -> None:
    """Keep hundreds of like answers small in the record: their statuses and latencies are what counts."""
    found = stage.record.exchanges.get(name, [])
    stage.record.exchanges[name] = [
        answer.model_copy(update={"payload": None, "headers": {}}) for answer in found
    ]


SCENARIO = Scenario(name="economy", drive=drive, budget_s=70)
