"""The checks of database connections: what they pass, and each flaw that they must see."""

from __future__ import annotations

import pytest
from shop_records import Spoil, failures, outcome_of, placed, read, with_exchanges

from devstack.artifacts import Artifact, ConnectionSample, DatabaseCounters, Exchange
from grader.checks import test_database_connections as checks
from grader.model import ConnectionSeries, Verdict


def counters(*, opened: int = 0, statements: int = 0) -> DatabaseCounters:
    return DatabaseCounters(
        taken_s=1,
        connections_opened=opened,
        connections_open=1,
        statements=statements,
        round_trips=statements,
    )


def page(rows: int) -> Exchange:
    return read(f"page-{rows}", "/events", payload={"items": [{"id": n} for n in range(rows)]})


@pytest.fixture
def economy() -> Artifact:
    """A pool that opened two sessions, and two statements for each of five pages of either size."""
    return Artifact(
        scenario="economy",
        exchanges={
            "reads": tuple(read("reads", "/events/1") for _ in range(200)),
            "page-5": (page(5),) * 5,
            "page-50": (page(50),) * 5,
        },
        counters={
            "before-reads": counters(opened=3),
            "after-reads": counters(opened=5),
            "before-page-5": counters(statements=100),
            "after-page-5": counters(statements=110),
            "before-page-50": counters(statements=110),
            "after-page-50": counters(statements=120),
        },
    )


def with_counters(artifact: Artifact, **changed: DatabaseCounters) -> Artifact:
    new = {name.replace("_", "-"): value for name, value in changed.items()}
    return artifact.model_copy(update={"counters": {**artifact.counters, **new}})


def session_per_request(artifact: Artifact) -> Artifact:
    return with_counters(artifact, after_reads=counters(opened=203))


def reads_fail(artifact: Artifact) -> Artifact:
    return with_exchanges(
        artifact, reads=[read("reads", "/events/1", status=500)] * 3 + [read("reads", "/")] * 197
    )


def one_more_than_promised(artifact: Artifact) -> Artifact:
    return with_counters(artifact, after_reads=counters(opened=44))


def as_many_as_promised(artifact: Artifact) -> Artifact:
    return with_counters(artifact, after_reads=counters(opened=43))


@pytest.mark.parametrize("variant", [lambda it: it, as_many_as_promised])
def test_a_pool_passes(economy: Artifact, variant: Spoil) -> None:
    assert outcome_of(checks.test_database_session_reuse, variant(economy)).verdict is Verdict.PASSED


SESSIONS = "new database sessions in 200 sequential reads"


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (session_per_request, {SESSIONS}),
        (one_more_than_promised, {SESSIONS}),
        (reads_fail, {"reads answered 200"}),
    ],
)
def test_a_session_per_request_is_seen(economy: Artifact, spoil: Spoil, seen: set[str]) -> None:
    outcome = outcome_of(checks.test_database_session_reuse, spoil(economy))
    assert (outcome.verdict, failures(outcome)) == (Verdict.FAILED, seen)


def batches_of_rows(artifact: Artifact) -> Artifact:
    """A loader that asks for ten rows at a time: 1 + 1 and 1 + 5 statements a page."""
    return with_counters(artifact, after_page_50=counters(statements=140))


def fewer_for_more(artifact: Artifact) -> Artifact:
    """The longer page came from a cache."""
    return with_counters(artifact, after_page_50=counters(statements=110))


@pytest.mark.parametrize("variant", [lambda it: it, batches_of_rows, fewer_for_more])
def test_a_page_in_one_statement_or_a_few_passes(economy: Artifact, variant: Spoil) -> None:
    assert outcome_of(checks.test_statements_per_list_row, variant(economy)).verdict is Verdict.PASSED


def query_per_row(artifact: Artifact) -> Artifact:
    return with_counters(artifact, after_page_50=counters(statements=110 + 5 * 52))


def limit_ignored(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, page_50=[page(20)] * 5)


def no_list(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, page_5=[read("page-5", "/events", status=500)])


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (query_per_row, {"more statements per further row"}),
        (limit_ignored, {"rows of the two pages"}),
        (no_list, {"rows of the two pages"}),
    ],
)
def test_a_query_per_row_is_seen(economy: Artifact, spoil: Spoil, seen: set[str]) -> None:
    outcome = outcome_of(checks.test_statements_per_list_row, spoil(economy))
    assert (outcome.verdict, failures(outcome)) == (Verdict.FAILED, seen)


