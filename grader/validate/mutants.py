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

import shutil
import subprocess
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from devstack.artifacts import Frozen
from devstack.paths import kit_root
from grader.errors import UsageError
from grader.intake import SKIPPED_FOLDERS
from grader.model import Identifier, Level
from grader.text import one_line

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


def mutants_folder() -> Path:
    """Where the kit's mutants are."""
    return kit_root() / "fixtures" / "submissions" / "mutants"


def load_mutants(names: Sequence[str] = (), folder: Path | None = None) -> tuple[Mutant, ...]:
    """The named mutants (none named: all), by name. Raises UsageError for an unknown or malformed one."""
    root = folder or mutants_folder()
    known = {path.parent.name: path.parent for path in sorted(root.glob(f"*/{EXPECTATION}"))}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UsageError(f"there is no mutant {one_line(unknown[0], 60)!r} in {root}")
    return tuple(_load(path) for name, path in known.items() if not names or name in names)


def _load(folder: Path) -> Mutant:
    try:
        expectation = Expectation.model_validate(
            tomllib.loads((folder / EXPECTATION).read_text(encoding="utf-8"))
        )
        if not (folder / PATCH).is_file():
            raise UsageError(f"mutant {folder.name} has no {PATCH}")
        return Mutant(name=folder.name, folder=folder, expectation=expectation)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{folder.name}/{EXPECTATION} is not TOML: {one_line(str(error))}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{folder.name}/{EXPECTATION}: {place}: {first['msg']}") from error


def copy_solution(destination: Path) -> None:
    """A copy of the solution's tree, without what tools leave behind."""
    ignored = shutil.ignore_patterns(*SKIPPED_FOLDERS)
    shutil.copytree(kit_root() / "solution", destination, ignore=ignored)


def materialise(mutant: Mutant, destination: Path) -> None:
    """Write the mutated tree to ``destination``. Raises UsageError if the patch does not fit the solution any more."""
    copy_solution(destination)
    command = ["git", "apply", "--whitespace=nowarn", "-p1", str((mutant.folder / PATCH).resolve())]
    # Away from any repository around: git would take paths relative to its top.
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "GIT_CEILING_DIRECTORIES": str(destination.parent.resolve()),
    }
    done = subprocess.run(
        command,
        cwd=destination,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = one_line(done.stderr or "git apply failed")
        raise UsageError(
            f"mutant {mutant.name} does not fit the solution any more: {reason}; make its patch anew"
        )
