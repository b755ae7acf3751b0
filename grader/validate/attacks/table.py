"""What an attack is.

An attack is a folder ``fixtures/submissions/attacks/<name>/`` with ``attack.patch`` (unified diff against its base)
and ``expect.toml``::

    title = "reads the environment of its first process"
    cases = [2]                              # numbers of the list in docs/security.md; 0 or none: not in it
    base = "solution"                        # the honest submission that it must not do better than
    only = ["order-validation"]              # checks that are run; none: all of them
    log = ["^attack: environ: denied"]       # each must match a line of the service's log
    never_log = ["^attack: .*: got"]         # none may
    falls = []                               # checks that must not pass
    holds = ["order-validation"]             # checks that must pass
    outcome = "graded"                       # graded, refused or errored
    says = "not a regular file"              # must match what is told: of a refusal its line, else the report
    signs = ["asks who"]                     # each must match a red flag
    pack = "zip-traversal"                   # how the tree is handed in; none: as a folder
    alone = true                             # drive nothing beside it: it is about what the machine has
    levels = ["strong", "container"]

    [not_applicable]
    container = "why it cannot exist there"
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from devstack.artifacts import Frozen
from devstack.paths import kit_root
from grader.checks import collect_checks
from grader.errors import ExitCode, UsageError
from grader.model import Identifier
from grader.text import one_line
from grader.validate.attacks.packing import PACKINGS
from grader.validate.trees import read_table, submissions_folder

PATCH, EXPECTATION = "attack.patch", "expect.toml"

AttackLevel = Literal["strong", "container"]
LEVELS: tuple[AttackLevel, ...] = ("strong", "container")

EXIT_CODES = {
    "graded": (int(ExitCode.GRADED),),
    "refused": (int(ExitCode.USAGE),),
    "errored": (int(ExitCode.UNDECIDED),),
}


class AttackTable(Frozen):
    """What ``expect.toml`` of an attack says."""

    title: Annotated[str, Field(min_length=1)]
    cases: tuple[int, ...] = ()
    base: str = "solution"
    only: tuple[Identifier, ...] = ()
    log: tuple[str, ...] = ()
    never_log: tuple[str, ...] = ()
    falls: tuple[Identifier, ...] = ()
    holds: tuple[Identifier, ...] = ()
    outcome: Literal["graded", "refused", "errored"] = "graded"
    says: str = ""
    signs: tuple[str, ...] = ()
    pack: str = ""
    alone: bool = False
    levels: tuple[AttackLevel, ...] = LEVELS
    not_applicable: dict[AttackLevel, str] = Field(default={})

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for pattern in (*self.log, *self.never_log, *self.signs, self.says):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
        if missing := set(LEVELS) - set(self.levels) - set(self.not_applicable):
            raise ValueError(f"{missing.pop()} is neither in levels nor in not_applicable")
        known = collect_checks()
        if unknown := [name for name in (*self.only, *self.falls, *self.holds) if name not in known]:
            raise ValueError(f"there is no check {unknown[0]!r}")
        if self.pack and self.pack not in PACKINGS:
            raise ValueError(f"there is no packing {self.pack!r}")
        return self

    @property
    def exit_codes(self) -> tuple[int, ...]:
        """Those of ``grader run`` that its outcome has."""
        return EXIT_CODES[self.outcome]


@dataclass(frozen=True)
class Attack:
    """One hostile submission."""

    name: str
    folder: Path
    table: AttackTable

    @property
    def patch(self) -> Path | None:
        """The difference to its base; ``None`` if all that is hostile is how it is packed."""
        path = self.folder / PATCH
        return path if path.is_file() else None

    @property
    def base(self) -> Path:
        """The honest submission."""
        return kit_root() / self.table.base


def attacks_folder() -> Path:
    """Where the kit's attacks are."""
    return submissions_folder() / "attacks"


def load_attacks(names: Sequence[str] = (), folder: Path | None = None) -> tuple[Attack, ...]:
    """The attacks among ``names`` (none named: all), by name.

    Raises UsageError for a name that is none, and for a malformed attack.
    """
    root = folder or attacks_folder()
    found = {path.parent.name: path for path in sorted(root.glob(f"*/{EXPECTATION}"))}
    if unknown := [name for name in names if name not in found]:
        raise UsageError(f"there is no attack {one_line(unknown[0], 60)!r}; see {root}")
    return tuple(_load(path) for name, path in found.items() if not names or name in names)


def _load(path: Path) -> Attack:
    attack = Attack(path.parent.name, path.parent, read_table(path, AttackTable))
    if attack.patch is None and not attack.table.pack:
        raise UsageError(f"attack {attack.name} has neither {PATCH} nor a packing")
    if not attack.base.is_dir():
        raise UsageError(f"attack {attack.name}: there is no base {one_line(attack.table.base, 60)!r}")
    return attack
