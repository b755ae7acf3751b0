"""Several attempts of a scenario: which of them count, and what they come to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from devstack.artifacts import Artifact, Disturbance, MachineSample, Outcome
from grader.errors import Cause
from grader.judge import Judge
from grader.judging import judge_record, regrade
from grader.model import CheckMeta, CheckOutcome, Verdict
from grader.paths import RunPaths, write_json
from grader.repeats import MAXIMUM_REPEATS, repeats
from grader.verdicts import ArtifactStore, decide, outcome, run_check

SCENARIO = "busy-minute"
META = CheckMeta(
    id="sample", category="first", title="t", failure_title="f", why="w", remediation="r", question="q",
    level="mid", requires=(SCENARIO,),
)  # fmt: skip
FOREIGN = MachineSample(at_s=1, seconds=1, busy=1.9, submission=0.1, database=0, kit=0.1)
DISTURBED = Disturbance(cores=2, memory_mib=4000, samples=(FOREIGN,) * 5)
CALM = Disturbance(cores=2, memory_mib=4000, samples=(FOREIGN.model_copy(update={"busy": 0.3}),) * 5)


def artifact(latency_s: float, disturbance: Disturbance | None = None, **outcome_: str) -> Artifact:
    return Artifact(
        scenario=SCENARIO,
        facts={"latency_s": latency_s},
        outcome=Outcome.model_validate(outcome_),
        disturbance=disturbance,
    )


def vote(record: Artifact, limit_s: float = 1.0) -> CheckOutcome:
    judge = Judge(META)
    return run_check(
        judge,
        lambda: judge.at_most("latency", record.number("latency_s"), limit_s) and None,
        {SCENARIO: record},
    )


def verdict(*records: Artifact) -> tuple[Verdict, dict[str, int]]:
    found = decide(META, [vote(record) for record in records])
    return found.verdict, found.again


def far(*latencies: float) -> list[Artifact]:
    return [artifact(latency_s) for latency_s in latencies]


def test_what_is_clear_is_not_driven_again() -> None:
    assert verdict(artifact(0.2, CALM)) == (Verdict.PASSED, {})
    assert verdict(artifact(5.2, CALM)) == (Verdict.FAILED, {})


def test_what_passes_under_a_disturbance_has_passed() -> None:
    assert verdict(artifact(0.2, DISTURBED)) == (Verdict.PASSED, {})


def test_what_does_not_pass_under_a_disturbance_is_asked_once_more_and_then_errored() -> None:
    assert verdict(artifact(5.2, DISTURBED)) == (Verdict.ERRORED, {SCENARIO: 1})
    assert verdict(artifact(5.2, DISTURBED), artifact(5.2, DISTURBED)) == (Verdict.ERRORED, {})
    assert verdict(artifact(5.2, DISTURBED), artifact(5.2, CALM)) == (Verdict.FAILED, {})
    assert verdict(artifact(5.2, DISTURBED), artifact(0.2, CALM)) == (Verdict.PASSED, {})


def test_the_reason_is_told() -> None:
    found = vote(artifact(5.2, DISTURBED))
    assert found.error == f"{Cause.DISTURBED}: {SCENARIO}: other programs used 1.7 of 2 cores for 5 s"
    assert (found.score, found.judgement) == (None, None)


@pytest.mark.parametrize("kind", ["blocked", "cut-short"])
def test_a_service_that_met_its_end_under_a_disturbance_is_not_blamed(kind: str) -> None:
    def nothing(_: Judge) -> None:
        artifact(1).exchange("never sent")

    judge = Judge(META)
    record = artifact(1, DISTURBED, kind=kind, reason="gone")
    assert run_check(judge, lambda: nothing(judge), {SCENARIO: record}).verdict is Verdict.ERRORED


@pytest.mark.parametrize("latency_s", [0.86, 0.99, 1.01, 1.14])
def test_what_is_close_to_its_limit_is_driven_twice_more(latency_s: float) -> None:
    assert verdict(artifact(latency_s))[1] == {SCENARIO: 2}


@pytest.mark.parametrize("latency_s", [0.84, 1.0, 1.16])
def test_what_is_not_close_stands(latency_s: float) -> None:
    """A whole number counts something, and counts are exact."""
    assert verdict(artifact(latency_s))[1] == {}


@pytest.mark.parametrize(
    ("latencies", "expected"),
    [
        ((1.1, 0.9, 0.8), Verdict.PASSED),
        ((0.9, 1.1, 1.2), Verdict.FAILED),
        ((0.9, 1.1, 0.2, 0.3), Verdict.PASSED),
        ((1.1, 1.1), Verdict.FAILED),
    ],
)
def test_the_median_decides(latencies: tuple[float, ...], expected: Verdict) -> None:
    found = decide(META, [vote(record) for record in far(*latencies)])
    assert found.verdict is expected
    assert found.judgement is not None
    assert found.judgement.summary.endswith(f"(median of {len(latencies)} attempts)")


def test_two_that_contradict_each_other_need_a_third() -> None:
    assert verdict(*far(0.9, 1.1)) == (Verdict.ERRORED, {SCENARIO: 1})
    assert verdict(*far(1.1, 1.1))[1] == {SCENARIO: 1}
    assert verdict(*far(0.9, 1.1, 2.2, 0.3))[0] is Verdict.ERRORED


def test_an_excused_attempt_has_no_vote() -> None:
    assert verdict(artifact(0.9), artifact(5, DISTURBED), artifact(5, DISTURBED))[0] is Verdict.PASSED


def test_the_median_of_partial_credit() -> None:
    def graded(latency_s: float) -> CheckOutcome:
        judge = Judge(META)
        return run_check(judge, lambda: judge.graded("p95", latency_s, full=0.3, zero=0.9) and None, {})

    assert decide(META, [graded(s) for s in (0.31, 0.85, 0.6)]).score == 0.5


@pytest.mark.parametrize(
    ("measure", "borderline"),
    [
        (lambda judge: judge.at_least("pause", 0.95, 1.0), True),
        (lambda judge: judge.at_least("pause", 2.5, 1.0), False),
        (lambda judge: judge.at_most("statements", 19, 20), False),
        (lambda judge: judge.at_most("errors", 0, 0), False),
        (lambda judge: judge.at_most("errors", 0.001, 0), False),
        (lambda judge: judge.graded("p95", 0.32, full=0.3, zero=0.9), True),
        (lambda judge: judge.graded("p95", 0.85, full=0.3, zero=0.9), True),
        (lambda judge: judge.graded("p95", 0.6, full=0.3, zero=0.9), False),
        (lambda judge: judge.graded("rate", 9.1, full=9, zero=5), True),
        (lambda judge: [judge.at_most("p95", 0.95, 1.0), judge.true("charged once", False)], False),
        (lambda judge: [judge.at_most("p95", 0.95, 1.0), judge.equal("status", 201, 201)], True),
        (lambda judge: None, False),
    ],
)
def test_only_what_decides_can_be_borderline(measure: Callable[[Judge], object], borderline: bool) -> None:
    judge = Judge(META)
    measure(judge)
    assert judge.borderline is borderline


def test_what_cannot_arise_counts_by_majority() -> None:
    absent, passed = outcome("sample", Cause.CANNOT_ARISE, "no queue"), vote(artifact(0.2))
    assert decide(META, [absent, absent, passed]).verdict is Verdict.NOT_APPLICABLE
    assert decide(META, [absent, passed]).verdict is Verdict.PASSED


def test_attempts_that_give_way_to_others(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    kinds = ["blocked", "trouble", "completed", "blocked"]
    for number, kind in enumerate(kinds, 1):
        write_json(run.artifact(SCENARIO, number), artifact(1, kind=kind))
        if kind == "trouble":
            write_json(run.artifact("troubled", number), artifact(1, kind=kind))
    run.artifact(SCENARIO, 5).write_text("cut off")
    store = ArtifactStore(run)
    assert [found.outcome.kind for found in store.attempts(SCENARIO)] == ["completed", "blocked"]
    assert [found.outcome.kind for found in store.attempts("troubled")] == ["trouble"]
    assert store.attempts("never-driven") == ()
    ballots = store.ballots((SCENARIO, "troubled", "never-driven"))
    assert [[found and found.outcome.kind for found in ballot.values()] for ballot in ballots] == [
        ["completed", "trouble", None],
        ["blocked", "trouble", None],
    ]


CHECKS = """
@check(id="quick-reads", category="first")
def test_reads(busy_minute, judge):
    judge.at_most("latency", busy_minute.number("latency_s"), 1.0, unit="s")

