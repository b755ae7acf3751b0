"""Drive mutants and hold what fell against what was expected."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field
from rich.console import Console

from devstack.artifacts import Frozen
from devstack.paths import kit_root
from grader.checks import collect_checks
from grader.model import Identifier, Scorecard, Verdict
from grader.pipeline import RunRequest, run
from grader.reports.terminal import RunView
from grader.validate.mutants import Mutant, materialise

FALLEN = frozenset({Verdict.FAILED, Verdict.PARTIAL, Verdict.BLOCKED})
_JUDGING_CODE = ("grader", "fixtures/devstack")


class Evidence(Frozen):
    """One mutant driven once: which scenarios, which verdicts, by which grader. A line of the evidence file."""

    mutant: Identifier
    tree: str
    kit: str
    seed: int
    date: str
    duration_s: float
    scenarios: tuple[Identifier, ...]
    verdicts: dict[Identifier, Verdict]
    summaries: dict[Identifier, str] = Field(default={})


class Finding(Frozen):
    """A mutant's evidence held against its expectation."""

    mutant: Identifier
    missed: tuple[Identifier, ...]
    """Checks that should have fallen and did not."""
    false_alarms: tuple[Identifier, ...]
    """Checks that fell without a stated reason."""
    errored: tuple[Identifier, ...]

    @property
    def ok(self) -> bool:
        """Exactly what was expected."""
        return not (self.missed or self.false_alarms or self.errored)


def kit_digest() -> str:
    """Digest of the code that drives and judges: evidence of another digest is stale."""
    digest = hashlib.sha256()
    root = kit_root()
    for folder in _JUDGING_CODE:
        for path in sorted((root / folder).rglob("*")):
            if path.suffix in {".py", ".sql", ".ini", ".toml"} and "validate" not in path.parts:
                digest.update(f"{path.relative_to(root)}\0".encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def needed_checks(mutant: Mutant, *, exhaustive: bool) -> tuple[str, ...]:
    """Checks that can be judged when only the scenarios of the expected ones are driven; empty: all."""
    if exhaustive:
        return ()
    metas = collect_checks()
    driven = {scenario for check in mutant.expectation.fails for scenario in metas[check].requires}
    return tuple(name for name, meta in metas.items() if set(meta.requires) <= driven)


async def drive_mutant(
    mutant: Mutant, seed: int, *, exhaustive: bool = False, keep: Path | None = None
) -> Evidence:
    """Grade a mutant. ``keep``: where its run directory stays; otherwise it is removed."""
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"mutant-{mutant.name}-") as scratch:
        tree = Path(scratch) / "solution"
        materialise(mutant, tree)
        out = keep if keep is not None else Path(scratch) / "run"
        if keep is not None:
            shutil.rmtree(keep, ignore_errors=True)
        only = needed_checks(mutant, exhaustive=exhaustive)
        request = RunRequest(submission=tree, out=out, only=only, seed=seed)
        scorecard = await run(request, RunView(Console(quiet=True)))
    return _evidence(mutant, scorecard, seed, time.monotonic() - begun)


def _evidence(mutant: Mutant, scorecard: Scorecard, seed: int, duration_s: float) -> Evidence:
    return Evidence(
        mutant=mutant.name,
        tree=scorecard.lock.submission_digest,
        kit=kit_digest(),
        seed=seed,
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        duration_s=round(duration_s, 1),
        scenarios=tuple(sorted({name for result in scorecard.results for name in result.requires})),
        verdicts={result.id: result.verdict for result in scorecard.results},
        summaries={
            result.id: (
                result.judgement.summary if result.judgement else result.error or result.blocked_by or ""
            )
            for result in scorecard.results
            if result.verdict is not Verdict.PASSED
        },
    )


def judge_evidence(mutant: Mutant, evidence: Evidence) -> Finding:
    """Compare what fell with what was to fall."""
    fallen = {name for name, verdict in evidence.verdicts.items() if verdict in FALLEN}
    expected = mutant.expectation
    return Finding(
        mutant=mutant.name,
        missed=tuple(name for name in expected.fails if name not in fallen),
        false_alarms=tuple(sorted(fallen - set(expected.fails) - set(expected.also))),
        errored=tuple(name for name, verdict in evidence.verdicts.items() if verdict is Verdict.ERRORED),
    )


def explain(mutant: Mutant, evidence: Evidence, findings: Sequence[str]) -> list[str]:
    """One line per finding, with what the check said."""
    return [f"{mutant.name}: {name}: {evidence.summaries.get(name, 'passed')}" for name in findings]
