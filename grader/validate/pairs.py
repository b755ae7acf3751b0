"""Pairs: two flaws at once, because candidates never bring one only. One must not hide the other.

A pair is a file ``fixtures/submissions/pairs/<name>.toml``::

    title = "a pool that leaks beside a transaction held open"
    mutants = ["first", "second"]      # both patches apply, in this order
    why = "both hold sessions: one check might take the other's excuse"

    [masks]                            # falls for one mutant alone, cannot be seen beside the other
    idempotent-replay = "without a transaction there is no order to repeat"

    [also]                             # falls that only the two together bring, with the causal reason

Every check that either mutant must bring down must fall, except those in ``masks``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from devstack.artifacts import Frozen
from grader.errors import UsageError
from grader.model import Identifier
from grader.validate.mutants import Mutant, load_mutants
from grader.validate.trees import read_table, submissions_folder


class PairTable(Frozen):
    """What a pair's file says."""

    title: Annotated[str, Field(min_length=1)]
    mutants: Annotated[tuple[Identifier, ...], Field(min_length=2, max_length=2)]
    why: Annotated[str, Field(min_length=1)]
    masks: dict[Identifier, str] = Field(default={})
    also: dict[Identifier, str] = Field(default={})


class Pair(Frozen):
    """Two mutants in one tree."""

    name: Identifier
    table: PairTable
    mutants: tuple[Mutant, ...]

    @property
    def fails(self) -> tuple[str, ...]:
        """Checks that must fall: those of both mutants without what is masked."""
        union = dict.fromkeys(name for mutant in self.mutants for name in mutant.expectation.fails)
        return tuple(name for name in union if name not in self.table.masks)

    @property
    def also(self) -> dict[str, str]:
        """Checks that may fall, with the reason."""
        found = {name: why for mutant in self.mutants for name, why in mutant.expectation.also.items()}
        found |= {**self.table.masks, **self.table.also}
        return {name: why for name, why in found.items() if name not in self.fails}


def pairs_folder() -> Path:
    """Where the kit's pairs are."""
    return submissions_folder() / "pairs"


def load_pairs(
    names: Sequence[str] = (), folder: Path | None = None, mutants: Path | None = None
) -> tuple[Pair, ...]:
    """The pairs among ``names`` (none named: all), by name. Raises UsageError for a malformed one."""
    found = sorted((folder or pairs_folder()).glob("*.toml"))
    return tuple(_load(path, mutants) for path in found if not names or path.stem in names)


def _load(path: Path, mutants: Path | None) -> Pair:
    table = read_table(path, PairTable)
    try:
        loaded = {mutant.name: mutant for mutant in load_mutants(table.mutants, mutants)}
    except UsageError as error:
        raise UsageError(f"pair {path.stem}: {error}") from error
    both = tuple(loaded[name] for name in table.mutants)
    strangers = table.masks.keys() - {name for mutant in both for name in mutant.expectation.fails}
    if strangers:
        raise UsageError(f"pair {path.stem} masks {min(strangers)!r}, which neither mutant brings down")
    return Pair(name=path.stem, table=table, mutants=both)
