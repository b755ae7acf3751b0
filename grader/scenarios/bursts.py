"""Crowds before one process: crossing orders of two events, forty on one event, sixty that wait for payments."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from devstack.artifacts import Exchange
from grader.answers import FINAL_STATUSES, PLACED, UNAVAILABLE, order_id_of, order_status_of
from grader.scenarios.clients import Order, require_an_answer, send_order
from grader.scenarios.stage import Scenario, Stage

HOT_SEATS = 500
"""More than all orders here ask for together: nobody is refused because of seats."""

IN_FLIGHT = 30
"""Contract: up to 30 orders in flight, none is shed."""

STANDSTILLS_S = ((0.0, 0.3), (0.3, 0.8), (0.3, 0.8))
"""From when until when the database stands still, per wave: when the orders arrive, and when risk has assessed them. So
all of them ask for a connection at once, and later for the same rows, however slowly they came."""

CROSSING_RISK_S = 0.5
NORMAL_RISK_S = 0.02

ROUND_TRIP_S = 0.004
"""Widens the time between two statements, and so between two locks, to that of a network."""

HOT_ORDERS = 40
HOT_PAYMENT_S = 0.5
HOT_PATIENCE_S = 9.0
"""Above the contract's 6 s + 20 %: what is still open then is late anyway."""

CROWD = 60
CROWD_PAYMENT_S = 3.0
CROWD_ARRIVES_WITHIN_S = 0.5
"""Longer than the work of taking sixty orders in needs, much shorter than their payment: all are in flight together."""

READS_AT_ONCE = 5
READS_ONE_BY_ONE = 5
READ_PAUSE_S = 0.2
READS_AFTER = 10
REFUND_PATIENCE_S = 15.0


async def drive(stage: Stage) -> None:
    """Crossing orders, the hot event, the crowd, and reads when it has gone."""
    await stage.start()
    live = stage.world.live
    hot = [event.id for event in live.open_events(minimum_seats=HOT_SEATS, maximum_seats=HOT_SEATS)]
    pages = [event.id for event in live.open_events(minimum_seats=300) if event.id not in hot]
    warm = await send_order(stage, "warm", _order(stage, [pages[0]]))
    require_an_answer([warm], "warming up")
    await stage.get("warm", f"/events/{pages[0]}")
    await _crossing_orders(stage, hot[0], hot[1])
    await _hot_event(stage, hot[2])
    await _crowd(stage, pages)
    for number in range(READS_AFTER):
        await stage.get("reads-after", f"/events/{pages[number % len(pages)]}", fresh=True, timeout_s=5)
    stage.fact("deadlocks", await _deadlocks(stage))
    await _money_of_the_refused(stage)


def _order(stage: Stage, event_ids: Sequence[int]) -> Order:
    return Order(stage.order_body([(event_id, 1) for event_id in event_ids]), stage.key())


# -- two hot events ----------------------------------------------------------------------------------------


async def _crossing_orders(stage: Stage, one: int, other: int) -> None:
    """Waves of orders for the same two events, half of them naming one first, half the other.

    The last wave is the one in which an order was not placed: it says enough.
    """
    await stage.world.faults.set_latency(risk=CROSSING_RISK_S)
    sent: list[Exchange] = []
    for begin_s, end_s in STANDSTILLS_S:
        wave = [_order(stage, (one, other) if number % 2 else (other, one)) for number in range(IN_FLIGHT)]
        answers = await _through_a_standstill(stage, "crossing", wave, begin_s, end_s)
        require_an_answer(answers, "30 orders for the same two events were in flight")
        sent += answers
        if any(answer.status not in PLACED for answer in answers):
            break
    await stage.world.faults.set_latency(risk=NORMAL_RISK_S)
    undecided = [answer for answer in sent if answer.status in PLACED and not _is_final(answer)]
    await stage.settle("crossing-settled", undecided, within_s=15)


async def _through_a_standstill(
    stage: Stage, name: str, orders: Sequence[Order], begin_s: float, end_s: float
) -> list[Exchange]:
    """Send ``orders`` in one instant; from ``begin_s`` to ``end_s`` after it no byte passes to or from the database."""
    await stage.world.faults.set_proxy(delay_s=ROUND_TRIP_S, frozen=not begin_s)
    asking = asyncio.gather(*(send_order(stage, name, order) for order in orders))
    try:
        await asyncio.sleep(begin_s)
        await stage.world.faults.set_proxy(delay_s=ROUND_TRIP_S, frozen=True)
        await asyncio.sleep(end_s - begin_s)
        await stage.world.faults.set_proxy(delay_s=ROUND_TRIP_S)
        return await asking
    finally:
        asking.cancel()
        await stage.world.faults.set_proxy()


