"""The evidence file: one JSON line per attempt at a unit, with the verdicts that it led to.

A row names the bytes that it rests on: the subject's tree, what drove the scenario, what judged it. A row of which
one of these is not today's is stale: it proves nothing about this grader and is left out everywhere.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from devstack.artifacts import Frozen
from grader.errors import RunDirectoryError
from grader.model import Fraction, Identifier, Verdict
from grader.paths import write_text
from grader.sandbox.levels import Level
from grader.validate.subjects import Kind
from grader.validate.units import Digests, Hardware, Unit

FALLEN = frozenset({Verdict.FAILED, Verdict.PARTIAL, Verdict.BLOCKED})
TROUBLE, BLOCKED = "trouble", "blocked"


class Seen(Frozen):
    """What one check came to on one attempt. ``told``: why, unless it passed. ``excused``: something disturbed it."""

    verdict: Verdict
    score: Fraction | None = None
    told: str = ""
    excused: bool = False


class Row(Frozen):
    """One attempt at one unit. ``verdicts`` hold the checks that this scenario's record decides.

    A check of several scenarios is in the row of the one that was driven last. ``lanes``: how many units were
    driven side by side. ``sandbox``: at which level of isolation.
    """

    subject: Identifier
    kind: Kind
    tree: str
    scenario: Identifier
    scenario_digest: str
    checks_digest: str
    seed: int
    attempt: int
    date: str
    duration_s: float
    lanes: int
    machine: Hardware
    outcome: Literal["completed", "blocked", "cut-short", "trouble"]
    reason: str = ""
    verdicts: dict[Identifier, Seen]
    sandbox: Level = "none"

    @property
    def unit(self) -> Unit:
        """What was driven."""
        return Unit(
            self.subject, self.kind, self.tree, self.scenario, self.scenario_digest, self.seed, self.sandbox
        )

    @property
    def drivable(self) -> bool:
        """Whether the service was driven, for better or worse; otherwise the unit is driven once more."""
        return self.outcome not in (TROUBLE, BLOCKED)


@dataclass(frozen=True)
class Read:
    """What an evidence file holds: rows that count, in the order written, and how many do not."""

    rows: tuple[Row, ...]
    stale: int = 0
    unreadable: int = 0


class EvidenceFile:
    """A file of rows, one per line. Several writers may append at a time; a reader never takes half a line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, digests: Digests) -> Read:
        """Rows of the subjects in ``digests`` that rest on today's bytes. Raises RunDirectoryError if unreadable."""
        rows, unreadable = self._lines()
        known = [row for row in rows if row.subject in digests.trees]
        valid = [row for row in known if is_valid(row, digests)]
        return Read(rows=tuple(_latest(valid)), stale=len(known) - len(valid), unreadable=unreadable)

    def append(self, row: Row) -> None:
        """Add a row, whole. What an interrupted writer left of a line is removed first."""
        line = (row.model_dump_json(exclude_defaults=True) + "\n").encode()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                _cut_half_line(descriptor)
                os.write(descriptor, line)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise RunDirectoryError(f"cannot write the evidence {self.path}: {error.strerror}") from error

    def prune(self, digests: Digests) -> int:
        """Remove rows that do not count (subjects that are not in ``digests`` included) and put the others in order.

        Returns how many were removed.
        """
        rows, unreadable = self._lines()
        kept = sorted(
            _latest([row for row in rows if is_valid(row, digests)]),
            key=lambda row: (row.kind, row.subject, row.scenario, row.seed, row.attempt),
        )
        text = "".join(row.model_dump_json(exclude_defaults=True) + "\n" for row in kept)
        if self.path.exists():
            write_text(self.path, text)
        return len(rows) - len(kept) + unreadable

    def _lines(self) -> tuple[list[Row], int]:
        try:
            lines = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return [], 0
        except OSError as error:
            raise RunDirectoryError(f"cannot read the evidence {self.path}: {error.strerror}") from error
        rows: list[Row] = []
        unreadable = 0
        for line in filter(None, lines):
            try:
                rows.append(Row.model_validate_json(line))
            except ValidationError:
                unreadable += 1
        return rows, unreadable


def is_valid(row: Row, digests: Digests) -> bool:
    """Whether the row rests on today's tree, scenario and checks."""
    return (
        digests.trees.get(row.subject) == row.tree
        and digests.scenarios.get(row.scenario) == row.scenario_digest
        and digests.checks.get(row.scenario) == row.checks_digest
    )


def by_unit(rows: Iterable[Row]) -> dict[Unit, list[Row]]:
    """Rows of each unit, first attempt first."""
    found: dict[Unit, list[Row]] = {}
    for row in rows:
        found.setdefault(row.unit, []).append(row)
    for attempts in found.values():
        attempts.sort(key=lambda row: row.attempt)
    return found


def before_repetition(rows: Iterable[Row]) -> list[Row]:
    """Of each unit the rows up to the first one that could be driven: what was there before anything was repeated."""
    kept: list[Row] = []
    for attempts in by_unit(rows).values():
        for row in attempts:
            kept.append(row)
            if row.drivable:
                break
    return kept


def _latest(rows: Sequence[Row]) -> list[Row]:
    """Without what was driven or judged again: attempt n of a unit takes the place of every earlier row ≥ n of it."""
    kept: dict[Unit, list[Row]] = {}
    for row in rows:
        earlier = kept.setdefault(row.unit, [])
        earlier[:] = [*(other for other in earlier if other.attempt < row.attempt), row]
    return [row for attempts in kept.values() for row in attempts]


def _cut_half_line(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return
    content = os.pread(descriptor, size, 0)
    os.ftruncate(descriptor, content.rfind(b"\n") + 1)
