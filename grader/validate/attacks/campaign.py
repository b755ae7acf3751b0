"""``grader validate --attacks``: every attack as a real grade, beside its honest baseline."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

from rich.console import Console

from grader.errors import ExitCode, GraderError
from grader.text import one_line
from grader.validate.attacks import leftovers
from grader.validate.attacks.evidence import (
    AttackRow,
    Caller,
    digest_of,
    merged,
    read_rows,
    write_rows,
    write_table,
)
from grader.validate.attacks.holding import faults, points
from grader.validate.attacks.running import (
    Observed,
    command,
    finish,
    new_token,
    observe,
    prepare,
    start,
    stop,
)
from grader.validate.attacks.table import Attack, AttackLevel, attacks_folder, load_attacks
from grader.validate.trees import submissions_folder
from grader.validate.units import Hardware

LOAD_CHECKS = ("load-errors", "load-latency", "request-cost")
"""Their window must not be shared: what needs one of them runs alone."""

ATTEMPTS = 2
"""A run that does not hold is repeated once, alone; it holds if the second does, and the table is told by that."""


@dataclass(frozen=True)
class AttacksRequest:
    """What was asked for. ``lanes``: how many run side by side. ``evidence`` ``None``: the kit's own file."""

    names: tuple[str, ...] = ()
    level: AttackLevel = "strong"
    seed: int = 1
    lanes: int = 1
    evidence: Path | None = None
    report: Path | None = None
    drive: bool = True
    keep: Path | None = None


@dataclass
class _Driver:
    """Runs of one invocation. ``honest``: points of each baseline by check."""

    request: AttacksRequest
    scratch: Path
    console: Console
    honest: dict[tuple[str, str], float] = field(default_factory=dict)
    runs: int = 0

    def together(self, batch: Sequence[Attack]) -> list[tuple[Observed, tuple[str, ...]]]:
        """Drive a batch side by side; what was observed of each, and what was left behind by them all."""
        prepared = []
        for attack in batch:
            self.runs += 1
            place = self.scratch / f"{self.runs:04}-{attack.name}"
            place.mkdir()
            prepared.append((attack, place, prepare(attack, place), new_token()))
        before = leftovers.look()
        running = []
        started = time.monotonic()
        try:
            for attack, place, submission, token in prepared:
                arguments = command(
                    submission, place / "run", level=self.request.level, only=attack.table.only,
                    seed=self.request.seed,
                )  # fmt: skip
                running.append(start(arguments, place, token, watched=len(batch) == 1))
            codes = [finish(process) for process in running]
        finally:
            for process in running:
                stop(process)
        left = leftovers.left_since(before)
        leftovers.end_orphans()
        return [
            (
                observe(
                    code, place / "run", place, token, (*attack.table.log, *attack.table.never_log), started
                ),
                left,
            )
            for (attack, place, _, token), code in zip(prepared, codes, strict=True)
        ]

    def baseline(self, attack: Attack) -> float | None:
        """Points that the attack's honest base earns for the same checks; driven before."""
        if attack.table.outcome != "graded":
            return None
        return sum(self.honest[attack.table.base, check] for check in attack.table.only)

    def drive_baselines(self, attacks: Sequence[Attack]) -> None:
        """Grade each base once, for all the checks that attacks on it name. Raises GraderError if one comes to nothing."""
        for base in dict.fromkeys(
            attack.table.base for attack in attacks if attack.table.outcome == "graded"
        ):
            mine = [one for one in attacks if one.table.base == base and one.table.outcome == "graded"]
            only = tuple(dict.fromkeys(name for one in mine for name in one.table.only))
            place = self.scratch / f"honest-{base.replace('/', '-')}"
            place.mkdir()
            tree = prepare(_honest(mine[0]), place)
            arguments = command(
                tree, place / "run", level=self.request.level, only=only, seed=self.request.seed
            )
            started = time.monotonic()
            process = start(arguments, place, new_token(), watched=True)
            try:
                code = finish(process)
            finally:
                stop(process)
            seen = observe(code, place / "run", place, new_token(), (), started)
            if seen.scorecard is None or code != ExitCode.GRADED:
                told = (seen.told.strip().splitlines() or ["nothing"])[-1]
                raise GraderError(f"the honest {base} could not be graded: {told}", hint="see grader doctor")
            for name in only:
                self.honest[base, name] = points(seen.scorecard, (name,))
            self.console.print(f"{base}: {points(seen.scorecard, only):.1f} points for {len(only)} checks")


