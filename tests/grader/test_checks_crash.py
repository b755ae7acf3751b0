"""The checks of kills and of a database that is lost or stands still: what they pass, and each thing that they must not."""

from __future__ import annotations

from typing import Any

import pytest
from shop_records import (
    CHECK,
    Spoil,
    charge,
    failures,
    lasting,
    ledger,
    outcome_of,
    placed,
    read,
    reading,
    with_exchanges,
    with_facts,
    with_ledger,
)

from devstack.artifacts import Artifact, Exchange, Outcome
from grader.checks import test_crash as crash_checks
from grader.checks import test_database_deadline as database_checks
from grader.model import Verdict

MONEY = "every order and the money agree"
ENDED = "orders whose client learns how they ended"
SEATS = "every seat that nobody bought is on sale"
CONTROL = "undisturbed orders that are confirmed"
READS = "reads that met idle connections: share answered properly within 3.6 s"
READS_ANEW = "reads that came when those had been given up: share answered properly within 3.6 s"
ORDERS = "orders: share answered properly within 12 s"
REPORTS = "tickets and sales reports: share answered properly within 12 s"

AFTERMATHS = [
    ("crash", crash_checks.test_money_after_crash),
    ("database-lost-midway", database_checks.test_money_across_database_outage),
]


def page(event_id: int, free: Any) -> Exchange:
    return read("availability", f"/events/{event_id}", at_s=9.0, payload={"seats_available": free})


def aftermath(scenario: str) -> Artifact:
    """A control, an order that was asked for again and confirmed, one that was failed and refunded, one that was not made."""
    return Artifact(
        scenario=scenario,
        facts={"control-event": 1, "seats-total": {"1": 300, "2": 400}},
        exchanges={
            "orders-control": (placed("orders-control", 1, quantity=2),),
            "orders-stream": (
                placed("orders-stream", 2, status=None, error="reset", event_id=2, quantity=3),
                placed("orders-stream", 3, status=202, event_id=2),
                placed("orders-stream", 4, status=None, error="reset", event_id=2),
            ),
            "orders-again": (
                placed("orders-again", 2, event_id=2, quantity=3, at_s=5.0),
                placed("orders-again", 4, status=503, event_id=2, at_s=5.0),
            ),
            "settled": (reading(1), reading(2), reading(3, status="failed")),
            "availability": (page(1, 298), page(2, 397)),
        },
        ledgers={"final": ledger([charge(1), charge(2), charge(3, status="refunded")])},
    )


@pytest.mark.parametrize(("scenario", "check"), AFTERMATHS)
def test_confirmed_later_refunded_and_refused_orders_pass(scenario: str, check: CHECK) -> None:
    result = outcome_of(check, aftermath(scenario))
    assert result.verdict is Verdict.PASSED, failures(result)


def again(number: int, status: int | None) -> Spoil:
    """The order ``number`` was asked for once more, and answered so."""

    def spoil(artifact: Artifact) -> Artifact:
        answers = [
            *artifact.exchanges_of("orders-again"),
            placed("x", number, status=status, at_s=8, event_id=2),
        ]
        return with_exchanges(artifact, orders_again=answers)

    return spoil


def money(*charges: Any) -> Spoil:
    return lambda artifact: with_ledger(artifact, "final", ledger(charges))


def readings(*found: Exchange) -> Spoil:
    return lambda artifact: with_exchanges(artifact, settled=found)


def pages(*found: Exchange) -> Spoil:
    return lambda artifact: with_exchanges(artifact, availability=found)


REFUNDED = charge(3, status="refunded")
JUNK = read("settled", "/orders/o2", payload={"id": ["o2"], "status": 7, "total": None})


@pytest.mark.parametrize(("scenario", "check"), AFTERMATHS)
@pytest.mark.parametrize(
    ("spoil", "failed"),
    [
        pytest.param(money(charge(1), charge(2)), set(), id="never-charged-is-as-good-as-refunded"),
        pytest.param(money(charge(1), charge(2), charge(3)), {MONEY}, id="failed-and-charged"),
        pytest.param(money(charge(1), REFUNDED), {MONEY}, id="confirmed-without-a-charge"),
        pytest.param(money(charge(1), charge(2, status="refunded"), REFUNDED), {MONEY}, id="confirmed-and-refunded"),
        pytest.param(money(charge(1), charge(2), charge(2, again=1), REFUNDED), {MONEY}, id="charged-twice"),
        pytest.param(money(charge(1), charge(2), charge(4)), {MONEY}, id="charged-for-an-order-that-is-not"),
        pytest.param(money(charge(1), charge(2), charge(77)), {MONEY}, id="a-charge-of-nobody"),
        pytest.param(again(4, 500), {ENDED}, id="nothing-but-a-500-in-the-end"),
        pytest.param(again(4, 409), {ENDED}, id="its-key-is-in-progress-for-ever"),
        pytest.param(again(4, 404), {ENDED}, id="its-key-is-an-unknown-thing"),
        pytest.param(again(4, None), {ENDED}, id="no-answer-any-more"),
        pytest.param(readings(reading(1), reading(2), reading(3, status="pending")), {MONEY, ENDED}, id="pending"),
        pytest.param(readings(reading(1), reading(2)), {ENDED}, id="answered-202-and-not-to-be-read"),
        pytest.param(
            readings(reading(1), reading(2, status="failed"), reading(3, status="failed")), {MONEY, SEATS}, id="201-and-failed"
        ),
        pytest.param(readings(reading(1), JUNK, reading(3, status="failed")), {MONEY, ENDED, SEATS}, id="junk"),
        pytest.param(
            readings(reading(1, status="failed"), reading(2), reading(3, status="failed")), {MONEY, SEATS, CONTROL},
            id="the-undisturbed-one-failed",
        ),
        pytest.param(pages(page(1, 298), page(2, 396)), {SEATS}, id="a-seat-is-lost"),
        pytest.param(pages(page(1, 298), page(2, 398)), {SEATS}, id="a-seat-is-sold-twice"),
        pytest.param(pages(page(1, 298), page(2, "many")), {SEATS}, id="junk-seats"),
        pytest.param(pages(page(1, 298)), {SEATS}, id="an-event-that-was-never-read"),
        pytest.param(
            pages(page(1, 298), read("availability", "/events/2", status=None)), {SEATS}, id="an-event-that-cannot-be-read"
        ),
    ],
)  # fmt: skip
def test_what_a_failure_must_not_leave(scenario: str, check: CHECK, spoil: Spoil, failed: set[str]) -> None:
    result = outcome_of(check, spoil(aftermath(scenario)))
    assert failures(result) == failed
    assert (result.verdict is Verdict.PASSED) == (not failed)


