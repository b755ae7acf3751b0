"""Repairs: the exercise with one flaw repaired, as a candidate would who got that far.

A repair is a folder ``fixtures/submissions/repairs/<name>/`` with ``repair.patch`` (unified diff against
``exercise/``) and ``expect.toml``::

    title = "the pool is bounded"
    flaw = "B07"                           # row of docs/flaws.md
    category = "database-connections"
    turns_green = ["connection-budget"]    # every one of these must hold now

    [masked]                               # repaired, but another flaw still brings the check down
    seats-oversold = "C01: seats are counted without a lock"
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from devstack.artifacts import Frozen
from grader.errors import UsageError
from grader.model import Identifier
from grader.validate.trees import read_table, submissions_folder

PATCH, EXPECTATION = "repair.patch", "expect.toml"


class RepairTable(Frozen):
    """What ``expect.toml`` of a repair says."""

    title: Annotated[str, Field(min_length=1)]
    flaw: Annotated[str, Field(min_length=1)]
    category: Identifier
    turns_green: tuple[Identifier, ...] = ()
    masked: dict[Identifier, str] = Field(default={})


class Repair(Frozen):
    """One flaw of the exercise repaired."""

    name: Identifier
    folder: Path
    table: RepairTable

    @property
    def patch(self) -> Path:
        """The difference to the exercise."""
        return self.folder / PATCH


def repairs_folder() -> Path:
    """Where the kit's repairs are."""
    return submissions_folder() / "repairs"


def load_repairs(names: Sequence[str] = (), folder: Path | None = None) -> tuple[Repair, ...]:
    """The repairs among ``names`` (none named: all), by name. Raises UsageError for a malformed one."""
    found = sorted((folder or repairs_folder()).glob(f"*/{EXPECTATION}"))
    return tuple(_load(path.parent) for path in found if not names or path.parent.name in names)


def _load(folder: Path) -> Repair:
    table = read_table(folder / EXPECTATION, RepairTable)
    if not (folder / PATCH).is_file():
        raise UsageError(f"repair {folder.name} has no {PATCH}")
    if not table.turns_green and not table.masked:
        raise UsageError(f"repair {folder.name} says neither what it turns green nor what masks it")
    both = set(table.turns_green) & table.masked.keys()
    if both:
        raise UsageError(f"repair {folder.name}: {min(both)!r} cannot both turn green and be masked")
    return Repair(name=folder.name, folder=folder, table=table)
