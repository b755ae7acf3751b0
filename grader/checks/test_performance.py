"""Performance Optimization, without load: connections to upstreams and the cost of the report."""

from __future__ import annotations

from decimal import Decimal

from pydantic import JsonValue

from devstack.artifacts import Artifact, Exchange
from grader.checks.limits import REPORT_DEADLINE_S
from grader.checks.reading import in_window, judge_liveness, judge_reads_beside
from grader.checks.values import amount, member, whole
from grader.judge import Judge, check

NEW_CONNECTIONS = 10
"""Contract: 40 sequential orders open at most 10 new connections per upstream; a shared client opens about 1."""

NEW_MAILER_CONNECTIONS = 30
"""Mails may leave in batches, so more than one at a time; a client per mail opens 40."""

_IMPLAUSIBLE_EUR = Decimal(10) ** 12
"""No report has such a sum; it is not written out either."""


@check(
    id="upstream-connection-reuse",
    category="performance",
    level="junior",
    title="Connections to upstreams are reused",
    failure_title="Every call opens a new connection to its upstream",
    why="A client per request throws away its connections: each call pays for a handshake (and, with TLS, for a "
    "certificate check of tens of milliseconds on the loop).",
    remediation="One client per upstream, made at start-up, closed at shutdown, shared by all requests.",
    question="What exactly is lost when an `httpx.AsyncClient` is created inside the endpoint?",
)
def test_upstream_connection_reuse(economy: Artifact, judge: Judge) -> None:
    before, after = economy.ledger("before-orders"), economy.ledger("after-orders")
    orders = economy.exchanges_of("orders")
    judge.at_least(
        "orders accepted", sum(order.ok for order in orders), 38, source="40 sequential orders on a quiet day"
    )
    for upstream in ("payments", "risk", "rates", "mailer"):
        opened = after.connections.get(upstream, 0) - before.connections.get(upstream, 0)
        limit = NEW_MAILER_CONNECTIONS if upstream == "mailer" else NEW_CONNECTIONS
        judge.at_most(f"new connections to {upstream}", opened, limit, source="contract: ≤ 10 for 40 orders")


@check(
    id="sales-report-cost",
    category="performance",
    level="mid",
    title="The sales report slows nobody else down",
    failure_title="The sales report stalls the whole process",
    why="Loading 300,000 rows to add them up in Python holds the loop and the memory for seconds; the database does it in a "
    "fraction, next to the data.",
    remediation="Aggregate in SQL (`GROUP BY` day) over the right index, or maintain a summary; stream where rows are needed.",
    question="A report is slow. How do you decide between an index, a summary table and a cache?",
)
def test_sales_report_cost(tickets_and_reports: Artifact, judge: Judge) -> None:
    report = tickets_and_reports.exchange("report")
    judge.at_most(
        "duration of the report",
        report.elapsed_s,
        REPORT_DEADLINE_S,
        unit="s",
        source="contract: ≤ 10 s, + 20 %",
    )
    expected = tickets_and_reports.fact("sales-expected")
    judge.equal("totals of the report (tickets, orders, EUR)", _totals(_items(report)), _totals(expected))
    judge_liveness(judge, in_window(tickets_and_reports, "report-live", "report-from-s", "report-until-s"))
    judge_reads_beside(judge, tickets_and_reports.exchanges_of("report-reads"), "the report")
    judge.evidence(report)


def _items(report: Exchange) -> JsonValue:
    return report.payload.get("items") if isinstance(report.payload, dict) else None


def _totals(items: JsonValue) -> tuple[int, int, str] | None:
    """Tickets, orders and gross over all days; ``None`` for what is not a report."""
    if not isinstance(items, list):
        return None
    tickets = orders = 0
    gross = Decimal(0)
    for item in items:
        sold, placed, taken = (
            whole(member(item, "tickets")),
            whole(member(item, "orders")),
            amount(member(item, "gross")),
        )
        if sold is None or placed is None or taken is None:
            return None
        tickets, orders, gross = tickets + sold, orders + placed, gross + taken
    return (tickets, orders, f"{gross:.2f}") if abs(gross) < _IMPLAUSIBLE_EUR else None
