"""A small validation to test with: two scenarios and a load, three checks, a driver and a judge that make things up."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from devstack.artifacts import Artifact, Outcome
from devstack.paths import kit_root
from grader.model import CheckMeta, Verdict
from grader.scenarios.stage import Scenario, Stage
from grader.validate.campaign import Campaign
from grader.validate.campaign import Outcome as Ending
from grader.validate.rows import EvidenceFile, Row, Seen
from grader.validate.subjects import Kind, Subject
from grader.validate.units import ArtifactCache, Digests, Hardware, Question, Unit, ask, read_driven

MACHINE = Hardware(cpus=2, system="Linux 6", processor="x86_64")


async def _nothing(stage: Stage) -> None: ...


def scenario(name: str, *, quiet: bool = True) -> Scenario:
    return Scenario(name=name, drive=_nothing, budget_s=10, quiet=quiet)


SCENARIOS = (scenario("calm"), scenario("wait", quiet=False), scenario("load"))


def meta(check: str, *requires: str) -> CheckMeta:
    return CheckMeta(
        id=check, category="c", title="t", failure_title="f", why="w", remediation="r", question="q",
        level="mid", requires=requires,
    )  # fmt: skip


METAS = {
    one.id: one
    for one in (
        meta("of-calm", "calm"),
        meta("of-wait", "wait"),
        meta("of-both", "calm", "wait"),
        meta("of-load", "load"),
    )
}


def mutant(name: str, *falls: str, also: Mapping[str, str] | None = None) -> Subject:
    return Subject(
        name=name,
        kind=Kind.MUTANT,
        title=name,
        base=kit_root() / "solution",
        patches=(Path("x.patch"),),
        falls=falls,
        also=dict(also or {}),
    )


def digests(*names: str, checks: str = "c", scenarios: str = "s") -> Digests:
    return Digests(
        trees={name: f"tree of {name}" for name in names},
        scenarios={one.name: scenarios for one in SCENARIOS},
        checks={one.name: checks for one in SCENARIOS},
    )


def row(subject: str = "one", scenario: str = "calm", attempt: int = 1, **changes: object) -> Row:
    """A valid row by ``digests``; ``changes`` replace fields, and ``fell`` names the checks that fell in it."""
    fell = changes.pop("fell", ())
    assert isinstance(fell, tuple)
    deciding = [name for name, one in METAS.items() if scenario in one.requires and len(one.requires) == 1]
    verdicts = {name: seen(fell=False) for name in deciding} | {name: seen(fell=True) for name in fell}
    plain: dict[str, object] = {
        "subject": subject, "kind": Kind.MUTANT, "tree": f"tree of {subject}", "scenario": scenario,
        "scenario_digest": "s", "checks_digest": "c", "seed": 1, "attempt": attempt, "date": "2026-01-02",
        "duration_s": 2.0, "lanes": 1, "machine": MACHINE, "outcome": "completed", "verdicts": verdicts,
    }  # fmt: skip
    return Row.model_validate(plain | changes)


def seen(*, fell: bool, told: str = "too slow") -> Seen:
    if fell:
        return Seen(verdict=Verdict.FAILED, score=0.0, told=told)
    return Seen(verdict=Verdict.PASSED, score=1.0)


class FakeDriver:
    """Makes artifacts whose facts say which checks are to fall; ``decide`` tells for each attempt."""

    def __init__(self, decide: Callable[[Unit, int], Artifact]) -> None:
        self.decide = decide
        self.driven: list[tuple[str, str, int]] = []
        self.together: dict[str, int] = {}
        self.beside_load = 0
        self._running: Counter[str] = Counter()

    async def drive(self, unit: Unit, attempt: int) -> Artifact:
        self.driven.append((unit.subject, unit.scenario, attempt))
        self._running[unit.scenario] += 1
        self.together[unit.scenario] = max(self.together.get(unit.scenario, 0), self._running[unit.scenario])
        if unit.scenario == "load":
            self.beside_load = max(self.beside_load, self._running.total() - 1)
        await asyncio.sleep(0.005)
        self._running[unit.scenario] -= 1
        return self.decide(unit, attempt)


class FakeJudging:
    """Takes from the cached records what is to fall."""

    def __init__(self) -> None:
        self.calls = 0

    async def judge(self, scenario: str, records: Mapping[str, Path]) -> dict[str, Seen]:
        self.calls += 1
        driven = read_driven(records[scenario])
        assert driven is not None
        fell = driven.artifact.facts.get("fell", [])
        assert isinstance(fell, list)
        undecided = driven.artifact.outcome.kind == "trouble" or bool(driven.artifact.facts.get("disturbed"))
        excused = Seen(
            verdict=Verdict.ERRORED, told="trouble", excused=driven.artifact.outcome.kind != "trouble"
        )
        return {
            name: excused if undecided else seen(fell=name in fell)
            for name, one in METAS.items()
            if scenario in one.requires and set(one.requires) <= records.keys()
        }


class Quiet:
    """A view that nobody looks at."""

    def phase(self, title: str, units: int, remaining_s: float) -> None: ...
    def started(self, unit: Unit, attempt: int) -> None: ...
    def ended(self, unit: Unit, row: Row, remaining_s: float) -> None: ...


def record(scenario: str, *fell: str, outcome: str = "completed") -> Artifact:
    """An artifact in which these checks are to fall."""
    return Artifact(
        scenario=scenario,
        outcome=Outcome.model_validate({"kind": outcome, "reason": "" if outcome == "completed" else "why"}),
        facts={"fell": list(fell)},
    )


def question(*subjects: Subject, exhaustive: bool = False, seed: int = 1) -> Question:
    return ask(subjects, SCENARIOS, METAS, seed=seed, exhaustive=exhaustive)


class Bench:
    """A cache and an evidence file, on which campaigns are run one after the other."""

    def __init__(self, folder: Path) -> None:
        self.cache = ArtifactCache(folder / "cache")
        self.evidence = EvidenceFile(folder / "evidence.jsonl")
        self.judging = FakeJudging()

    async def run(
        self,
        asked: Question,
        driver: FakeDriver | None,
        *,
        today: Digests | None = None,
        lanes: int = 1,
        packed: bool = False,
        fresh: bool = False,
        notes: tuple[str, ...] = (),
    ) -> Ending:
        campaign = Campaign(
            asked,
            today or digests(*(subject.name for subject in asked.subjects)),
            SCENARIOS,
            cache=self.cache,
            evidence=self.evidence,
            driver=driver,
            judging=self.judging,
            view=Quiet(),
            lanes=lanes,
            packed=packed,
            notes=notes,
        )
        return await campaign.run(fresh=fresh)
