"""The checks of system design: what they pass, and each thing that they must not."""

from __future__ import annotations

import pytest
from shop_records import (
    charge,
    failures,
    ledger,
    outcome_of,
    placed,
    read,
    reading,
    with_exchanges,
    with_facts,
    with_ledger,
)

from devstack.artifacts import Artifact, Exchange
from grader.checks import test_system_design as checks
from grader.model import Verdict

MONEY = "every order and the money agree"
JOIN = "/events/1/waitlist"


def joined(number: int, *, entry: str | None = None, status: int = 201, shout: bool = False) -> Exchange:
    email = f"w{number}@example.com"
    return Exchange(
        label="waitlist-joins", method="POST", path=JOIN, started_s=5, elapsed_s=0.1, status=status,
        request_json={"email": email.upper() if shout else email},
        payload={"id": entry or f"e{number}", "position": number + 1},
    )  # fmt: skip


def entries(positions: list[int]) -> tuple[Exchange, ...]:
    return tuple(read("waitlist-entries", f"{JOIN}/e{n}", payload={"position": n}) for n in positions)


@pytest.fixture
def two_processes() -> Artifact:
    """One event of three seats; the replayed order is number 20, the one sent by many at once number 30."""
    emails = [f"w{number}@example.com" for number in range(3)]
    return Artifact(
        scenario="two-processes",
        facts={
            "serving-processes": 2,
            "events": [{"id": 1, "seats_total": 3}],
            "waitlist-emails": emails,
        },
        exchanges={
            "storm": (placed("storm", 1, quantity=2), placed("storm", 2, status=409, quantity=3)),
            "second-wave": (placed("second-wave", 3), placed("second-wave", 4, status=409)),
            "settled": (reading(1),),
            "settled-replays": (),
            "settled-1": (reading(3),),
            "settled-1-replays": (),
            "availability": (read("availability", "/events/1", payload={"seats_available": 0}),),
            "replays": (placed("replays", 20), placed("replays", 20, status=200), placed("replays", 20)),
            "replay-after-restart": (placed("replay-after-restart", 20, status=200),),
            "replays-settled": (reading(20),),
            "other-body": (placed("other-body", 20, status=422, quantity=3),),
            "last-seats": (placed("last-seats", 40), placed("last-seats", 40, status=200)),
            **{
                f"{name}-{status}": (
                    placed(f"{name}-{status}", 50 + status, status=status if name == "refused" else 201),
                )
                for name in ("refused", "meant")
                for status in (404, 413, 422)
            },
            "duplicates": (placed("duplicates", 30), *[placed("duplicates", 30, status=409)] * 19),
            "duplicates-after": (placed("duplicates-after", 30, status=200),),
            "duplicates-settled": (reading(30),),
            "waitlist-joins": (joined(0), joined(1), joined(2), joined(0, status=200, shout=True)),
            "waitlist-entries": entries([1, 2, 3]),
        },
        ledgers={
            "sold-out": ledger([charge(1), charge(3)]),
            "duplicates": ledger([charge(30)]),
            "final": ledger([charge(1), charge(3), charge(20), charge(30)]),
        },
    )


@pytest.mark.parametrize(
    "check",
    [
        checks.test_seats_oversold,
        checks.test_idempotent_replay,
        checks.test_idempotent_concurrency,
        checks.test_waitlist_concurrency,
    ],
)
def test_a_service_that_shares_its_state_passes(check: object, two_processes: Artifact) -> None:
    result = outcome_of(check, two_processes)
    assert result.verdict is Verdict.PASSED, failures(result)


def test_more_confirmed_seats_than_there_are_fail(two_processes: Artifact) -> None:
    sold = with_exchanges(two_processes, second_wave=[placed("second-wave", 3, quantity=2)])
    assert failures(outcome_of(checks.test_seats_oversold, sold)) == {"confirmed seats of event 1"}


def test_a_charge_for_a_sold_out_order_fails(two_processes: Artifact) -> None:
    charged = with_ledger(two_processes, "sold-out", ledger([charge(1), charge(2), charge(3)]))
    assert failures(outcome_of(checks.test_seats_oversold, charged)) == {MONEY}


def test_a_refunded_charge_for_a_sold_out_order_is_right(two_processes: Artifact) -> None:
    book = ledger([charge(1), charge(2, status="refunded"), charge(3)])
    refunded = with_ledger(two_processes, "sold-out", book)
    assert outcome_of(checks.test_seats_oversold, refunded).verdict is Verdict.PASSED


def test_one_serving_process_fails_what_two_were_asked_for(two_processes: Artifact) -> None:
    alone = with_facts(two_processes, serving_processes=1)
    assert failures(outcome_of(checks.test_seats_oversold, alone)) == {"serving processes"}
    assert failures(outcome_of(checks.test_idempotent_concurrency, alone)) == {"serving processes"}


