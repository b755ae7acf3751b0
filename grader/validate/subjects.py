"""Subjects: every tree that the grader is measured with, and what is expected of each check on it."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Literal

from pydantic import Field

from devstack.artifacts import Frozen
from devstack.paths import kit_root
from grader.errors import UsageError
from grader.model import Identifier
from grader.text import one_line
from grader.validate.mutants import Mutant, load_mutants
from grader.validate.pairs import Pair, load_pairs
from grader.validate.repairs import Repair, load_repairs
from grader.validate.trees import apply_patch, copy_tree, read_table, submissions_folder

SOLUTION, EXERCISE = "solution", "exercise"
BASELINES = "baselines.toml"

Expected = Literal["falls", "holds", "either"]


class Kind(StrEnum):
    """What a subject is made of."""

    BASELINE = "baseline"
    MUTANT = "mutant"
    PAIR = "pair"
    REPAIR = "repair"


class Subject(Frozen):
    """A tree and what must come of it.

    ``falls``: checks that must fall. ``holds``: checks that must not; ``None``: all others. ``also``: may fall,
    with the reason. What is in none of them is not judged.
    """

    name: Identifier
    kind: Kind
    title: str
    base: Path
    patches: tuple[Path, ...] = ()
    falls: tuple[Identifier, ...] = ()
    holds: tuple[Identifier, ...] | None = None
    also: dict[Identifier, str] = Field(default={})

    def expected(self, check: str, notes: Collection[str] = ()) -> Expected:
        """What is expected of ``check``; ``notes`` carry no points, and so nobody is wronged when one falls."""
        if check in self.falls:
            return "falls"
        if check in self.also or check in notes:
            return "either"
        return "holds" if self.holds is None or check in self.holds else "either"

    @property
    def wanted(self) -> tuple[str, ...] | None:
        """Checks that its expectation names; ``None``: all, because it names none."""
        return tuple(dict.fromkeys((*self.falls, *(self.holds or ())))) or tuple(self.also) or None


class BaselineTable(Frozen):
    """What ``baselines.toml`` says of one baseline; what it does not mention must hold."""

    title: str = ""
    fails: tuple[Identifier, ...] = ()
    also: dict[Identifier, str] = Field(default={})
    others: Literal["hold", "open"] = "hold"


class _Baselines(Frozen):
    baseline: dict[Identifier, BaselineTable] = Field(default={})


def materialise(subject: Subject, destination: Path) -> None:
    """Write the subject's tree to ``destination``. Raises UsageError if a patch does not fit any more."""
    copy_tree(subject.base, destination)
    for patch in subject.patches:
        apply_patch(patch, destination, of=f"{subject.kind} {subject.name}")


def load_subjects(names: Sequence[str] = (), folder: Path | None = None) -> tuple[Subject, ...]:
    """Baselines, mutants, pairs and repairs of the kit. Raises UsageError if one is malformed.

    ``names``: besides the baselines only these, so that what somebody has just begun stops nobody else.
    """
    root = folder or submissions_folder()
    found = (
        *_baselines(root),
        *(_of_mutant(one) for one in _mutants(names, root / "mutants")),
        *(_of_pair(one) for one in load_pairs(names, root / "pairs", root / "mutants")),
        *(_of_repair(one) for one in load_repairs(names, root / "repairs")),
    )
    known = [subject.name for subject in found]
    twice = next((name for name in known if known.count(name) > 1), None)
    if twice:
        raise UsageError(f"two subjects are called {twice!r}: rename one of them")
    return found


def select(
    subjects: Sequence[Subject],
    names: Sequence[str] = (),
    kinds: Collection[Kind] = (),
    *,
    sample: int | None = None,
    sample_seed: int = 0,
) -> tuple[Subject, ...]:
    """The named subjects; none named: those of ``kinds``; no kind either: the mutants.

    ``sample``: so many of them, drawn by ``sample_seed``. Raises UsageError for an unknown name.
    """
    known = {subject.name for subject in subjects}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"there is no mutant {one_line(unknown[0], 60)!r}, nor another subject of that name")
    asked = kinds or {Kind.MUTANT}
    chosen = [subject for subject in subjects if (subject.name in names if names else subject.kind in asked)]
    if sample is not None and sample < len(chosen):
        drawn = set(random.Random(sample_seed).sample([subject.name for subject in chosen], sample))
        chosen = [subject for subject in chosen if subject.name in drawn]
    return tuple(chosen)


def _mutants(names: Sequence[str], folder: Path) -> tuple[Mutant, ...]:
    named = [name for name in names if (folder / name).is_dir()]
    return load_mutants(named, folder) if named or not names else ()


def _baselines(root: Path) -> tuple[Subject, ...]:
    path = root / BASELINES
    tables = read_table(path, _Baselines).baseline if path.is_file() else {}
    trees = {SOLUTION: kit_root() / SOLUTION, EXERCISE: kit_root() / EXERCISE}
    alternatives = sorted(found.parent for found in (root / "alternatives").glob("*/pyproject.toml"))
    trees |= {tree.name: tree for tree in alternatives}
    unknown = tables.keys() - trees.keys()
    if unknown:
        raise UsageError(f"{BASELINES} speaks of {min(unknown)!r}, which does not exist")
    return tuple(_baseline(name, tree, tables.get(name, BaselineTable())) for name, tree in trees.items())


def _baseline(name: str, tree: Path, table: BaselineTable) -> Subject:
    return Subject(
        name=name,
        kind=Kind.BASELINE,
        title=table.title or name,
        base=tree,
        falls=table.fails,
        holds=None if table.others == "hold" else (),
        also=table.also,
    )


def _of_mutant(mutant: Mutant) -> Subject:
    expectation = mutant.expectation
    return Subject(
        name=mutant.name,
        kind=Kind.MUTANT,
        title=expectation.title,
        base=kit_root() / SOLUTION,
        patches=(mutant.patch,),
        falls=expectation.fails,
        also=expectation.also,
    )


def _of_pair(pair: Pair) -> Subject:
    return Subject(
        name=pair.name,
        kind=Kind.PAIR,
        title=pair.table.title,
        base=kit_root() / SOLUTION,
        patches=tuple(mutant.patch for mutant in pair.mutants),
        falls=pair.fails,
        also=pair.also,
    )


def _of_repair(repair: Repair) -> Subject:
    return Subject(
        name=repair.name,
        kind=Kind.REPAIR,
        title=repair.table.title,
        base=kit_root() / EXERCISE,
        patches=(repair.patch,),
        holds=repair.table.turns_green,
        also=repair.table.masked,
    )
