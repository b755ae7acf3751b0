"""The checks of performance without load: what they pass, and each flaw that they must see."""

from __future__ import annotations

from typing import Any

import pytest
from shop_records import Spoil, beats, failures, ledger, outcome_of, placed, read, with_exchanges, with_ledger

from devstack.artifacts import Artifact
from grader.checks import test_performance as checks
from grader.model import Verdict

EXPECTED = [
    {"day": "2026-01-01", "tickets": 3, "gross": "30.50", "orders": 2},
    {"day": "2026-01-02", "tickets": 1, "gross": "10.00", "orders": 1},
]


# -- connections to upstreams ---------------------------------------------------------------------------------


def with_connections(artifact: Artifact, **opened: int) -> Artifact:
    counts = {"payments": 4, "risk": 4, "rates": 4, "mailer": 4, **opened}
    return with_ledger(artifact, "after-orders", ledger([]).model_copy(update={"connections": counts}))


@pytest.fixture
def economy() -> Artifact:
    before = ledger([]).model_copy(update={"connections": {"payments": 3, "risk": 3}})
    orders = tuple(placed("orders", n) for n in range(40))
    artifact = Artifact(scenario="economy", exchanges={"orders": orders}, ledgers={"before-orders": before})
    return with_connections(artifact)


def mails_in_batches(artifact: Artifact) -> Artifact:
    return with_connections(artifact, mailer=30)


def rates_prefetched(artifact: Artifact) -> Artifact:
    return with_connections(artifact, rates=0)


@pytest.mark.parametrize("variant", [lambda it: it, mails_in_batches, rates_prefetched])
def test_a_client_that_is_shared_passes(economy: Artifact, variant: Spoil) -> None:
    assert outcome_of(checks.test_upstream_connection_reuse, variant(economy)).verdict is Verdict.PASSED


@pytest.mark.parametrize("upstream", ["payments", "risk", "rates", "mailer"])
def test_a_client_per_call_is_seen_at_each_upstream(economy: Artifact, upstream: str) -> None:
    outcome = outcome_of(checks.test_upstream_connection_reuse, with_connections(economy, **{upstream: 43}))
    assert (outcome.verdict, failures(outcome)) == (Verdict.FAILED, {f"new connections to {upstream}"})


def test_connections_of_orders_that_were_refused_prove_nothing(economy: Artifact) -> None:
    refused = with_exchanges(economy, orders=[placed("orders", n, status=503) for n in range(40)])
    outcome = outcome_of(checks.test_upstream_connection_reuse, refused)
    assert (outcome.verdict, failures(outcome)) == (Verdict.FAILED, {"orders accepted"})


# -- the report -----------------------------------------------------------------------------------------------


def report(payload: Any, *, elapsed_s: float = 0.8) -> Any:
    return read("report", "/events/1/sales", payload=payload).model_copy(update={"elapsed_s": elapsed_s})


@pytest.fixture
def day() -> Artifact:
    return Artifact(
        scenario="tickets-and-reports",
        facts={"sales-expected": EXPECTED, "report-from-s": 1.0, "report-until-s": 3.0},
        heartbeats={"report-live": beats(10, interval_s=0.05, answer=lambda _: (200, 0.02))},
        exchanges={
            "report": (report({"items": EXPECTED}),),
            "report-reads": tuple(read("report-reads", "/events/1") for _ in range(20)),
        },
    )


def numbers_instead_of_strings(artifact: Artifact) -> Artifact:
    items = [{**item, "gross": float(str(item["gross"]))} for item in EXPECTED]
    return with_exchanges(artifact, report=[report({"items": items})])


def newest_day_first(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, report=[report({"items": EXPECTED[::-1]})])


@pytest.mark.parametrize("variant", [lambda it: it, numbers_instead_of_strings, newest_day_first])
def test_a_report_that_adds_up_and_stays_out_of_the_way_passes(day: Artifact, variant: Spoil) -> None:
    assert outcome_of(checks.test_sales_report_cost, variant(day)).verdict is Verdict.PASSED


def rows_added_up_on_the_loop(artifact: Artifact) -> Artifact:
    slow = read("report-reads", "/events/1").model_copy(update={"elapsed_s": 1.5})
    series = beats(10, interval_s=0.05, answer=lambda at_s: (200, max(0.02, 3 - at_s) if at_s > 1 else 0.02))
    stalled = artifact.model_copy(update={"heartbeats": {"report-live": series}})
    return with_exchanges(stalled, report_reads=[slow] * 20)


def late(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, report=[report({"items": EXPECTED}, elapsed_s=12.5)])


def a_day_is_missing(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, report=[report({"items": EXPECTED[:1]})])


NONSENSE: list[Any] = [
    None,
    [],
    {"items": None},
    {"items": [1]},
    {"items": [{"tickets": "many", "orders": 1, "gross": "1"}]},
    {"items": [{"tickets": 1, "orders": 1, "gross": "NaN"}]},
    {"items": [{"tickets": 1, "orders": 1, "gross": "1e999999"}]},
]
TOTALS = "totals of the report (tickets, orders, EUR)"


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (rows_added_up_on_the_loop, {"p95 of /health/live", "slowest /health/live", "p95 of event reads beside the report"}),
        (late, {"duration of the report"}),
        (a_day_is_missing, {TOTALS}),
    ],
)  # fmt: skip
def test_a_report_that_stalls_the_process_is_seen(day: Artifact, spoil: Spoil, seen: set[str]) -> None:
    outcome = outcome_of(checks.test_sales_report_cost, spoil(day))
    assert (outcome.verdict, failures(outcome)) == (Verdict.FAILED, seen)


@pytest.mark.parametrize("payload", NONSENSE)
def test_what_is_no_report_fails_and_is_never_undecided(day: Artifact, payload: Any) -> None:
    outcome = outcome_of(checks.test_sales_report_cost, with_exchanges(day, report=[report(payload)]))
    assert (outcome.verdict, failures(outcome)) == (Verdict.FAILED, {TOTALS})
