"""The checks of async fundamentals: what they pass, and each flaw that they must see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shop_records import (
    beats,
    failures,
    ledger,
    mail,
    outcome_of,
    placed,
    read,
    reading,
    with_exchanges,
    with_ledger,
)

from devstack.artifacts import Artifact, Exchange, Heartbeats, Outcome, UpstreamCall
from grader.checks import test_async_fundamentals as checks
from grader.judge import meta_of
from grader.model import Verdict

PROBE = "a request that needs nothing"


def steady(latency_s: float = 0.02) -> Heartbeats:
    return beats(10, interval_s=0.05, answer=lambda _: (200, latency_s))


def frozen(from_s: float, until_s: float) -> Heartbeats:
    """Nothing is answered while the loop is blocked; what was due then is answered at its end."""

    def answer(at_s: float) -> tuple[int, float]:
        return 200, until_s - at_s if from_s <= at_s < until_s else 0.02

    return beats(10, interval_s=0.05, answer=answer)


def with_beats(artifact: Artifact, name: str, series: Heartbeats) -> Artifact:
    return artifact.model_copy(update={"heartbeats": {**artifact.heartbeats, name: series}})


def lasting(exchange: Exchange, elapsed_s: float) -> Exchange:
    return exchange.model_copy(update={"elapsed_s": elapsed_s})


Spoil = Callable[[Artifact], Artifact]


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


# -- tickets --------------------------------------------------------------------------------------------------


def ticket(number: int, *, signed: bool = True, status: int = 200) -> Exchange:
    order_id = f"o{number}"
    told = checks.signature(order_id, "secret") if signed else "0" * 64
    svg = f"<svg><!-- boxoffice:{order_id}:{told} --></svg>" if number in (0, 11) or not signed else "<svg/>"
    exchange = read("tickets", f"/orders/{order_id}/ticket", status=status)
    return exchange.model_copy(update={"body": svg if status == 200 else ""})


@pytest.fixture(scope="module")
def tickets() -> Artifact:
    return Artifact(
        scenario="tickets-and-reports",
        facts={"ticket-secret": "secret", "tickets-from-s": 1.0, "tickets-until-s": 4.0},
        heartbeats={"tickets-live": steady()},
        exchanges={
            "tickets": tuple(ticket(n) for n in range(12)),
            "tickets-reads": tuple(read("tickets-reads", "/events/1") for _ in range(20)),
        },
    )


def signed_on_the_loop(artifact: Artifact) -> Artifact:
    slow = [lasting(read("tickets-reads", "/events/1"), 2.0)] * 20
    return with_exchanges(with_beats(artifact, "tickets-live", frozen(1.0, 4.0)), tickets_reads=slow)


def fewer_iterations(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, tickets=[ticket(n, signed=False) for n in range(12)])


def tickets_missing(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, tickets=[ticket(n, status=500 if 0 < n < 11 else 200) for n in range(12)])


def no_tickets(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, tickets=())


def reads_fail_beside(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, tickets_reads=[read("tickets-reads", "/events/1", status=503)] * 20)


def test_tickets_signed_off_the_loop_pass(tickets: Artifact) -> None:
    assert outcome_of(checks.test_event_loop_tickets, tickets).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (signed_on_the_loop, {"p95 of /health/live", "slowest /health/live", "p95 of event reads beside the tickets"}),
        (fewer_iterations, {"tickets signed as agreed, of two"}),
        (tickets_missing, {"tickets served"}),
        (no_tickets, {"tickets served"}),
        (reads_fail_beside, {"event reads beside the tickets are answered 200"}),
    ],
)  # fmt: skip
def test_what_is_wrong_with_tickets_is_seen(tickets: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert judged(checks.test_event_loop_tickets, tickets, spoil) == seen


# -- first calls ----------------------------------------------------------------------------------------------


@pytest.fixture
def cold_endpoints() -> Artifact:
    return Artifact(
        scenario="cold-endpoints",
        heartbeats={"live": steady()},
        exchanges={"calls": tuple(read("calls", path) for path in ("/events", "/metrics", "/events/1"))},
    )


def waits_for_its_own_loop(artifact: Artifact) -> Artifact:
    return with_beats(artifact, "live", frozen(2.0, 7.0))


def never_answers(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, calls=[read("calls", "/metrics", status=None)])


def test_endpoints_that_answer_their_first_call_pass(cold_endpoints: Artifact) -> None:
    assert outcome_of(checks.test_event_loop_deadlock, cold_endpoints).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (waits_for_its_own_loop, {"slowest /health/live"}),
        (never_answers, {"every endpoint answered its first call"}),
    ],
)
def test_a_first_call_that_stands_still_is_seen(
    cold_endpoints: Artifact, spoil: Spoil, seen: set[str]
) -> None:
    assert judged(checks.test_event_loop_deadlock, cold_endpoints, spoil) == seen


# -- mails ----------------------------------------------------------------------------------------------------


@pytest.fixture
def quiet_day() -> Artifact:
    return Artifact(
        scenario="contract",
        exchanges={"orders-read": tuple(reading(n) for n in range(10))},
        ledgers={"final": ledger([], [mail(n) for n in range(10)])},
    )


def never_awaited(artifact: Artifact) -> Artifact:
    log = "RuntimeWarning: coroutine 'send' was never awaited"
    return with_ledger(artifact, "final", ledger([])).model_copy(update={"log_tail": log})


def one_mail_lost(artifact: Artifact) -> Artifact:
    return with_ledger(artifact, "final", ledger([], [mail(n) for n in range(9)] * 2))


def orders_not_confirmed(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, orders_read=[reading(n, status="pending") for n in range(10)])


def test_a_mail_for_every_confirmed_order_passes_sent_twice_too(quiet_day: Artifact) -> None:
    assert outcome_of(checks.test_confirmation_mail_sent, quiet_day).verdict is Verdict.PASSED
    twice = with_ledger(quiet_day, "final", ledger([], [mail(n) for n in range(10)] * 2))
    assert outcome_of(checks.test_confirmation_mail_sent, twice).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (never_awaited, {"confirmed orders with a mail"}),
        (one_mail_lost, {"confirmed orders with a mail"}),
        (orders_not_confirmed, {"confirmed orders"}),
    ],
)
def test_lost_mails_are_seen(quiet_day: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert judged(checks.test_confirmation_mail_sent, quiet_day, spoil) == seen


def test_the_log_line_of_a_forgotten_await_is_evidence(quiet_day: Artifact) -> None:
    outcome = outcome_of(checks.test_confirmation_mail_sent, never_awaited(quiet_day))
    assert outcome.judgement is not None
    assert "was never awaited" in str(outcome.judgement.evidence)


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
