"""Running one check on its artifacts, attempt by attempt, and turning whatever happens into one outcome."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from devstack.artifacts import Artifact, NotObserved
from grader.disturbance import excuse
from grader.errors import JUDGED_ATTEMPTS, VERDICT_POLICY, Cause, Doubt
from grader.judge import Judge, NotApplicable
from grader.model import CheckMeta, CheckOutcome, Judgement, Verdict
from grader.paths import RunPaths
from grader.text import one_line

# A full judgement is passed, none of it is failed, anything between is partial.
_FULL_SCORE = 1.0
_LOST = frozenset({Verdict.FAILED, Verdict.PARTIAL, Verdict.BLOCKED})
_JUDGED = frozenset({Verdict.PASSED, Verdict.PARTIAL, Verdict.FAILED})


class ArtifactStore:
    """The artifacts of a run: of each scenario the attempts that count."""

    def __init__(self, run: RunPaths) -> None:
        self._run = run
        self._loaded: dict[str, tuple[Artifact, ...]] = {}

    def find(self, scenario: str) -> Artifact | None:
        """The last attempt that counts, or ``None`` if there is none that can be read."""
        counting = self.attempts(scenario)
        return counting[-1] if counting else None

    def attempts(self, scenario: str) -> tuple[Artifact, ...]:
        """The attempts that count, first one first.

        One that trouble stopped gives way to any other; a service that did not start, to its next start.
        """
        if scenario not in self._loaded:
            found = [read for path in self._run.attempts(scenario) if (read := _read(path)) is not None]
            undisturbed = [artifact for artifact in found if artifact.outcome.kind != "trouble"] or found
            started = [
                place for place, artifact in enumerate(undisturbed) if artifact.outcome.kind != "blocked"
            ]
            self._loaded[scenario] = tuple(
                artifact
                for place, artifact in enumerate(undisturbed)
                if artifact.outcome.kind != "blocked" or not any(place < later for later in started)
            )
        return self._loaded[scenario]

    def ballots(self, scenarios: Sequence[str]) -> list[dict[str, Artifact | None]]:
        """What a check is asked about: first attempts together, second ones together …; the last one stands in."""
        by_scenario = {name: self.attempts(name) or (None,) for name in scenarios}
        rounds = max((len(found) for found in by_scenario.values()), default=1)
        return [
            {name: found[min(turn, len(found) - 1)] for name, found in by_scenario.items()}
            for turn in range(rounds)
        ]


def run_check(
    judge: Judge, call: Callable[[], None], artifacts: Mapping[str, Artifact | None]
) -> CheckOutcome:
    """Let ``call`` judge, unless the state of the artifacts already decides. Never raises for a broken check.

    What did not pass while something else disturbed the scenario is not held against the submission.
    """
    found = _judged(judge, call, artifacts)
    if found.verdict in _LOST:
        reasons = {
            name: reason
            for name, artifact in artifacts.items()
            if artifact is not None and (reason := excuse(artifact.disturbance))
        }
        if reasons:
            told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
            excused = outcome(judge.meta.id, Cause.DISTURBED, told)
            return _to_be_driven(excused, JUDGED_ATTEMPTS[Doubt.DISTURBED] - 1, tuple(reasons))
    if found.verdict in _JUDGED and judge.borderline:
        return _to_be_driven(found, JUDGED_ATTEMPTS[Doubt.BORDERLINE] - 1, judge.meta.requires)
    return found


def decide(meta: CheckMeta, votes: Sequence[CheckOutcome]) -> CheckOutcome:
    """The outcome of a check that was asked about several attempts: the median of those that came to a verdict.

    An excused attempt has no vote. Two that contradict each other leave the check undecided.
    """
    counting = [vote for vote in votes if vote.verdict is not Verdict.ERRORED]
    if not counting:
        final = len(votes) >= JUDGED_ATTEMPTS[Doubt.DISTURBED]
        return votes[-1].model_copy(update={"again": {}}) if final else votes[-1]
    absent = [vote for vote in counting if vote.score is None]
    if 2 * len(absent) > len(counting):
        return absent[0]
    ranked = sorted((vote for vote in counting if vote.score is not None), key=lambda vote: vote.score or 0.0)
    if len(ranked) == 1:
        return ranked[0]
    lower, upper = ranked[(len(ranked) - 1) // 2], ranked[len(ranked) // 2]
    missing = JUDGED_ATTEMPTS[Doubt.BORDERLINE] - len(ranked)
    if lower.verdict is not upper.verdict:
        told = ", ".join(str(vote.verdict) for vote in votes)
        return _to_be_driven(outcome(meta.id, Cause.CONTRADICTION, told), max(1, missing), meta.requires)
    doubtful = any(vote.again for vote in ranked)
    return _to_be_driven(_as_median(lower, len(ranked)), missing if doubtful else 0, meta.requires)


def _as_median(chosen: CheckOutcome, of: int) -> CheckOutcome:
    if chosen.judgement is None:
        return chosen
    summary = one_line(f"{chosen.judgement.summary} (median of {of} attempts)")
    return chosen.model_copy(update={"judgement": chosen.judgement.model_copy(update={"summary": summary})})


def _to_be_driven(found: CheckOutcome, times: int, scenarios: Sequence[str]) -> CheckOutcome:
    return found.model_copy(update={"again": dict.fromkeys(scenarios, times) if times > 0 else {}})


def _judged(judge: Judge, call: Callable[[], None], artifacts: Mapping[str, Artifact | None]) -> CheckOutcome:
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
