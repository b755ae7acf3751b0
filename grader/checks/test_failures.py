"""After hundreds of failed requests: connections, seats, what the metrics tell, and bodies of any size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import JsonValue

from devstack.artifacts import Artifact, Exchange, Ledger
from grader.answers import PLACED
from grader.checks.dependencies import figures_of
from grader.checks.exposition import Series, samples_of
from grader.checks.growth import Durations, by_status_class, growth, histograms, text_of
from grader.checks.limits import MARGIN, ORDER_DEADLINE_S, READ_DEADLINE_S
from grader.checks.purchases import purchases, recorded
from grader.checks.reading import judge_slowest
from grader.judge import Judge, check

LEFT_OPEN_S = 5 * MARGIN
SEATS_BACK_S = (30 + 2) * MARGIN
READS_AFTER, ORDERS_AFTER, REPORTS_AFTER = 18, 5, 2
SLOW_ORDER_S = 1.5
COUNT_SLACK = 3
ANSWERED_AT_LEAST = 40
"""Of some 440; with fewer there is nothing to count."""

COUNT_SLACK_SHARE = 0.05
IN_PROGRESS_SLACK = 5
LIVE_SHARE = 0.95

REFUSED_BODY = frozenset({400, 413, 422})
"""413; many frameworks make a 400 of the read that the limit broke off."""

_IN_PROGRESS = ("in_progress", "inprogress", "in_flight", "inflight", "active_requests")


@check(
    id="connection-leaks",
    category="database-connections",
    level="mid",
    title="Failed requests give their database connections back",
    failure_title="Failed requests keep their database connections",
    why="A connection that is lost by each failed request empties the pool within minutes of an incident; then everything hangs "
    "until somebody restarts the service, long after the incident is over.",
    remediation="Take connections by `async with` (or a dependency with `yield` and `finally`), never by acquire and release around "
    "code that can raise; roll back before a session goes back.",
    question="An exception leaves your endpoint between two statements. Who gives the connection back, and in which state?",
)
def test_connection_leaks(failures: Artifact, judge: Judge) -> None:
    failed = recorded(failures, "fail:")
    source = "contract: failures never leak connections"
    reads, orders = failures.exchanges_of("reads-after"), failures.exchanges_of("orders-after")
    reports = failures.exchanges_of("reports-after")
    judge.equal("good reads after them", sum(read.ok for read in reads), READS_AFTER, source=source)
    judge.equal("good reports after them", sum(report.ok for report in reports), REPORTS_AFTER, source=source)
    placed = sum(order.status in PLACED for order in orders)
    judge.equal("good orders after them", placed, ORDERS_AFTER, source=source)
    for what, found, limit_s, deadline in (
        ("read", reads, READ_DEADLINE_S, 3),
        ("order", orders, ORDER_DEADLINE_S, 10),
    ):
        judge_slowest(judge, f"good {what} after them", found, limit_s, f"contract: ≤ {deadline} s, + 20 %")
    judge.evidence(*[answer for answer in failed if answer.status is None][:3])
    judge.evidence(*[answer for answer in (*reads, *reports, *orders) if not answer.ok][:3])
    judge.at_most(
        "oldest transaction left open",
        failures.number("open-transaction-s"),
        LEFT_OPEN_S,
        unit="s",
        source=source,
    )


@check(
    id="holds-released",
    category="system-design",
    level="mid",
    title="Seats of orders that came to nothing are on sale again",
    failure_title="Seats of failed orders stay held",
    why="Each declined card and each hiccup of payments takes seats out of the sale. On a busy evening the show is sold out on "
    "paper, the hall is half empty, and nobody sees why.",
    remediation="Give the seats back in the transaction that makes the order declined or failed; let a reconciler settle or expire "
    "what was left pending, and refund if a charge turns up.",
    question="List every way in which an order of yours can end. Who gives the seats back in each, also when the process dies there?",
)
def test_holds_released(failures: Artifact, judge: Judge) -> None:
    after_s = failures.fact("seats-back-after-s")
    source = (
        "contract: 30 s after the last request or fault the seats of a failed order are on sale again, + 20 %"
    )
    expected = _numbers(failures.fact("seats-expected"))
    shown = {
        kind: reading.payload.get("seats_available") if isinstance(reading.payload, dict) else None
        for kind, reading in zip(expected, failures.exchanges_of("seats-read"), strict=False)
    }
    wrong = [
        f"{kind}: {shown.get(kind)} of {seats}"
        for kind, seats in expected.items()
        if shown.get(kind) != seats
    ]
    back = isinstance(after_s, int | float)
    judge.true("all seats that nobody paid for are shown as available", back, "; ".join(wrong), source=source)
    if isinstance(after_s, int | float):
        judge.at_most("until they are", after_s, SEATS_BACK_S, unit="s", source=source)
    ledger, seats = failures.ledger(), failures.number("hold-seats")
    for kind, event_id in _numbers(failures.fact("hold-events")).items():
        judge.equal(
            f"seats sold in the end, after orders that failed ({kind})", _sold(failures, ledger, event_id), int(seats),
            source="contract: every seat gets sold, none twice",
        )  # fmt: skip
    judge.evidence(*failures.exchanges_of("seats-read")[:2])
    unsold = [order for order in recorded(failures, "bought:") if order.status not in PLACED]
    judge.evidence(
        *unsold[:3], *[order for order in recorded(failures, "beyond:") if order.status in PLACED][:3]
    )


def _sold(artifact: Artifact, ledger: Ledger, event_id: int) -> int:
    """Seats of the event whose orders have an unrefunded charge."""
    orders = purchases(recorded(artifact, ""), ())
    paid = [
        order for order in orders if any(found.status == "captured" for found in order.charges_in(ledger))
    ]
    return sum(order.quantity_of(event_id) for order in paid)


def _numbers(value: JsonValue) -> dict[str, int]:
    return {k: v for k, v in value.items() if isinstance(v, int)} if isinstance(value, dict) else {}


@check(
    id="metrics-errors",
    category="monitoring-reliability",
    level="mid",
    title="Failed and slow requests are in the metrics",
    failure_title="Failed or slow requests are missing from the metrics",
    why="A dashboard that counts what went well is green while everything fails. The alert that wakes somebody is the rate of 5xx "
    "and the latency of what was slow; both have to be recorded.",
    remediation="Count and time in `finally` of a middleware outside of everything that can raise, with the status of the answer "
    "(500 when there was none), or use an instrumentator.",
    question="Your endpoint raises. Which line of your middleware runs next, and what does the counter say afterwards?",
)
def test_metrics_errors(failures: Artifact, judge: Judge) -> None:
    before, after = failures.text("metrics-failed"), failures.text("metrics-after")
    asked = _between(
        failures, failures.number("metrics-failed-read-s"), failures.number("metrics-after-asked-s")
    )
    answered = Counter(answer.status // 100 for answer in asked if answer.status is not None)
    judge.at_least("requests that were answered", sum(answered.values()), ANSWERED_AT_LEAST)
    # What was not answered in time may be counted in its own time, as whatever became of it.
    unanswered = sum(
        exchange.status is None
        for exchange in recorded(failures, "")
        if exchange.started_s < failures.number("metrics-after-asked-s")
    )
    grown = growth(before, after)
    families = by_status_class(grown)
    name, counted = min(
        families.items(),
        key=lambda found: _distance(found[1], answered),
        default=("no metric with statuses", Counter[int]()),
    )
    source = "contract: requests by route template, method and status, as a counter"
    for digit, what in ((2, "successful"), (4, "refused"), (5, "failed")):
        slack = _slack(answered[digit], unanswered)
        judge.true(
            f"{what} requests ({digit}xx) are counted", abs(counted[digit] - answered[digit]) <= slack,
            f"{answered[digit]} were answered, {name} grew by {counted[digit]}", source=source,
        )  # fmt: skip
    _judge_histogram(judge, grown, asked, unanswered)
    _judge_gauges(judge, failures)


def _between(artifact: Artifact, since_s: float, until_s: float) -> list[Exchange]:
    return [
        exchange
        for exchange in recorded(artifact, "")
        if exchange.started_s >= since_s and exchange.ended_s <= until_s
    ]


def _distance(counted: Counter[int], answered: Counter[int]) -> int:
    return sum(abs(counted[digit] - answered[digit]) for digit in (2, 4, 5))


def _slack(answered: int, unanswered: int) -> float:
    """By how much a count may differ, yet never so far that one which says nothing is right."""
    return COUNT_SLACK + COUNT_SLACK_SHARE * answered + min(unanswered, answered / 2)


def _judge_histogram(
    judge: Judge, grown: dict[Series, float], asked: Sequence[Exchange], unanswered: int
) -> None:
    number = sum(answer.status is not None for answer in asked)
    found = histograms(grown)
    name, durations = min(
        found.items(),
        key=lambda entry: abs(entry[1].count - number),
        default=("no histogram", Durations(0, 0)),
    )
    source = "contract: and as a latency histogram"
    judge.true(
        "all requests are in a latency histogram",
        abs(durations.count - number) <= _slack(number, unanswered),
        f"{number} were answered, {name} grew by {durations.count:g}", source=source,
    )  # fmt: skip
    slow = [
        answer for answer in asked if answer.label == "slow" and answer.elapsed_s >= SLOW_ORDER_S / MARGIN
    ]
    judge.at_least(
        f"growth of its sum, {len(slow)} requests of 1.5 s included", durations.total, SLOW_ORDER_S * len(slow) / 2,
        unit="s", source=source,
    )  # fmt: skip


def _judge_gauges(judge: Judge, artifact: Artifact) -> None:
    """What counts requests in progress must come back to where it was; a name that says nothing is left alone."""
    before = samples_of(artifact.text("metrics-before"))
    later = [samples_of(artifact.text(name)) for name in ("metrics-after", "metrics-idle")]
    stuck = [
        f"{text_of(series)} {later[0][series]:g}"
        for series in later[0]
        if any(word in text_of(series) for word in _IN_PROGRESS)
        and not series[0].endswith(("_total", "_count"))
        if min(page.get(series, 0.0) for page in later) > before.get(series, 0.0) + IN_PROGRESS_SLACK
    ]
    judge.true("requests in progress are not counted for ever", not stuck, "; ".join(stuck[:3]))


@check(
    id="dependency-metrics",
    category="monitoring-reliability",
    level="mid",
    title="The metrics show the pool and what upstreams answer",
    failure_title="The metrics say nothing about the pool or the upstreams",
    why="Nearly every incident of such a service is an empty pool or an upstream that fails. Without these two figures the first "
    "quarter of an hour goes into finding out which.",
    remediation="A gauge of the pool's connections in use and of their maximum, and a counter in the one place that all calls to "
    "upstreams go through, with upstream and outcome as labels, failures included.",
    question="Orders fail. Which two graphs do you look at first, and what do they look like when payments is the reason?",
)
def test_dependency_metrics(failures: Artifact, judge: Judge) -> None:
    figures = figures_of(failures)
    judge.graded(
        "figures found of four", sum(figure.found for figure in figures), full=len(figures), zero=0,
        source="contract: db_connections (in_use, max), upstream_requests_total by upstream and outcome, or other names",
    )  # fmt: skip
    missing = [figure for figure in figures if not figure.found]
    if missing:
        judge.summary("missing: " + "; ".join(f"{figure.what} ({figure.detail})" for figure in missing))
    judge.evidence(
        "\n".join(f"{figure.what}: {figure.detail}" for figure in figures), name="figures of dependencies"
    )


@check(
    id="body-limit",
    category="monitoring-reliability",
    level="mid",
    title="Bodies over the limit are refused",
    failure_title="A body of any size is taken in",
    why="Whoever may send a body of any size decides how much memory the service needs. A few such requests at once end the process, "
    "and with it the orders of everybody else.",
    remediation="Count the bytes while they arrive, in ASGI middleware or where the body is read, and answer 413 beyond 1 MB; a "
    "declared length can be refused at once, but a chunked body declares none.",
    question="A client sends 10 GB in chunks. At which point does your service stop reading, and what happens to the connection?",
)
def test_body_limit(failures: Artifact, judge: Judge) -> None:
    for name, what in (("body-declared", "2 MB of declared length"), ("body-chunked", "32 MB in chunks")):
        answer = failures.exchange(name)
        closed = answer.status is None and answer.error == "reset"
        judge.true(
            f"a body of {what} is refused", closed or answer.status in REFUSED_BODY, answer.describe(),
            source="contract: body over 1 MB: 413, or the connection is closed",
        )  # fmt: skip
        judge.at_most(
            f"until a body of {what} is refused", answer.elapsed_s, ORDER_DEADLINE_S, unit="s",
            source="contract: an order answers ≤ 10 s, + 20 %",
        )  # fmt: skip
        judge.evidence(answer)
    beats = failures.heartbeats_of("live-beside-bodies")
    live = sum(beat.status == 200 for beat in beats.beats) / max(1, len(beats.beats))
    judge.at_least(
        "share of 200 of /health/live meanwhile", live, LIVE_SHARE, source="contract: 200 while up"
    )
    after = failures.exchange("order-after-bodies")
    judge.true("an order afterwards is placed", after.status in PLACED, after.describe())


@check(
    id="memory-growth",
    category="monitoring-reliability",
    level="mid",
    title="Memory before and after some thousand requests",
    failure_title="Memory before and after some thousand requests",
    why="Whatever is kept per key, id or request, in a dictionary, a label or an unbounded cache, shows here first. Allocators keep "
    "memory too, so this is a hint to look, not a proof.",
    remediation="Give every cache a bound and an age, keep state of clients in the database, and look at the largest containers "
    "when memory keeps growing.",
    question="Which containers of your process grow with the number of distinct clients, and what bounds each?",
)
def test_memory_growth(failures: Artifact, judge: Judge) -> None:
    before, after = failures.number("memory-before-bytes"), failures.number("memory-after-bytes")
    requests = sum(len(found) for found in failures.exchanges.values()) + failures.number("distinct-reads")
    bodies = failures.number("memory-of-bodies-bytes")
    judge.summary(
        f"{before / 1e6:.0f} MB before, {after / 1e6:.0f} MB after about {requests:.0f} requests; "
        f"{bodies / 1e6:.0f} MB more at most while bodies of 2 and 32 MB arrived"
    )
    judge.true("memory was measured", before > 0 and after > 0)
