"""The checks of what hundreds of failed requests leave behind, and what metrics tell of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from shop_records import (
    Spoil,
    beats,
    failures,
    ledger,
    outcome_of,
    placed,
    read,
    with_beats,
    with_exchanges,
    with_facts,
    with_ledger,
)

from devstack.artifacts import Artifact, Charge, Exchange, Ledger, Outcome, UpstreamCall
from grader.checks import test_failures as checks
from grader.checks.growth import by_status_class, growth, histograms
from grader.model import Verdict

EVENTS = {"declined": 11, "payments-500": 12}


def judged(check: Callable[..., None], artifact: Artifact) -> set[str]:
    outcome = outcome_of(check, artifact)
    assert outcome.verdict is Verdict.FAILED, outcome
    return failures(outcome)


def bought(
    number: int, event_id: int, quantity: int, *, name: str = "bought:x", status: int = 201
) -> Exchange:
    return placed(name, number, event_id=event_id, quantity=quantity, status=status)


def paid(number: int) -> Charge:
    return Charge(
        charge_id=f"ch{number}", order_ref=f"o{number}", amount="1.00", currency="EUR", status="captured",
        idempotency_key=f"k{number}", captured_s=1, card_token=f"tok_{number}",
    )  # fmt: skip


def call(number: int, status: int | None, *, upstream: Any = "payments") -> UpstreamCall:
    return UpstreamCall(
        upstream=upstream, operation="charge", connection=1, started_s=1, method="POST", path="/charges",
        item=f"item-{number}", status=status,
    )  # fmt: skip


def calls(*found: UpstreamCall) -> Ledger:
    return Ledger(taken_s=1, calls=found)


SUCCEEDED = [call(number, 201) for number in range(12)]
FAILED = [call(number % 10 + 20, 500) for number in range(40)]


def page(
    *, ok: int = 0, refused: int = 0, failed: int = 0, seconds: float = 0.0, timed: int | None = None, in_flight: int = 0,
    paid_for: int = 0, unpaid: int = 0, in_use: int = 0, extra: str = "",
) -> str:  # fmt: skip
    number = ok + refused + failed if timed is None else timed
    return "\n".join([
        "# TYPE http_requests_total counter",
        f'http_requests_total{{method="GET",route="/events/{{event_id}}",status="200"}} {ok}',
        f'http_requests_total{{method="GET",route="/events/{{event_id}}",status="404"}} {refused}',
        f'http_requests_total{{method="POST",route="/orders",status="503"}} {failed}.0',
        f'http_seconds_bucket{{route="/orders",le="+Inf"}} {number}',
        f'http_seconds_count{{route="/orders"}} {number}',
        f'http_seconds_sum{{route="/orders"}} {seconds}',
        f"orders_in_flight {in_flight}",
        f'upstream_requests_total{{upstream="payments",outcome="ok"}} {paid_for}',
        f'upstream_requests_total{{upstream="payments",outcome="error"}} {unpaid}',
        f'db_connections{{state="in_use"}} {in_use}',
        'db_connections{state="max"} 18',
        "nonsense {{{", "broken NaN", "# end", extra,
    ])  # fmt: skip


def texts(**changed: str) -> dict[str, str]:
    pages = {
        "metrics-before": page(),
        "metrics-good": page(ok=12, paid_for=12),
        "metrics-failed": page(ok=12, failed=5, paid_for=12, unpaid=40),
        "metrics-after": page(ok=37, refused=20, failed=25, seconds=30.0, paid_for=12, unpaid=40),
        "metrics-busy": page(in_use=8),
        "metrics-idle": page(ok=37, refused=20, failed=25, seconds=30.0, paid_for=24, unpaid=40),
    }
    return {**pages, **{name.replace("_", "-"): text for name, text in changed.items()}}


@pytest.fixture
def record() -> Artifact:
    """Of a service that does everything right."""
    window: list[Exchange] = [read("good:reads", "/events/1", at_s=5 + n / 100) for n in range(20)]
    window += [read("fail:unknown-event", "/events/9", status=404, at_s=6 + n / 100) for n in range(20)]
    window += [placed("fail:risk-500", 500 + n, status=503, at_s=7 + n / 100) for n in range(20)]
    window += [placed("slow", 600 + n, at_s=8, elapsed_s=1.6) for n in range(5)]
    orders = [
        bought(900, 11, 20),
        bought(901, 12, 6),
        placed("fail:payments-500", 902, event_id=12, quantity=14, status=202),
    ]
    by_name: dict[str, list[Exchange]] = {
        "reads-after": [read("reads-after", "/events/1", at_s=20 + n) for n in range(18)],
        "reports-after": [read("reports-after", "/events/1/sales", at_s=20) for _ in range(2)],
        "orders-after": [placed("orders-after", 700 + n, at_s=20) for n in range(5)],
        "seats-read": [
            read("_seats", f"/events/{e}", at_s=30, payload={"seats_available": s})
            for e, s in ((11, 20), (12, 6))
        ],
        "body-declared": [placed("body-declared", 800, status=413, at_s=22)],
        "body-chunked": [placed("body-chunked", 801, status=None, error="reset", at_s=22)],
        "order-after-bodies": [placed("order-after-bodies", 802, at_s=23)],
    }
    for exchange in (*window, *orders):
        by_name.setdefault(exchange.label, []).append(exchange)
    return Artifact(
        scenario="failures",
        exchanges={name: tuple(found) for name, found in by_name.items()},
        texts=texts(),
        heartbeats={"live-beside-bodies": beats(3, interval_s=0.05, answer=lambda _: (200, 0.02))},
        ledgers={
            "final": ledger([paid(900), paid(901), paid(902)]),
            "metrics-before": calls(),
            "metrics-good": calls(*SUCCEEDED),
            "metrics-failed": calls(*SUCCEEDED, *FAILED),
        },
        facts={
            "open-transaction-s": 0.0, "seats-back-after-s": 4.0, "hold-seats": 20, "hold-events": dict(EVENTS),
            "seats-expected": {"declined": 20, "payments-500": 6}, "payments-port": 35001,
            "metrics-failed-read-s": 4.5, "metrics-after-asked-s": 15.0,
            "memory-before-bytes": 90_000_000, "memory-after-bytes": 95_000_000, "memory-of-bodies-bytes": 2_000_000,
            "distinct-reads": 500,
        },
    )  # fmt: skip


ALL = (
    checks.test_connection_leaks, checks.test_holds_released, checks.test_metrics_errors, checks.test_dependency_metrics,
    checks.test_body_limit, checks.test_memory_growth,
)  # fmt: skip


@pytest.mark.parametrize("check", ALL)
def test_what_is_right_passes(check: Callable[..., None], record: Artifact) -> None:
    assert outcome_of(check, record).verdict is Verdict.PASSED


@pytest.mark.parametrize("check", ALL)
def test_a_record_that_was_cut_short_is_the_submissions_doing(check: Callable[..., None]) -> None:
    nothing = Artifact(scenario="failures", outcome=Outcome(kind="cut-short", reason="it died"))
    assert outcome_of(check, nothing).verdict is Verdict.FAILED


@pytest.mark.parametrize("check", ALL)
def test_junk_is_judged_and_breaks_nothing(check: Callable[..., None], record: Artifact) -> None:
    junk = [
        exchange.model_copy(update={"payload": payload, "status": status, "body": "\x00" * 10})
        for payload, status in (
            ([1, None], 200),
            ("text", 500),
            ({"seats_available": None, "id": [1]}, 201),
            (None, None),
        )
        for exchange in record.exchanges["reads-after"][:1]
    ]
    everywhere = {name: tuple(junk) for name in record.exchanges}
    spoilt = record.model_copy(
        update={"exchanges": everywhere, "texts": dict.fromkeys(record.texts, "} junk {")}
    )
    expected = Verdict.PASSED if check is checks.test_memory_growth else Verdict.FAILED
    assert outcome_of(check, spoilt).verdict is expected


# -- connections -----------------------------------------------------------------------------------------------


def hanging_reads(record: Artifact) -> Artifact:
    return with_exchanges(record, reads_after=[read("reads-after", "/events/1", status=None)])


def refused_reports(record: Artifact) -> Artifact:
    return with_exchanges(record, reports_after=[read("reports-after", "/events/1/sales", status=503)] * 2)


def refused_orders(record: Artifact) -> Artifact:
    return with_exchanges(record, orders_after=[placed("orders-after", 1, status=503)] * 5)


def open_transaction(record: Artifact) -> Artifact:
    return with_facts(record, open_transaction_s=9.5)


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (hanging_reads, {"good reads after them"}),
        (refused_reports, {"good reports after them"}),
        (refused_orders, {"good orders after them"}),
        (open_transaction, {"oldest transaction left open"}),
    ],
)
def test_lost_connections_are_seen(record: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert judged(checks.test_connection_leaks, spoil(record)) == seen


# -- seats -----------------------------------------------------------------------------------------------------

SOLD_DECLINED = "seats sold in the end, after orders that failed (declined)"
SHOWN = "all seats that nobody paid for are shown as available"


def never_shown(record: Artifact) -> Artifact:
    return with_facts(record, seats_back_after_s=None)


def shown_late(record: Artifact) -> Artifact:
    return with_facts(record, seats_back_after_s=45.0)


def not_sold(record: Artifact) -> Artifact:
    return with_exchanges(
        record, **{"bought:x": [bought(900, 11, 20, status=409), bought(901, 12, 6)]}
    ).model_copy(update={"ledgers": {**record.ledgers, "final": ledger([paid(901), paid(902)])}})


def sold_beyond(record: Artifact) -> Artifact:
    more = with_exchanges(record, beyond=[bought(903, 11, 1, name="beyond:declined")])
    return with_ledger(more, "final", ledger([paid(number) for number in (900, 901, 902, 903)]))


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (never_shown, {SHOWN}),
        (shown_late, {"until they are"}),
        (not_sold, {SOLD_DECLINED}),
        (sold_beyond, {SOLD_DECLINED}),
    ],
)
def test_seats_that_stay_held_or_come_twice_are_seen(record: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert judged(checks.test_holds_released, spoil(record)) == seen


# -- metrics ---------------------------------------------------------------------------------------------------


def with_texts(record: Artifact, **changed: str) -> Artifact:
    return record.model_copy(update={"texts": texts(**changed)})


REFUSED, FAILURES = "refused requests (4xx) are counted", "failed requests (5xx) are counted"
SUCCESSES, TIMED = "successful requests (2xx) are counted", "all requests are in a latency histogram"
SUM = "growth of its sum, 5 requests of 1.5 s included"
FULL = {"ok": 37, "refused": 20, "failed": 25, "seconds": 30.0}


@pytest.mark.parametrize(
    ("after", "seen"),
    [
        (page(ok=37, refused=20, failed=5, seconds=30.0), {FAILURES, TIMED}),
        (page(ok=37, refused=20, failed=5, seconds=30.0, timed=82), {FAILURES}),
        (page(ok=37, refused=0, failed=25, seconds=30.0, timed=82), {REFUSED}),
        (page(ok=62, refused=40, failed=45, seconds=30.0, timed=82), {SUCCESSES, REFUSED, FAILURES}),
        (page(ok=37, refused=20, failed=25, seconds=30.0, timed=42), {TIMED}),
        (page(ok=37, refused=20, failed=25, seconds=0.4), {SUM}),
        ("", {SUCCESSES, REFUSED, FAILURES, TIMED, SUM}),
    ],
)
def test_requests_that_are_not_counted_are_seen(record: Artifact, after: str, seen: set[str]) -> None:
    assert judged(checks.test_metrics_errors, with_texts(record, metrics_after=after)) == seen


def test_a_gauge_that_never_comes_back_is_seen(record: Artifact) -> None:
    stuck = {"ok": 37, "refused": 20, "failed": 25, "seconds": 30.0, "in_flight": 20}
    spoilt = with_texts(record, metrics_after=page(**stuck), metrics_idle=page(**stuck))  # type: ignore[arg-type]
    assert judged(checks.test_metrics_errors, spoilt) == {"requests in progress are not counted for ever"}


def test_a_gauge_that_comes_back_later_is_right(record: Artifact) -> None:
    late = with_texts(record, metrics_after=page(ok=37, refused=20, failed=25, seconds=30.0, in_flight=20))
    assert outcome_of(checks.test_metrics_errors, late).verdict is Verdict.PASSED


def test_statuses_may_be_grouped(record: Artifact) -> None:
    grouped = {
        name: text.replace('"200"', '"2xx"').replace('"503"', '"5XX"') for name, text in record.texts.items()
    }
    outcome = outcome_of(checks.test_metrics_errors, record.model_copy(update={"texts": grouped}))
    assert outcome.verdict is Verdict.PASSED


def test_growth_is_found_by_series() -> None:
    grown = growth(page(ok=1), page(ok=4, failed=2, seconds=1.5))
    assert dict(by_status_class(grown)["http_requests_total{status}"]) == {2: 3, 5: 2}
    assert histograms(grown)["http_seconds"].count == 5
    assert histograms(grown)["http_seconds"].total == 1.5


# -- dependencies ----------------------------------------------------------------------------------------------


def missing(record: Artifact, **changed: str) -> str:
    outcome = outcome_of(checks.test_dependency_metrics, with_texts(record, **changed))
    assert outcome.verdict is Verdict.PARTIAL
    assert outcome.judgement is not None
    return outcome.judgement.summary


def test_failed_calls_that_are_not_counted_are_seen(record: Artifact) -> None:
    assert "failed calls are counted apart" in missing(
        record, metrics_failed=page(ok=12, failed=5, paid_for=12)
    )


def test_failed_calls_that_are_counted_as_right_are_seen(record: Artifact) -> None:
    assert "failed calls are counted apart" in missing(
        record, metrics_failed=page(ok=12, failed=5, paid_for=52)
    )


def test_calls_that_are_not_counted_are_seen(record: Artifact) -> None:
    assert "calls to payments are counted" in missing(record, metrics_good=page(ok=12))


def test_a_pool_that_never_shows_its_use_is_seen(record: Artifact) -> None:
    assert "connections in use" in missing(record, metrics_busy=page())


def test_a_counter_is_no_gauge_of_the_pool(record: Artifact) -> None:
    counted = "db_statements_total 8"
    found = missing(record, metrics_busy=page(extra=counted), metrics_idle=page(extra=counted))
    assert "connections in use" in found


def test_no_pages_are_no_figures(record: Artifact) -> None:
    empty = record.model_copy(update={"texts": dict.fromkeys(record.texts, "")})
    assert outcome_of(checks.test_dependency_metrics, empty).verdict is Verdict.FAILED


def test_an_instrumented_client_names_the_upstream_by_its_port(record: Artifact) -> None:
    by_port = {
        name: text.replace('upstream="payments"', 'peer="127.0.0.1:35001"')
        for name, text in record.texts.items()
    }
    outcome = outcome_of(checks.test_dependency_metrics, record.model_copy(update={"texts": by_port}))
    assert outcome.verdict is Verdict.PASSED


def test_total_and_errors_may_be_counters_of_their_own(record: Artifact) -> None:
    def own(total: int, errors: int) -> str:
        return page(extra=f"payments_requests_total {total}\npayments_errors_total {errors}")

    outcome = outcome_of(
        checks.test_dependency_metrics,
        with_texts(record, metrics_before=own(0, 0), metrics_good=own(12, 0), metrics_failed=own(52, 40)),
    )
    assert outcome.verdict is Verdict.PASSED


# -- bodies ----------------------------------------------------------------------------------------------------


def test_a_chunked_body_that_is_taken_in_is_seen(record: Artifact) -> None:
    spoilt = with_exchanges(record, body_chunked=[placed("body-chunked", 801)])
    assert judged(checks.test_body_limit, spoilt) == {"a body of 32 MB in chunks is refused"}


def test_a_body_that_is_waited_for_without_end_is_seen(record: Artifact) -> None:
    hung = placed("body-declared", 800, status=None, error="timeout", elapsed_s=13)
    seen = judged(checks.test_body_limit, with_exchanges(record, body_declared=[hung]))
    assert seen == {
        "a body of 2 MB of declared length is refused",
        "until a body of 2 MB of declared length is refused",
    }


@pytest.mark.parametrize("status", [400, 413, 422])
def test_every_refusal_is_right(record: Artifact, status: int) -> None:
    refused = with_exchanges(record, body_chunked=[placed("body-chunked", 801, status=status)])
    assert outcome_of(checks.test_body_limit, refused).verdict is Verdict.PASSED


def test_a_service_that_does_not_go_on_is_seen(record: Artifact) -> None:
    dead = with_exchanges(
        record, order_after_bodies=[placed("order-after-bodies", 802, status=None, error="refused")]
    )
    silent = with_beats(dead, "live-beside-bodies", beats(3, interval_s=0.05, answer=lambda _: (None, 5.0)))
    assert judged(checks.test_body_limit, silent) == {
        "share of 200 of /health/live meanwhile",
        "an order afterwards is placed",
    }


# -- memory ----------------------------------------------------------------------------------------------------


def test_memory_is_told_and_not_judged(record: Artifact) -> None:
    outcome = outcome_of(checks.test_memory_growth, with_facts(record, memory_after_bytes=900_000_000))
    assert outcome.verdict is Verdict.PASSED
    assert outcome.judgement is not None
    assert "90 MB before, 900 MB after" in outcome.judgement.summary
