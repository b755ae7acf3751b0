from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from devstack.artifacts import Artifact, NotObserved, Outcome
from grader.judge import Judge, check, meta_of
from grader.judging import judge_run
from grader.model import CheckOutcome, Verdict
from grader.paths import RunPaths, write_json
from grader.rubric import Rubric
from grader.verdicts import ArtifactStore, run_check


@check(
    id="sample",
    category="first",
    level="mid",
    title="it holds",
    failure_title="it is broken",
    why="w",
    remediation="r",
    question="q",
)
def sample(slow_database: Artifact, judge: Judge) -> None:
    """A check to take the declaration from."""


META = meta_of(sample)
assert META is not None


def judged(call: Callable[[Judge], object], *artifacts: Artifact | None) -> CheckOutcome:
    assert META is not None
    judge = Judge(META)
    given = dict(zip(("slow-database", "outage"), artifacts, strict=False))
    return run_check(judge, lambda: call(judge) and None, given)


def artifact(kind: str = "completed", reason: str = "") -> Artifact:
    return Artifact(
        scenario="slow-database", outcome=Outcome.model_validate({"kind": kind, "reason": reason})
    )


def test_parameters_declare_the_scenarios() -> None:
    assert META is not None
    assert META.requires == ("slow-database",)


def test_a_check_must_take_the_judge() -> None:
    declare = check(
        id="x", category="first", level="mid", title="", failure_title="", why="", remediation="", question=""
    )
    with pytest.raises(TypeError, match="judge"):
        declare(lambda: None)


def test_the_score_is_the_lowest_measurement() -> None:
    def call(judge: Judge) -> None:
        assert judge.at_most("errors", 0, 0)
        assert judge.graded("latency", 0.6, full=0.2, zero=1.0, unit="s") == 0.5
        assert judge.true("no traceback", True)

    outcome = judged(call, artifact())
    assert (outcome.verdict, outcome.score) == (Verdict.PARTIAL, 0.5)
    assert outcome.judgement is not None
    assert outcome.judgement.summary == "latency: 0.6 s, expected ≤ 0.2 (no points ≥ 1) s"


@pytest.mark.parametrize(
    ("call", "passes"),
    [
        (lambda judge: judge.at_most("n", 3, 3), True),
        (lambda judge: judge.at_most("n", 3.01, 3), False),
        (lambda judge: judge.at_least("n", 3, 3), True),
        (lambda judge: judge.at_least("n", 2.99, 3), False),
        (lambda judge: judge.equal("status", [1, 2], [1, 2]), True),
        (lambda judge: judge.equal("status", "201", 201), False),
        (lambda judge: judge.true("holds", False, "order 17 has 2 charges"), False),
    ],
)
def test_measurements_pass_or_fail(call: Callable[[Judge], bool], passes: bool) -> None:
    outcome = judged(call, artifact())
    assert outcome.verdict is (Verdict.PASSED if passes else Verdict.FAILED)
    assert outcome.score == float(passes)


@pytest.mark.parametrize(
    ("value", "credit"), [(10, 1.0), (9, 1.0), (8.5, 0.75), (8, 0.5), (7, 0.0), (0, 0.0)]
)
def test_partial_credit_is_linear_between_zero_and_full(value: float, credit: float) -> None:
    assert META is not None
    assert Judge(META).graded("throughput", value, full=9, zero=7) == credit


def broken_measurement(judge: Judge) -> None:
    judge.at_most("latency", float("nan"), 1)


def bare_assertion(judge: Judge) -> None:
    raise AssertionError("1 == 2")


def skipping(judge: Judge) -> None:
    pytest.skip("not today")


def leaving(judge: Judge) -> None:
    raise SystemExit(0)


@pytest.mark.parametrize("call", [broken_measurement, bare_assertion, skipping, leaving, lambda judge: None])
def test_whatever_is_no_measurement_is_errored(call: Callable[[Judge], None]) -> None:
    outcome = judged(call, artifact())
    assert (outcome.verdict, outcome.score, outcome.judgement) == (Verdict.ERRORED, None, None)
    assert outcome.error


def missing_observation(judge: Judge) -> None:
    judge.true("answers", True)
    raise NotObserved("ended before 'final' was observed")


def test_what_a_cut_short_scenario_did_not_get_to_is_the_submissions_failure() -> None:
    outcome = judged(missing_observation, artifact("cut-short", "the service died"))
    assert (outcome.verdict, outcome.score) == (Verdict.FAILED, 0.0)
    assert outcome.judgement is not None
    assert (len(outcome.judgement.measurements), outcome.judgement.score) == (1, 0.0)


