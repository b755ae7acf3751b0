"""What was seen of each attack: one JSON line per attack, level and caller; and the table that is made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from devstack.artifacts import Frozen
from grader.errors import RunDirectoryError, UsageError
from grader.model import Identifier
from grader.paths import write_text
from grader.validate.attacks.table import LEVELS, Attack, AttackLevel
from grader.validate.units import Hardware

Caller = Literal["root", "user"]
CALLERS: tuple[tuple[AttackLevel, Caller], ...] = (
    ("strong", "root"),
    ("strong", "user"),
    ("container", "root"),
)
"""Where attacks are driven; Podman and Docker make the sandbox as root."""

BEGIN, END = "<!-- attacks -->", "<!-- /attacks -->"


class AttackRow(Frozen):
    """What one run of one attack came to. ``digest``: of the attack's own files. ``faults``: none if it held."""

    attack: Identifier
    digest: str
    level: AttackLevel
    caller: Caller
    date: str
    duration_s: float
    machine: Hardware
    sandbox: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()


def digest_of(attack: Attack) -> str:
    """Of the files that the attack is made of."""
    found = hashlib.sha256()
    for path in sorted(path for path in attack.folder.iterdir() if path.is_file()):
        found.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


def read_rows(path: Path) -> tuple[AttackRow, ...]:
    """The rows in the order written. Raises RunDirectoryError for a file that is none."""
    if not path.exists():
        return ()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return tuple(AttackRow.model_validate(json.loads(line)) for line in lines if line.strip())
    except OSError as error:
        raise RunDirectoryError(f"{path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
        raise RunDirectoryError(
            f"{path} is not evidence of attacks: remove it, and drive them again"
        ) from error


def merged(rows: Sequence[AttackRow], more: Sequence[AttackRow]) -> tuple[AttackRow, ...]:
    """The latest row of each attack, level and caller, in their order."""
    latest = {(row.attack, row.level, row.caller): row for row in (*rows, *more)}
    return tuple(latest[key] for key in sorted(latest))


def write_rows(path: Path, rows: Sequence[AttackRow]) -> None:
    """Write the file anew, whole or not at all."""
    write_text(path, "".join(row.model_dump_json(exclude_defaults=True) + "\n" for row in rows))


def write_table(path: Path, attacks: Sequence[Attack], rows: Sequence[AttackRow]) -> None:
    """Put the table between its marks in the document at ``path``. Raises UsageError if it has none."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    if BEGIN not in text or END not in text:
        raise UsageError(f"{path} has no lines {BEGIN} and {END} between which the table belongs")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    write_text(path, f"{before}{BEGIN}\n{render(attacks, rows)}{END}{after}")


def render(attacks: Sequence[Attack], rows: Sequence[AttackRow]) -> str:
    """The table as Markdown. A row counts only for the attack as it is now."""
    known = {(row.attack, row.level, row.caller, row.digest): row for row in rows}
    heads = [f"{level}, {caller}" for level, caller in CALLERS]
    lines = [
        "",
        f"| attack | cases | {' | '.join(heads)} |",
        f"|---|---|{'---|' * len(heads)}",
    ]
    counts = dict.fromkeys(CALLERS, 0)
    possible = dict.fromkeys(CALLERS, 0)
    for attack in attacks:
        cells = []
        for where in CALLERS:
            level, caller = where
            if level not in attack.table.levels:
                cells.append("—")
                continue
            possible[where] += 1
            row = known.get((attack.name, level, caller, digest_of(attack)))
            held = row is not None and not row.faults
            counts[where] += held
            cells.append("not driven" if row is None else "held" if held else "**not held**")
        cases = ", ".join(str(case) for case in attack.table.cases if case)
        lines.append(f"| `{attack.name}`: {attack.table.title} | {cases} | {' | '.join(cells)} |")
    told = "; ".join(
        f"{counts[where]} of {possible[where]} hold at `{where[0]}`, called by {_called_by(where[1])}"
        for where in CALLERS
    )
    reasons = [
        f"- `{attack.name}` at `{level}`: {attack.table.not_applicable[level]}."
        for attack in attacks
        for level in LEVELS
        if level in attack.table.not_applicable
    ]
    absent = ["", "— is an attack that cannot exist there:", "", *reasons] if reasons else []
    return "\n".join(["", f"{told}.", *lines, *absent, "", ""])


def _called_by(caller: Caller) -> str:
    return "root" if caller == "root" else "an ordinary user"
