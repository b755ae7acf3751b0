"""The checks of crowds before one process: what they pass, and each flaw that they must see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shop_records import (
    Spoil,
    charge,
    failures,
    frozen,
    lasting,
    ledger,
    outcome_of,
    placed,
    read,
    reading,
    steady,
    with_beats,
    with_exchanges,
    with_facts,
    with_ledger,
)

from devstack.artifacts import Artifact, Exchange, Outcome, UpstreamCall
from grader.checks import test_bursts as crowds
from grader.model import Verdict

READS_BESIDE = crowds.test_reads_beside_sixty_orders
LOCK_ORDER = crowds.test_lock_order
HOT_EVENT = crowds.test_hot_event_throughput


def judged(check: Callable[..., None], artifact: Artifact) -> set[str]:
    outcome = outcome_of(check, artifact)
    assert outcome.verdict is Verdict.FAILED, outcome
    return failures(outcome)


def unanswered(name: str, number: int) -> Exchange:
    return lasting(placed(name, number, status=None, error="timeout"), 13.0)


# -- one process ----------------------------------------------------------------------------------------------


def charge_call(number: int, start_s: float) -> UpstreamCall:
    return UpstreamCall(
        upstream="payments", operation="charge", connection=1, started_s=start_s, ended_s=start_s + 0.5,
        method="POST", path="/charges", body={"card_token": f"tok_{number}"},
    )  # fmt: skip


@pytest.fixture
def bursts() -> Artifact:
    calls = (*(charge_call(n, 1.0) for n in range(30)), *(charge_call(n, 1.6) for n in range(30, 40)))
    return Artifact(
        scenario="bursts",
        facts={
            "deadlocks": 0, "hot-from-s": 1.0, "hot-until-s": 2.3, "crowd-from-s": 2.5, "crowd-until-s": 6.0,
        },
        heartbeats={"crowd-live": steady()},
        exchanges={
            "crossing": tuple(placed("crossing", n) for n in range(90)),
            "crossing-settled": (),
            "hot": tuple(placed("hot", n) for n in range(40)),
            "hot-settled": (),
            "crowd": tuple(lasting(placed("crowd", n), 3.1) for n in range(60)),
            "crowd-reads": tuple(read("crowd-reads", "/events/1") for _ in range(10)),
            "reads-after": tuple(read("reads-after", "/events/1") for _ in range(10)),
        },
        ledgers={
            "final": ledger(charge(n) for n in range(60)),
            "hot": ledger(()).model_copy(update={"calls": calls}),
        },
    )  # fmt: skip


def crowd_refused_above(limit: int) -> Spoil:
    def spoil(artifact: Artifact) -> Artifact:
        crowd = [placed("crowd", n, status=201 if n < limit else 503) for n in range(60)]
        right = with_exchanges(artifact, crowd=crowd)
        return with_ledger(right, "final", ledger(charge(n) for n in range(limit)))

    return spoil


def crowd_accepted_first(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, crowd=[placed("crowd", n, status=202) for n in range(60)])


def crowd_refunded(artifact: Artifact) -> Artifact:
    shed = crowd_refused_above(30)(artifact)
    return with_ledger(
        shed, "final", ledger(charge(n, status="captured" if n < 30 else "refunded") for n in range(60))
    )


@pytest.mark.parametrize(
    "variant", [lambda it: it, crowd_refused_above(30), crowd_accepted_first, crowd_refunded]
)
def test_a_crowd_that_is_carried_or_shed_passes(bursts: Artifact, variant: Spoil) -> None:
    assert outcome_of(READS_BESIDE, variant(bursts)).verdict is Verdict.PASSED


def threads_used_up(artifact: Artifact) -> Artifact:
    late = [lasting(read("crowd-reads", "/events/1"), 2.4) for _ in range(10)]
    return with_exchanges(artifact, crowd_reads=late)


def health_waits_too(artifact: Artifact) -> Artifact:
    return with_beats(artifact, "crowd-live", frozen(3.0, 5.8))


def pages_refused(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, crowd_reads=[read("crowd-reads", "/events/1", status=503)] * 10)


def crowd_charged_and_refused(artifact: Artifact) -> Artifact:
    return with_exchanges(
        artifact, crowd=[placed("crowd", n, status=201 if n < 40 else 503) for n in range(60)]
    )


def crowd_crashes(artifact: Artifact) -> Artifact:
    return with_exchanges(
        artifact, crowd=[placed("crowd", n, status=201 if n < 40 else 500) for n in range(60)]
    )


def crowd_hangs(artifact: Artifact) -> Artifact:
    kept = [placed("crowd", n) if n < 40 else unanswered("crowd", n) for n in range(60)]
    return with_exchanges(artifact, crowd=kept)


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (threads_used_up, {"slowest event read"}),
        (health_waits_too, {"p95 of /health/live", "slowest /health/live"}),
        (pages_refused, {"event reads answered 200"}),
        (crowd_refused_above(20), {"of 60 orders at once, accepted"}),
        (crowd_charged_and_refused, {"refused orders that were charged"}),
        (crowd_crashes, {"orders neither accepted nor shed"}),
        (crowd_hangs, {"orders neither accepted nor shed", "slowest order"}),
    ],
)
def test_waiting_orders_that_stop_others_are_seen(bursts: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert judged(READS_BESIDE, spoil(bursts)) == seen


def crossing(status: int | None, *, settled: str | None = None) -> Spoil:
    def spoil(artifact: Artifact) -> Artifact:
        sent = [placed("crossing", n, status=status if n < 4 else 201) for n in range(90)]
        readings = [reading(n, status=settled) for n in range(4)] if settled else []
        return with_exchanges(artifact, crossing=sent, crossing_settled=readings)

    return spoil


def slow_crossing(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, crossing=[lasting(placed("crossing", n), 12.5) for n in range(30)])


@pytest.mark.parametrize("variant", [lambda it: it, crossing(200), crossing(202, settled="confirmed")])
def test_crossing_orders_that_are_all_placed_pass(bursts: Artifact, variant: Spoil) -> None:
    assert outcome_of(LOCK_ORDER, variant(bursts)).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (crossing(500), {"crossing orders that were not placed"}),
        (crossing(503), {"crossing orders that were not placed"}),
        (crossing(409), {"crossing orders that were not placed"}),
        (crossing(None), {"crossing orders that were not placed"}),
        (crossing(202, settled="failed"), {"accepted orders that were not confirmed later"}),
        (crossing(202, settled="pending"), {"accepted orders that were not confirmed later"}),
        (slow_crossing, {"slowest crossing order"}),
    ],
)
def test_orders_that_lock_each_other_out_are_seen(bursts: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert judged(LOCK_ORDER, spoil(bursts)) == seen


def test_the_summary_tells_deadlocks_from_other_refusals(bursts: Artifact) -> None:
    outcome = outcome_of(LOCK_ORDER, with_facts(crossing(503)(bursts), deadlocks=3))
    assert outcome.judgement is not None
    assert outcome.judgement.summary == (
        "4 of 90 crossing orders were not placed (503); PostgreSQL broke 3 deadlocks"
    )


def hot_in_turn(artifact: Artifact) -> Artifact:
    sent = [placed("hot", n) for n in range(24)]
    return with_facts(with_exchanges(artifact, hot=sent), hot_until_s=13.0)


def hot_queued(settled: str, until_s: float) -> Spoil:
    def spoil(artifact: Artifact) -> Artifact:
        sent = [placed("hot", n, status=202) for n in range(40)]
        readings = [reading(n, status=settled) for n in range(40)]
        return with_facts(with_exchanges(artifact, hot=sent, hot_settled=readings), hot_until_s=until_s)

    return spoil


def hot_shed(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, hot=[placed("hot", n, status=201 if n % 9 else 429) for n in range(40)])


@pytest.mark.parametrize("variant", [lambda it: it, hot_queued("confirmed", 5.0)])
def test_a_hot_event_that_sells_quickly_passes(bursts: Artifact, variant: Spoil) -> None:
    outcome = outcome_of(HOT_EVENT, variant(bursts))
    assert outcome.verdict is Verdict.PASSED
    assert outcome.judgement is not None
    assert "at most 30 charges at a time" in outcome.judgement.summary


TOOK = "40 orders of one event, from the first request to the last outcome"


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (hot_in_turn, {TOOK, "orders placed, never more than 30 in flight"}),
        (hot_queued("confirmed", 9.0), {TOOK}),
        (hot_queued("failed", 3.0), {"accepted orders that were not confirmed later"}),
        (hot_shed, {"orders placed, never more than 30 in flight"}),
    ],
)
def test_a_hot_event_that_sells_slowly_is_seen(bursts: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert judged(HOT_EVENT, spoil(bursts)) == seen


def test_backpressure_is_told_and_costs_nothing(bursts: Artifact) -> None:
    outcome = outcome_of(crowds.test_backpressure, crowd_refused_above(31)(bursts))
    assert outcome.verdict is Verdict.PASSED
    assert outcome.judgement is not None
    assert outcome.judgement.summary.startswith(
        "of 60 orders at once 29 were refused; reads right after took 50 ms"
    )


# -- what may come back ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [READS_BESIDE, LOCK_ORDER, HOT_EVENT, crowds.test_backpressure])
def test_a_crowd_that_got_no_answers_is_a_failure(check: Callable[..., None]) -> None:
    dead = Artifact(scenario="bursts", outcome=Outcome(kind="cut-short", reason="the service died"))
    assert outcome_of(check, dead).verdict is Verdict.FAILED


@pytest.mark.parametrize("payload", [None, [], "x", {"id": None, "status": 7}, {"id": [1], "status": {}}])
def test_junk_is_no_confirmation(bursts: Artifact, payload: Any) -> None:
    junk = reading(1).model_copy(update={"payload": payload})
    assert judged(LOCK_ORDER, with_exchanges(bursts, crossing_settled=[junk])) == {
        "accepted orders that were not confirmed later"
    }
