"""In which order units are driven, how many side by side, and how long that will take."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from grader.scenarios.stage import Scenario
from grader.validate.digests import LOAD
from grader.validate.rows import Row
from grader.validate.units import Unit

SIDE_BY_SIDE = 6
"""Waiting scenarios driven at the same time, whoever's; each uses a few per cent of a core."""

GUESSED_SHARE = 0.4
"""Of a scenario's budget: what it takes when nobody has seen it yet."""


@dataclass(frozen=True)
class Phase:
    """Units that are driven ``width`` at a time, beside nothing else."""

    title: str
    units: tuple[Unit, ...]
    width: int


@dataclass
class Durations:
    """How long units of a scenario take: the median of what was seen, else a guess from its budget."""

    budgets: Mapping[str, float]
    seen: dict[str, list[float]] = field(default_factory=dict)

    def learn(self, rows: Iterable[Row]) -> None:
        """Take in what rows say."""
        for row in rows:
            self.seen.setdefault(row.scenario, []).append(row.duration_s)

    def of(self, scenario: str) -> float:
        """Seconds that a unit of ``scenario`` will take."""
        found = self.seen.get(scenario)
        return median(found) if found else GUESSED_SHARE * self.budgets[scenario]

    def remaining_s(self, phases: Iterable[Phase]) -> float:
        """Seconds until all phases are through."""
        return sum(self._of_phase(phase) for phase in phases)

    def _of_phase(self, phase: Phase) -> float:
        each = [self.of(unit.scenario) for unit in phase.units]
        return max(sum(each) / phase.width, *each) if each else 0.0


def phases_of(
    units: Iterable[Unit], scenarios: Sequence[Scenario], durations: Durations, *, lanes: int
) -> tuple[Phase, ...]:
    """Waiting units together, the longest first, so that none is left over at the end; then those that judge latency,
    ``lanes`` at a time; the load alone.
    """
    quiet = {scenario.name: scenario.quiet for scenario in scenarios}
    pending = tuple(units)
    waiting = sorted(
        (unit for unit in pending if not quiet[unit.scenario]), key=lambda unit: -durations.of(unit.scenario)
    )
    alone = tuple(unit for unit in pending if quiet[unit.scenario] and unit.scenario != LOAD)
    load = tuple(unit for unit in pending if unit.scenario == LOAD)
    phases = (
        Phase("driving what mostly waits, side by side", tuple(waiting), SIDE_BY_SIDE),
        Phase("driving what has the CPU to itself", alone, lanes),
        Phase("load, the solution beside it", load, 1),
    )
    return tuple(phase for phase in phases if phase.units)


async def drive_phase(phase: Phase, drive: Callable[[Unit], Awaitable[None]]) -> None:
    """Call ``drive`` for each unit, ``phase.width`` at a time. The first exception ends them all."""
    waiting = deque(phase.units)

    async def lane() -> None:
        while waiting:
            await drive(waiting.popleft())

    async with asyncio.TaskGroup() as group:
        for _ in range(min(phase.width, len(phase.units))):
            group.create_task(lane())
