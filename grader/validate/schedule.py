"""In which order units are driven, how many side by side, and how long that will take."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from grader.scenarios.stage import Scenario
from grader.validate.digests import LOAD
from grader.validate.rows import Row
from grader.validate.units import Unit

SIDE_BY_SIDE = 6
"""Waiting scenarios driven at the same time, whoever's; each uses a few per cent of a core."""

BESIDE = 5
"""Waiting scenarios driven beside those that judge latency, in a packed validation."""

GUESSED_SHARE = 0.4
"""Of a scenario's budget: what it takes when nobody has seen it yet."""


@dataclass(frozen=True)
class Phase:
    """``units`` are driven ``width`` at a time, and ``beside`` them, meanwhile, :data:`BESIDE` at a time, waiting ones."""

    title: str
    units: tuple[Unit, ...]
    width: int
    beside: tuple[Unit, ...] = ()

    @property
    def everything(self) -> tuple[Unit, ...]:
        """All units of the phase."""
        return self.units + self.beside

    @property
    def together(self) -> int:
        """How many units are driven at the same time."""
        return self.width + (BESIDE if self.beside else 0)

    def without(self, unit: Unit) -> Phase:
        """The same phase, after one drive of ``unit``."""
        return (
            replace(self, units=_without(self.units, unit))
            if unit in self.units
            else replace(self, beside=_without(self.beside, unit))
        )


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
        return max(self.of_units(phase.units, phase.width), self.of_units(phase.beside, BESIDE))

    def of_units(self, units: Sequence[Unit], width: int) -> float:
        """Seconds that ``units`` take, ``width`` at a time."""
        each = [self.of(unit.scenario) for unit in units]
        return max(sum(each) / width, *each) if each else 0.0


def phases_of(
    units: Iterable[Unit],
    scenarios: Sequence[Scenario],
    durations: Durations,
    *,
    lanes: int,
    packed: bool = False,
) -> tuple[Phase, ...]:
    """Waiting units together, the longest first, so that none is left over at the end; then those that judge latency,
    ``lanes`` at a time; the load alone. ``packed``: the waiting ones beside the others, as far as these last.
    """
    quiet = {scenario.name: scenario.quiet for scenario in scenarios}
    pending = tuple(units)
    waiting = sorted(
        (unit for unit in pending if not quiet[unit.scenario]), key=lambda unit: -durations.of(unit.scenario)
    )
    alone = tuple(unit for unit in pending if quiet[unit.scenario] and unit.scenario != LOAD)
    load = tuple(unit for unit in pending if unit.scenario == LOAD)
    nothing: tuple[Unit, ...] = ()
    beside_alone, beside_load, rest = nothing, nothing, tuple(waiting)
    if packed:
        # The load leaves more of the machine free than the others do.
        beside_load, rest = _portion(rest, durations, durations.of_units(load, 1))
        beside_alone, rest = _portion(rest, durations, durations.of_units(alone, lanes))
    phases = (
        Phase("driving what mostly waits, side by side", rest, SIDE_BY_SIDE),
        Phase("driving what judges latency", alone, lanes, beside_alone),
        Phase("load, the solution beside it", load, 1, beside_load),
    )
    return tuple(phase for phase in phases if phase.units)


def _portion(
    units: tuple[Unit, ...], durations: Durations, seconds: float
) -> tuple[tuple[Unit, ...], tuple[Unit, ...]]:
    """As many of ``units`` as fit into ``seconds`` beside others, and the rest."""
    taken = 0.0
    for count, unit in enumerate(units):
        taken += durations.of(unit.scenario) / BESIDE
        if taken > seconds:
            return units[:count], units[count:]
    return units, ()


def _without(units: tuple[Unit, ...], unit: Unit) -> tuple[Unit, ...]:
    at = units.index(unit) if unit in units else len(units)
    return (*units[:at], *units[at + 1 :])


async def drive_phase(phase: Phase, drive: Callable[[Unit], Awaitable[None]]) -> None:
    """Call ``drive`` for each unit of the phase, so many at a time as it says. The first exception ends them all."""

    async def lane(waiting: deque[Unit]) -> None:
        while waiting:
            await drive(waiting.popleft())

    async with asyncio.TaskGroup() as group:
        for units, width in ((phase.units, phase.width), (phase.beside, BESIDE)):
            queue = deque(units)
            for _ in range(min(width, len(units))):
                group.create_task(lane(queue))
