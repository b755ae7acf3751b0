"""The checks of metrics and request ids: what they pass, and each flaw that they must see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shop_records import Spoil, failures, ledger, outcome_of, read, reading, with_exchanges, with_facts

from devstack.artifacts import Artifact, Exchange, UpstreamCall
from grader.checks import test_contract as checks
from grader.model import Verdict


def judged(check: Callable[..., None], artifact: Artifact) -> set[str]:
    outcome = outcome_of(check, artifact)
    assert outcome.verdict is Verdict.FAILED, outcome
    return failures(outcome)


# -- metrics --------------------------------------------------------------------------------------------------


def series(*paths: str) -> str:
    lines = [
        f'http_requests_total{{path="{path}",status="{status}"}} 7' for path in paths for status in (200, 404)
    ]
    return "\n".join(["# TYPE http_requests_total counter", *lines, ""])


TEMPLATES = ("/events", "/events/{event_id}", "/orders", "unmatched")


@pytest.fixture
def metrics() -> Artifact:
    return Artifact(
        scenario="contract",
        facts={"label-marker": "abcdef0123"},
        texts={"metrics-before": series(*TEMPLATES), "metrics-after": series(*TEMPLATES, "/metrics")},
        exchanges={
            "metrics-after": (read("metrics", "/metrics"),),
            "orders-read": tuple(reading(n) for n in range(700, 710)),
        },
    )


def with_page(artifact: Artifact, page: str) -> Artifact:
    return artifact.model_copy(update={"texts": {**artifact.texts, "metrics-after": page}})


def by_raw_path(artifact: Artifact) -> Artifact:
    return with_page(artifact, series(*TEMPLATES, *(f"/events/{500_000_000 + n}" for n in range(80))))


def by_unmatched_path(artifact: Artifact) -> Artifact:
    return with_page(artifact, series(*TEMPLATES, *(f"/ABCDEF0123/{n}" for n in range(80))))


def by_method(artifact: Artifact) -> Artifact:
    return with_page(artifact, series(*TEMPLATES) + 'http_requests_total{method="XABCDEF01230"} 1\n')


def by_order(artifact: Artifact) -> Artifact:
    return with_page(artifact, series(*TEMPLATES, "/orders/o701"))


def many_new_series(artifact: Artifact) -> Artifact:
    return with_page(artifact, series(*TEMPLATES, *(f"/somewhere/{n}" for n in range(31))))


def no_page(artifact: Artifact) -> Artifact:
    nothing = with_exchanges(artifact, metrics_after=[read("metrics", "/metrics", status=404)])
    return nothing.model_copy(update={"texts": {"metrics-before": "", "metrics-after": ""}})


def not_by_route(artifact: Artifact) -> Artifact:
    return with_page(artifact, series("a", "b", "c"))


GROWTH, CARRY = "new series after 600 distinct paths", "series that carry a requested id"


def test_metrics_by_route_template_pass(metrics: Artifact) -> None:
    assert outcome_of(checks.test_metrics_cardinality, metrics).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (by_raw_path, {GROWTH, CARRY}),
        (by_unmatched_path, {GROWTH, CARRY}),
        (by_method, {CARRY}),
        (by_order, {"series that carry an order's id"}),
        (many_new_series, {GROWTH}),
        (no_page, {"status of /metrics", "series on the page", "requests are counted by route"}),
        (not_by_route, {"requests are counted by route"}),
    ],
)
def test_series_without_end_are_seen(metrics: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert judged(checks.test_metrics_cardinality, spoil(metrics)) == seen


# -- request ids ----------------------------------------------------------------------------------------------


def asked(name: str, number: int, *, method: str = "GET", echoed: str | None = None) -> Exchange:
    """A request with the id ``<name>-<number>``, echoed unless something else is said."""
    sent = f"{name}-{number:02}"
    return Exchange(
        label=name, method=method, path=f"/events/{number}" if method == "GET" else "/orders", started_s=1,
        elapsed_s=0.1, status=200, request_headers={"X-Request-ID": sent},
        request_json={"buyer_email": f"{sent}@example.com"} if method == "POST" else None,
        headers={"x-request-id": sent if echoed is None else echoed},
    )  # fmt: skip


def line(exchange: Exchange, request_id: str | None = None) -> str:
    sent = request_id or exchange.request_headers["X-Request-ID"]
    return f'{{"request_id": "{sent}", "path": "{exchange.path}"}}'


def assessment(order: Exchange, request_id: str | None = None) -> UpstreamCall:
    return UpstreamCall(
        upstream="risk", operation="assess", connection=1, started_s=1, method="POST", path="/assessments",
        headers={"x-request-id": request_id or order.request_headers["X-Request-ID"]}, body=order.request_json,
    )  # fmt: skip


TURNS = [asked("turn", n, method="POST" if n % 5 == 4 else "GET") for n in range(20)]
AT_ONCE = [asked("once", n + 40, method="POST" if n % 4 == 3 else "GET") for n in range(16)]
ORDERS = [one for one in (*TURNS, *AT_ONCE) if one.method == "POST"]
LOG = [line(one) for one in (*TURNS, *AT_ONCE)]
RATED = (
    asked("rated", 60, method="POST").model_copy(
        update={"request_json": {"card_token": "tok_rated", "currency": "SEK"}}
    ),
    asked("rated", 61).model_copy(update={"path": "/events/1?currency=CZK"}),
)


def call(upstream: Any, path: str, request_id: str = "", *, at_s: float = 1.05) -> UpstreamCall:
    """A charge of the first rated request, or a call for a rate."""
    operation = "charge" if upstream == "payments" else "rate"
    return UpstreamCall(
        upstream=upstream, operation=operation, connection=1, started_s=at_s, method="GET", path=path,
        headers={"x-request-id": request_id} if request_id else {}, body={"card_token": "tok_rated"},
    )  # fmt: skip


SENT_ON = [
    call("payments", "/charges", "rated-60"), call("rates", "/rates/EUR/SEK", "rated-60"),
    call("rates", "/rates/EUR/CZK", "rated-61"),
]  # fmt: skip


def record(
    *, turns: list[Exchange] = TURNS, log: list[str] = LOG, calls: list[UpstreamCall] | None = None,
    malformed: str = "made-1", absent: str = "made-2",
) -> Artifact:  # fmt: skip
    sent = tuple(assessment(one) for one in ORDERS) if calls is None else tuple(calls)
    return Artifact(
        scenario="contract",
        exchanges={
            "request-ids": tuple(turns),
            "request-ids-at-once": tuple(AT_ONCE),
            "request-ids-rated": RATED,
            "request-id-malformed": (read("m", "/events/1").model_copy(update={"headers": {"x-request-id": malformed}}),),
            "request-id-absent": (read("a", "/events/1").model_copy(update={"headers": {"x-request-id": absent}}),),
        },
        texts={"request-id-log": "\n".join(log)},
        ledgers={"final": ledger([]).model_copy(update={"calls": sent})},
    )  # fmt: skip


def test_an_id_that_is_kept_everywhere_passes() -> None:
    assert outcome_of(checks.test_request_id, with_facts(record())).verdict is Verdict.PASSED


def test_calls_that_carry_the_id_or_come_after_the_answer_pass() -> None:
    later = [call("payments", "/charges", at_s=1.5), call("rates", "/rates/EUR/SEK", at_s=0.5)]
    for calls in (SENT_ON, later):
        assert outcome_of(checks.test_request_id, record(calls=[*AT_RISK, *calls])).verdict is Verdict.PASSED


NOT_ECHOED = record(
    turns=[asked("turn", n, method="POST" if n % 5 == 4 else "GET", echoed="") for n in range(20)]
)
NOT_LOGGED = record(log=[])
NOT_SENT_ON = record(calls=[])
OF_ANOTHER_IN_THE_LOG = record(log=[*LOG, line(AT_ONCE[0], "once-41")])
OF_ANOTHER_AT_RISK = record(calls=[*(assessment(one) for one in ORDERS), assessment(ORDERS[-1], "once-40")])
AT_RISK = [assessment(one) for one in ORDERS]
BARE_CHARGE = record(calls=[*AT_RISK, call("payments", "/charges")])
BARE_RATES = record(
    calls=[*AT_RISK, call("rates", "/rates/EUR/CZK"), call("rates", "/rates/EUR/SEK", "rated-61")]
)
TAKEN_AS_IT_IS = record(malformed="not ok; a b")
NONE_MADE = record(absent="")


@pytest.mark.parametrize(
    ("artifact", "seen"),
    [
        (NOT_ECHOED, {"ids echoed, one at a time"}),
        (NOT_LOGGED, {"ids on a log line, one at a time", "ids on a log line, 16 at once"}),
        (NOT_SENT_ON, {"ids of orders seen by risk"}),
        (OF_ANOTHER_IN_THE_LOG, {"log lines and calls with another's id"}),
        (OF_ANOTHER_AT_RISK, {"log lines and calls with another's id"}),
        (BARE_CHARGE, {"charges made while answering, without the id"}),
        (BARE_RATES, {"calls for rates made while answering, without the id"}),
        (TAKEN_AS_IT_IS, {"a malformed id is replaced"}),
        (NONE_MADE, {"an id is made when none is sent"}),
    ],
)
def test_an_id_that_gets_lost_is_seen(artifact: Artifact, seen: set[str]) -> None:
    assert judged(checks.test_request_id, artifact) == seen
