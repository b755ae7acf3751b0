"""Mutants: the solution with one flaw put back, and what must come of it.

A mutant is a folder ``fixtures/submissions/mutants/<name>/`` with ``mutant.patch`` (unified diff against
``solution/``) and ``expect.toml``::

    title = "the order charges before it reserves"
    flaw = "C05"                       # row of docs/flaws.md, or of the contract
    category = "system-design"
    level = "senior"
    fails = ["charge-exactly-once"]    # every one of these must fall

    [also]                             # these may fall too; the reason is causal
    seats-oversold = "an order without a reservation takes seats that are not there"
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from devstack.artifacts import Frozen
from devstack.paths import kit_root
from grader.errors import UsageError
from grader.model import Identifier, Level
from grader.text import one_line
from grader.validate.trees import apply_patch, copy_tree, read_table, submissions_folder

PATCH, EXPECTATION = "mutant.patch", "expect.toml"


class Expectation(Frozen):
    """What ``expect.toml`` says."""

    title: Annotated[str, Field(min_length=1)]
    flaw: Annotated[str, Field(min_length=1)]
    category: Identifier
    level: Level
    fails: Annotated[tuple[Identifier, ...], Field(min_length=1)]
    also: dict[Identifier, str] = Field(default={})


class Mutant(Frozen):
    """A flaw that can be put back into the solution."""

    name: Identifier
    folder: Path
    expectation: Expectation

    @property
    def patch(self) -> Path:
        """The difference to the solution."""
        return self.folder / PATCH


def mutants_folder() -> Path:
    """Where the kit's mutants are."""
    return submissions_folder() / "mutants"


def load_mutants(names: Sequence[str] = (), folder: Path | None = None) -> tuple[Mutant, ...]:
    """The named mutants (none named: all), by name. Raises UsageError for an unknown or malformed one."""
    root = folder or mutants_folder()
    known = {path.parent.name: path.parent for path in sorted(root.glob(f"*/{EXPECTATION}"))}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"there is no mutant {one_line(unknown[0], 60)!r} in {root}")
    return tuple(_load(path) for name, path in known.items() if not names or name in names)


def _load(folder: Path) -> Mutant:
    expectation = read_table(folder / EXPECTATION, Expectation)
    if not (folder / PATCH).is_file():
        raise UsageError(f"mutant {folder.name} has no {PATCH}")
    return Mutant(name=folder.name, folder=folder, expectation=expectation)


def materialise(mutant: Mutant, destination: Path) -> None:
    """Write the mutated tree to ``destination``. Raises UsageError if the patch does not fit the solution any more."""
    copy_tree(kit_root() / "solution", destination)
    apply_patch(mutant.patch, destination, of=f"mutant {mutant.name}")
