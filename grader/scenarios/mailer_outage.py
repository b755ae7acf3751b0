"""The mailer is slow, hangs, answers errors; in the middle of its errors the service is stopped and started again."""

from __future__ import annotations

import asyncio

from devstack.artifacts import Exchange
from devstack.faults import Fault
from grader.answers import order_id_of, order_status_of
from grader.scenarios.clients import new_order, require_an_answer, send_order
from grader.scenarios.stage import Scenario, Stage

SLOW_S = 4.0
SLOW_ORDERS = 6
WAVES = 9
WAVE_ORDERS = 5
"""Together more than the 40 threads that the framework has for everything synchronous."""

TOO_SLOW_S = 3.0
"""Above the 2 s + 20 % of the contract: a service that is so late beside few orders needs no crowd to show it."""

HELD_UP_ORDERS = 2
CROWD_READS = 5
READ_TIMEOUT_S = 5.0
BEAT_TIMEOUT_S = 6.0
ERROR_ORDERS = 4
ERRORS_S = 4.0
"""Before the stop: long enough that a sender which does not pause shows it."""

ERRORS_AFTER_START_S = 2.0
GONE_TIMEOUT_S = 24.0
SETTLE_S = 10.0
NORMAL_MAIL_S = 18.0
"""Contract: ≤ 15 s normally, + 20 %."""

MAIL_AFTER_OUTAGE_S = 72.0
"""Contract: ≤ 60 s after an outage, + 20 %."""

POLL_S = 0.5


async def drive(stage: Stage) -> None:
    """Orders beside each fault, with heartbeats; then wait until every confirmed order has its mail."""
    await stage.start()
    event = stage.world.live.open_events(minimum_seats=300)[0]
    warm = await _place(stage, "warm", event.id, 1)
    require_an_answer(warm, "one order was placed")
    mails_normally = await _mailed(stage, _confirmed(warm), within_s=NORMAL_MAIL_S)
    stage.fact("mails-normally", mails_normally)
    async with stage.heartbeats("live", interval_s=0.1, timeout_s=BEAT_TIMEOUT_S):
        placed = await _beside_slow_mails(stage, event.id)
        placed += await _beside_hanging_mails(stage, event.id, crowd=_in_time(placed))
    mark = stage.service.log_mark()
    placed += await _beside_errors(stage, event.id)
    stage.text("log-of-outage", stage.service.log_text(mark))
    readings = await stage.settle("settled", placed, within_s=SETTLE_S)
    await _stop_and_start(stage)
    await asyncio.sleep(ERRORS_AFTER_START_S)
    await stage.world.faults.clear_faults()
    stage.fact("outage-until-s", stage.now())
    if mails_normally:
        await _mailed(stage, _confirmed(readings), within_s=MAIL_AFTER_OUTAGE_S)
    await stage.ledger()


async def _beside_slow_mails(stage: Stage, event_id: int) -> list[Exchange]:
    """A few orders, and the time in which their mails are on their way."""
    stage.fact("slow-from-s", stage.now())
    await stage.world.faults.set_faults(Fault(upstream="mailer", kind="latency", seconds=SLOW_S))
    answers = await _place(stage, "slow", event_id, SLOW_ORDERS)
    await asyncio.sleep(SLOW_S)
    stage.fact("slow-until-s", stage.now())
    return answers


async def _beside_hanging_mails(stage: Stage, event_id: int, *, crowd: bool) -> list[Exchange]:
    """Waves of orders, then reads. What is held up by a few orders need not meet the crowd."""
    stage.fact("hang-from-s", stage.now())
    await stage.world.faults.set_faults(Fault(upstream="mailer", kind="hang"))
    waves, size = (WAVES, WAVE_ORDERS) if crowd else (1, HELD_UP_ORDERS)
    answers: list[Exchange] = []
    for _ in range(waves):
        wave = await _place(stage, "hang", event_id, size)
        answers += wave
        if not _in_time(wave):
            break
    read = (
        stage.get("hang-reads", f"/events/{event_id}", fresh=True, timeout_s=READ_TIMEOUT_S)
        for _ in range(CROWD_READS)
    )
    await asyncio.gather(*read)
    stage.fact("hang-until-s", stage.now())
    return answers


async def _beside_errors(stage: Stage, event_id: int) -> list[Exchange]:
    """A few orders, and time for the first attempts at their mails; metrics before and after."""
    await stage.get("metrics", "/metrics")
    stage.fact("errors-from-s", stage.now())
    await stage.world.faults.set_faults(Fault(upstream="mailer", kind="status", status=500))
    answers = await _place(stage, "error", event_id, ERROR_ORDERS)
    await asyncio.sleep(ERRORS_S)
    await stage.get("metrics", "/metrics")
    return answers


async def _stop_and_start(stage: Stage) -> None:
    stage.service.terminate()
    gone = await stage.service.wait_gone(GONE_TIMEOUT_S)
    stage.fact("gone", gone)
    if not gone:
        await stage.service.close()
    await stage.start()


async def _place(stage: Stage, name: str, event_id: int, count: int) -> list[Exchange]:
    """``count`` orders at the same time."""
    return list(
        await asyncio.gather(*(send_order(stage, name, new_order(stage, event_id)) for _ in range(count)))
    )


async def _mailed(stage: Stage, order_ids: set[str], *, within_s: float) -> bool:
    """Wait until each of the orders has its mail. Returns whether it came to that."""
    until_s = stage.now() + within_s
    while not order_ids <= {message.order_id for message in (await stage.world.faults.ledger()).messages}:
        if stage.now() > until_s:
            return False
        await asyncio.sleep(POLL_S)
    return True


def _confirmed(exchanges: list[Exchange]) -> set[str]:
    return {
        order_id
        for exchange in exchanges
        if order_status_of(exchange) == "confirmed" and (order_id := order_id_of(exchange))
    }


def _in_time(answers: list[Exchange]) -> bool:
    return all(answer.status is not None and answer.elapsed_s <= TOO_SLOW_S for answer in answers)


SCENARIO = Scenario(name="mailer-outage", drive=drive, budget_s=200, processes=1, quiet=False)