# -- lines of an order ----------------------------------------------------------------------------------------


def orders_costing(one: list[list[int]], four: list[list[int]]) -> Artifact:
    return Artifact(
        scenario="economy",
        exchanges={"lines-1": (placed("lines-1", 1),) * 6, "lines-4": (placed("lines-4", 2),) * 6},
        facts={"order-costs": {"1": one, "4": four}},
    )  # fmt: skip


@pytest.mark.parametrize(
    "artifact",
    [
        orders_costing([[9, 9], [8, 8], [8, 8]], [[8, 8], [11, 10], [8, 8]]),
        orders_costing(
            [[8, 8]], [[11, 8]]
        ),  # a batch: a statement per line, and one round trip for all of them
        orders_costing([[8, 8]], [[8, 11]]),
        orders_costing([[8, 8]], [[11, 9]]),  # a batch that is closed by a trip of its own
        orders_costing([[8, 8]], [[6, 6]]),
    ],
)
def test_an_order_in_so_many_statements_whatever_its_lines_passes(artifact: Artifact) -> None:
    assert outcome_of(checks.test_statements_per_order_line, artifact).verdict is Verdict.PASSED


@pytest.mark.parametrize("four", [[[11, 11], [12, 12]], [[10, 10]], [[20, 20]]])
def test_a_statement_per_line_is_seen(four: list[list[int]]) -> None:
    outcome = outcome_of(checks.test_statements_per_order_line, orders_costing([[8, 8], [9, 9]], four))
    assert failures(outcome) == {"more statements per further line"}


def test_orders_that_are_refused_cost_nothing_and_pass_nothing() -> None:
    refused = with_exchanges(orders_costing([[1, 1]], [[1, 1]]), lines_4=[placed("lines-4", 2, status=422)])
    assert failures(outcome_of(checks.test_statements_per_order_line, refused)) == {"orders of 4 refused"}


def test_the_report_tells_what_the_pages_took(economy: Artifact) -> None:
    outcome = outcome_of(checks.test_statements_per_list_row, query_per_row(economy))
    assert outcome.judgement is not None
    assert outcome.judgement.summary == "a page of 5 took 2.0 statements, a page of 50 took 52.0"


# -- a connection that waits for payments ---------------------------------------------------------------------


@pytest.fixture
def slow_upstreams() -> Artifact:
    samples = tuple(ConnectionSample(at_s=n / 10, total=5, idle=5) for n in range(30))
    return Artifact(
        scenario="slow-upstreams",
        exchanges={
            "reads-beside": tuple(read("reads-beside", "/events/1") for _ in range(10)),
            "parked-orders": tuple(placed("parked-orders", n) for n in range(30)),
        },
        connections={"sessions": samples},
    )


def pool_used_up(artifact: Artifact) -> Artifact:
    slow = read("reads-beside", "/events/1").model_copy(update={"elapsed_s": 2.5})
    return with_exchanges(artifact, reads_beside=[slow] * 10)


def reads_refused(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, reads_beside=[read("reads-beside", "/events/1", status=503)] * 10)


def orders_shed(artifact: Artifact) -> Artifact:
    return with_exchanges(
        artifact, parked_orders=[placed("p", n, status=503 if n == 7 else 201) for n in range(30)]
    )


def orders_pending(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, parked_orders=[placed("p", n, status=202) for n in range(30)])


@pytest.mark.parametrize("variant", [lambda it: it, orders_pending])
def test_orders_that_give_their_connection_back_pass(slow_upstreams: Artifact, variant: Spoil) -> None:
    outcome = outcome_of(checks.test_database_held_during_payment, variant(slow_upstreams))
    assert outcome.verdict is Verdict.PASSED
    assert outcome.judgement is not None
    assert any(isinstance(found, ConnectionSeries) for found in outcome.judgement.evidence)


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (pool_used_up, {"slowest of them"}),
        (reads_refused, {"reads beside 30 waiting orders answered 200"}),
        (orders_shed, {"of 30 orders in flight, accepted"}),
    ],
)
def test_connections_held_during_a_payment_are_seen(
    slow_upstreams: Artifact, spoil: Spoil, seen: set[str]
) -> None:
    outcome = outcome_of(checks.test_database_held_during_payment, spoil(slow_upstreams))
    assert (outcome.verdict, failures(outcome)) == (Verdict.FAILED, seen)
