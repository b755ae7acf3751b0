"""The checks of two processes in a burst: what they pass, and each flaw that they must see."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from shop_records import Spoil, failures, lasting, outcome_of, placed, read, with_exchanges, with_facts

from devstack.artifacts import Artifact, ConnectionSample, Exchange
from grader.checks import test_two_processes_traffic as traffic
from grader.checks.exposition import samples_of
from grader.model import Verdict

BUDGET = traffic.test_connection_budget
METRICS = traffic.test_metrics_two_processes


def judged(check: Callable[..., None], artifact: Artifact) -> set[str]:
    outcome = outcome_of(check, artifact)
    assert outcome.verdict is Verdict.FAILED, outcome
    return failures(outcome)


PROCESSES, ROUTE = "serving processes", "requests of GET /events/{id} are counted by route template"
LOWEST, HIGHEST = "lowest count of requests_total", "highest count of requests_total"
BACK = "series whose count went back"


def page(*samples: str) -> Exchange:
    return read("scrapes", "/metrics").model_copy(
        update={"body": "\n".join(["# TYPE x counter", *samples, ""])}
    )


def count(
    value: float, labels: str = 'route="/events/{event_id}",status="200"', name: str = "requests_total"
) -> str:
    return f"{name}{{{labels}}} {value}"


def scraped(*pages: Exchange) -> Spoil:
    return lambda artifact: with_exchanges(artifact, scrapes=pages)


@pytest.fixture
def two() -> Artifact:
    reads = [read("burst-reads", "/events/1" if n % 3 else "/events?limit=5") for n in range(150)]
    sample = ConnectionSample(at_s=1.0, total=18)
    other = count(50, 'route="/events",status="200"')
    return Artifact(
        scenario="two-processes-traffic",
        facts={"serving-processes": 2},
        connections={"sessions": (sample, sample)},
        exchanges={
            "burst-reads": tuple(reads),
            "burst-orders": tuple(placed("burst-orders", n) for n in range(50)),
            "counted-reads": tuple(read("counted-reads", f"/events/{n}") for n in range(100)),
            "scrapes": (page(count(200), other),) * 12,
        },
    )


def budget_answers(**statuses: int | None) -> Spoil:
    """The first order or reads as given, the others right."""

    def spoil(artifact: Artifact) -> Artifact:
        orders = [placed("o", n, status=statuses.get("order", 201) if n == 0 else 201) for n in range(50)]
        reads = [
            read("r", "/events/1", status=statuses.get("reads", 200) if n < 3 else 200) for n in range(150)
        ]
        return with_exchanges(artifact, burst_orders=orders, burst_reads=reads)

    return spoil


def one_read_shed(artifact: Artifact) -> Artifact:
    reads = [read("r", "/events/1", status=503 if n == 0 else 200) for n in range(150)]
    return with_exchanges(artifact, burst_reads=reads)


def reads_that_wait(artifact: Artifact) -> Artifact:
    return with_exchanges(artifact, burst_reads=[lasting(read("r", "/events/1"), 4.0)] * 150)


@pytest.mark.parametrize("variant", [lambda it: it, budget_answers(order=202), one_read_shed])
def test_processes_that_share_the_budget_pass(two: Artifact, variant: Spoil) -> None:
    assert outcome_of(BUDGET, variant(two)).verdict is Verdict.PASSED


SHARE = "share of right answers, at most 30 in flight"


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (budget_answers(reads=503), {SHARE}),
        (budget_answers(reads=500), {SHARE, "bare 500s"}),
        (budget_answers(reads=None), {SHARE}),
        (budget_answers(order=500), {"bare 500s"}),
        (budget_answers(order=503), {"orders shed"}),
        (reads_that_wait, {"slowest read"}),
        (lambda it: with_facts(it, serving_processes=1), {PROCESSES}),
    ],
)
def test_a_burst_over_the_budget_is_seen(two: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert judged(BUDGET, spoil(two)) == seen


def own_series(pid: int, value: float) -> str:
    return count(value, f'pid="{pid}",path="/events/{{event_id}}"')


@pytest.mark.parametrize(
    "variant",
    [
        lambda it: it,
        # other names of things: OpenTelemetry, a histogram only, the method in the label, converters
        scraped(*[page(count(203, 'http_route="/events/{id:int}"', "http_server_duration_seconds_count"))] * 12),
        scraped(*[page(count(199, 'handler="GET /events/:id"'))] * 12),
        # a series per process: all on each page, or each process its own
        scraped(*[page(own_series(7, 90), own_series(8, 110))] * 12),
        scraped(*[page(own_series(7, 90)), page(own_series(8, 110))] * 6),
    ],
)  # fmt: skip
def test_metrics_of_all_processes_pass(two: Artifact, variant: Spoil) -> None:
    assert outcome_of(METRICS, variant(two)).verdict is Verdict.PASSED


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (scraped(*[page(count(90)), page(count(110))] * 6), {LOWEST, BACK}),
        (scraped(*[page(count(104))] * 12), {LOWEST}),
        (scraped(*[page(count(400))] * 12), {HIGHEST}),
        (scraped(*[page(own_series(7, 90))] * 12), {LOWEST}),
        # both processes have series of their own names, and some of the same
        (scraped(*[page(count(90), count(1, 'route="/events/{event_id}",status="503"')), page(count(109))] * 6), {LOWEST, BACK}),
        # the collector's figures behind the process's own ones: Prometheus takes the first
        (scraped(*[page(count(90), count(200)), page(count(110), count(200))] * 6), {LOWEST, BACK}),
        (scraped(*[page(count(200, 'path="/events/17"'))] * 12), {ROUTE}),
        (scraped(*[page("<html>nothing here</html>")] * 12), {ROUTE}),
        (scraped(*[read("scrapes", "/metrics", status=500)] * 12), {"scrapes answered 200", ROUTE}),
        (scraped(*[page(count(200))] * 11, read("scrapes", "/metrics", status=None)), {"scrapes answered 200"}),
        (lambda it: with_facts(it, serving_processes=1), {PROCESSES}),
    ],
)  # fmt: skip
def test_metrics_of_one_process_are_seen(two: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert judged(METRICS, spoil(two)) == seen


def test_metrics_text_is_read_with_care() -> None:
    lines = [
        "# HELP a nothing", "a 1", 'a{b="x",} 2 1700000000', 'a{b="y"} 3 # {trace_id="t"} 1', 'a{b="q\\"}\\n"} 4',
        "a{b=broken} 5", 'a{b="x"', "a", "a one", "a NaN", "b +Inf", "b 1e999", "{} 1", "a 9", " spaces 7 ", "",
    ]  # fmt: skip
    assert samples_of("\r\n".join(lines)) == {
        ("a", frozenset()): 1.0,
        ("a", frozenset({("b", "x")})): 2.0,
        ("a", frozenset({("b", "y")})): 3.0,
        ("a", frozenset({("b", 'q"}\n')})): 4.0,
        ("spaces", frozenset()): 7.0,
    }