@pytest.mark.parametrize(("scenario", "check"), AFTERMATHS)
def test_a_service_that_never_came_back_fails(scenario: str, check: CHECK) -> None:
    whole = aftermath(scenario)
    cut = whole.model_copy(
        update={
            "outcome": Outcome(kind="cut-short", reason="the service was not ready"),
            "exchanges": {"orders-control": whole.exchanges_of("orders-control")},
        }
    )
    assert outcome_of(check, cut).verdict is Verdict.FAILED


# -- deadlines ---------------------------------------------------------------------------------------------


def reads(name: str, count: int, *, status: int | None = 503, elapsed_s: float = 2.7) -> list[Exchange]:
    return [lasting(read(name, f"/events/{number}", status=status), elapsed_s) for number in range(count)]


def tried(count: int, *, status: int | None = 503, elapsed_s: float = 4.0) -> list[Exchange]:
    return [placed("orders-frozen", number, status=status, elapsed_s=elapsed_s) for number in range(count)]


@pytest.fixture
def standstill() -> Artifact:
    return Artifact(
        scenario="database-lost-midway",
        facts={"recovered": True},
        exchanges={
            "frozen-reads": tuple(reads("frozen-reads", 12)),
            "frozen-reads-anew": tuple(reads("frozen-reads-anew", 12, status=200, elapsed_s=0.01)),
            "frozen-reports": tuple(reads("frozen-reports", 6, elapsed_s=8.5)),
            "orders-frozen": tuple(tried(6)),
            "orders-waiting": (placed("orders-waiting", 91, status=202, elapsed_s=9.1),),
            "recovery-reads": tuple(reads("recovery-reads", 5, status=200)),
        },
    )


def test_errors_in_time_and_pages_of_a_cache_pass(standstill: Artifact) -> None:
    result = outcome_of(database_checks.test_database_deadline, standstill)
    assert result.verdict is Verdict.PASSED, failures(result)


def test_one_straggler_costs_nothing(standstill: Artifact) -> None:
    straggling = [*reads("frozen-reads", 11), *reads("frozen-reads", 1, elapsed_s=4.5)]
    result = outcome_of(
        database_checks.test_database_deadline, with_exchanges(standstill, frozen_reads=straggling)
    )
    assert result.verdict is Verdict.PASSED, failures(result)


@pytest.mark.parametrize(
    ("name", "found", "failed"),
    [
        ("frozen-reads", reads("x", 12, status=None, elapsed_s=8.0), READS),
        ("frozen-reads", reads("x", 12, status=500), READS),
        ("frozen-reads", reads("x", 12, status=404), READS),
        ("frozen-reads", [], READS),
        ("frozen-reads-anew", reads("x", 12, status=None, elapsed_s=8.0), READS_ANEW),
        ("frozen-reports", [*reads("x", 3), *reads("x", 3, status=None, elapsed_s=13.0)], REPORTS),
        ("orders-frozen", tried(6, status=None, elapsed_s=13.0), ORDERS),
        ("orders-frozen", tried(6, status=201), ORDERS),
        ("orders-frozen", tried(6, status=409), ORDERS),
        (
            "orders-waiting",
            [placed("x", 91, status=None, elapsed_s=13.0)],
            "slowest order that was at payments when the database stood still",
        ),
    ],
)
def test_a_standstill_that_holds_requests_fails(
    standstill: Artifact, name: str, found: list[Exchange], failed: str
) -> None:
    spoiled = with_exchanges(standstill, **{name.replace("-", "_"): found})
    result = outcome_of(database_checks.test_database_deadline, spoiled)
    assert failures(result) == {failed}
    assert result.verdict is Verdict.FAILED


def test_a_third_of_late_reads_costs_a_part(standstill: Artifact) -> None:
    some = [*reads("x", 8), *reads("x", 4, elapsed_s=5.6)]
    result = outcome_of(database_checks.test_database_deadline, with_exchanges(standstill, frozen_reads=some))
    assert result.judgement is not None
    assert 0 < result.judgement.score < 1


def test_a_pool_that_stays_empty_fails(standstill: Artifact) -> None:
    spoiled = with_facts(standstill, recovered=False)
    found = failures(outcome_of(database_checks.test_database_deadline, spoiled))
    assert found == {"event reads succeed again"}
