"""A validation from beginning to end: take over what is known, drive what is missing, repeat what is unexpected."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Protocol

from devstack.artifacts import Artifact
from grader.scenarios.stage import Scenario
from grader.validate.findings import Finding, findings_of
from grader.validate.judging import Records
from grader.validate.rows import EvidenceFile, Row, Seen, by_unit
from grader.validate.schedule import Durations, Phase, drive_phase, phases_of
from grader.validate.units import ArtifactCache, Digests, Driven, Hardware, Question, Unit, read_driven

ATTEMPTS = 2
"""At a unit that was troubled or blocked: it is driven once more, as in a run."""

OBSERVATIONS = 3
"""Of what was unexpected: the median of so many decides."""

MAXIMUM_ATTEMPTS = 5
"""Of one unit, whatever becomes of them."""

ROUNDS = 2
"""What was disturbed at first may turn out unexpected."""


class Driver(Protocol):
    """What drives a unit (:class:`grader.validate.worlds.Worlds`)."""

    async def drive(self, unit: Unit, attempt: int) -> Artifact:
        """Drive it once."""
        ...


class Judging(Protocol):
    """What judges records (:class:`grader.validate.judging.JudgingProcess`)."""

    async def judge(self, scenario: str, records: Records) -> dict[str, Seen]:
        """What the checks that read ``scenario`` come to."""
        ...


class View(Protocol):
    """Who is told how it goes."""

    def phase(self, title: str, units: int, remaining_s: float) -> None:
        """So many units come next."""
        ...

    def started(self, unit: Unit, attempt: int) -> None:
        """A unit begins."""
        ...

    def ended(self, unit: Unit, row: Row, remaining_s: float) -> None:
        """A unit ended."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a campaign ended. ``missing``: units that were asked for and have no row."""

    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]
    driven: int
    repeated: int
    missing: int
    stale: int
    unreadable: int


