"""Have a service open several database sessions, so that what follows meets a filled pool."""

from __future__ import annotations

import asyncio

from grader.scenarios.stage import Stage

ROUND_TRIP_S = 0.1
READS = 8
READ_TIMEOUT_S = 4.0


async def fill_the_pool(stage: Stage, event_id: int) -> None:
    """Overlapping reads over a slow network: one connection is not enough for them."""
    await stage.world.faults.set_proxy(delay_s=ROUND_TRIP_S)
    reads = (
        stage.get("filling-reads", f"/events/{event_id}", fresh=True, timeout_s=READ_TIMEOUT_S)
        for _ in range(READS)
    )
    await asyncio.gather(*reads)
    await stage.world.faults.set_proxy()