def test_what_a_completed_scenario_did_not_record_is_our_failure() -> None:
    assert judged(missing_observation, artifact()).verdict is Verdict.ERRORED


@pytest.mark.parametrize(
    ("artifacts", "verdict"),
    [
        ([artifact("blocked", "not ready after 30 s")], Verdict.BLOCKED),
        ([artifact("trouble", "the machine was busy")], Verdict.ERRORED),
        ([None], Verdict.ERRORED),
        ([artifact("trouble"), artifact("blocked")], Verdict.BLOCKED),
        ([None, artifact("blocked")], Verdict.BLOCKED),
    ],
)
def test_the_state_of_the_artifacts_decides_before_the_check_runs(
    artifacts: list[Artifact | None], verdict: Verdict
) -> None:
    def never(judge: Judge) -> None:
        raise KeyboardInterrupt

    outcome = judged(never, *artifacts)
    assert outcome.verdict is verdict
    assert outcome.score == (0.0 if verdict is Verdict.BLOCKED else None)


def test_not_applicable_is_said_by_the_judge_alone() -> None:
    outcome = judged(lambda judge: judge.not_applicable("no pool in this design"), artifact())
    assert (outcome.verdict, outcome.score) == (Verdict.NOT_APPLICABLE, None)
    assert outcome.not_applicable == "no pool in this design"


def test_text_of_the_submission_cannot_break_out_of_a_summary() -> None:
    def call(judge: Judge) -> None:
        judge.equal("body", "\x1b[2J" + "x" * 5_000, "ok")

    outcome = judged(call, artifact())
    assert outcome.judgement is not None
    assert "\x1b" not in outcome.judgement.summary
    assert len(outcome.judgement.summary) < 400


def test_the_last_undisturbed_attempt_is_judged(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    for attempt, kind in enumerate(("completed", "cut-short", "trouble"), start=1):
        outcome = Outcome.model_validate({"kind": kind})
        write_json(
            run.artifact("outage", attempt), Artifact(scenario="outage", attempt=attempt, outcome=outcome)
        )
    run.artifact("outage", 4).write_text("{ half a fi")
    found = ArtifactStore(run).find("outage")
    assert found is not None
    assert found.attempt == 2
    assert ArtifactStore(run).find("never-driven") is None


OWN_CHECKS = """
@check(id="quick-reads", category="first")
def test_reads(busy_minute, judge):
    judge.at_most("latency", busy_minute.number("latency_s"), 0.3, unit="s")

@check(id="slow-writes", category="first")
def test_writes(busy_minute, judge):
    assert busy_minute.number("latency_s") > 1

@check(id="retries", category="second")
def test_retries(never_driven, judge):
    judge.true("retries", True)

@pytest.mark.skip
@check(id="timeouts", category="second")
def test_timeouts(judge):
    judge.true("gives up", True)
"""


def test_checks_run_in_a_pytest_of_their_own(
    run: RunPaths, rubric: Rubric, checks_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option")
    results = judge_run(run, rubric, extra_checks=[checks_folder(OWN_CHECKS)])
    assert [(result.id, result.verdict, result.earned) for result in results] == [
        ("quick-reads", Verdict.PASSED, 30.0),
        ("slow-writes", Verdict.ERRORED, None),
        ("retries", Verdict.ERRORED, None),
        ("timeouts", Verdict.ERRORED, None),
    ]
    errors = [result.error or "" for result in results]
    assert "AssertionError" in errors[1]
    assert "never-driven" in errors[2]
    assert errors[3].startswith("the check gave no result")


def test_only_the_selected_checks_run(
    run: RunPaths, rubric: Rubric, checks_folder: Callable[[str], Path]
) -> None:
    results = judge_run(run, rubric, ["quick-reads"], extra_checks=[checks_folder(OWN_CHECKS)])
    assert [(result.id, result.verdict) for result in results] == [("quick-reads", Verdict.PASSED)]


def test_a_check_that_hangs_is_errored(
    run: RunPaths, rubric: Rubric, checks_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("grader.judging.JUDGING_TIMEOUT_S", 2.0)
    folder = checks_folder(
        "import time\n\n@check(id='quick-reads', category='first')\ndef test_reads(judge):\n    time.sleep(60)\n"
    )
    [result] = judge_run(run, rubric, ["quick-reads"], extra_checks=[folder])
    assert result.verdict is Verdict.ERRORED
    assert "longer than 2 s" in (result.error or "")
