"""Two serving processes in a burst: one budget of database connections, one story in the metrics."""

from __future__ import annotations

import re
from collections.abc import Sequence

from devstack.artifacts import Artifact
from grader.answers import PLACED, UNAVAILABLE
from grader.checks.exposition import Series, samples_of
from grader.checks.limits import ORDER_DEADLINE_S, READ_DEADLINE_S
from grader.checks.reading import judge_serving_processes, judge_slowest
from grader.judge import Judge, check

RIGHT_SHARE = 0.99
SCRAPES = 12
COUNT_TOLERANCE = 0.05
"""Metrics are sums over seconds of traffic, not a ledger; a process that counts alone is wrong by half."""

_COUNTED_PATH = re.compile(r"/events/\d+")
_ROUTE = re.compile(r"(?:[A-Z]+ )?/events/[^/]*[{:<][^/]*/?")
"""How frameworks write the template of that route: `{event_id}`, `:id`, `<int:id>`, with or without the method."""

_NOT_A_COUNT = ("_bucket", "_sum", "_created")


@check(
    id="connection-budget",
    category="database-connections",
    level="mid",
    title="All processes together keep to the budget of database connections",
    failure_title="A burst runs into the limit of database connections",
    why="A pool is per process. Two processes with the whole budget each ask for twice what the database grants, and at the first "
    "peak requests fail with `too many connections`; a pool that is too small or gives up at once fails them as well.",
    remediation="Pool size = budget ÷ WEB_CONCURRENCY, everything counted that connects (listeners, jobs, overflow); above it wait "
    "for a connection, with a limit of seconds.",
    question="The budget is 20 connections. How many does each part of your service open at most, with one process and with four?",
)
def test_connection_budget(two_processes_traffic: Artifact, judge: Judge) -> None:
    reads = two_processes_traffic.exchanges_of("burst-reads")
    orders = two_processes_traffic.exchanges_of("burst-orders")
    judge_serving_processes(judge, two_processes_traffic)
    right = [read for read in reads if read.ok] + [order for order in orders if order.status in PLACED]
    sent = [*reads, *orders]
    judge.at_least(
        "share of right answers, at most 30 in flight", len(right) / max(1, len(sent)), RIGHT_SHARE,
        source="contract: the connection budget is kept",
    )  # fmt: skip
    judge.equal(
        "bare 500s", sum(found.status == 500 for found in sent), 0, source="contract: a bare 500 is a defect"
    )
    judge.equal(
        "orders shed", sum(order.status in UNAVAILABLE for order in orders), 0,
        source="contract: ≤ 30 orders in flight, none is shed",
    )  # fmt: skip
    for what, found, limit_s, deadline in (
        ("read", reads, READ_DEADLINE_S, 3),
        ("order", orders, ORDER_DEADLINE_S, 10),
    ):
        judge_slowest(judge, what, found, limit_s, f"contract: ≤ {deadline} s, + 20 %")
    judge.evidence(*[found for found in sent if found not in right][:4])
    sessions = two_processes_traffic.connections_of("sessions")
    judge.evidence(sessions, name="database sessions of all processes")


@check(
    id="metrics-two-processes",
    category="monitoring-reliability",
    level="senior",
    title="The metrics are those of all processes",
    failure_title="Each scrape shows another process's metrics",
    why="With several processes behind one port a scrape reaches any of them. Counters that each keeps for itself jump up and down: "
    "rates are nonsense, and alerts fire or stay silent by chance.",
    remediation="Let the processes share their figures (prometheus_client's multiprocess directory, made once by the process that "
    "starts the others), add them up on a scrape, or label each series with its process.",
    question="Prometheus scrapes a service of four processes through one port. What does it see, and how do you make that right?",
)
def test_metrics_two_processes(two_processes_traffic: Artifact, judge: Judge) -> None:
    judge_serving_processes(judge, two_processes_traffic)
    scrapes = two_processes_traffic.exchanges_of("scrapes")
    judge.equal("scrapes answered 200", sum(page.status == 200 for page in scrapes), SCRAPES)
    asked = [
        read
        for name in ("burst-reads", "counted-reads")
        for read in two_processes_traffic.exchanges_of(name)
        if _COUNTED_PATH.fullmatch(read.path)
    ]
    answered = sum(read.status is not None for read in asked)
    families = _families([page.body for page in scrapes if page.status == 200])
    if not judge.true(
        "requests of GET /events/{id} are counted by route template", bool(families),
        f"{len(families)} such metrics", source="contract: requests by route template, method and status",
    ):  # fmt: skip
        return
    name, pages = min(families.items(), key=lambda found: _preference(*found, expected=answered))
    totals = _totals(pages)
    source = "contract: the figures are right for any number of processes, ± 5 %"
    judge.at_least(
        f"lowest count of {name}",
        min(totals),
        (1 - COUNT_TOLERANCE) * answered,
        unit="requests",
        source=source,
    )
    judge.at_most(
        f"highest count of {name}", max(totals), (1 + COUNT_TOLERANCE) * len(asked), unit="requests", source=source
    )  # fmt: skip
    judge.equal("series whose count went back", _went_back(pages), 0, source="a counter never goes back")
    shown = "\n".join(
        f"scrape {number}: {sum(page.values()):g}" for number, page in enumerate(pages, start=1)
    )
    judge.evidence(f"{answered} requests were answered\n{shown}", name=name)


Page = dict[Series, float]


def _families(pages: Sequence[str]) -> dict[str, list[Page]]:
    """Counts labelled with the route, by name; of each name its series on every page."""
    found: dict[str, list[Page]] = {}
    for number, page in enumerate(map(samples_of, pages)):
        for series, value in page.items():
            name, labels = series
            if not name.endswith(_NOT_A_COUNT) and any(_ROUTE.fullmatch(text) for _, text in labels):
                found.setdefault(name, [{} for _ in pages])[number][series] = value
    return found


def _totals(pages: Sequence[Page]) -> list[float]:
    """What each scrape counts.

    Where scrapes show different series, each process shows its own: then together, each at its highest.
    """
    highest: Page = {}
    for page in pages:
        for series, value in page.items():
            highest[series] = max(value, highest.get(series, value))
    if any(page.keys() != highest.keys() for page in pages):
        return [sum(highest.values())]
    return [sum(page.values()) for page in pages]


def _preference(name: str, pages: Sequence[Page], *, expected: int) -> tuple[float, bool]:
    """The nearest first, and the counter before the histogram that counts the same."""
    return max(abs(total - expected) for total in _totals(pages)), not name.endswith("_total")


def _went_back(pages: Sequence[Page]) -> int:
    """Series that were lower on a scrape than on an earlier one."""
    highest: Page = {}
    back: set[Series] = set()
    for page in pages:
        for series, value in page.items():
            if value < highest.get(series, value):
                back.add(series)
            highest[series] = max(value, highest.get(series, value))
    return len(back)
