"""The checks of outages and restarts: what they pass, and each thing that they must not."""

from __future__ import annotations

import pytest
from shop_records import (
    beats,
    charge,
    failures,
    ledger,
    mail,
    outcome_of,
    placed,
    read,
    reading,
    with_exchanges,
    with_facts,
    with_ledger,
)

from devstack.artifacts import Artifact, Exchange, Heartbeats
from grader.checks import test_reliability as checks
from grader.model import Verdict

LOST_S, RETURNED_S, END_S = 5.0, 13.0, 30.0


def series(name: str, artifact: Artifact, found: Heartbeats) -> Artifact:
    return artifact.model_copy(update={"heartbeats": {**artifact.heartbeats, name: found}})


def honest(at_s: float) -> tuple[int, float]:
    return (503, 2.0) if LOST_S <= at_s < RETURNED_S + 1 else (200, 0.01)


def refusal(body: str) -> Exchange:
    return read("ready-lost", "/health/ready", status=503).model_copy(update={"body": body})


def alive(at_s: float) -> tuple[int, float]:
    return (200, 0.01)


@pytest.fixture
def database_outage() -> Artifact:
    reads = [read("reads-after", "/events", at_s=RETURNED_S + 0.1 * n) for n in range(20)]
    orders = [placed("orders-after", n, at_s=RETURNED_S + 3 + n) for n in (1, 2)]
    return Artifact(
        scenario="database-outage",
        facts={"outage-from-s": LOST_S, "outage-until-s": RETURNED_S},
        exchanges={"reads-after": tuple(reads), "orders-after": tuple(orders)},
        heartbeats={"ready": beats(END_S, answer=honest), "live": beats(END_S, answer=alive)},
        log_tail="WARNING database is back",
    )


@pytest.fixture
def upstream_outage() -> Artifact:
    return Artifact(
        scenario="upstream-outage",
        facts={"outage-from-s": 2.0, "outage-until-s": 12.0},
        heartbeats={"ready": beats(13, answer=alive), "live": beats(13, answer=alive)},
    )


@pytest.fixture
def upstream_hang() -> Artifact:
    return Artifact(
        scenario="upstream-hang", facts={"hang-from-s": 2.0}, heartbeats={"live": beats(13, answer=alive)}
    )


# -- recovery ----------------------------------------------------------------------------------------------


def test_coming_back_after_a_few_broken_connections_passes(database_outage: Artifact) -> None:
    broken = [read("reads-after", "/events", status=503, at_s=RETURNED_S)] * 10
    reads = [*broken, *database_outage.exchanges_of("reads-after")]
    result = outcome_of(
        checks.test_database_restart_recovery, with_exchanges(database_outage, reads_after=reads)
    )
    assert result.verdict is Verdict.PASSED, failures(result)


def test_reads_that_keep_failing_now_and_then_fail(database_outage: Artifact) -> None:
    reads = [read("reads-after", "/events", status=200 if n % 5 else 500) for n in range(60)]
    flapping = with_exchanges(database_outage, reads_after=reads, orders_after=[])
    assert "20 reads in a row succeed" in failures(
        outcome_of(checks.test_database_restart_recovery, flapping)
    )


def test_orders_that_stay_broken_fail(database_outage: Artifact) -> None:
    broken = with_exchanges(database_outage, orders_after=[placed("orders-after", 1, status=500)])
    found = failures(outcome_of(checks.test_database_restart_recovery, broken))
    assert found == {"orders that succeed after them"}


def test_recovering_too_late_fails(database_outage: Artifact) -> None:
    orders = [placed("orders-after", n, at_s=RETURNED_S + 18 + n) for n in (1, 2)]
    late = with_exchanges(database_outage, orders_after=orders)
    found = failures(outcome_of(checks.test_database_restart_recovery, late))
    assert found == {"right again after the return"}


# -- readiness ---------------------------------------------------------------------------------------------


def test_honest_readiness_passes(database_outage: Artifact, upstream_outage: Artifact) -> None:
    result = outcome_of(checks.test_readiness_honesty, database_outage, upstream_outage)
    assert result.verdict is Verdict.PASSED, failures(result)


@pytest.mark.parametrize(
    "body",
    [
        '{"failed": ["database"]}',
        "DB down",
        '{"checks": {"db_pool": "exhausted"}}',
        "postgres: timeout",
        "no Connection",
    ],
)
def test_a_503_that_names_the_database_in_any_words_passes(
    database_outage: Artifact, upstream_outage: Artifact, body: str
) -> None:
    told = with_exchanges(database_outage, ready_lost=[refusal(body)])
    result = outcome_of(checks.test_readiness_honesty, told, upstream_outage)
    assert result.verdict is Verdict.PASSED, failures(result)


@pytest.mark.parametrize(
    "body", ["", '{"status": "unavailable"}', '{"request_id": "0db7pg31"}', "\x00\ufffd" * 50]
)
def test_a_503_that_names_nothing_costs_half(
    database_outage: Artifact, upstream_outage: Artifact, body: str
) -> None:
    silent = with_exchanges(database_outage, ready_lost=[refusal(body)])
    result = outcome_of(checks.test_readiness_honesty, silent, upstream_outage)
    assert failures(result) == {"the 503 names the database"}
    assert result.judgement is not None
    assert result.judgement.score == 0.5


