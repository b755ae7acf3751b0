"""The checks of async fundamentals: what they pass, and each flaw that they must see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shop_records import (
    Spoil,
    beats,
    failures,
    frozen,
    lasting,
    ledger,
    outcome_of,
    placed,
    read,
    steady,
    with_beats,
    with_exchanges,
    with_ledger,
)

from devstack.artifacts import Artifact, Outcome, UpstreamCall
from grader.checks import test_async_fundamentals as checks
from grader.judge import meta_of
from grader.model import Verdict

PROBE = "a request that needs nothing"


def judged(check: Callable[..., None], artifact: Artifact, spoil: Spoil) -> set[str]:
    outcome = outcome_of(check, spoil(artifact))
    assert outcome.verdict in (Verdict.FAILED, Verdict.PARTIAL), outcome
    return failures(outcome)


# -- a slow database ------------------------------------------------------------------------------------------


@pytest.fixture
def slow_database() -> Artifact:
    return Artifact(
        scenario="slow-database",
        facts={"from-s": 1.0, "until-s": 4.0},
        heartbeats={"probe": steady()},
        exchanges={"reads": tuple(lasting(read("reads", "/events/1"), 0.8) for _ in range(24))},
    )


def blocking_driver(artifact: Artifact) -> Artifact:
    return with_beats(artifact, "probe", frozen(1.0, 4.0))


def one_long_stall(artifact: Artifact) -> Artifact:
    return with_beats(
        artifact, "probe", beats(10, interval_s=0.05, answer=lambda at_s: (200, 1.3 if at_s == 2.0 else 0.02))
    )


def reads_in_turn(artifact: Artifact) -> Artifact:
    return with_exchanges(
        artifact, reads=[lasting(read("reads", "/events/1"), 0.8 * (n + 1)) for n in range(8)]
    )


def reads_given_up(artifact: Artifact) -> Artifact:
    return with_exchanges(
        artifact, reads=[read("reads", "/events/1", status=503 if n % 4 else 200) for n in range(8)]
    )


def reads_crash(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, reads=[read("reads", "/events/1", status=500)] * 8)


def test_a_service_that_waits_for_its_database_off_the_loop_passes(slow_database: Artifact) -> None:
    assert outcome_of(checks.test_event_loop_slow_database, slow_database).verdict is Verdict.PASSED
    # What happens before and after the window is not judged, and a few reads may be shed.
    elsewhere = with_beats(slow_database, "probe", frozen(5.0, 8.0))
    shed = with_exchanges(
        elsewhere, reads=[read("reads", "/events/1", status=503 if n % 2 else 200) for n in range(8)]
    )
    assert outcome_of(checks.test_event_loop_slow_database, shed).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (blocking_driver, {f"p95 of {PROBE}", f"slowest {PROBE}"}),
        (one_long_stall, {f"slowest {PROBE}"}),
        (reads_in_turn, {"slowest of the parallel reads"}),
        (reads_given_up, {"reads answered 200"}),
        (reads_crash, {"reads answered 200, or 503 within their deadline", "reads answered 200"}),
    ],
)
def test_a_database_that_stops_the_loop_is_seen(
    slow_database: Artifact, spoil: Spoil, seen: set[str]
) -> None:
    assert judged(checks.test_event_loop_slow_database, slow_database, spoil) == seen


# -- slow upstreams -------------------------------------------------------------------------------------------


def call(upstream: Any, start_s: float, end_s: float | None) -> UpstreamCall:
    return UpstreamCall(
        upstream=upstream, operation="assess" if upstream == "risk" else "rate", connection=1, started_s=start_s,
        ended_s=end_s, method="GET", path="/",
    )  # fmt: skip


def both_reads(gap_s: float) -> list[UpstreamCall]:
    """Risk and rate of five orders, the rate ``gap_s`` after the risk; each takes 0.3 s, an order 1 s."""
    return [
        one
        for n in range(5)
        for one in (call("risk", n + 0.1, n + 0.4), call("rates", n + 0.1 + gap_s, n + 0.4 + gap_s))
    ]


def with_calls(artifact: Artifact, calls: list[UpstreamCall]) -> Artifact:
    book = artifact.ledger("independent-reads").model_copy(update={"calls": tuple(calls)})
    return with_ledger(artifact, "independent-reads", book)


@pytest.fixture
def slow_upstreams() -> Artifact:
    artifact = Artifact(
        scenario="slow-upstreams",
        facts={"parallel-from-s": 1.0, "parallel-until-s": 3.0},
        heartbeats={"probe": steady()},
        exchanges={
            "parallel-orders": tuple(placed("parallel-orders", n, elapsed_s=1.8) for n in range(6)),
            "currency-orders": tuple(placed("currency-orders", n, at_s=n, elapsed_s=0.9) for n in range(5)),
        },
        ledgers={"independent-reads": ledger([])},
    )
    return with_calls(artifact, both_reads(0.02))


def blocking_client(artifact: Artifact) -> Artifact:
    return with_beats(artifact, "probe", frozen(1.0, 3.0))


def orders_in_turn(artifact: Artifact) -> Artifact:
    return with_exchanges(
        artifact, parallel_orders=[placed("o", n, elapsed_s=1.5 * (n + 1)) for n in range(6)]
    )


def orders_shed(artifact: Artifact) -> Artifact:
    return with_exchanges(
        artifact, parallel_orders=[placed("o", n, status=503 if n else 201) for n in range(6)]
    )


def test_a_service_that_waits_for_payments_off_the_loop_passes(slow_upstreams: Artifact) -> None:
    assert outcome_of(checks.test_event_loop_slow_payments, slow_upstreams).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (blocking_client, {f"p95 of {PROBE}", f"slowest {PROBE}"}),
        (orders_in_turn, {"slowest of 6 parallel orders"}),
        (orders_shed, {"orders accepted"}),
    ],
)
def test_a_payment_that_stops_the_loop_is_seen(
    slow_upstreams: Artifact, spoil: Spoil, seen: set[str]
) -> None:
    assert judged(checks.test_event_loop_slow_payments, slow_upstreams, spoil) == seen


def no_rate_needed(artifact: Artifact) -> Artifact:
    return with_calls(artifact, [call("risk", n + 0.1, n + 0.4) for n in range(5)])


def one_pair_torn_apart(artifact: Artifact) -> Artifact:
    return with_calls(artifact, [*both_reads(0.02)[:8], *both_reads(0.3)[8:]])


def rate_never_answered(artifact: Artifact) -> Artifact:
    return with_calls(artifact, [*both_reads(0.02)[:8], call("risk", 4.1, 4.4), call("rates", 4.1, None)])


@pytest.mark.parametrize("variant", [lambda it: it, no_rate_needed, one_pair_torn_apart, rate_never_answered])
def test_reads_that_overlap_or_are_not_needed_pass(slow_upstreams: Artifact, variant: Spoil) -> None:
    outcome = outcome_of(checks.test_concurrent_upstream_reads, variant(slow_upstreams))
    assert outcome.verdict is Verdict.PASSED


def one_after_the_other(artifact: Artifact) -> Artifact:
    return with_calls(artifact, both_reads(0.3))


def hardly_overlapping(artifact: Artifact) -> Artifact:
    return with_calls(artifact, both_reads(0.2))


def refused_orders(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, currency_orders=[placed("c", n, status=503, at_s=n) for n in range(5)])


def late_orders(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, currency_orders=[placed("c", n, at_s=n, elapsed_s=13) for n in range(5)])


OVERLAPPING = "orders whose two reads overlapped, or needed no rate"


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (one_after_the_other, {OVERLAPPING}),
        (hardly_overlapping, {OVERLAPPING}),
        (refused_orders, {"orders in a foreign currency accepted", OVERLAPPING}),
        (late_orders, {"slowest of them"}),
    ],
)
def test_independent_reads_in_turn_are_seen(slow_upstreams: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert judged(checks.test_concurrent_upstream_reads, slow_upstreams, spoil) == seen


# -- scenarios that did not come to their end -----------------------------------------------------------------

EVERY_CHECK = [
    checks.test_event_loop_slow_database,
    checks.test_event_loop_slow_payments,
    checks.test_event_loop_tickets,
    checks.test_event_loop_deadlock,
    checks.test_confirmation_mail_sent,
    checks.test_concurrent_upstream_reads,
]


@pytest.mark.parametrize("check", EVERY_CHECK)
def test_what_a_dead_service_left_unrecorded_is_failed_not_undecided(check: Callable[..., None]) -> None:
    meta = meta_of(check)
    assert meta is not None
    [scenario] = meta.requires
    empty = Artifact(scenario=scenario, outcome=Outcome(kind="cut-short", reason="the service ended"))
    assert outcome_of(check, empty).verdict is Verdict.FAILED
