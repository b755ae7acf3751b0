"""Charges whose answer is lost, late or an error, and clients who ask again with the same key."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from devstack.artifacts import Exchange
from devstack.faults import Fault
from devstack.faults.model import FaultKind
from grader.scenarios.clients import Order, insist, new_order, require_an_answer, send_order, settle_all
from grader.scenarios.stage import Scenario, Stage

REPLAYS = 3
REPLAY_PAUSE_S = 2.0
LATE_S = 8.0
"""Contract: the longest that payments takes while it works. The charge has its effect after half of it."""

HANGING_S = 19.0
"""To the client this call hangs. Its charge has its effect after 9.5 s (contract: within 10 s, or never)."""

PHASE_S = 12.5
"""No client asks again later than this: who waited in vain for its first answer is left to the end."""

FAULT_MET_S = 5.0
"""A charge that nobody began so long after its order was answered is not waited for."""

SETTLE_S = 30.0
"""Contract: money is judged 30 s after the last request or fault."""


async def drive(stage: Stage) -> None:
    """One order on a good day; then the answer is lost after the work, the charge is refused, the answer is late."""
    await stage.start()
    event = stage.world.live.open_events(minimum_seats=300)[0]
    control = new_order(stage, event.id)
    orders, answers = [control], [await send_order(stage, "control", control)]
    require_an_answer(answers, "one order was placed")
    stage.fact("phases-driven", 0)
    # The late answers come last: they outlive their phase, and would meet the faults of the next one.
    for number, (name, faults, count) in enumerate(
        (
            ("answer-lost", [_first_charge("drop-after")], 4),
            ("charge-refused", [_first_charge("status", status=502)], 2),
            ("answer-late", [_first_charge("latency", seconds=LATE_S), _first_two_later()], 4),
        ),
        start=1,
    ):
        placed, received = await _phase(stage, name, faults, event.id, count)
        orders += placed
        answers += received
        stage.fact("phases-driven", number)
        if all(answer.status is None for answer in received):
            break
    await stage.world.faults.clear_faults()
    await settle_all(stage, "settled", orders, answers, within_s=SETTLE_S)
    await stage.ledger()


async def _phase(
    stage: Stage, name: str, faults: Sequence[Fault], event_id: int, count: int
) -> tuple[list[Order], list[Exchange]]:
    before = len((await stage.world.faults.ledger()).calls)
    await stage.world.faults.set_faults(*faults)
    orders = [new_order(stage, event_id, 1 + number % 3) for number in range(count)]
    until_s = stage.now() + PHASE_S
    answers = await asyncio.gather(
        *(
            insist(stage, name, order, again=REPLAYS, pause_s=REPLAY_PAUSE_S, until_s=until_s)
            for order in orders
        )
    )
    await _until_met(stage, faults[0].kind, before, count)
    return orders, list(answers)


async def _until_met(stage: Stage, kind: FaultKind, before: int, count: int) -> None:
    """Keep the fault until each order's charge has met it: a design that answers first may charge later."""
    until_s = stage.now() + FAULT_MET_S
    while stage.now() < until_s:
        calls = (await stage.world.faults.ledger()).calls[before:]
        if sum(call.fault == kind for call in calls) >= count:
            return
        await asyncio.sleep(0.25)


def _first_charge(kind: FaultKind, *, seconds: float = 0, status: int = 503) -> Fault:
    """A fault that meets the first attempt at charging an order, and no later one."""
    return Fault(
        upstream="payments", kind=kind, operation="charge", first=1, per_item=True,
        seconds=seconds, status=status,
    )  # fmt: skip


def _first_two_later() -> Fault:
    return Fault(upstream="payments", kind="latency", operation="charge", first=2, seconds=HANGING_S - LATE_S)


SCENARIO = Scenario(name="lost-answers", drive=drive, budget_s=75, quiet=False)
