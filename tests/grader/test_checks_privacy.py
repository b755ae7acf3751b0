"""The checks of what answers and logs must not tell, and of what the log tells of a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shop_records import failures, outcome_of, placed, read, with_exchanges, with_facts

from devstack.artifacts import Artifact, Exchange, Outcome
from grader.checks import test_log_context, test_privacy
from grader.model import Verdict

MARKER = "0f1e2d3c4b5a"
ADDRESS = "127.0.0.1:40123"


def answer(status: int, body: str = "", payload: Any = None) -> Exchange:
    return read("fail:x", "/orders/1", status=status, payload=payload).model_copy(update={"body": body})


@pytest.fixture
def record() -> Artifact:
    """Of a service that keeps its secrets."""
    lines: dict[str, Any] = {
        f"log-lines-with-{name}": 0 for name in ("card token", "TICKET_SECRET", "database password")
    }
    return Artifact(
        scenario="failures",
        exchanges={
            "good:orders": (placed("good:orders", 1),),
            "fail:x": (
                answer(503, payload={"detail": "payments cannot be reached, please try again"}),
                answer(404),
            ),
        },
        texts={name.replace("lines-", ""): "" for name in lines},
        facts={
            "log-characters": 5000,
            "secrets": {"card token": MARKER, "TICKET_SECRET": "s" * 32, "database password": "p" * 32},
            "internal-addresses": [ADDRESS],
            **lines,
        },
    )


def judged(check: Callable[..., None], artifact: Artifact) -> set[str]:
    outcome = outcome_of(check, artifact)
    assert outcome.verdict is Verdict.FAILED, outcome
    return failures(outcome)


@pytest.mark.parametrize("check", [test_privacy.test_secrets_in_logs, test_privacy.test_internals_in_answers])
def test_what_is_right_passes(check: Callable[..., None], record: Artifact) -> None:
    assert outcome_of(check, record).verdict is Verdict.PASSED


@pytest.mark.parametrize("check", [test_privacy.test_secrets_in_logs, test_privacy.test_internals_in_answers])
def test_a_record_that_was_cut_short_is_the_submissions_doing(check: Callable[..., None]) -> None:
    nothing = Artifact(scenario="failures", outcome=Outcome(kind="cut-short", reason="it died"))
    assert outcome_of(check, nothing).verdict is Verdict.FAILED


def test_a_token_in_the_log_is_seen(record: Artifact) -> None:
    spoilt = with_facts(record, **{"log-lines-with-card token": 3})
    assert judged(test_privacy.test_secrets_in_logs, spoilt) == {"log lines with a card token"}


@pytest.mark.parametrize(
    "telling",
    [
        answer(422, payload={"detail": [{"input": {"card_token": f"tok_{MARKER}00001"}}]}),
        answer(500, body=f"card_token=tok_{MARKER}00001"),
        answer(503).model_copy(update={"headers": {"x-debug": MARKER}}),
    ],
)
def test_a_token_in_an_answer_is_seen(record: Artifact, telling: Exchange) -> None:
    assert judged(test_privacy.test_secrets_in_logs, with_exchanges(record, more=[telling])) == {
        "answers with a card token"
    }


def test_a_password_in_an_answer_is_seen(record: Artifact) -> None:
    telling = answer(503, body=f"cannot connect to postgresql://u:{'p' * 32}@db")
    spoilt = with_exchanges(record, more=[telling])
    assert judged(test_privacy.test_secrets_in_logs, spoilt) == {"answers with a database password"}


TOLD = "failed requests answered with internals"


@pytest.mark.parametrize(
    "text",
    [
        "Traceback (most recent call last):",
        'File "/app/main.py", line 3, in x',
        "(sqlalchemy.exc.OperationalError) connection refused",
        "asyncpg.exceptions.DataError: value out of range",
        "[SQL: SELECT events.id FROM events WHERE id = 1]",
        "[Errno 111] Connect call failed",
        f"Server error for url http://{ADDRESS}/charges",
        "connection failed: host=db password=hunter2",
        'new row violates check constraint "events_seats"',
        "<boxoffice.orders.Order object at 0x7f00aa>",
    ],
)
@pytest.mark.parametrize("as_payload", [True, False])
def test_internals_are_seen(record: Artifact, text: str, as_payload: bool) -> None:
    telling = answer(503, payload={"detail": text}) if as_payload else answer(503, body=text)
    assert judged(test_privacy.test_internals_in_answers, with_exchanges(record, more=[telling])) == {TOLD}


@pytest.mark.parametrize(
    "text",
    [
        "payments is unavailable",
        "the database does not answer",
        "select an event from the list where seats are left",
        "Please update your order and set another quantity",
        "a password is not needed",
        "there is no event 999999999",
        "String should match pattern '^[^@]+$'; see https://errors.pydantic.dev/2.11/v/string_pattern_mismatch",
    ],
)
def test_words_for_buyers_are_no_internals(record: Artifact, text: str) -> None:
    fine = with_exchanges(record, more=[answer(503, payload={"detail": text})])
    assert outcome_of(test_privacy.test_internals_in_answers, fine).verdict is Verdict.PASSED


def test_a_bare_500_is_seen(record: Artifact) -> None:
    spoilt = with_exchanges(record, more=[answer(500, body="Internal Server Error")])
    assert judged(test_privacy.test_internals_in_answers, spoilt) == {"requests answered 500"}


def test_a_service_that_answered_nothing_has_not_passed(record: Artifact) -> None:
    silent = record.model_copy(update={"exchanges": {"fail:x": (read("fail:x", "/", status=None),)}})
    assert judged(test_privacy.test_internals_in_answers, silent) == {"failed requests were answered at all"}


def test_junk_facts_break_nothing(record: Artifact) -> None:
    junk = with_facts(record, secrets=["a"], internal_addresses=None)
    assert outcome_of(test_privacy.test_secrets_in_logs, junk).verdict is Verdict.PASSED
    assert outcome_of(test_privacy.test_internals_in_answers, junk).verdict is Verdict.PASSED


def test_the_log_is_told_and_not_judged() -> None:
    request = read("request-ids-at-once", "/orders/abc").model_copy(
        update={"request_headers": {"X-Request-ID": "id-1"}}
    )
    order = placed("request-ids", 1).model_copy(update={"request_headers": {"X-Request-ID": "id-2"}})
    contract = Artifact(
        scenario="contract",
        exchanges={"request-ids-at-once": (request,), "request-ids": (order,)},
        texts={
            "request-id-log": "GET /orders/abc id-1\nGET /orders/abc -\ncharged id-2\nPOST /orders id-2\nstarted"
        },
    )
    outcome = outcome_of(test_log_context.test_log_context, contract)
    assert outcome.verdict is Verdict.PASSED
    assert outcome.judgement is not None
    assert outcome.judgement.summary == (
        "1 of 2 lines that name the path of a request carry its id; 2.0 lines per order carry its id; "
        "3 of 5 lines carry any id that was sent"
    )