def _is_final(answer: Exchange) -> bool:
    """Whether an answer tells the outcome: 201 says that the order is confirmed."""
    return answer.status == 201 or order_status_of(answer) in FINAL_STATUSES


async def _deadlocks(stage: Stage) -> int:
    """Deadlocks that PostgreSQL has broken in this scenario's database, as far as its statistics know."""
    sql = "SELECT deadlocks FROM pg_stat_database WHERE datname = %s"
    rows = await stage.world.cluster.fetch(sql, stage.world.database.name)
    return int(rows[0][0]) if rows else 0


# -- one hot event -----------------------------------------------------------------------------------------


async def _hot_event(stage: Stage, event_id: int) -> None:
    """Forty orders of one event, thirty in flight: a place is free again when an order is final, not when it is answered."""
    await stage.world.faults.set_latency(payments=HOT_PAYMENT_S)
    stage.record.exchanges["hot-settled"] = []
    room = asyncio.Semaphore(IN_FLIGHT)
    begun_s = stage.now()
    stage.fact("hot-from-s", begun_s)

    async def buy(order: Order) -> None:
        async with room:
            if stage.now() > begun_s + HOT_PATIENCE_S:
                return
            answer = await send_order(stage, "hot", order)
            await _until_final(stage, answer, until_s=begun_s + HOT_PATIENCE_S)

    await asyncio.gather(*(buy(_order(stage, [event_id])) for _ in range(HOT_ORDERS)))
    stage.fact("hot-until-s", stage.now())
    require_an_answer(stage.record.exchanges["hot"], "30 orders for one event were in flight")
    await stage.world.faults.set_latency(payments=0.05)
    await stage.ledger("hot")


async def _until_final(stage: Stage, answer: Exchange, *, until_s: float) -> None:
    """Read an accepted order until it is final; its last reading is recorded as ``hot-settled``."""
    order_id = order_id_of(answer)
    if answer.status not in PLACED or _is_final(answer) or order_id is None:
        return
    while True:
        reading = await stage.get("_hot-readings", f"/orders/{order_id}", timeout_s=5)
        if order_status_of(reading) in FINAL_STATUSES or stage.now() > until_s:
            break
        await asyncio.sleep(0.2)
    stage.record.exchanges.pop("_hot-readings", None)
    stage.record.exchanges["hot-settled"].append(reading.model_copy(update={"label": "hot-settled"}))


# -- the crowd ---------------------------------------------------------------------------------------------


async def _crowd(stage: Stage, pages: Sequence[int]) -> None:
    """Sixty orders wait for payments; heartbeats and event reads beside them."""
    await stage.world.faults.set_latency(payments=CROWD_PAYMENT_S)
    orders = [_order(stage, [pages[number % len(pages)]]) for number in range(CROWD)]
    async with stage.heartbeats("crowd-live"):
        await asyncio.sleep(0.2)
        stage.fact("crowd-from-s", stage.now())
        buying: list[asyncio.Task[Exchange]] = []
        try:
            for order in orders:
                buying.append(asyncio.create_task(send_order(stage, "crowd", order)))
                await asyncio.sleep(CROWD_ARRIVES_WITHIN_S / CROWD)
            await _reads_beside(stage, pages)
            answers = await asyncio.gather(*buying)
        finally:
            for task in buying:
                task.cancel()
        stage.fact("crowd-until-s", stage.now())
    await stage.world.faults.set_latency(payments=0.05)
    require_an_answer(answers, "60 orders waited for payments")


async def _reads_beside(stage: Stage, pages: Sequence[int]) -> None:
    async def read(number: int) -> None:
        await stage.get("crowd-reads", f"/events/{pages[-1 - number % len(pages)]}", fresh=True, timeout_s=8)

    await asyncio.gather(*map(read, range(READS_AT_ONCE)))
    for number in range(READS_ONE_BY_ONE):
        await asyncio.sleep(READ_PAUSE_S)
        await read(READS_AT_ONCE + number)


async def _money_of_the_refused(stage: Stage) -> None:
    """Record the ledger; where an order was refused and its card charged, wait for the money to come back."""
    refused = {
        answer.request_json.get("card_token")
        for answer in stage.record.exchanges["crowd"]
        if answer.status in UNAVAILABLE and isinstance(answer.request_json, dict)
    }
    until_s = stage.now() + REFUND_PATIENCE_S
    while True:
        book = await stage.ledger()
        owing = any(charge.status == "captured" and charge.card_token in refused for charge in book.charges)
        if not owing or stage.now() > until_s:
            return
        await asyncio.sleep(0.5)


SCENARIO = Scenario(name="bursts", drive=drive, budget_s=75, processes=1, quiet=True)
