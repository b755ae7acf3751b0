"""Database & Connection Management: pools, what holds a connection, how many statements a page costs."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.answers import PLACED
from grader.checks.limits import READ_BESIDE_PARKED_ORDERS_S
from grader.checks.reading import slowest
from grader.checks.values import member, members
from grader.judge import Judge, check

NEW_SESSIONS = 40
"""Contract: 200 sequential reads open at most 40 new sessions; a pool opens 0–15, connect-per-request 200."""

STATEMENTS_PER_ROW = 0.2
STATEMENTS_PER_LINE = 0.4
"""Four lines may take one trip more than one: a batch that a driver only makes of several lines needs one to be closed."""

"""A batch loader may issue one statement per chunk of rows; a query per row has slope 1 or more."""


@check(
    id="database-session-reuse",
    category="database-connections",
    level="junior",
    title="Database sessions are reused",
    failure_title="Requests open database sessions of their own",
    why="Opening a session costs a process, an authentication and several round trips; at a few hundred requests a second "
    "the database is busy with nothing else.",
    remediation="Create one pool (or engine) at start-up and acquire from it per request; close it at shutdown.",
    question="How large should the pool be for 4 processes and a budget of 20 connections, and what happens at request 21?",
)
def test_database_session_reuse(economy: Artifact, judge: Judge) -> None:
    before, after = economy.counters_at("before-reads"), economy.counters_at("after-reads")
    reads = economy.exchanges_of("reads")
    judge.at_least(
        "reads answered 200",
        sum(read.ok for read in reads),
        198,
        source="200 sequential reads on a quiet day",
    )
    judge.at_most(
        "new database sessions in 200 sequential reads", after.connections_opened - before.connections_opened, NEW_SESSIONS,
        source="contract: ≤ 40",
    )  # fmt: skip


@check(
    id="database-held-during-payment",
    category="database-connections",
    level="senior",
    title="No database connection waits for payments",
    failure_title="Orders hold database connections while payments answers",
    why="Thirty orders waiting three seconds for payments use up a pool of twenty: pages that need one short query time out "
    "because of somebody else's upstream.",
    remediation="Commit the reservation and give the connection back before the charge; open a new transaction to confirm.",
    question="Why is making the pool larger not an answer to a slow payment provider?",
)
def test_database_held_during_payment(slow_upstreams: Artifact, judge: Judge) -> None:
    reads = slow_upstreams.exchanges_of("reads-beside")
    worst = slowest(reads)
    assert worst is not None
    judge.at_least("reads beside 30 waiting orders answered 200", sum(read.ok for read in reads), 5)
    judge.at_most(
        "slowest of them",
        worst.elapsed_s,
        READ_BESIDE_PARKED_ORDERS_S,
        unit="s",
        source="contract: ≤ 1.5 s, + 20 %",
    )
    orders = slow_upstreams.exchanges_of("parked-orders")
    judge.at_least(
        "of 30 orders in flight, accepted",
        sum(order.ok for order in orders),
        30,
        source="contract: ≤ 30 in flight: none is shed",
    )
    judge.evidence(worst)
    judge.evidence(
        slow_upstreams.connections_of("sessions"), name="database sessions while 30 orders wait for payments"
    )


@check(
    id="statements-per-list-row",
    category="database-connections",
    level="mid",
    title="A longer list costs no more statements",
    failure_title="The list runs queries per row",
    why="A query per row multiplies the database's latency by the page size: 50 rows at 2 ms are 100 ms before any work.",
    remediation="One statement for the page: a join, an aggregate, `= ANY(…)`, a batch loader or a maintained counter.",
    question="How would you find a query per row before your users do?",
)
def test_statements_per_list_row(economy: Artifact, judge: Judge) -> None:
    small, large = economy.exchanges_of("page-5"), economy.exchanges_of("page-50")
    rows = [_rows(economy, "page-5"), _rows(economy, "page-50")]
    judge.equal("rows of the two pages", rows, [5, 50], source="contract: limit 1…100")
    per_request = [
        (
            economy.counters_at(f"after-page-{size}").statements
            - economy.counters_at(f"before-page-{size}").statements
        )
        / max(1, len(exchanges))
        for size, exchanges in ((5, small), (50, large))
    ]
    judge.at_most(
        "more statements per further row", max(0.0, (per_request[1] - per_request[0]) / 45), STATEMENTS_PER_ROW,
        source="contract: the same number of statements for 5 and for 50 events",
    )  # fmt: skip
    judge.summary(f"a page of 5 took {per_request[0]:.1f} statements, a page of 50 took {per_request[1]:.1f}")


def _rows(economy: Artifact, name: str) -> int:
    payload = economy.exchange(name).payload
    items = payload.get("items") if isinstance(payload, dict) else None
    return len(items) if isinstance(items, list) else 0


@check(
    id="statements-per-order-line",
    category="database-connections",
    level="mid",
    title="A longer order costs no more statements",
    failure_title="An order runs statements per line",
    why="A look-up, a lock and an INSERT for each line make an order of four lines take four times the round trips, all of them "
    "inside the transaction that holds the seats.",
    remediation="Read the events with `= ANY(…)`, take the seats of all lines with one UPDATE from a list of values (`unnest`, "
    "`VALUES`), and insert the lines with one multi-row INSERT or a batch of the driver.",
    question="An ORM flushes each line by itself. How do you notice, and what are two ways to send them together?",
)
def test_statements_per_order_line(economy: Artifact, judge: Judge) -> None:
    sizes = {1: economy.exchanges_of("lines-1"), 4: economy.exchanges_of("lines-4")}
    for size, orders in sizes.items():
        refused = [order for order in orders if order.status not in PLACED]
        judge.equal(f"orders of {size} refused", len(refused), 0, source="contract: 1…4 lines")
        judge.evidence(*refused[:1])
    cheapest = {size: _cheapest(economy, size) for size in sizes}
    # What runs in the background only ever adds, so the cheapest order of each size has cost nothing else.
    slopes = [(many - one) / 3 for one, many in zip(cheapest[1], cheapest[4], strict=True)]
    judge.at_most(
        "more statements per further line", max(0.0, min(slopes)), STATEMENTS_PER_LINE,
        source="contract: the same number of statements for 1 and for 4 lines",
    )  # fmt: skip
    judge.summary(
        f"an order of 1 line took {cheapest[1][0]} statements in {cheapest[1][1]} round trips, "
        f"one of 4 took {cheapest[4][0]} in {cheapest[4][1]}"
    )


def _cheapest(economy: Artifact, size: int) -> tuple[int, int]:
    """Fewest statements and fewest round trips of an order of so many lines; statements in one batch share a trip."""
    costs = member(economy.fact("order-costs"), str(size))
    pairs = [(int(str(cost[0])), int(str(cost[1]))) for cost in members(costs) if isinstance(cost, list)]
    return min(statements for statements, _ in pairs), min(trips for _, trips in pairs)
