"""One attack, graded by the command that a hiring manager would use, in a process of its own."""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from grader.model import Scorecard
from grader.paths import RunPaths
from grader.text import one_line
from grader.validate.attacks.packing import PACKINGS
from grader.validate.attacks.table import Attack, AttackLevel
from grader.validate.trees import apply_patch, copy_tree
from grader.watch import NOT_WATCHED

LIMIT_S = 900.0
"""A whole grade of the slowest attack takes half of that."""

STOPPING_S = 60.0
LOG_BYTES = 30_000_000
"""Read of one log: the grader keeps 20 MB of it."""

TOKEN_VARIABLE = "HIRING_TOKEN"


@dataclass(frozen=True)
class Observed:
    """What one run came to.

    ``exit_code``: ``None`` if it did not end in time. ``told``: its output and its errors. ``lines``: the patterns
    that a line of the service's log matched, each with the first such line. ``leaked``: files of the run, or
    ``output``, in which the token of the caller's environment stands.
    """

    exit_code: int | None
    told: str
    scorecard: Scorecard | None
    lines: Mapping[str, str] = field(default_factory=dict)
    leaked: tuple[str, ...] = ()
    duration_s: float = 0.0


def prepare(attack: Attack, scratch: Path) -> Path | str:
    """Write the attack below ``scratch``; what is handed in. Raises UsageError if its patch does not fit any more."""
    tree = scratch / "submission"
    copy_tree(attack.base, tree)
    if attack.patch is not None:
        apply_patch(attack.patch, tree, of=f"attack {attack.name}")
    return PACKINGS[attack.table.pack](tree, scratch / "packed") if attack.table.pack else tree


def command(
    submission: Path | str, out: Path, *, level: AttackLevel, only: Sequence[str], seed: int
) -> list[str]:
    """The command line of one grade."""
    chosen = [part for name in only for part in ("--only", name)]
    return [
        sys.executable, "-P", "-m", "grader.cli", "run", str(submission),
        "--sandbox", level, "--seed", str(seed), "--out", str(out), *chosen,
    ]  # fmt: skip


def start(arguments: Sequence[str], scratch: Path, token: str, *, watched: bool) -> subprocess.Popen[bytes]:
    """Start a grade. ``token`` is in its environment. ``watched``: nothing runs beside it that would disturb it."""
    environment = {**os.environ, TOKEN_VARIABLE: token, "NO_COLOR": "1", "COLUMNS": "200"}
    if not watched:
        environment[NOT_WATCHED] = "1"
    with (scratch / "told.txt").open("wb") as told:
        return subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=told, stderr=told, env=environment, start_new_session=True
        )  # fmt: skip


def finish(process: subprocess.Popen[bytes], limit_s: float = LIMIT_S) -> int | None:
    """Wait for a grade; its exit code, ``None`` if it had to be stopped."""
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        stop(process)
        return None


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a grade as Ctrl-C would."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOPPING_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def observe(
    exit_code: int | None, out: Path, scratch: Path, token: str, patterns: Iterable[str], started: float
) -> Observed:
    """Read what a run left. ``started``: by :func:`time.monotonic`."""
    told = (scratch / "told.txt").read_bytes()
    return Observed(
        exit_code=exit_code,
        told=told.decode("utf-8", "replace"),
        scorecard=_scorecard(RunPaths(out).scorecard),
        lines=_matches(out, tuple(patterns)),
        leaked=_leaked(out, told, token.encode()),
        duration_s=time.monotonic() - started,
    )


def new_token() -> str:
    """Something that stands nowhere else."""
    return f"hiring-{secrets.token_hex(16)}"


def _scorecard(path: Path) -> Scorecard | None:
    try:
        return Scorecard.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValidationError):
        return None


def _matches(out: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    wanted = {pattern: re.compile(pattern) for pattern in patterns}
    found: dict[str, str] = {}
    for log in sorted((out / "logs").rglob("service.log")):
        with log.open("rb") as file:
            lines = file.read(LOG_BYTES).decode("utf-8", "replace").splitlines()
        for line in lines:
            for pattern, compiled in wanted.items():
                if pattern not in found and compiled.search(line):
                    found[pattern] = one_line(line, 200)
    return found


def _leaked(out: Path, told: bytes, token: bytes) -> tuple[str, ...]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and not path.is_symlink())
    found = [path.relative_to(out).as_posix() for path in files if token in path.read_bytes()]
    return (*found, *(("output",) if token in told else ()))