def test_a_bare_500_in_the_storm_fails(two_processes: Artifact) -> None:
    storm = [*two_processes.exchanges_of("storm"), placed("storm", 9, status=500)]
    found = failures(outcome_of(checks.test_seats_oversold, with_exchanges(two_processes, storm=storm)))
    assert found == {"requests without a proper answer"}


def test_an_order_shed_at_first_and_sold_on_repetition_is_right(two_processes: Artifact) -> None:
    storm = [
        placed("storm", 1, status=503, quantity=2, at_s=0.5),
        *two_processes.exchanges_of("storm"),
    ]
    shed = with_exchanges(two_processes, storm=storm)
    assert outcome_of(checks.test_seats_oversold, shed).verdict is Verdict.PASSED


def test_a_second_order_after_the_restart_fails(two_processes: Artifact) -> None:
    again = placed("replay-after-restart", 20, order_id="another")
    forgot = with_exchanges(two_processes, replay_after_restart=[again])
    forgot = with_ledger(forgot, "final", ledger([charge(20), charge(20, again=1)]))
    assert failures(outcome_of(checks.test_idempotent_replay, forgot)) == {
        "orders they made",
        "charges they made",
    }


def test_accepting_another_body_under_a_known_key_fails(two_processes: Artifact) -> None:
    careless = with_exchanges(two_processes, other_body=[placed("other-body", 20, status=200)])
    found = failures(outcome_of(checks.test_idempotent_replay, careless))
    assert found == {"the same key with another body is 409 or 422"}


def test_sold_out_for_who_bought_the_last_seats_fails(two_processes: Artifact) -> None:
    forgetful = with_exchanges(
        two_processes, last_seats=[placed("last-seats", 40), placed("last-seats", 40, status=409)]
    )
    found = failures(outcome_of(checks.test_idempotent_replay, forgetful))
    assert found == {"who bought the last seats and asks again gets the same order"}


@pytest.mark.parametrize("status", [404, 413, 422])
def test_a_key_that_a_refusal_binds_fails(two_processes: Artifact, status: int) -> None:
    bound = with_exchanges(two_processes, **{f"meant-{status}": [placed("meant", 1, status=409)]})
    assert failures(outcome_of(checks.test_idempotent_replay, bound)) == {f"a key that got {status} is free"}
    closed = with_exchanges(
        bound, **{f"refused-{status}": [placed("refused", 1, status=None, error="reset")]}
    )
    assert failures(outcome_of(checks.test_idempotent_replay, closed)) == {f"a key that got {status} is free"}
    # What was not refused like this at all may have been an order.
    accepted = with_exchanges(bound, **{f"refused-{status}": [placed("refused", 1, status=201)]})
    assert failures(outcome_of(checks.test_idempotent_replay, accepted)) == set()


def test_duplicates_charged_twice_fail_even_when_one_was_refunded(two_processes: Artifact) -> None:
    twice = with_ledger(
        two_processes, "duplicates", ledger([charge(30), charge(30, again=1, status="refunded")])
    )
    assert failures(outcome_of(checks.test_idempotent_concurrency, twice)) == {"charges they made"}


def test_a_design_that_answers_before_it_charges_passes(two_processes: Artifact) -> None:
    queued = with_exchanges(
        two_processes,
        replays=[placed("replays", 20, status=202)] * 3,
        duplicates=[placed("duplicates", 30, status=202)] * 20,
        duplicates_after=[placed("duplicates-after", 30, status=202)],
    )
    assert failures(outcome_of(checks.test_idempotent_replay, queued)) == set()
    assert failures(outcome_of(checks.test_idempotent_concurrency, queued)) == set()


@pytest.mark.parametrize("positions", [[1, 2, 2], [1, 2, 4], [0, 1, 2], [1, 2]])
def test_gaps_and_twins_on_the_waitlist_fail(two_processes: Artifact, positions: list[int]) -> None:
    wrong = with_exchanges(two_processes, waitlist_entries=entries(positions))
    found = failures(outcome_of(checks.test_waitlist_concurrency, wrong))
    assert found == {"positions are 1, 2, 3 … without gaps or twins"}


def test_two_entries_for_one_address_in_capitals_fail(two_processes: Artifact) -> None:
    joins = [joined(0), joined(1), joined(2), joined(0, entry="e9", shout=True)]
    twice = with_exchanges(two_processes, waitlist_joins=joins)
    assert failures(outcome_of(checks.test_waitlist_concurrency, twice)) == {"people with one entry"}


def test_a_waitlist_that_was_not_built_fails(two_processes: Artifact) -> None:
    missing = with_exchanges(two_processes, waitlist_joins=[joined(0, status=501)], waitlist_entries=[])
    assert outcome_of(checks.test_waitlist_concurrency, missing).verdict is Verdict.FAILED
