from __future__ import annotations

from collections.abc import Callable

import pytest

from grader.errors import ExitCode
from grader.model import CheckResult, RunLock, Verdict
from grader.rubric import Rubric
from grader.scoring import exit_code, score

Make = Callable[..., CheckResult]
PASSED, PARTIAL, FAILED = Verdict.PASSED, Verdict.PARTIAL, Verdict.FAILED


def all_results(result: Make, **replaced: CheckResult) -> list[CheckResult]:
    made = {name: result(name, PASSED, 1.0) for name in ("quick-reads", "slow-writes", "retries", "timeouts")}
    return list((made | {name.replace("_", "-"): value for name, value in replaced.items()}).values())


def test_categories_are_means_by_points_and_the_total_is_their_mean_by_weight(
    lock: RunLock, rubric: Rubric, result: Make
) -> None:
    results = all_results(
        result, slow_writes=result("slow-writes", PARTIAL, 0.5), timeouts=result("timeouts", FAILED, 0.0)
    )
    scorecard = score(lock, rubric, results)
    assert [category.score for category in scorecard.categories] == [65.0, 50.0]
    assert scorecard.score == 59.0  # 0.6 · 65 + 0.4 · 50
    assert scorecard.complete


def test_scores_have_one_decimal(lock: RunLock, rubric: Rubric, result: Make) -> None:
    results = all_results(result, quick_reads=result("quick-reads", PARTIAL, 1 / 3))
    scorecard = score(lock, rubric, results)
    assert (scorecard.score, scorecard.categories[0].score, scorecard.results[0].earned) == (88.0, 80.0, 10.0)
    assert scorecard.categories[0].score == round(100 * (70 + 10) / 100, 1)


def test_an_errored_check_is_never_a_number(lock: RunLock, rubric: Rubric, result: Make) -> None:
    results = all_results(result, retries=result("retries", Verdict.ERRORED, error="trouble"))
    scorecard = score(lock, rubric, results)
    assert [category.score for category in scorecard.categories] == [100.0, None]
    assert (scorecard.score, scorecard.complete) == (None, False)
    assert any("retries" in warning for warning in scorecard.warnings)
    assert exit_code(scorecard) is ExitCode.UNDECIDED


def test_what_cannot_arise_leaves_the_denominator(lock: RunLock, rubric: Rubric, result: Make) -> None:
    results = all_results(
        result,
        quick_reads=result("quick-reads", FAILED, 0.0),
        slow_writes=result("slow-writes", Verdict.NOT_APPLICABLE, not_applicable="no writes"),
    )
    scorecard = score(lock, rubric, results)
    assert (scorecard.categories[0].score, scorecard.categories[0].points) == (0.0, 30.0)
    assert scorecard.complete
    assert any("slow-writes" in warning for warning in scorecard.warnings)


def test_a_blocked_check_costs_all_its_points(lock: RunLock, rubric: Rubric, result: Make) -> None:
    blocked = result("slow-writes", Verdict.BLOCKED, 0.0, blocked_by="busy-minute: did not start")
    scorecard = score(lock, rubric, all_results(result, slow_writes=blocked))
    assert (scorecard.categories[0].score, scorecard.categories[0].points) == (30.0, 100.0)


def test_a_category_in_which_nothing_can_arise_is_undecided(
    lock: RunLock, rubric: Rubric, result: Make
) -> None:
    absent = {
        name: result(name, Verdict.NOT_APPLICABLE, not_applicable="x") for name in ("retries", "timeouts")
    }
    scorecard = score(lock, rubric, all_results(result, **absent))
    assert (scorecard.categories[1].score, scorecard.score, scorecard.complete) == (None, None, False)
    assert exit_code(scorecard) is ExitCode.UNDECIDED


def test_a_partial_run_scores_the_categories_that_it_ran_whole(
    lock: RunLock, rubric: Rubric, result: Make
) -> None:
    chosen = ("quick-reads", "slow-writes", "retries")
    partial = lock.model_copy(update={"selection": chosen})
    scorecard = score(partial, rubric, [result(name, PASSED, 1.0) for name in chosen])
    assert [category.score for category in scorecard.categories] == [100.0, None]
    assert (scorecard.score, scorecard.complete) == (None, False)
    assert "only 3 of 4 checks" in scorecard.warnings[-1]
    assert exit_code(scorecard) is ExitCode.GRADED
    assert exit_code(scorecard, fail_under=50) is ExitCode.UNDECIDED


@pytest.mark.parametrize(("fail_under", "code"), [(70.0, ExitCode.GRADED), (70.1, ExitCode.BELOW)])
def test_fail_under_is_held_against_the_published_score(
    lock: RunLock, rubric: Rubric, result: Make, fail_under: float, code: ExitCode
) -> None:
    results = all_results(
        result, retries=result("retries", FAILED, 0.0), timeouts=result("timeouts", PARTIAL, 0.5)
    )
    scorecard = score(lock, rubric, results)
    assert scorecard.score == 70.0
    assert exit_code(scorecard, fail_under) is code


def test_results_follow_the_rubric_whatever_order_they_came_in(
    lock: RunLock, rubric: Rubric, result: Make
) -> None:
    results = all_results(result)
    assert score(lock, rubric, results) == score(lock, rubric, results[::-1])
