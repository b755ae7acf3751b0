"""SIGTERM while five orders wait for payments, beside a filled pool; then a new start in the same world."""

from __future__ import annotations

import asyncio

from devstack.artifacts import ConnectionSample
from grader.answers import order_id_of, order_status_of
from grader.scenarios.clients import new_order, send_order, settle_all
from grader.scenarios.pool import fill_the_pool
from grader.scenarios.stage import Scenario, Stage

ORDERS = 5
PAYMENT_S = 2.0
MAILER_S = 2.0
"""Slow enough that mails still wait when the last order has been answered: what is only in memory is lost then."""

SIGNAL_AFTER_S = 0.7
SIGNAL_AT_LAST_S = 1.6
GONE_TIMEOUT_S = 26.0
SESSIONS_TIMEOUT_S = 5.0
SETTLE_S = 20.0
MAIL_TIMEOUT_S = 20.0


async def drive(stage: Stage) -> None:
    """Stop the service in the middle of five orders, beside an idle keep-alive connection."""
    await stage.start()
    event = stage.world.live.open_events(minimum_seats=300)[0]
    await send_order(stage, "warm", new_order(stage, event.id))
    await fill_the_pool(stage, event.id)
    await stage.world.faults.set_latency(payments=PAYMENT_S, mailer=MAILER_S)
    await stage.get("idle-connection", f"/events/{event.id}")
    orders = [new_order(stage, event.id) for _ in range(ORDERS)]
    async with asyncio.TaskGroup() as group:
        in_flight = [group.create_task(send_order(stage, "in-flight", order)) for order in orders]
        await _in_flight(stage)
        stage.fact("sessions-at-signal", (await stage.world.cluster.sessions(stage.world.database)).total)
        stage.fact("abandoned-before", await _abandoned(stage))
        signal_s = stage.now()
        stage.fact("signal-s", signal_s)
        stage.service.terminate()
        gone = await stage.service.wait_gone(GONE_TIMEOUT_S)
        stage.fact("gone", gone)
        stage.fact("gone-after-s", stage.now() - signal_s)
    answers = [task.result() for task in in_flight]
    if not gone:
        await stage.service.close()
    await _sessions_end(stage)
    stage.fact("abandoned-after", await _abandoned(stage))
    await stage.world.faults.set_latency(payments=0.05, mailer=0.05)
    await stage.start()
    await settle_all(stage, "settled", orders, answers, within_s=SETTLE_S)
    await _mails(stage)
    await stage.ledger()


async def _in_flight(stage: Stage) -> None:
    """Wait until all orders have come as far as payments; a busy machine may need longer than usual."""
    since_s = stage.now()
    await asyncio.sleep(SIGNAL_AFTER_S)
    while stage.now() - since_s < SIGNAL_AT_LAST_S:
        charges = (await stage.world.faults.ledger()).calls_to("payments", "charge")
        if sum(call.started_s >= since_s for call in charges) >= ORDERS:
            break
        await asyncio.sleep(0.1)


async def _sessions_end(stage: Stage) -> None:
    """Sample the database sessions until the last has ended."""
    samples: list[ConnectionSample] = stage.record.connections.setdefault("after-exit", [])
    begun_s = stage.now()
    while True:
        sample = await stage.world.cluster.sessions(stage.world.database)
        samples.append(sample.model_copy(update={"at_s": stage.now()}))
        if sample.total == 0 or stage.now() - begun_s > SESSIONS_TIMEOUT_S:
            break
        await asyncio.sleep(0.1)
    stage.fact("sessions-left", samples[-1].total)
    stage.fact("sessions-gone-after-s", stage.now() - begun_s)


async def _abandoned(stage: Stage) -> int:
    """Sessions of this database whose client went away without a word, as PostgreSQL counts them."""
    rows = await stage.world.cluster.fetch(
        "SELECT sessions_abandoned FROM pg_stat_database WHERE datname = %s", stage.world.database.name
    )
    return int(rows[0][0])


async def _mails(stage: Stage) -> None:
    """Wait until every confirmed order has its mail."""
    confirmed = {
        order_id
        for reading in stage.record.exchanges["settled"]
        if order_status_of(reading) == "confirmed" and (order_id := order_id_of(reading))
    }
    until_s = stage.now() + MAIL_TIMEOUT_S
    while stage.now() < until_s:
        mailed = {message.order_id for message in (await stage.world.faults.ledger()).messages}
        if confirmed <= mailed:
            break
        await asyncio.sleep(0.5)


SCENARIO = Scenario(name="shutdown", drive=drive, budget_s=60, quiet=False)
