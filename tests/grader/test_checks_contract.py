"""The checks of the contract's single requests: what they pass, and each flaw that they must see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shop_records import (
    Spoil,
    failures,
    ledger,
    outcome_of,
    placed,
    read,
    reading,
    with_exchanges,
    with_ledger,
)

from devstack.artifacts import Artifact, Exchange, UpstreamCall
from grader.checks import test_contract as checks
from grader.model import Verdict

PATH = "/events/1/waitlist"


def answer(name: str, status: int | None, payload: Any = None, **sent: Any) -> Exchange:
    """A POST and its answer; ``sent`` is the body."""
    return Exchange(
        label=name, method="POST", path=PATH, started_s=1, elapsed_s=0.05, status=status, payload=payload, request_json=sent
    )  # fmt: skip


def judged(check: Callable[..., None], artifact: Artifact) -> set[str]:
    outcome = outcome_of(check, artifact)
    assert outcome.verdict in (Verdict.FAILED, Verdict.PARTIAL), outcome
    return failures(outcome)


# -- orders ---------------------------------------------------------------------------------------------------


@pytest.fixture
def orders() -> Artifact:
    def event(seats: int) -> Exchange:
        return read("twice", "/events/2", payload={"seats_available": seats})

    return Artifact(
        scenario="contract",
        facts={"invalid-token": "tok_invalid"},
        exchanges={
            "invalid": (answer("invalid", 422),) * (checks.INVALID_ORDERS - 1),
            "not-json": (answer("not-json", 400),),
            "limits": (read("limits", "/events?limit=0", status=422), page(100)),
            "longest-key": (placed("longest-key", 5),),
            "unknown": (placed("unknown", 1, status=404),),
            "declined": (placed("declined", 2, status=402),),
            "denied": (placed("denied", 3, status=403),),
            "refused-read": (),
            "twice": (placed("twice", 4, status=422),),
            "twice-before": (event(9),),
            "twice-after": (event(9),),
        },
        ledgers={"final": ledger([])},
    )


def page(rows: int) -> Exchange:
    return read("limits", "/events?limit=101", payload={"items": [{"id": n} for n in range(rows)]})


def merged_lines(artifact: Artifact) -> Artifact:
    fewer = read("twice-after", "/events/2", payload={"seats_available": 6})
    return with_exchanges(artifact, twice=[placed("twice", 4)], twice_after=[fewer])


def refused_later(artifact: Artifact) -> Artifact:
    later = with_exchanges(
        artifact, declined=[placed("declined", 2, status=202)], denied=[placed("denied", 3, status=202)]
    )
    return with_exchanges(later, refused_read=[reading(2, status="declined"), reading(3, status="failed")])


@pytest.mark.parametrize("variant", [lambda it: it, merged_lines, refused_later])
def test_a_service_that_refuses_invalid_orders_passes(orders: Artifact, variant: Spoil) -> None:
    assert outcome_of(checks.test_order_validation, variant(orders)).verdict is Verdict.PASSED


def some_accepted(artifact: Artifact) -> Artifact:
    accepted = [answer("invalid", 201)] * 3 + [answer("invalid", 422)] * (checks.INVALID_ORDERS - 4)
    return with_exchanges(artifact, invalid=accepted)


def charged_for(artifact: Artifact) -> Artifact:
    charge = UpstreamCall(
        upstream="payments", operation="charge", connection=1, started_s=1, method="POST", path="/charges",
        body={"card_token": "tok_invalid"},
    )  # fmt: skip
    return with_ledger(artifact, "final", ledger([]).model_copy(update={"calls": (charge,)}))


def stopped_answering(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, invalid=[answer("invalid", None)])


def any_limit(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, limits=[page(1000)])


def unknown_event_crashes(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, unknown=[placed("unknown", 1, status=500)])


def long_key_refused(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, longest_key=[placed("longest-key", 5, status=422)])


def refusals_confirmed(artifact: Artifact) -> Artifact:
    confirmed = with_exchanges(artifact, declined=[placed("d", 2, status=202)], denied=[placed("d", 3)])
    return with_exchanges(confirmed, refused_read=[reading(2)])


def second_line_lost(artifact: Artifact) -> Artifact:
    fewer = read("twice-after", "/events/2", payload={"seats_available": 8})
    return with_exchanges(artifact, twice=[placed("twice", 4)], twice_after=[fewer])


def seats_unknown(artifact: Artifact) -> Artifact:
    return with_exchanges(
        artifact, twice=[placed("twice", 4)], twice_after=[read("t", "/events/2", status=500)]
    )


SHARE = "share of invalid orders refused"
TWICE = "the same event twice is refused, or takes the seats of both lines"


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (some_accepted, {SHARE}),
        (charged_for, {"charges for invalid orders"}),
        (stopped_answering, {SHARE}),
        (any_limit, {"list limits outside 1…100 are refused or clamped"}),
        (unknown_event_crashes, {"status for an unknown event"}),
        (long_key_refused, {"a key of 255 printable characters is accepted"}),
        (refusals_confirmed, {"a declined order is told so", "a denied order is told so"}),
        (second_line_lost, {TWICE}),
        (seats_unknown, {TWICE}),
    ],
)
def test_invalid_orders_that_get_through_are_seen(orders: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert judged(checks.test_order_validation, spoil(orders)) == seen


def test_most_invalid_orders_refused_is_worth_a_part(orders: Artifact) -> None:
    outcome = outcome_of(checks.test_order_validation, some_accepted(orders))
    assert outcome.verdict is Verdict.PARTIAL
    assert outcome.score == pytest.approx((16 / 19 - 0.6) / 0.4, abs=1e-4)


# -- the waitlist ---------------------------------------------------------------------------------------------

FIRST = {"id": "e1", "event_id": 1, "email": "Ann@example.com", "quantity": 2, "position": 1}
SECOND = {**FIRST, "id": "e2", "email": "bo@example.com", "position": 2}
HELD = {**FIRST, "id": "e3", "email": "cy@example.com", "position": 1}


@pytest.fixture
def waitlist() -> Artifact:
    return Artifact(
        scenario="contract",
        exchanges={
            "waitlist-join": (answer("join", 201, FIRST, email="Ann@example.com", quantity=2),),
            "waitlist-again": (answer("again", 200, FIRST),),
            "waitlist-second": (answer("second", 201, SECOND),),
            "waitlist-read": (read("read", f"{PATH}/e1", payload=FIRST),),
            "waitlist-read-elsewhere": (read("read", "/events/2/waitlist/e1", status=404),),
            "waitlist-read-unknown": (read("read", f"{PATH}/9", status=404),),
            "waitlist-seats-left": (answer("seats", 409),),
            "waitlist-unknown-event": (answer("unknown", 404),),
            "waitlist-while-held": (answer("held", 201, HELD),),
            "waitlist-seat-is-back": (answer("back", 200, HELD),),
            "waitlist-invalid": (answer("invalid", 422),) * checks.INVALID_ENTRIES,
        },
    )


def in_small_letters(artifact: Artifact) -> Artifact:
    def lowered(exchange: Exchange) -> Exchange:
        entry = exchange.payload
        email = str(entry["email"]).lower() if isinstance(entry, dict) else ""
        return exchange.model_copy(update={"payload": {**entry, "email": email}}) if email else exchange

    changed = {name: [lowered(found) for found in sent] for name, sent in artifact.exchanges.items()}
    return with_exchanges(artifact, **changed)


def test_a_waitlist_as_the_brief_says_passes(waitlist: Artifact) -> None:
    assert outcome_of(checks.test_waitlist_contract, waitlist).verdict is Verdict.PASSED
    assert outcome_of(checks.test_waitlist_contract, in_small_letters(waitlist)).verdict is Verdict.PASSED
    assert outcome_of(checks.test_waitlist_validation, waitlist).verdict is Verdict.PASSED


def changed(name: str, exchange: Exchange) -> Spoil:
    return lambda artifact: with_exchanges(artifact, **{name: [exchange]})


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (changed("waitlist_again", answer("again", 201, SECOND)), {"status of joining again, e-mail in capitals", "entry when joining again"}),
        (changed("waitlist_again", answer("again", 200, {**FIRST, "quantity": 1})), {"entry when joining again"}),
        (changed("waitlist_second", answer("second", 201, {**SECOND, "position": 1})), {"position of the second"}),
        (changed("waitlist_join", answer("join", 201, {**FIRST, "email": "x@example.com"}, email="Ann@example.com", quantity=2)),
         {"e-mail as sent", "entry when joining again", "entry as read"}),
        (changed("waitlist_read", read("read", PATH, status=404)), {"status of reading an entry", "entry as read"}),
        (changed("waitlist_read_elsewhere", read("read", PATH, payload=FIRST)), {"status of reading an entry of another event"}),
        (changed("waitlist_read_unknown", read("read", PATH, status=500)), {"status of an unknown entry"}),
        (changed("waitlist_seats_left", answer("seats", 201)), {"status while seats are left"}),
        (changed("waitlist_unknown_event", answer("unknown", 500)), {"status for an unknown event"}),
        (changed("waitlist_while_held", answer("held", 409)), {"status of joining while an order holds the last seat", "entry when joining again then"}),
        (changed("waitlist_seat_is_back", answer("back", 409)), {"status of joining again when that seat is free", "entry when joining again then"}),
    ],
)  # fmt: skip
def test_a_waitlist_that_answers_differently_is_seen(
    waitlist: Artifact, spoil: Spoil, seen: set[str]
) -> None:
    assert judged(checks.test_waitlist_contract, spoil(waitlist)) == seen


def test_a_waitlist_that_was_not_built_fails_altogether(waitlist: Artifact) -> None:
    names = [name for name in waitlist.exchanges if name != "waitlist-invalid"]
    missing = with_exchanges(waitlist, **{name: [answer(name, 501, email="a", quantity=1)] for name in names})
    outcome = outcome_of(checks.test_waitlist_contract, missing)
    assert (outcome.verdict, outcome.score) == (Verdict.FAILED, 0.0)


@pytest.mark.parametrize(("refused", "score"), [(8, 1.0), (6, 0.5), (4, 0.0), (0, 0.0)])
def test_invalid_entries_are_counted(waitlist: Artifact, refused: int, score: float) -> None:
    answers = [answer("invalid", 422 if n < refused else 201) for n in range(checks.INVALID_ENTRIES)]
    outcome = outcome_of(checks.test_waitlist_validation, with_exchanges(waitlist, waitlist_invalid=answers))
    assert outcome.score == score


def test_entries_that_were_never_sent_are_not_refused(waitlist: Artifact) -> None:
    few = with_exchanges(waitlist, waitlist_invalid=[answer("invalid", 422)] * 3)
    assert outcome_of(checks.test_waitlist_validation, few).score == 0.0