class Campaign:
    """Resumable at any time: what was driven is in the cache, what was judged is in the evidence."""

    def __init__(
        self,
        question: Question,
        digests: Digests,
        scenarios: Sequence[Scenario],
        *,
        cache: ArtifactCache,
        evidence: EvidenceFile,
        driver: Driver | None,
        judging: Judging,
        view: View,
        lanes: int = 1,
        packed: bool = False,
        notes: Iterable[str] = (),
    ) -> None:
        """``driver`` ``None``: nothing is driven. ``notes``: checks without points."""
        self._question = question
        self._digests = digests
        self._scenarios = scenarios
        self._cache = cache
        self._evidence = evidence
        self._driver = driver
        self._judging = judging
        self._view = view
        self._lanes = lanes
        self._packed = packed
        self._notes = frozenset(notes)
        self._units = question.units(digests)
        self._rows: list[Row] = []
        self._durations = Durations({scenario.name: scenario.budget_s for scenario in scenarios})
        self._ahead: list[Phase] = []
        self._driven = 0

    async def run(self, *, fresh: bool = False) -> Outcome:
        """Answer the question. ``fresh``: as if nothing had been driven before."""
        read = self._evidence.read(self._digests)
        self._durations.learn(read.rows)
        # What another sandbox saw is no evidence for this one.
        known = [row for row in read.rows if row.sandbox == self._question.sandbox]
        if fresh:
            asked = set(self._units)
            self._rows = [row for row in known if row.unit not in asked]
            for unit in self._units:
                self._cache.forget(unit)
        else:
            self._rows = self._without_halves(known)
            await self._judge_what_was_driven()
        repeated = 0
        if self._driver is not None:
            await self._drive_all(self._pending())
            repeated = await self._repeat_what_is_unexpected()
        rows = by_unit(self._rows)
        return Outcome(
            rows=tuple(self._rows),
            findings=self._findings(),
            driven=self._driven,
            repeated=repeated,
            missing=sum(unit not in rows for unit in self._units),
            stale=read.stale,
            unreadable=read.unreadable,
        )

    # -- what is known -------------------------------------------------------------------------------------

    def _without_halves(self, rows: Sequence[Row]) -> list[Row]:
        """Rows without those of units whose record is lost before a check of several scenarios had all of its records.

        That happens where evidence of another machine is continued: such a unit is driven again.
        """
        decided = {(row.subject, row.seed, check) for row in rows for check in row.verdicts}
        halves = {
            unit
            for unit in self._units
            for check, meta in self._question.metas.items()
            if unit.scenario in meta.requires
            and set(meta.requires) <= set(self._question.scenarios[unit.subject])
            and (unit.subject, unit.seed, check) not in decided
        }
        lost = {unit for unit in halves if not self._cache.attempts(unit)}
        return [row for row in rows if row.unit not in lost]

    async def _judge_what_was_driven(self) -> None:
        """Rows for records whose rows are missing: the checks have changed, or we were interrupted in between."""
        known = by_unit(self._rows)
        for unit in self._units:
            if unit in known:
                continue
            for attempt, path in self._cache.attempts(unit).items():
                driven = read_driven(path)
                if driven is not None:
                    await self._judge(unit, attempt, driven)

    def _pending(self) -> tuple[Unit, ...]:
        rows = by_unit(self._rows)
        return tuple(unit for unit in self._units if _undecided(rows.get(unit, ())))

    def _findings(self) -> tuple[Finding, ...]:
        return findings_of(self._question, self._rows, self._notes)

    # -- what is missing -----------------------------------------------------------------------------------

    async def _drive_all(self, pending: tuple[Unit, ...]) -> None:
        phases = phases_of(pending, self._scenarios, self._durations, lanes=self._lanes, packed=self._packed)
        await self._through(phases, self._drive_until_drivable)

    async def _through(self, phases: Iterable[Phase], drive: Callable[[Unit, int], Awaitable[None]]) -> None:
        self._ahead = list(phases)
        while self._ahead:
            phase = self._ahead[0]
            remaining_s = self._durations.remaining_s(self._ahead)
            self._view.phase(phase.title, len(phase.everything), remaining_s)

            async def once(unit: Unit, width: int = phase.together) -> None:
                await drive(unit, width)

            await drive_phase(phase, once)
            del self._ahead[0]

    async def _drive_until_drivable(self, unit: Unit, width: int) -> None:
        while _undecided(by_unit(self._rows).get(unit, ())):
            await self._drive_once(unit, width)

    async def _drive_once(self, unit: Unit, width: int) -> None:
        assert self._driver is not None, "there is something that drives"
        attempt = 1 + max((row.attempt for row in by_unit(self._rows).get(unit, ())), default=0)
        self._view.started(unit, attempt)
        begun = time.monotonic()
        artifact = await self._driver.drive(unit, attempt)
        driven = Driven(
            date=datetime.now(UTC).strftime("%Y-%m-%d"),
            duration_s=round(time.monotonic() - begun, 1),
            lanes=width,
            machine=Hardware.here(),
            artifact=artifact,
        )
        self._cache.write(unit, attempt, driven)
        row = await self._judge(unit, attempt, driven)
        self._driven += 1
        self._durations.learn([row])
        self._forget_ahead(unit)
        self._view.ended(unit, row, self._durations.remaining_s(self._ahead))

    def _forget_ahead(self, unit: Unit) -> None:
        """One drive of ``unit`` is done."""
        for place, phase in enumerate(self._ahead):
            if unit in phase.everything:
                self._ahead[place] = phase.without(unit)
                return

    async def _judge(self, unit: Unit, attempt: int, driven: Driven) -> Row:
        records = self._records(unit, attempt)
        verdicts = await self._judging.judge(unit.scenario, records)
        outcome = driven.artifact.outcome
        row = Row(
            subject=unit.subject,
            kind=unit.kind,
            tree=unit.tree,
            scenario=unit.scenario,
            scenario_digest=unit.scenario_digest,
            checks_digest=self._digests.checks[unit.scenario],
            seed=unit.seed,
            sandbox=unit.sandbox,
            attempt=attempt,
            date=driven.date,
            duration_s=driven.duration_s,
            lanes=driven.lanes,
            machine=driven.machine,
            outcome=outcome.kind,
            reason="" if outcome.kind == "completed" else outcome.reason,
            verdicts=verdicts,
        )
        self._evidence.append(row)
        self._rows.append(row)
        return row

    def _records(self, unit: Unit, attempt: int) -> Records:
        """This attempt's record and, for checks of several scenarios, the others': the same attempt's if it counts."""
        found = {unit.scenario: self._cache.path(unit, attempt)}
        known = by_unit(self._rows)
        for scenario in self._companions(unit.scenario):
            other = Unit(
                unit.subject,
                unit.kind,
                unit.tree,
                scenario,
                self._digests.scenarios[scenario],
                unit.seed,
                unit.sandbox,
            )
            paths = self._cache.attempts(other)
            driven = [row.attempt for row in known.get(other, ()) if row.drivable and row.attempt in paths]
            usable = driven or list(paths)
            if usable:
                found[scenario] = paths[attempt if attempt in usable else usable[-1]]
        return found

    def _companions(self, scenario: str) -> frozenset[str]:
        together = [set(meta.requires) for meta in self._question.metas.values() if scenario in meta.requires]
        return frozenset().union(*together) - {scenario}

    # -- what is unexpected --------------------------------------------------------------------------------

    async def _repeat_what_is_unexpected(self) -> int:
        """Drive each unit behind an unexpected or disturbed finding again, in the company that it has in a run.

        The number of these drives.
        """
        before = self._driven
        for _ in range(ROUNDS):
            times = self._repeats()
            if not times:
                break
            # One drive of each at a time: the attempts of a unit are numbered.
            again = [tuple(unit for unit in times if times[unit] > nth) for nth in range(max(times.values()))]
            phases = [
                replace(phase, title=f"repeating what is unexpected: {phase.title}")
                for units in again
                for phase in phases_of(units, self._scenarios, self._durations, lanes=1)
            ]
            await self._through(phases, self._drive_once)
        return self._driven - before

    def _repeats(self) -> dict[Unit, int]:
        """How often each unit is to be driven once more, by what is still missing of its findings."""
        wanted: dict[tuple[str, str], int] = {}
        for finding in self._findings():
            missing = OBSERVATIONS - finding.observations if finding.unexpected else 0
            if finding.undecided and finding.excused:
                missing = ATTEMPTS - 1
            for scenario in self._question.metas[finding.check].requires:
                place = (finding.subject, scenario)
                wanted[place] = max(wanted.get(place, 0), missing)
        rows = by_unit(self._rows)
        times = {
            unit: min(wanted.get((unit.subject, unit.scenario), 0), MAXIMUM_ATTEMPTS - len(rows[unit]))
            for unit in self._units
        }
        return {unit: count for unit, count in times.items() if count > 0}


def _undecided(rows: Sequence[Row]) -> bool:
    """Whether a unit is still to be driven, by the policy for trouble."""
    return not any(row.drivable for row in rows) and len(rows) < ATTEMPTS
