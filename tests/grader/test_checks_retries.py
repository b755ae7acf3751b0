"""The checks of upstreams that fail: what they pass, and what they must not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from error_records import (
    BASE,
    DECLINED,
    DENIED,
    FOREIGN,
    assess,
    book,
    charging,
    good_calls,
    good_charge,
    number_of,
    order,
    page,
    rate,
    right,
    with_calls,
    with_charges,
)
from shop_records import beats, charge, failures, frozen, outcome_of, reading, with_beats, with_exchanges

from devstack.artifacts import Artifact, Outcome, UpstreamCall
from grader.checks import test_retries as checks
from grader.model import CheckOutcome, Verdict

Check = Callable[..., None]
SCORED: tuple[Check, ...] = (
    checks.test_event_loop_retry_pause,
    checks.test_denied_orders_charged,
    checks.test_error_mapping,
    checks.test_retry_discipline,
    checks.test_retry_after,
)
EVERY = (*SCORED, checks.test_circuit_breaker)


@pytest.fixture
def upstream_errors() -> Artifact:
    return right()


def fallen(check: Check, artifact: Artifact) -> set[str]:
    return failures(outcome_of(check, artifact))


def passed(outcome: CheckOutcome) -> bool:
    return outcome.verdict is Verdict.PASSED


@pytest.mark.parametrize("check", EVERY)
def test_right_answers_and_few_attempts_pass(check: Check, upstream_errors: Artifact) -> None:
    result = outcome_of(check, upstream_errors)
    assert passed(result), failures(result)


@pytest.mark.parametrize("check", SCORED)
def test_who_sells_nothing_at_all_passes_nothing(check: Check, upstream_errors: Artifact) -> None:
    posts = {
        name: tuple(
            found.model_copy(update={"status": 503, "payload": None}) if found.method == "POST" else found
            for found in exchanges
        )
        for name, exchanges in upstream_errors.exchanges.items()
    }
    shut = upstream_errors.model_copy(update={"exchanges": posts})
    assert "orders placed where payments and risk worked" in fallen(check, shut)


@pytest.mark.parametrize("check", EVERY)
def test_a_service_that_died_before_the_first_phase_fails(check: Check) -> None:
    cut = Artifact(scenario="upstream-errors", outcome=Outcome(kind="cut-short", reason="stopped answering"))
    assert outcome_of(check, cut).verdict is Verdict.FAILED


@pytest.mark.parametrize("check", EVERY)
def test_junk_is_a_failure_and_no_exception(check: Check, upstream_errors: Artifact) -> None:
    junk: list[Any] = [None, "x", [1], {"id": {"a": 1}, "status": 7, "total": [], "display_price": "free"}]
    exchanges = {
        name: tuple(
            found.model_copy(
                update={"payload": junk[number % 4], "headers": {"retry-after": "\x00soon, 99 Foo"}}
            )
            for number, found in enumerate(found_there)
        )
        for name, found_there in upstream_errors.exchanges.items()
    }
    calls = [call.model_copy(update={"body": junk[i % 4]}) for i, call in enumerate(good_calls())]
    spoilt = upstream_errors.model_copy(
        update={"exchanges": exchanges, "ledgers": {"final": book(calls, ())}}
    )
    assert outcome_of(check, spoilt).error is None


# -- the event loop ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["payments-503", "risk-503"])
def test_a_loop_that_stands_still_in_the_pauses_fails(phase: str, upstream_errors: Artifact) -> None:
    stopped = with_beats(upstream_errors, phase, frozen(1.0, 8.0))
    assert fallen(checks.test_event_loop_retry_pause, stopped)


def test_a_few_late_beats_of_a_busy_machine_pass(upstream_errors: Artifact) -> None:
    late = beats(10, interval_s=0.05, answer=lambda at: (200, 0.6 if at % 1 < 0.2 else 0.05))
    noisy = with_beats(upstream_errors, "payments-503", late)
    assert passed(outcome_of(checks.test_event_loop_retry_pause, noisy))


# -- charges without consent -------------------------------------------------------------------------------


def test_the_charge_of_a_denied_order_fails_unless_refunded(upstream_errors: Artifact) -> None:
    kept = with_charges(upstream_errors, charge(DENIED))
    assert fallen(checks.test_denied_orders_charged, kept) == {"charges of denied orders"}
    assert passed(outcome_of(checks.test_error_mapping, kept)), "one flaw, one check"
    refunded = with_charges(upstream_errors, charge(DENIED, status="refunded"))
    assert passed(outcome_of(checks.test_denied_orders_charged, refunded))


def test_the_charge_of_an_order_that_risk_did_not_decide_on_fails(upstream_errors: Artifact) -> None:
    charged = with_charges(upstream_errors, good_charge(21, at_s=23.0))
    assert fallen(checks.test_denied_orders_charged, charged) == {
        "charges of orders that risk had not decided on"
    }


def test_an_order_that_risk_decides_on_later_may_be_charged(upstream_errors: Artifact) -> None:
    later = with_calls(upstream_errors, assess(21, 27.0))
    later = with_charges(later, good_charge(21, at_s=27.2))
    assert passed(outcome_of(checks.test_denied_orders_charged, later))


# -- answers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "number", "status", "told"),
    [
        ("payments-500", 11, 500, "orders while payments fails are answered 503, or 202"),
        ("payments-500", 11, 201, "orders while payments fails are answered 503, or 202"),
        ("payments-429", 14, 402, "orders while payments fails are answered 503, or 202"),
        ("risk-400", 23, 403, "orders while risk fails are answered 503, or 202"),
        ("risk-503", 22, 201, "orders while risk fails are answered 503, or 202"),
        ("risk-refuse", 20, None, "orders while risk fails are answered 503, or 202"),
        ("rates-refuse", FOREIGN, 500, "orders while rates fails are answered 503, or 202"),
        ("rates-refuse", FOREIGN, 201, "orders while rates fails are answered 503, or 202"),
        ("denied", DENIED, 503, "denied orders are answered 403"),
        ("declined", DECLINED, 503, "declined orders are answered 402"),
    ],
)
def test_another_status_fails(
    name: str, number: int, status: int | None, told: str, upstream_errors: Artifact
) -> None:
    wrong = order(name, number, status, float(number), currency="CHF")
    assert told in fallen(
        checks.test_error_mapping, with_exchanges(upstream_errors, **{name.replace("-", "_"): [wrong]})
    )


@pytest.mark.parametrize("status", [202, 402, 429, 502, 503, 504])
def test_a_charge_that_payments_rejects_may_be_told_in_several_ways(
    status: int, upstream_errors: Artifact
) -> None:
    told = with_exchanges(upstream_errors, payments_400=[order("payments-400", 13, status, 13.0)])
    settled = [*upstream_errors.exchanges_of("settled"), reading(13, status="failed")]
    assert passed(outcome_of(checks.test_error_mapping, with_exchanges(told, settled=settled)))


def test_a_rate_that_was_fetched_before_may_be_used(upstream_errors: Artifact) -> None:
    known = with_calls(upstream_errors, rate("CHF", 0.5, 200))
    known = with_exchanges(
        known,
        rates_refuse=[order("rates-refuse", FOREIGN, 201, 2.0, currency="CHF")],
        rates_refuse_page=[page("CHF", payload={"display_price": {"amount": "9.30", "currency": "CHF"}})],
        settled=[*upstream_errors.exchanges_of("settled"), reading(FOREIGN)],
    )
    assert passed(outcome_of(checks.test_error_mapping, with_charges(known, charge(FOREIGN))))


@pytest.mark.parametrize(
    "changed",
    [
        {"status": 503},
        {"status": None, "error": "timeout"},
        {"elapsed_s": 3.7},
        {"payload": {"display_price": {"amount": "10.00", "currency": "CHF"}}},
    ],
)
def test_a_page_that_needs_or_invents_a_rate_fails(changed: Any, upstream_errors: Artifact) -> None:
    wrong = with_exchanges(upstream_errors, rates_refuse_page=[page("CHF", **changed)])
    assert fallen(checks.test_error_mapping, wrong) == {
        "event pages are shown without a price that is not to be had"
    }


def test_an_order_in_euros_that_fails_without_rates_fails(upstream_errors: Artifact) -> None:
    refused = with_exchanges(upstream_errors, base_currency=[order("base-currency", BASE, 503, 2.0)])
    assert "orders in EUR confirmed while rates are down" in fallen(checks.test_error_mapping, refused)


def test_a_charge_without_an_order_fails(upstream_errors: Artifact) -> None:
    charged = with_charges(upstream_errors, charge(11))
    assert fallen(checks.test_error_mapping, charged) == {"every order and the money agree"}


def test_a_service_that_stops_answering_is_judged_by_what_it_answered(upstream_errors: Artifact) -> None:
    kept = ("base-currency", "denied", "declined", "list", "rates-refuse", "payments-refuse")
    cut = upstream_errors.model_copy(
        update={
            "outcome": Outcome(kind="cut-short", reason="stopped answering"),
            "exchanges": {name: upstream_errors.exchanges[name] for name in kept},
        }
    )
    assert "faults under which some order was answered" in fallen(checks.test_error_mapping, cut)


# -- attempts ----------------------------------------------------------------------------------------------


def test_a_fifth_attempt_while_answering_fails(upstream_errors: Artifact) -> None:
    fifth = with_calls(upstream_errors, assess(22, 23.05, 503))
    assert fallen(checks.test_retry_discipline, fifth) == {"most attempts at one call while answering"}


def test_a_rejected_request_that_is_repeated_fails(upstream_errors: Artifact) -> None:
    again = with_calls(upstream_errors, charging(13, 13.5, 400))
    assert fallen(checks.test_retry_discipline, again) == {"most attempts at a call that was answered 400"}


def test_attempts_without_a_pause_fail(upstream_errors: Artifact) -> None:
    calls = [call for call in good_calls() if call.status not in (500, 503)]
    for number in (21, 22):
        calls += [assess(number, number + 0.03 * attempt, 503) for attempt in range(4)]
    hasty = upstream_errors.model_copy(
        update={"ledgers": {"final": book(calls, upstream_errors.ledger().charges)}}
    )
    assert fallen(checks.test_retry_discipline, hasty) == {
        "pauses of a call of three or four attempts, together, median"
    }


def test_no_retry_at_all_passes(upstream_errors: Artifact) -> None:
    seen: set[str] = set()
    calls = []
    for call in good_calls():
        if number_of(call) not in seen or call.upstream == "rates":
            calls.append(call)
        seen.add(number_of(call))
    once = upstream_errors.model_copy(
        update={"ledgers": {"final": book(calls, upstream_errors.ledger().charges)}}
    )
    assert passed(outcome_of(checks.test_retry_discipline, once))


@pytest.mark.parametrize("early", [charging(14, 15.0, 201), assess(24, 24.5, 200)], ids=["payments", "risk"])
def test_a_named_pause_that_is_ignored_fails(early: UpstreamCall, upstream_errors: Artifact) -> None:
    hasty = with_calls(upstream_errors, early)
    assert fallen(checks.test_retry_discipline, hasty) == {"attempts within the 3 s of a Retry-After"}


def test_background_work_in_a_hurry_fails(upstream_errors: Artifact) -> None:
    hasty = with_calls(upstream_errors, charging(12, 15.0), charging(12, 15.4))
    assert fallen(checks.test_retry_discipline, hasty) == {
        "attempts in the background less than 1 s after the one before"
    }


def test_the_attempts_of_one_call_may_outlast_the_answer(upstream_errors: Artifact) -> None:
    accepted = order("payments-503", 12, 202, 12.0, elapsed_s=0.1)
    assert passed(
        outcome_of(checks.test_retry_discipline, with_exchanges(upstream_errors, payments_503=[accepted]))
    )


def test_a_new_key_for_each_attempt_fails(upstream_errors: Artifact) -> None:
    other = with_calls(upstream_errors, charging(12, 17.6, key="another"))
    without = with_calls(upstream_errors, charging(12, 17.6, key=None))
    for artifact in (other, without):
        assert fallen(checks.test_retry_discipline, artifact) == {
            "most keys under which one order was charged"
        }


def test_clients_who_ask_again_after_the_faults_are_not_retries(upstream_errors: Artifact) -> None:
    replayed = [charging(11, 31.0 + 0.1 * number, 503, "k") for number in range(6)]
    assert passed(outcome_of(checks.test_retry_discipline, with_calls(upstream_errors, *replayed)))


# -- Retry-After -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["0", "3", " 120 ", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_both_forms_of_retry_after_pass(value: str, upstream_errors: Artifact) -> None:
    told = order("risk-500", 21, 503, 21.0).model_copy(update={"headers": {"retry-after": value}})
    assert passed(outcome_of(checks.test_retry_after, with_exchanges(upstream_errors, risk_500=[told])))


@pytest.mark.parametrize("value", ["", "1.0", "soon", "-1", "1s", "٣"])
def test_no_retry_after_or_another_form_fails(value: str, upstream_errors: Artifact) -> None:
    told = order("risk-500", 21, 503, 21.0).model_copy(update={"headers": {"retry-after": value}})
    assert fallen(checks.test_retry_after, with_exchanges(upstream_errors, risk_500=[told])) == {
        "of the answers 503 and 429, without Retry-After"
    }


def test_where_nobody_is_turned_away_there_is_nothing_to_judge(upstream_errors: Artifact) -> None:
    accepted = {
        name: tuple(
            found.model_copy(update={"status": 202}) if found.status == 503 else found for found in exchanges
        )
        for name, exchanges in upstream_errors.exchanges.items()
    }
    generous = upstream_errors.model_copy(update={"exchanges": accepted})
    assert outcome_of(checks.test_retry_after, generous).verdict is Verdict.NOT_APPLICABLE
    broken = with_exchanges(generous, risk_500=[order("risk-500", 21, 500, 21.0)])
    assert fallen(checks.test_retry_after, broken) == {"answers that should have been a 503"}


def test_the_note_tells_how_the_outage_went_on(upstream_errors: Artifact) -> None:
    waves = [
        order("risk-503", 22, 503, 22.0, elapsed_s=2.0),
        order("risk-503", 122, 503, 25.0, elapsed_s=0.01),
    ]
    result = outcome_of(checks.test_circuit_breaker, with_exchanges(upstream_errors, risk_503=waves))
    assert result.judgement is not None
    assert result.judgement.summary == (
        "an order took 2.00 s and 4.0 calls at the beginning of the outage, 0.01 s and 0.0 calls at its end"
    )