@check(id="slow-writes", category="first")
def test_writes(busy_minute, judge):
    judge.true("writes", True)

@check(id="retries", category="second")
def test_retries(judge):
    judge.true("retries", True)

@check(id="timeouts", category="second")
def test_timeouts(judge):
    judge.true("timeouts", True)
"""


def test_the_attempts_on_disk_decide_and_the_same_bytes_come_again(
    run: RunPaths, checks_folder: Callable[[str], Path]
) -> None:
    folder = checks_folder(CHECKS)
    write_json(run.artifact(SCENARIO, 1), artifact(1.1, CALM))
    scorecard, outcomes = judge_record(run.root, extra_checks=[folder])
    assert (scorecard.results[0].verdict, outcomes[0].again) == (Verdict.FAILED, {SCENARIO: 2})
    for attempt, latency_s in ((2, 0.8), (3, 0.7)):
        write_json(run.artifact(SCENARIO, attempt), artifact(latency_s, CALM))
    scorecard, outcomes = judge_record(run.root, extra_checks=[folder])
    assert scorecard.results[0].verdict is Verdict.PASSED
    assert not any(found.again for found in outcomes)
    before = run.scorecard.read_bytes()
    regrade(run.root, extra_checks=[folder])
    assert run.scorecard.read_bytes() == before


def doubtful(check_id: str, **again: int) -> CheckOutcome:
    return CheckOutcome(id=check_id, verdict=Verdict.FAILED, score=0.0, again=again)


def test_repeats_are_for_points_and_have_an_end() -> None:
    points = {"cheap": 5.0, "dear": 40.0, "a-note": 0.0}
    wanted = [doubtful("cheap", outage=2), doubtful("dear", load=1, outage=1), doubtful("a-note", crash=2)]
    assert repeats(wanted, points, {}) == {"outage": 2, "load": 1}
    assert repeats(wanted, points, {}, room=2) == {"outage": 2}
    assert repeats(wanted, points, {"outage": 3}) == {"outage": 1, "load": 1}
    assert repeats(wanted, points, {"outage": 4, "load": 4}) == {}
    many = [doubtful("dear", **{f"s{number}": 1 for number in range(30)})]
    assert sum(repeats(many, points, {}).values()) == MAXIMUM_REPEATS
