"""Units of work: one scenario on one subject with one seed. What is needed, and where its record is kept."""

from __future__ import annotations

import gzip
import hashlib
import platform
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pydantic import ValidationError

from devstack.artifacts import Artifact, Frozen
from grader.model import CheckMeta
from grader.paths import write_bytes
from grader.sandbox.levels import Level
from grader.scenarios.stage import Scenario
from grader.validate.subjects import Kind, Subject


@dataclass(frozen=True)
class Unit:
    """One scenario on one subject; ``tree`` and ``scenario_digest`` say on which bytes, ``sandbox`` at which level."""

    subject: str
    kind: Kind
    tree: str
    scenario: str
    scenario_digest: str
    seed: int
    sandbox: Level = "none"

    @property
    def key(self) -> str:
        """The same for the same tree, scenario and seed, whatever the subject is called."""
        text = f"{self.tree} {self.scenario} {self.scenario_digest} {self.seed} {self.sandbox}"
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Digests:
    """Today's digests: of each subject's tree, of what drives each scenario, of what judges it."""

    trees: Mapping[str, str]
    scenarios: Mapping[str, str]
    checks: Mapping[str, str]


@dataclass(frozen=True)
class Question:
    """What was asked for: subjects, the scenarios of each, the seed."""

    subjects: tuple[Subject, ...]
    scenarios: Mapping[str, tuple[str, ...]]
    seed: int
    metas: Mapping[str, CheckMeta] = field(default_factory=dict)
    sandbox: Level = "none"

    def units(self, digests: Digests) -> tuple[Unit, ...]:
        """Every unit that the question needs, subject by subject."""
        return tuple(
            Unit(
                subject=subject.name,
                kind=subject.kind,
                tree=digests.trees[subject.name],
                scenario=scenario,
                scenario_digest=digests.scenarios[scenario],
                seed=self.seed,
                sandbox=self.sandbox,
            )
            for subject in self.subjects
            for scenario in self.scenarios[subject.name]
        )


def ask(
    subjects: Iterable[Subject],
    scenarios: Sequence[Scenario],
    metas: Mapping[str, CheckMeta],
    *,
    seed: int,
    exhaustive: bool = False,
    sandbox: Level = "none",
) -> Question:
    """What must be driven to judge the checks that each expectation names, or with ``exhaustive`` every one."""
    chosen = tuple(subjects)
    needed = {
        subject.name: tuple(
            scenario.name
            for scenario in scenarios
            if exhaustive or scenario.name in _needed(subject, metas) or subject.wanted is None
        )
        for subject in chosen
    }
    return Question(subjects=chosen, scenarios=needed, seed=seed, metas=metas, sandbox=sandbox)


def _needed(subject: Subject, metas: Mapping[str, CheckMeta]) -> frozenset[str]:
    wanted = subject.wanted or ()
    return frozenset(name for check in wanted if check in metas for name in metas[check].requires)


class Hardware(Frozen):
    """The machine that a unit was driven on. No name of it: the evidence is published."""

    cpus: int
    system: str
    processor: str

    @classmethod
    def here(cls) -> Hardware:
        """This machine."""
        system = f"{platform.system()} {platform.release()}"
        return cls(cpus=psutil.cpu_count() or 1, system=system, processor=platform.machine())


class Driven(Frozen):
    """An attempt at a unit: what was recorded, and under what circumstances."""

    date: str
    duration_s: float
    lanes: int
    machine: Hardware
    artifact: Artifact


class ArtifactCache:
    """Records of driven units, as compressed files. Losing it costs driving only."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, unit: Unit, attempt: int) -> Path:
        """Where the record of an attempt is, or would be."""
        return self.folder / unit.key[:2] / f"{unit.scenario}-{unit.key[:32]}-{attempt}.json.gz"

    def write(self, unit: Unit, attempt: int, driven: Driven) -> Path:
        """Keep the record of an attempt, whole or not at all; its path."""
        content = gzip.compress(driven.model_dump_json().encode(), compresslevel=5, mtime=0)
        path = self.path(unit, attempt)
        write_bytes(path, content)
        return path

    def attempts(self, unit: Unit) -> dict[int, Path]:
        """The records of a unit by attempt, first attempt first."""
        pattern = self.path(unit, 0).name.replace("-0.json.gz", "-*.json.gz")
        found = self.path(unit, 0).parent.glob(pattern)
        numbered = {int(path.name.removesuffix(".json.gz").rsplit("-", 1)[1]): path for path in found}
        return dict(sorted(numbered.items()))

    def forget(self, unit: Unit) -> None:
        """Remove the records of a unit."""
        for path in self.attempts(unit).values():
            path.unlink(missing_ok=True)


def read_driven(path: Path) -> Driven | None:
    """The record at ``path``; ``None`` if it cannot be read."""
    try:
        return Driven.model_validate_json(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error, ValidationError):
        return None
