"""Running one check on its artifacts, and turning whatever happens into an outcome."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import ValidationError

from devstack.artifacts import Artifact, NotObserved
from grader.errors import VERDICT_POLICY, Cause
from grader.judge import Judge, NotApplicable
from grader.model import CheckMeta, CheckOutcome, Judgement, Verdict
from grader.paths import RunPaths
from grader.text import one_line

# A full judgement is passed, none of it is failed, anything between is partial.
_FULL_SCORE = 1.0


class ArtifactStore:
    """The artifacts of a run, one per scenario: the last attempt, unless only an earlier one was undisturbed."""

    def __init__(self, run: RunPaths) -> None:
        self._run = run
        self._loaded: dict[str, Artifact | None] = {}

    def find(self, scenario: str) -> Artifact | None:
        """The artifact to be judged, or ``None`` if there is none that can be read."""
        if scenario not in self._loaded:
            self._loaded[scenario] = self._load(scenario)
        return self._loaded[scenario]

    def _load(self, scenario: str) -> Artifact | None:
        attempts = [
            artifact for path in self._run.attempts(scenario) if (artifact := _read(path)) is not None
        ]
        undisturbed = [artifact for artifact in attempts if artifact.outcome.kind != "trouble"]
        chosen = undisturbed or attempts
        return chosen[-1] if chosen else None


def run_check(
    judge: Judge, call: Callable[[], None], artifacts: Mapping[str, Artifact | None]
) -> CheckOutcome:
    """Let ``call`` judge, unless the state of the artifacts already decides. Never raises for a broken check."""
    meta = judge.meta
    decided = _decided_by(meta, artifacts)
    if decided is not None:
        return decided
    try:
        call()
        judgement = judge.judgement()
    except NotApplicable as reason:
        return outcome(meta.id, Cause.CANNOT_ARISE, str(reason))
    except NotObserved as missing:
        cut_short = any(
            found is not None and found.outcome.kind == "cut-short" for found in artifacts.values()
        )
        if cut_short:
            return outcome(meta.id, Cause.MISBEHAVED_MIDWAY, str(missing), judge.failure(str(missing)))
        return outcome(meta.id, Cause.NOT_RECORDED, str(missing))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a check's bug, whatever it is (pytest's own outcomes are BaseExceptions)
        return outcome(meta.id, Cause.BROKEN_CHECK, _located(error))
    return CheckOutcome(
        id=meta.id, verdict=_verdict(judgement.score), score=judgement.score, judgement=judgement
    )


def outcome(check_id: str, cause: Cause, reason: str, judgement: Judgement | None = None) -> CheckOutcome:
    """The outcome that the verdict policy gives for ``cause``; ``reason`` is told where its verdict tells one."""
    verdict = VERDICT_POLICY[cause].verdict
    told = one_line(reason)
    return CheckOutcome(
        id=check_id,
        verdict=verdict,
        score=0.0 if verdict in (Verdict.FAILED, Verdict.BLOCKED) else None,
        judgement=judgement,
        error=one_line(f"{cause}: {told}") if verdict is Verdict.ERRORED else None,
        blocked_by=told if verdict is Verdict.BLOCKED else None,
        not_applicable=told if verdict is Verdict.NOT_APPLICABLE else None,
    )


def _decided_by(meta: CheckMeta, artifacts: Mapping[str, Artifact | None]) -> CheckOutcome | None:
    """Blocked comes first: no other artifact could help a submission that cannot be driven."""
    for scenario, found in artifacts.items():
        if found is not None and found.outcome.kind == "blocked":
            return outcome(meta.id, Cause.NOT_DRIVABLE, f"{scenario}: {found.outcome.reason}")
    for scenario, found in artifacts.items():
        if found is None:
            return outcome(meta.id, Cause.NO_ARTIFACT, scenario)
        if found.outcome.kind == "trouble":
            return outcome(meta.id, Cause.TROUBLE, f"{scenario}: {found.outcome.reason}")
    return None


def _verdict(score: float) -> Verdict:
    if score >= _FULL_SCORE:
        return Verdict.PASSED
    return Verdict.PARTIAL if score > 0 else Verdict.FAILED


def _read(path: Path) -> Artifact | None:
    try:
        return Artifact.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _located(error: BaseException) -> str:
    """``KeyError: 'items' (test_x.py:12)``: the innermost line, without the path of this machine."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"
