"""The load checks on records made by hand: what is right, what is wrong, and where partial credit lies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from devstack.artifacts import Artifact, Charge, Exchange, Ledger, NotObserved, Outcome
from grader.checks.test_load import test_load_errors as load_errors
from grader.checks.test_load import test_load_latency as load_latency
from grader.checks.test_load import test_request_cost as request_cost
from grader.judge import Judge, meta_of
from grader.model import Judgement

OFFERED = 600


def service(
    *,
    correct: int = OFFERED,
    reads_s: float = 0.06,
    orders_s: float = 0.3,
    cost_s: float | None = 0.01,
    **failed: int,
) -> dict[str, Any]:
    def latency(p95_s: float) -> dict[str, Any]:
        return {"count": 100, "failed": 0, "p50_s": p95_s / 2, "p95_s": p95_s, "p99_s": p95_s}

    return {
        "offered": OFFERED,
        "correct": correct,
        "failed_by_kind": {kind.replace("_", "-"): count for kind, count in failed.items()},
        "by_group": {"reads": latency(reads_s), "orders": latency(orders_s)},
        "cpu_s": 6.0,
        "cpu_per_correct_request_s": cost_s,
    }


def record(
    submission: dict[str, Any],
    *,
    status: str = "confirmed",
    charges: int = 1,
    amount: str = "24.70",
    **solution: Any,
) -> Artifact:
    """A load with one accepted order of 24.70 EUR, read back as ``status`` and charged ``charges`` times."""
    reading = Exchange(
        label="settled", method="GET", path="/orders/o-1", started_s=40, elapsed_s=0.01, status=200,
        payload={"id": "o-1", "status": status},
    )  # fmt: skip
    ledger = Ledger(
        taken_s=41,
        charges=tuple(
            Charge(
                charge_id=f"ch_{number}", order_ref="o-1", amount=amount, currency="EUR", status="captured",
                idempotency_key="k", captured_s=10, card_token="tok_1",
            )
            for number in range(charges)
        ),
    )  # fmt: skip
    failed = Exchange(
        label="timeout", method="GET", path="/events", started_s=9, elapsed_s=10, error="timeout"
    )
    order = {"id": "o-1", "card_token": "tok_1", "total": "24.70", "currency": "EUR"}
    return Artifact(
        scenario="load",
        exchanges={"failed": (failed,), "settled": (reading,)},
        ledgers={"load": ledger},
        facts={"submission": submission, "solution": service(**solution), "accepted-orders": [order]},
    )


def judged(function: Callable[..., None], artifact: Artifact) -> Judgement:
    meta = meta_of(function)
    assert meta is not None
    judge = Judge(meta)
    function(artifact, judge)
    return judge.judgement()


@pytest.mark.parametrize("function", [load_errors, load_latency, request_cost])
def test_a_service_like_the_reference_gets_full_points(function: Callable[..., None]) -> None:
    assert judged(function, record(service())).score == 1


@pytest.mark.parametrize(("correct", "score"), [(594, 1.0), (582, 0.5), (570, 0.0), (0, 0.0)])
def test_credit_falls_from_one_to_five_per_cent_of_wrong_answers(correct: int, score: float) -> None:
    found = judged(load_errors, record(service(correct=correct, timeout=OFFERED - correct)))
    assert found.score == pytest.approx(score, abs=0.01)
    assert (
        f"{correct} of 600 requests were answered right; the others: {OFFERED - correct} timeout"
        in found.summary
    )
    assert found.evidence


def test_shedding_is_no_right_answer_and_is_told_apart() -> None:
    found = judged(load_errors, record(service(correct=500, shed=100)))
    assert found.score == 0
    assert "100 shed" in found.summary
    assert "Retry-After" in found.summary


@pytest.mark.parametrize(
    ("status", "charges", "amount", "score"),
    [
        ("confirmed", 1, "24.7", 1),
        ("confirmed", 2, "24.70", 0),
        ("confirmed", 0, "24.70", 0),
        ("confirmed", 1, "24.71", 0),
        ("confirmed", 1, "much", 0),
        ("failed", 0, "24.70", 1),
        ("failed", 1, "24.70", 0),
        ("pending", 1, "24.70", 0),
    ],
)
def test_every_accepted_order_has_exactly_its_charge(
    status: str, charges: int, amount: str, score: float
) -> None:
    found = judged(load_errors, record(service(), status=status, charges=charges, amount=amount))
    assert found.score == score


def with_facts(artifact: Artifact, exchanges: dict[str, tuple[Exchange, ...]], **facts: Any) -> Artifact:
    named = {name.replace("_", "-"): value for name, value in facts.items()}
    return artifact.model_copy(
        update={
            "facts": {**artifact.facts, **named},
            "exchanges": {**artifact.exchanges, **exchanges},
        }
    )


def order(**changed: Any) -> dict[str, Any]:
    return {"id": "o-1", "card_token": "tok_1", "total": "24.70", "currency": "EUR", **changed}


@pytest.mark.parametrize(
    ("told", "charges", "score"),
    [
        ({"confirmed": True, "read": False}, 1, 1),
        ({"confirmed": True, "read": False}, 0, 0),
        ({"confirmed": True, "read": False}, 2, 0),
        ({"confirmed": False, "read": False}, 0, 1),
        ({"confirmed": False, "read": False}, 1, 1),
        ({"confirmed": False, "read": False}, 2, 0),
    ],
)
def test_orders_that_are_not_read_back_have_their_charges_too(
    told: dict[str, bool], charges: int, score: float
) -> None:
    load = with_facts(record(service(), charges=charges), {}, accepted_orders=[order(id="o-2", **told)])
    assert judged(load_errors, load).score == score


def test_an_order_that_was_confirmed_cannot_have_failed() -> None:
    failed = record(service(), status="failed", charges=0)
    assert judged(load_errors, with_facts(failed, {}, accepted_orders=[order(confirmed=True)])).score == 0


@pytest.mark.parametrize(("cards", "score"), [([], 1), (["tok_2"], 1), (["tok_1"], 0)])
def test_a_refused_order_is_not_charged(cards: list[str], score: float) -> None:
    assert judged(load_errors, with_facts(record(service()), {}, refused_cards=cards)).score == score


def reading(path: str, status: int = 200, **payload: Any) -> Exchange:
    return Exchange(
        label="x", method="GET", path=path, started_s=42, elapsed_s=0.01, status=status, payload=payload
    )


@pytest.mark.parametrize(
    ("shown", "score"), [(96, 1), (98, 1), (95, 0), (99, 0), ("many", 0), (None, 0), (True, 0)]
)
def test_seats_add_up_after_the_load(shown: object, score: float) -> None:
    load = with_facts(
        record(service()),
        {"seats": (reading("/events/7", seats_available=shown),), "after-restart": ()},
        seats=[{"event_id": 7, "least": 96, "most": 98}],
    )
    assert judged(load_errors, load).score == score


@pytest.mark.parametrize(
    ("status", "said", "score"), [(200, "confirmed", 1), (404, "", 0), (200, "pending", 0)]
)
def test_an_order_outlives_the_process_that_confirmed_it(status: int, said: str, score: float) -> None:
    after = Exchange(
        label="after-restart", method="GET", path="/orders/o-1", started_s=50, elapsed_s=0.01,
        status=status, payload={"id": "o-1", "status": said},
    )  # fmt: skip
    load = with_facts(record(service()), {"seats": (), "after-restart": (after,)}, seats=[])
    assert judged(load_errors, load).score == score


def test_a_service_that_was_not_started_again_was_not_observed() -> None:
    with pytest.raises(NotObserved):
        judged(load_errors, with_facts(record(service()), {"seats": ()}, seats=[]))


@pytest.mark.parametrize(
    ("asked", "wrong", "score"), [(6, 0, 1), (6, 1, 1), (6, 2, 0), (128, 2, 1), (128, 40, 0)]
)
def test_what_is_right_at_leisure_is_right_under_load(asked: int, wrong: int, score: float) -> None:
    load = with_facts(record(service()), {}, habits={"replay": {"asked": asked, "wrong": wrong}})
    found = judged(load_errors, load)
    assert found.score == score
    assert ("right at leisure only: replay" in found.summary) == (score == 0)


@pytest.mark.parametrize(
    ("reads_s", "orders_s", "score"), [(0.36, 1.0, 1), (0.72, 0.3, 0.5), (0.06, 2.0, 0.5), (1.1, 0.3, 0)]
)
def test_latency_is_judged_by_the_contract_s_floor(reads_s: float, orders_s: float, score: float) -> None:
    found = judged(load_latency, record(service(reads_s=reads_s, orders_s=orders_s)))
    assert found.score == pytest.approx(score, abs=0.01)


def test_a_slow_machine_that_slows_the_reference_too_is_no_fault() -> None:
    slow = service(reads_s=0.9, orders_s=2.4)
    assert judged(load_latency, record(slow, reads_s=0.4, orders_s=1.0)).score == 1


@pytest.mark.parametrize(("cost_s", "score"), [(0.005, 1), (0.015, 1), (0.0275, 0.5), (0.04, 0)])
def test_cost_is_judged_by_its_ratio_to_the_reference(cost_s: float, score: float) -> None:
    assert judged(request_cost, record(service(cost_s=cost_s))).score == pytest.approx(score, abs=0.01)


@pytest.mark.parametrize(("correct", "cost_s"), [(299, 0.001), (0, None)])
def test_a_service_that_fails_more_than_half_is_not_cheap(correct: int, cost_s: float | None) -> None:
    found = judged(request_cost, record(service(correct=correct, cost_s=cost_s)))
    assert found.score == 0
    assert found.summary == f"only {correct} of 600 requests were answered right"


@pytest.mark.parametrize("judging", [load_latency, request_cost])
def test_orders_that_were_never_carried_out_were_not_answered_fast_or_cheaply(
    judging: Callable[..., None],
) -> None:
    found = judged(judging, record(service(reads_s=0.001, orders_s=0.001, cost_s=0.0001), charges=0))
    assert found.score == 0
    assert found.summary == "1 of 1 accepted orders do not have exactly their charge"


def test_a_load_that_was_cut_short_was_not_observed() -> None:
    empty = Artifact(scenario="load", outcome=Outcome(kind="cut-short", reason="it died"))
    with pytest.raises(NotObserved, match="it died"):
        judged(load_errors, empty)
