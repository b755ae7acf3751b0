"""To come."""

from __future__ import annotations

from grader.scenarios.stage import Scenario, Stage


async def drive(stage: Stage) -> None:
    """To come."""
    await stage.start()


SCENARIO = Scenario(name="failures", drive=drive, budget_s=75, processes=1, quiet=False)