def test_readiness_told_only_in_the_long_outage_passes(
    database_outage: Artifact, upstream_outage: Artifact
) -> None:
    def slow(at_s: float) -> tuple[int, float]:
        return (503, 0.1) if 44.0 <= at_s < 46.0 else (200, 0.01)

    late = series("ready", database_outage, beats(60, answer=slow))
    late = with_facts(late, **{"long_outage_from_s": 30.0, "long_outage_until_s": 45.0})
    result = outcome_of(checks.test_readiness_honesty, late, upstream_outage)
    assert result.verdict is Verdict.PASSED, failures(result)


@pytest.mark.parametrize(
    ("answer", "failed"),
    [
        (alive, "503 while the database is away"),
        (
            lambda at_s: (500, 0.01) if LOST_S <= at_s < RETURNED_S else (200, 0.01),
            "503 while the database is away",
        ),
        (lambda at_s: (503, 0.1) if at_s >= LOST_S else (200, 0.01), "ready again after the return"),
        (
            lambda at_s: (None, 7.0) if at_s == 8.0 else honest(at_s),
            "slowest answer, frozen database included",
        ),
        (
            lambda at_s: (503, 0.1) if at_s < RETURNED_S else (200, 0.01),
            "share of 200 while the database is up",
        ),
    ],
)
def test_readiness_that_does_not_tell_the_truth_fails(
    database_outage: Artifact, upstream_outage: Artifact, answer: object, failed: str
) -> None:
    spoiled = series("ready", database_outage, beats(END_S, answer=answer))
    assert failures(outcome_of(checks.test_readiness_honesty, spoiled, upstream_outage)) == {failed}


def test_readiness_that_asks_upstreams_fails(database_outage: Artifact, upstream_outage: Artifact) -> None:
    spoiled = series("ready", upstream_outage, beats(13, answer=lambda at_s: (503, 0.1)))
    found = failures(outcome_of(checks.test_readiness_honesty, database_outage, spoiled))
    assert found == {"share of 200 while only upstreams are down"}


# -- liveness ----------------------------------------------------------------------------------------------


def test_liveness_that_looks_at_nothing_passes(
    database_outage: Artifact, upstream_outage: Artifact, upstream_hang: Artifact
) -> None:
    result = outcome_of(checks.test_liveness_independence, database_outage, upstream_outage, upstream_hang)
    assert result.verdict is Verdict.PASSED, failures(result)


@pytest.mark.parametrize(("status", "latency_s"), [(503, 0.01), (200, 1.3), (None, 3.0)])
def test_liveness_that_fails_or_waits_while_orders_hang_fails(
    database_outage: Artifact, upstream_outage: Artifact, upstream_hang: Artifact,
    status: int | None, latency_s: float,
) -> None:  # fmt: skip
    blocked = series("live", upstream_hang, beats(13, answer=lambda at_s: (status, latency_s)))
    result = outcome_of(checks.test_liveness_independence, database_outage, upstream_outage, blocked)
    assert failures(result) == {"share of 200 within 1 s while orders wait for hanging upstreams"}


# -- shutdown ----------------------------------------------------------------------------------------------


@pytest.fixture
def shutdown() -> Artifact:
    return Artifact(
        scenario="shutdown",
        facts={"gone": True, "gone-after-s": 1.8, "sessions-gone-after-s": 0.1},
        exchanges={
            "in-flight": (placed("in-flight", 1), placed("in-flight", 2, status=202)),
            "settled": (reading(1), reading(2)),
            "settled-replays": (),
        },
        ledgers={"final": ledger([charge(1), charge(2), charge(77)], [mail(1), mail(2)])},
    )


def test_finishing_what_is_in_flight_passes(shutdown: Artifact) -> None:
    result = outcome_of(checks.test_graceful_shutdown, shutdown)
    assert result.verdict is Verdict.PASSED, failures(result)


def test_cutting_an_order_off_fails(shutdown: Artifact) -> None:
    cut = placed("in-flight", 1, status=None, error="reset")
    again = placed("settled-replays", 1, status=200, at_s=9)
    spoiled = with_exchanges(shutdown, in_flight=[cut, placed("in-flight", 2)], settled_replays=[again])
    found = failures(outcome_of(checks.test_graceful_shutdown, spoiled))
    assert found == {"orders in flight that were answered"}


def test_ignoring_the_signal_fails(shutdown: Artifact) -> None:
    stubborn = with_facts(shutdown, gone=False, gone_after_s=26.0)
    found = failures(outcome_of(checks.test_graceful_shutdown, stubborn))
    assert found == {"every process has ended", "until the last process has ended"}


def test_a_mail_lost_with_the_process_fails(shutdown: Artifact) -> None:
    lost = with_ledger(shutdown, "final", ledger([charge(1), charge(2)], [mail(1)]))
    assert failures(outcome_of(checks.test_graceful_shutdown, lost)) == {"confirmed orders with a mail"}


def test_money_taken_for_an_order_that_the_restart_forgot_fails(shutdown: Artifact) -> None:
    forgotten = with_exchanges(shutdown, settled=[reading(1), reading(2, status="failed")])
    found = failures(outcome_of(checks.test_graceful_shutdown, forgotten))
    assert found == {"every order and the money agree"}
