"""The checks of a bad mailer: what they pass, and each thing that they must not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from shop_records import (
    beats,
    failures,
    lasting,
    outcome_of,
    placed,
    read,
    reading,
    steady,
    with_beats,
    with_exchanges,
    with_ledger,
)

from devstack.artifacts import Artifact, Ledger, Message, UpstreamCall
from grader.checks import test_mails as checks
from grader.model import Verdict

SLOW_S, HANG_S, ERRORS_S, RETURN_S = 1.0, 3.0, 6.0, 20.0
ORDERS = range(1, 31)
CROWD = "p90 of 20 orders while the mailer hangs"
TRIED = "orders whose mail was tried"
MAILED = "confirmed orders with a mail"
HASTE = "attempts at one mail within 0.8 s after the one before"
BEFORE = 'upstream_requests_total{upstream="mailer",outcome="error"} 0\nmails_total{outcome="sent"} 1\n'
AFTER = BEFORE.replace("} 0", "} 4")


def call(order_id: Any, at_s: float) -> UpstreamCall:
    return UpstreamCall(
        upstream="mailer", operation="message", connection=1, started_s=at_s, method="POST", path="/messages",
        body={"order_id": order_id}, status=500,
    )  # fmt: skip


def book(
    mails: Iterable[int] = ORDERS, *, at_s: float = RETURN_S + 5, calls: Iterable[UpstreamCall] = ()
) -> Ledger:
    messages = tuple(
        Message(to="a@example.com", template="order-confirmation", order_id=f"o{number}", idempotency_key="k", accepted_s=at_s)
        for number in mails
    )  # fmt: skip
    attempts = [
        call(f"o{number}", at) for number in ORDERS for at in (ERRORS_S, ERRORS_S + 1.1, ERRORS_S + 3.5, at_s)
    ]
    return Ledger(taken_s=99.0, calls=tuple(calls) or tuple(attempts), messages=messages)


@pytest.fixture
def outage() -> Artifact:
    return Artifact(
        scenario="mailer-outage",
        facts={
            "slow-from-s": SLOW_S, "slow-until-s": HANG_S, "hang-from-s": HANG_S, "hang-until-s": ERRORS_S,
            "errors-from-s": ERRORS_S, "outage-until-s": RETURN_S, "mails-normally": True, "gone": True,
        },
        exchanges={
            "slow": tuple(placed("slow", n) for n in ORDERS[:6]),
            "hang": tuple(placed("hang", n) for n in ORDERS[6:26]),
            "error": tuple(placed("error", n, status=202) for n in ORDERS[26:]),
            "hang-reads": tuple(read("hang-reads", "/events/1") for _ in range(5)),
            "settled": tuple(reading(n) for n in ORDERS),
            "metrics": (
                read("metrics", "/metrics").model_copy(update={"body": BEFORE}),
                read("metrics", "/metrics").model_copy(update={"body": AFTER}),
            ),
        },
        heartbeats={"live": steady()},
        ledgers={"final": book()},
        texts={"log-of-outage": "WARNING mail of order o27 not delivered\n"},
    )  # fmt: skip


# -- orders and everybody else beside the mailer ------------------------------------------------------------


def test_orders_that_wait_for_nobody_pass(outage: Artifact) -> None:
    result = outcome_of(checks.test_order_beside_slow_mailer, outage)
    assert result.verdict is Verdict.PASSED, failures(result)


def test_one_slow_order_of_the_crowd_passes(outage: Artifact) -> None:
    crowd = list(outage.exchanges_of("hang"))
    crowd[3] = lasting(crowd[3], 6.0)
    result = outcome_of(checks.test_order_beside_slow_mailer, with_exchanges(outage, hang=crowd))
    assert result.verdict is Verdict.PASSED, failures(result)


def test_what_the_grader_itself_was_late_passes(outage: Artifact) -> None:
    late = beats(10, interval_s=0.05, answer=lambda _: (200, 2.9)).model_copy(
        update={"prober_lag_p99_s": 2.0}
    )
    crowd = [lasting(order, 3.9) for order in outage.exchanges_of("hang")]
    busy = with_beats(with_exchanges(outage, hang=crowd), "live", late)
    result = outcome_of(checks.test_order_beside_slow_mailer, busy)
    assert result.verdict is Verdict.PASSED, failures(result)


def test_a_mail_inside_the_request_fails(outage: Artifact) -> None:
    slow = [lasting(order, 4.1) for order in outage.exchanges_of("slow")]
    found = failures(outcome_of(checks.test_order_beside_slow_mailer, with_exchanges(outage, slow=slow)))
    assert found == {"p90 of 6 orders while the mailer takes 4 s"}


def test_orders_that_fail_with_the_mailer_fail(outage: Artifact) -> None:
    error = [placed("error", n, status=502) for n in ORDERS[26:]]
    spoiled = with_exchanges(outage, error=error, settled=outage.exchanges_of("settled")[:26])
    assert failures(outcome_of(checks.test_order_beside_slow_mailer, spoiled)) == {
        "orders that are confirmed"
    }


def test_orders_that_find_every_thread_taken_by_a_mail_fail(outage: Artifact) -> None:
    crowd = [
        lasting(order, 5.0 if number > 14 else 0.1)
        for number, order in enumerate(outage.exchanges_of("hang"))
    ]
    found = failures(outcome_of(checks.test_order_beside_slow_mailer, with_exchanges(outage, hang=crowd)))
    assert found == {CROWD}


def test_reads_that_find_every_thread_taken_by_a_mail_fail(outage: Artifact) -> None:
    reads = [read("hang-reads", "/events/1", status=None)] * 5
    spoiled = with_exchanges(outage, hang_reads=reads)
    found = failures(outcome_of(checks.test_order_beside_slow_mailer, spoiled))
    assert found == {"event reads within 3 s while many mails hang"}


def test_a_loop_that_is_blocked_after_the_answers_fails(outage: Artifact) -> None:
    blocked = beats(10, interval_s=0.05, answer=lambda at_s: (200, 4 - (at_s % 4)))
    found = failures(outcome_of(checks.test_order_beside_slow_mailer, with_beats(outage, "live", blocked)))
    assert found == {
        "share of /health/live within 1 s while the mailer takes 4 s",
        "share of /health/live within 1 s while the mailer hangs",
    }


def test_sending_no_mail_at_all_is_not_speed(outage: Artifact) -> None:
    silent = with_ledger(outage, "final", Ledger(taken_s=99.0))
    assert failures(outcome_of(checks.test_order_beside_slow_mailer, silent)) == {TRIED}
    assert failures(outcome_of(checks.test_mail_after_outage, silent)) == {MAILED}


# -- mails after the outage ---------------------------------------------------------------------------------


def test_mails_that_are_all_delivered_pass(outage: Artifact) -> None:
    result = outcome_of(checks.test_mail_after_outage, outage)
    assert result.verdict is Verdict.PASSED, failures(result)


@pytest.mark.parametrize("spoiled", [book(ORDERS[:-1]), book(at_s=RETURN_S + 73)])
def test_a_mail_lost_or_too_late_fails(outage: Artifact, spoiled: Ledger) -> None:
    found = failures(outcome_of(checks.test_mail_after_outage, with_ledger(outage, "final", spoiled)))
    assert found == {MAILED}


def test_four_quick_attempts_and_one_of_the_next_process_pass(outage: Artifact) -> None:
    calls = [call("o1", ERRORS_S + offset) for offset in (0, 0.1, 0.3, 0.7, 1.2)]
    result = outcome_of(checks.test_mail_after_outage, with_ledger(outage, "final", book(calls=calls)))
    assert result.verdict is Verdict.PASSED, failures(result)


def test_a_loop_without_a_pause_fails(outage: Artifact) -> None:
    calls = [call("o1", ERRORS_S + 0.1 * number) for number in range(40)]
    result = outcome_of(checks.test_mail_after_outage, with_ledger(outage, "final", book(calls=calls)))
    assert result.verdict is Verdict.FAILED
    assert failures(result) == {HASTE}


def test_attempts_at_different_mails_may_follow_at_once(outage: Artifact) -> None:
    calls = [call(f"o{number}", ERRORS_S + 0.01 * number) for number in ORDERS]
    result = outcome_of(checks.test_mail_after_outage, with_ledger(outage, "final", book(calls=calls)))
    assert result.verdict is Verdict.PASSED, failures(result)


def test_no_confirmed_order_is_no_success(outage: Artifact) -> None:
    nothing = with_exchanges(outage, settled=[])
    assert "confirmed orders" in failures(outcome_of(checks.test_mail_after_outage, nothing))


def test_calls_without_an_order_are_tolerated(outage: Artifact) -> None:
    junk = [call(order_id, ERRORS_S) for order_id in (None, 3, ["o1"], {"a": 1})]
    junk.append(junk[0].model_copy(update={"body": ["x"]}))
    result = outcome_of(checks.test_mail_after_outage, with_ledger(outage, "final", book(calls=junk)))
    assert result.verdict is Verdict.PASSED, failures(result)


def test_a_service_that_did_not_come_back_fails(outage: Artifact) -> None:
    facts = {name: value for name, value in outage.facts.items() if name != "outage-until-s"}
    cut = outage.model_copy(
        update={
            "facts": facts,
            "outcome": outage.outcome.model_copy(update={"kind": "cut-short", "reason": "died"}),
        }
    )
    assert outcome_of(checks.test_mail_after_outage, cut).verdict is Verdict.FAILED
    assert outcome_of(checks.test_order_beside_slow_mailer, cut).verdict is Verdict.PASSED


# -- traces -------------------------------------------------------------------------------------------------


def pages(artifact: Artifact, *bodies: str) -> Artifact:
    found = [read("metrics", "/metrics").model_copy(update={"body": body}) for body in bodies]
    return with_exchanges(artifact, metrics=found)


@pytest.mark.parametrize(
    ("log", "after", "seen"),
    [
        ("WARNING mail not delivered", BEFORE, "in the log"),
        ("INFO POST /orders 201", AFTER, "in the metrics"),
        ("ERROR mailer", AFTER, "in the log and the metrics"),
    ],
)
def test_either_trace_is_enough(outage: Artifact, log: str, after: str, seen: str) -> None:
    told = pages(outage, BEFORE, after).model_copy(update={"texts": {"log-of-outage": log}})
    result = outcome_of(checks.test_silent_failures, told)
    assert result.verdict is Verdict.PASSED
    assert result.judgement is not None
    assert result.judgement.summary.endswith(seen)


@pytest.mark.parametrize(
    "page", [BEFORE, "", "<html>", '{"status": 404}', "# HELP x y\nmails_failed_total NaN NaN NaN"]
)
def test_neither_is_silent(outage: Artifact, page: str) -> None:
    silent = pages(outage, page, page).model_copy(
        update={"texts": {"log-of-outage": "INFO POST /orders 201\n"}}
    )
    assert outcome_of(checks.test_silent_failures, silent).verdict is Verdict.FAILED