def validate_attacks(request: AttacksRequest, console: Console) -> ExitCode:
    """Drive the attacks, say which hold, keep the evidence. Raises GraderError for what cannot be asked or done."""
    attacks = load_attacks(request.names)
    evidence = request.evidence or submissions_folder() / "attacks.jsonl"
    rows = read_rows(evidence)
    fallen = 0
    if request.drive:
        leftovers.adopt_orphans()
        with _scratch(request.keep) as scratch:
            driver = _Driver(request, scratch, console)
            applicable = [one for one in attacks if request.level in one.table.levels]
            driver.drive_baselines(applicable)
            done = 0
            for batch in _batches(applicable, request.lanes):
                for row in _driven(driver, batch):
                    done += 1
                    fallen += bool(row.faults)
                    _tell(console, row, done, len(applicable))
                    rows = merged(rows, [row])
                    write_rows(evidence, rows)
        console.print(f"{done - fallen} of {done} attacks hold at level {request.level}")
    if request.report is not None:
        write_table(request.report, load_attacks(), rows)
        console.print(f"Written: {request.report}", markup=False, soft_wrap=True)
    return ExitCode.BELOW if fallen else ExitCode.GRADED


def _driven(driver: _Driver, batch: Sequence[Attack]) -> Iterator[AttackRow]:
    for attack, (observed, left) in zip(batch, driver.together(batch), strict=True):
        wrong = faults(attack.table, observed, driver.baseline(attack), left)
        if wrong and ATTEMPTS > 1:
            ((observed, left),) = driver.together([attack])
            wrong = faults(attack.table, observed, driver.baseline(attack), left)
        card = observed.scorecard
        yield AttackRow(
            attack=attack.name,
            digest=digest_of(attack),
            level=driver.request.level,
            caller=_caller(),
            date=time.strftime("%Y-%m-%d"),
            duration_s=round(observed.duration_s, 1),
            machine=Hardware.here(),
            sandbox=card.lock.sandbox_details if card else (),
            faults=wrong,
        )


@contextlib.contextmanager
def _scratch(keep: Path | None) -> Iterator[Path]:
    """Where runs are; below ``keep`` they stay."""
    if keep is None:
        with TemporaryDirectory(prefix="attacks-") as folder:
            yield Path(folder)
    else:
        keep.mkdir(parents=True, exist_ok=True)
        yield Path(mkdtemp(prefix="attacks-", dir=keep.resolve()))


def _batches(attacks: Sequence[Attack], lanes: int) -> Iterator[Sequence[Attack]]:
    """Those that need the machine for themselves first, one by one; the others ``lanes`` at a time."""
    alone = [one for one in attacks if one.table.alone or set(one.table.only) & set(LOAD_CHECKS)]
    others = [one for one in attacks if one not in alone]
    for one in alone:
        yield [one]
    for first in range(0, len(others), lanes):
        yield others[first : first + lanes]


def _honest(attack: Attack) -> Attack:
    """The base of ``attack`` as an attack that does nothing."""
    return Attack("honest", attacks_folder() / "none", attack.table.model_copy(update={"pack": ""}))


def _caller() -> Caller:
    return "root" if os.geteuid() == 0 else "user"


def _tell(console: Console, row: AttackRow, done: int, total: int) -> None:
    mark = "NOT " if row.faults else "ok  "
    console.print(f"{mark}{done}/{total} {row.attack} ({row.duration_s:.0f} s)", markup=False, soft_wrap=True)
    for fault in row.faults:
        console.print(f"      {one_line(fault, 300)}", markup=False, soft_wrap=True)
