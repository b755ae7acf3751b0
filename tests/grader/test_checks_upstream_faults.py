"""The checks of charges whose answer is lost and of hanging upstreams: what they pass, and what they must not."""

from __future__ import annotations

import pytest
from shop_records import (
    charge,
    failures,
    ledger,
    outcome_of,
    placed,
    reading,
    with_exchanges,
    with_facts,
    with_ledger,
)

from devstack.artifacts import Artifact, Outcome
from grader.checks import test_system_design as checks
from grader.model import Verdict

MONEY = "every order and the money agree"


# -- lost answers ------------------------------------------------------------------------------------------


@pytest.fixture
def lost_answers() -> Artifact:
    """Retried, refused, and left to a reconciler that failed the order and refunded it."""
    return Artifact(
        scenario="lost-answers",
        facts={"phases-driven": 3},
        exchanges={
            "control": (placed("control", 1),),
            "answer-lost": (placed("answer-lost", 2),),
            "charge-refused": (
                placed("charge-refused", 3, status=503),
                placed("charge-refused", 3, status=503),
            ),
            "answer-late": (placed("answer-late", 4, status=202),),
            "settled": (reading(1), reading(2), reading(4, status="failed")),
            "settled-replays": (placed("settled-replays", 3, status=503, at_s=9),),
        },
        ledgers={"final": ledger([charge(1), charge(2), charge(4, status="refunded")])},
    )


def test_any_way_to_agree_with_the_money_passes(lost_answers: Artifact) -> None:
    result = outcome_of(checks.test_charge_exactly_once, lost_answers)
    assert result.verdict is Verdict.PASSED, failures(result)


@pytest.mark.parametrize(
    ("charges", "told"),
    [
        ([charge(1), charge(2), charge(2, again=1)], "2 unrefunded charges"),
        ([charge(1)], "0 unrefunded charges"),
        ([charge(1), charge(2, amount="20.00")], "not its total"),
        ([charge(1), charge(2), charge(3)], "its card was charged"),
        ([charge(1), charge(2), charge(4)], "failed, and its card was charged"),
        ([charge(1), charge(2), charge(99)], "belongs to no order"),
    ],
)
def test_money_that_does_not_match_fails(lost_answers: Artifact, charges: list[object], told: str) -> None:
    result = outcome_of(checks.test_charge_exactly_once, with_ledger(lost_answers, "final", ledger(charges)))
    assert MONEY in failures(result)
    assert result.judgement is not None
    assert any(told in str(found.measured) for found in result.judgement.measurements)


def test_double_charges_are_told_of_a_scenario_that_was_cut_short(lost_answers: Artifact) -> None:
    cut = lost_answers.model_copy(
        update={"outcome": Outcome(kind="cut-short", reason="stopped answering"), "exchanges": {}}
    )
    cut = with_ledger(cut, "final", ledger([charge(2), charge(2, again=1)]))
    result = outcome_of(checks.test_charge_exactly_once, cut)
    assert result.verdict is Verdict.FAILED
    assert failures(result) == {"most unrefunded charges of one order"}


def test_an_order_left_pending_fails(lost_answers: Artifact) -> None:
    readings = [reading(1), reading(2, status="pending"), reading(4, status="failed")]
    assert failures(
        outcome_of(checks.test_charge_exactly_once, with_exchanges(lost_answers, settled=readings))
    ) == {MONEY}


def test_a_service_that_answers_nobody_under_the_first_fault_fails(lost_answers: Artifact) -> None:
    silent = placed("answer-lost", 2, status=None, error="timeout")
    stuck = with_exchanges(lost_answers, answer_lost=[silent], settled=[reading(1)])
    stuck = with_ledger(with_facts(stuck, phases_driven=1), "final", ledger([charge(1)]))
    assert failures(outcome_of(checks.test_charge_exactly_once, stuck)) == {
        "faults under which some order was answered"
    }


# -- hanging upstreams -------------------------------------------------------------------------------------


@pytest.fixture
def upstream_hang() -> Artifact:
    return Artifact(
        scenario="upstream-hang",
        facts={"payments-back-s": 10.0},
        exchanges={
            "payments-hang": (placed("payments-hang", 1, status=202, elapsed_s=9),),
            "risk-hang": (placed("risk-hang", 2, status=503, elapsed_s=5),),
            "rates-hang": (placed("rates-hang", 3, status=504, elapsed_s=5),),
            "settled": (reading(1, at_s=12.0),),
            "settled-replays": (),
        },
        ledgers={"final": ledger([charge(1)])},
    )


def test_answers_in_time_pass(upstream_hang: Artifact) -> None:
    result = outcome_of(checks.test_upstream_deadline, upstream_hang)
    assert result.verdict is Verdict.PASSED, failures(result)


def test_a_late_answer_fails(upstream_hang: Artifact) -> None:
    late = with_exchanges(upstream_hang, risk_hang=[placed("risk-hang", 2, status=503, elapsed_s=12.4)])
    assert failures(outcome_of(checks.test_upstream_deadline, late)) == {"slowest order while risk hangs"}


def test_a_confirmation_while_payments_hangs_fails(upstream_hang: Artifact) -> None:
    lie = with_exchanges(upstream_hang, payments_hang=[placed("payments-hang", 1, status=201)])
    assert failures(outcome_of(checks.test_upstream_deadline, lie)) == {"right answers while payments hangs"}


def test_settling_too_late_fails(upstream_hang: Artifact) -> None:
    late = with_exchanges(upstream_hang, settled=[reading(1, at_s=28.5)])
    found = failures(outcome_of(checks.test_upstream_deadline, late))
    assert found == {"orders still open 15 s after payments answers again"}


def test_a_service_stuck_in_the_first_hang_is_judged_by_it(upstream_hang: Artifact) -> None:
    stuck = upstream_hang.model_copy(
        update={
            "exchanges": {
                "payments-hang": (placed("payments-hang", 1, status=None, elapsed_s=13, error="timeout"),),
                "settled": (),
                "settled-replays": (),
            },
            "ledgers": {"final": ledger([])},
        }
    )
    found = failures(outcome_of(checks.test_upstream_deadline, stuck))
    assert found == {"slowest order while payments hangs", "right answers while payments hangs"}


def test_what_was_cut_short_before_it_was_seen_fails(upstream_hang: Artifact) -> None:
    cut = Artifact(scenario="upstream-hang", outcome=Outcome(kind="cut-short", reason="it died"))
    result = outcome_of(checks.test_upstream_deadline, cut)
    assert result.verdict is Verdict.FAILED
    assert result.judgement is not None
    assert "it died" in result.judgement.summary
