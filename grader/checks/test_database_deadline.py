"""The database stands still or goes away in the middle of requests: deadlines, and the money."""

from __future__ import annotations

from collections.abc import Sequence

from devstack.artifacts import Artifact, Exchange
from grader.answers import UNAVAILABLE
from grader.checks.aftermath import judge_aftermath
from grader.checks.limits import ORDER_DEADLINE_S, READ_DEADLINE_S, REPORT_DEADLINE_S
from grader.checks.reading import slowest
from grader.judge import Judge, check

RIGHT_SHARE = 0.9
"""One request of twelve or twenty-four may have met a stall of the machine."""

NO_SHARE = 0.5

_READ = UNAVAILABLE | {200}
_ORDER = UNAVAILABLE | {202}


@check(
    id="database-deadline",
    category="database-connections",
    level="senior",
    title="Every request ends in time while the database stands still",
    failure_title="A database that stands still holds requests for ever",
    why="A lost network path or a stuck server closes no connection: it just never answers. Requests without a deadline then pile "
    "up until the pool, the threads and the memory are used up, and the service is down longer than the database.",
    remediation="Bound everything that waits for the database, from outside: the wait for a pool's connection, connecting, and each "
    "statement (asyncio.timeout, the driver's command timeout). A server-side statement_timeout does not help while the network is "
    "dead. Give a connection up that did not answer, and answer 503.",
    question="The network to your database swallows every packet for a minute. Which of your time limits ends a request, and why "
    "does statement_timeout not?",
)
def test_database_deadline(database_lost_midway: Artifact, judge: Judge) -> None:
    artifact = database_lost_midway
    reads = artifact.exchanges_of("frozen-reads")
    anew = artifact.exchanges_of("frozen-reads-anew")
    reports = artifact.exchanges_of("frozen-reports")
    orders = artifact.exchanges_of("orders-frozen")
    source = "contract: event and order reads ≤ 3 s, + 20 %; 503 (or 429, 502, 504), or what a cache may still tell"
    _judge_in_time(judge, "reads that met idle connections", reads, READ_DEADLINE_S, _READ, source)
    _judge_in_time(
        judge, "reads that came when those had been given up", anew, READ_DEADLINE_S, _READ, source
    )
    source = "contract: ≤ 10 s whatever the database does, + 20 %; 503 (or 429, 502, 504), 202"
    _judge_in_time(judge, "orders", orders, ORDER_DEADLINE_S, _ORDER, source)
    source = (
        "contract: ticket and sales ≤ 10 s, + 20 %; 503 (or 429, 502, 504), or what a cache may still tell"
    )
    _judge_in_time(judge, "tickets and sales reports", reports, REPORT_DEADLINE_S, _READ, source)
    waiting = slowest(artifact.exchanges_of("orders-waiting"))
    judge.at_most(
        "slowest order that was at payments when the database stood still", waiting.elapsed_s if waiting else 0.0, ORDER_DEADLINE_S,
        unit="s", source="contract: an order answers ≤ 10 s whatever the database does, + 20 %",
    )  # fmt: skip
    judge.equal(
        "event reads succeed again", artifact.fact("recovered"), True,
        source="contract: right again ≤ 15 s after the return, + 20 %; failures never leak connections",
    )  # fmt: skip
    judge.evidence(*([waiting] if waiting else []), *artifact.exchanges_of("recovery-reads")[-1:])


@check(
    id="money-across-database-outage",
    category="system-design",
    level="senior",
    title="Orders survive the loss of the database in their middle",
    failure_title="Losing the database in the middle of orders loses money, seats or orders",
    why="A fail-over takes seconds, and the orders that are at payments meanwhile come back to a database that is not there. "
    "The money has been taken; whoever only tries to write that down once has taken it for nothing.",
    remediation="Store the pending order before the charge, repeat the confirmation while there is time, answer 202 when there is "
    "none left, and let a reconciler settle what is still pending. A lost connection at COMMIT leaves the outcome open: "
    "statements have to be safe to repeat.",
    question="The connection breaks while you wait for the answer to COMMIT. What do you know, and what do you do next?",
)
def test_money_across_database_outage(database_lost_midway: Artifact, judge: Judge) -> None:
    judge_aftermath(judge, database_lost_midway)
    judge.evidence(database_lost_midway.log_tail, name="end of the service's log")


def _judge_in_time(
    judge: Judge, what: str, sent: Sequence[Exchange], limit_s: float, allowed: frozenset[int], source: str
) -> None:
    """Share that was answered properly and in time: a design whose last few requests hang gets a part."""
    wrong = [exchange for exchange in sent if exchange.status not in allowed or exchange.elapsed_s > limit_s]
    share = 1 - len(wrong) / len(sent) if sent else 0.0
    judge.graded(
        f"{what}: share answered properly within {limit_s:g} s", share, full=RIGHT_SHARE, zero=NO_SHARE, source=source
    )  # fmt: skip
    worst = slowest(wrong)
    judge.evidence(*([worst] if worst else []))
