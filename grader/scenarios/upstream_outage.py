"""Every upstream refuses connections, then hangs: what the service still can do, and what its health says."""

from __future__ import annotations

import asyncio

from devstack.faults import Fault
from devstack.faults.model import UPSTREAMS
from grader.scenarios.clients import new_order, send_order
from grader.scenarios.stage import Scenario, Stage

PHASE_S = 5.0
READ_INTERVAL_S = 0.5
READ_TIMEOUT_S = 5.0
ORDERS = 2
GIVE_UP_S = 1.0
"""How an order ends beside a hanging upstream is judged in the scenario of its own."""

BEAT_TIMEOUT_S = 6.0


async def drive(stage: Stage) -> None:
    """Heartbeats on both health endpoints through five seconds of refusing and five of hanging; reads and orders beside."""
    await stage.start()
    event = stage.world.live.open_events(minimum_seats=300)[0]
    await stage.get("warm", f"/events/{event.id}")
    async with (
        stage.heartbeats("live", interval_s=0.25, timeout_s=BEAT_TIMEOUT_S),
        stage.heartbeats("ready", interval_s=0.5, path="/health/ready", timeout_s=BEAT_TIMEOUT_S),
    ):
        stage.fact("outage-from-s", stage.now())
        for kind in ("refuse", "hang"):
            await stage.world.faults.set_faults(*(Fault(upstream=name, kind=kind) for name in UPSTREAMS))
            await _traffic(stage, kind, event.id)
        stage.fact("outage-until-s", stage.now())
        await stage.world.faults.clear_faults()
    await stage.ledger()


async def _traffic(stage: Stage, name: str, event_id: int) -> None:
    """Reads at a fixed interval beside two orders; what is unanswered a while after the last read is given up."""
    paths = ("/events?limit=5", f"/events/{event_id}", f"/events/{event_id}?currency=NOK")
    async with asyncio.TaskGroup() as group:
        sent = [
            group.create_task(send_order(stage, f"{name}-orders", new_order(stage, event_id)))
            for _ in range(ORDERS)
        ]
        for number in range(int(PHASE_S / READ_INTERVAL_S)):
            path = paths[number % len(paths)]
            read = stage.get(f"{name}-reads", path, fresh=True, timeout_s=READ_TIMEOUT_S)
            sent.append(group.create_task(read))
            await asyncio.sleep(READ_INTERVAL_S)
        _, late = await asyncio.wait(sent, timeout=GIVE_UP_S)
        for task in late:
            task.cancel()


SCENARIO = Scenario(name="upstream-outage", drive=drive, budget_s=45, quiet=False)
