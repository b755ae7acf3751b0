"""The database answers slowly: does everything else go on?"""

from __future__ import annotations

import asyncio

from grader.scenarios.stage import PATH_THAT_NEEDS_NOTHING, Scenario, Stage

ROUND_TRIP_S = 0.4
"""Five round trips still fit the contract's 3 s for a read; a loop that waits for one misses 300 ms at once."""

PARALLEL_READS = 8
ROUNDS = 3
"""Enough heartbeats for a percentile; a service that fails needs no more than the first."""

HOPELESS_ROUND_S = 8.0
WARM_UP_READS = 8


async def drive(stage: Stage) -> None:
    """Eight parallel reads behind slow round trips, three times, with a heartbeat beside them."""
    await stage.start()
    events = stage.world.live.open_events(minimum_seats=300)
    warm = [stage.get("warm", f"/events/{events[number].id}", fresh=True) for number in range(WARM_UP_READS)]
    await asyncio.gather(*warm)
    await stage.get("warm", "/events?limit=5")
    await stage.world.faults.set_proxy(delay_s=ROUND_TRIP_S)
    stage.fact("round-trip-s", ROUND_TRIP_S)
    async with stage.heartbeats("probe", path=PATH_THAT_NEEDS_NOTHING):
        await asyncio.sleep(0.3)
        stage.fact("from-s", stage.now())
        paths = [
            f"/events/{events[number].id}" if number % 2 else "/events?limit=5"
            for number in range(PARALLEL_READS)
        ]
        for _ in range(ROUNDS):
            begun = stage.now()
            await asyncio.gather(*(stage.get("reads", path, fresh=True, timeout_s=20) for path in paths))
            if stage.now() - begun > HOPELESS_ROUND_S:
                break
        stage.fact("until-s", stage.now())


SCENARIO = Scenario(name="slow-database", drive=drive, budget_s=40)
