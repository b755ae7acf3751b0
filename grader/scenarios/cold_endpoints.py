"""The first call of each endpoint after a start, with nothing in any cache: does one of them freeze the process?"""

from __future__ import annotations

import asyncio
from urllib.parse import quote

from grader.answers import order_id_of
from grader.scenarios.stage import Scenario, Stage

UPSTREAM_LATENCY_S = 0.3
CALL_TIMEOUT_S = 8.0


async def drive(stage: Stage) -> None:
    """Call each endpoint once, one after the other, with a heartbeat beside."""
    await stage.start()
    live = stage.world.live
    event = live.open_events(minimum_seats=300)[0]
    await stage.world.faults.set_latency(payments=0.1, risk=UPSTREAM_LATENCY_S, rates=UPSTREAM_LATENCY_S)
    async with stage.heartbeats("live"):
        await asyncio.sleep(0.3)
        for path in (
            "/events?limit=5",
            f"/events?city={quote(event.city)}",
            f"/events/{event.id}",
            f"/events/{event.id}?currency=USD",
            f"/events/{event.id}/sales",
            f"/events/{event.id}/waitlist/1",
            "/metrics",
        ):
            await stage.get("calls", path, timeout_s=CALL_TIMEOUT_S)
        placed = await stage.order("calls", [(event.id, 1)], timeout_s=12)
        await stage.order("calls", [(event.id, 1)], currency="GBP", timeout_s=12)
        if (order_id := order_id_of(placed)) is not None:
            await stage.get("calls", f"/orders/{order_id}", timeout_s=CALL_TIMEOUT_S)
            await stage.get("calls", f"/orders/{order_id}/ticket", timeout_s=CALL_TIMEOUT_S)
        await stage.send(
            "calls", "POST", f"/events/{event.id}/waitlist",
            json_body={"email": live.buyer(1), "quantity": 1}, timeout_s=CALL_TIMEOUT_S,
        )  # fmt: skip
        await stage.get("calls", "/health/ready", timeout_s=CALL_TIMEOUT_S)
        await asyncio.sleep(0.3)


SCENARIO = Scenario(name="cold-endpoints", drive=drive, budget_s=50)
