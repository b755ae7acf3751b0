"""Results → scorecard. Pure arithmetic.

A category's score is the points-weighted mean of its applicable checks; the total is the weighted mean of the
categories. Nothing is guessed: a category with an errored check, with a check that was not selected, or with
no applicable check has no score, and then there is no total. Notes carry no points and decide nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grader.errors import ExitCode
from grader.model import CategoryScore, CheckMeta, CheckOutcome, CheckResult, RunLock, Scorecard, Verdict
from grader.rubric import Rubric, RubricCategory


def rounded(value: float) -> float:
    """The one rounding of everything that is published as a score or as points: one decimal."""
    return round(value, 1)


def result_of(meta: CheckMeta, outcome: CheckOutcome, rubric: Rubric) -> CheckResult:
    """A check with its outcome and its points. Raises UnknownCheck if the rubric does not have it."""
    worth = rubric.check(meta.id)
    earned = None if outcome.score is None else rounded(outcome.score * worth.points)
    return CheckResult(
        **meta.model_dump(),
        tag=worth.tag,
        points=worth.points,
        earned=earned,
        verdict=outcome.verdict,
        score=outcome.score,
        judgement=outcome.judgement,
        error=outcome.error,
        blocked_by=outcome.blocked_by,
        not_applicable=outcome.not_applicable,
    )


def score(lock: RunLock, rubric: Rubric, results: Sequence[CheckResult]) -> Scorecard:
    """The scorecard of a run. ``results`` may lack checks that were not selected."""
    by_id = {result.id: result for result in results}
    fractions = {name: _fraction(category, by_id) for name, category in rubric.categories.items()}
    scored = [fraction for fraction in fractions.values() if fraction is not None]
    complete = len(scored) == len(fractions)
    total = (
        sum(category.weight * (fractions[name] or 0.0) for name, category in rubric.categories.items())
        if complete
        else None
    )
    return Scorecard(
        score=None if total is None else rounded(total),
        complete=complete,
        categories=tuple(
            CategoryScore(
                id=name,
                title=category.title,
                weight=category.weight,
                points=_applicable_points(category, by_id),
                score=_percent(fractions[name]),
            )
            for name, category in rubric.categories.items()
        ),
        results=tuple(by_id[check] for check in rubric.check_ids if check in by_id),
        warnings=(*lock.warnings, *_warnings(rubric, by_id)),
        red_flags=lock.red_flags,
        lock=lock,
    )


def exit_code(scorecard: Scorecard, fail_under: float = 0.0) -> ExitCode:
    """What ``grader`` exits with: errored checks are undecided, also in a partial run.

    A partial run without errors is graded, but cannot stand against ``fail_under``: then it is undecided too.
    """
    if any(result.verdict is Verdict.ERRORED and result.points for result in scorecard.results):
        return ExitCode.UNDECIDED
    if scorecard.score is None:
        partial = bool(scorecard.lock.selection) and fail_under <= 0
        return ExitCode.GRADED if partial else ExitCode.UNDECIDED
    return ExitCode.BELOW if scorecard.score < fail_under else ExitCode.GRADED


def _fraction(category: RubricCategory, by_id: Mapping[str, CheckResult]) -> float | None:
    """0…1, or ``None`` where it cannot be told."""
    graded = [check_id for check_id, worth in category.checks.items() if worth.points]
    results = [by_id[check_id] for check_id in graded if check_id in by_id]
    if len(results) < len(graded) or any(result.verdict is Verdict.ERRORED for result in results):
        return None
    possible = _applicable_points(category, by_id)
    earned = sum(result.points * (result.score or 0.0) for result in results)
    return earned / possible if possible else None


def _applicable_points(category: RubricCategory, by_id: Mapping[str, CheckResult]) -> float:
    """Points of the checks that can arise with this design; those that were not run count."""
    return sum(
        worth.points
        for check_id, worth in category.checks.items()
        if check_id not in by_id or by_id[check_id].verdict is not Verdict.NOT_APPLICABLE
    )


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else rounded(100 * fraction)


def _warnings(rubric: Rubric, by_id: Mapping[str, CheckResult]) -> tuple[str, ...]:
    warnings: list[str] = []
    missing = len(rubric.check_ids) - len(by_id)
    if missing:
        warnings.append(f"only {len(by_id)} of {len(rubric.check_ids)} checks were run: there is no total")
    graded = [result for result in by_id.values() if result.points]
    errored = [result.id for result in graded if result.verdict is Verdict.ERRORED]
    if errored:
        warnings.append(f"the grader could not judge {', '.join(errored)}: grade again")
    absent = [result.id for result in graded if result.verdict is Verdict.NOT_APPLICABLE]
    if absent:
        warnings.append(f"not applicable to this design, left out of its category: {', '.join(absent)}")
    return tuple(warnings)
