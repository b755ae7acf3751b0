"""The checks of work on the loop and of forgotten awaits: what they pass, and each flaw that they must see."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from shop_records import (
    Spoil,
    failures,
    frozen,
    lasting,
    ledger,
    mail,
    outcome_of,
    read,
    reading,
    steady,
    with_beats,
    with_exchanges,
    with_ledger,
)

from devstack.artifacts import Artifact, Exchange
from grader.checks import test_async_fundamentals as checks
from grader.model import Verdict


def judged(check: Callable[..., None], artifact: Artifact, spoil: Spoil) -> set[str]:
    outcome = outcome_of(check, spoil(artifact))
    assert outcome.verdict in (Verdict.FAILED, Verdict.PARTIAL), outcome
    return failures(outcome)


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
