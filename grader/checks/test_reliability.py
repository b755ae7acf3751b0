"""Outages and restarts: recovery, what the health endpoints say meanwhile, and a clean end."""

from __future__ import annotations

import re
from collections.abc import Sequence

from devstack.artifacts import Artifact, Exchange, Heartbeats, NotObserved
from grader.answers import PLACED
from grader.checks.limits import LIVE_WORST_S, MARGIN
from grader.checks.purchases import judge_money, purchases, recorded
from grader.judge import Judge, check

RECOVERY_S = 15 * MARGIN
READS_IN_A_ROW = 20
ORDERS_AFTER = 2
NOT_READY_S = 15 * MARGIN
READY_AGAIN_S = 20 * MARGIN
READY_ANSWER_S = 5 * MARGIN
LIVE_SHARE = 0.99
READY_SHARE = 0.99
EXIT_S = 20 * MARGIN
SESSIONS_S = 3 * MARGIN

_SETTLED_BEFORE_S = 1.0
"""A beat sent this shortly before the loss of the database may meet it."""

_NAMES_THE_DATABASE = re.compile(
    r"data ?(?:base|store)|datenbank|(?<![a-z0-9])(?:db|pg)(?![a-z0-9])|postgres|sql|psycopg|pool|connect|storage|persist",
    re.I,
)
"""In any words: which, is the service's own business."""


@check(
    id="database-restart-recovery",
    category="database-connections",
    level="mid",
    title="The service recovers by itself when the database comes back",
    failure_title="After a database restart the service stays broken",
    why="Failovers and restarts take seconds. A service that keeps its dead connections turns them into an outage that lasts until "
    "somebody restarts every process.",
    remediation="Take connections from a pool that checks or replaces broken ones (pool_pre_ping, asyncpg.Pool, psycopg_pool with "
    "check); never keep one in a module variable.",
    question="The database restarted two seconds ago. Which connections does your pool hold, and what does the next request see?",
)
def test_database_restart_recovery(database_outage: Artifact, judge: Judge) -> None:
    returned_s = database_outage.number("outage-until-s")
    reads, orders = database_outage.exchanges_of("reads-after"), database_outage.exchanges_of("orders-after")
    streak_s = _streak_end(reads)
    bought = [order for order in orders if order.status in PLACED]
    judge.equal(
        "20 reads in a row succeed",
        streak_s is not None,
        True,
        source="contract: right again ≤ 15 s after, + 20 %",
    )
    judge.at_least("orders that succeed after them", len(bought), ORDERS_AFTER, source="contract: recovery")
    if streak_s is not None and len(bought) >= ORDERS_AFTER:
        judge.at_most(
            "right again after the return", bought[ORDERS_AFTER - 1].started_s - returned_s, RECOVERY_S, unit="s",
            source="contract: ≤ 15 s, without a restart, + 20 %",
        )  # fmt: skip
    judge.evidence(*_failed(reads)[-2:], *_failed(orders)[-2:])
    judge.evidence(database_outage.log_tail, name="end of the service's log")


@check(
    id="readiness-honesty",
    category="monitoring-reliability",
    level="mid",
    title="Readiness tells the truth about the database",
    failure_title="Readiness does not tell whether the service can serve",
    why="The balancer believes readiness. One that always says yes sends buyers into a service without a database; one that asks "
    "the mailer takes the whole fleet out because of mails.",
    remediation="Answer /health/ready by a short query with its own deadline (or from the state of a background check): 503 when "
    "the database does not answer, with a body that says so, 200 again when it does; leave upstreams out.",
    question="What belongs into liveness, what into readiness, and what happens to the fleet if you swap them?",
)
def test_readiness_honesty(database_outage: Artifact, upstream_outage: Artifact, judge: Judge) -> None:
    beats = database_outage.heartbeats_of("ready")
    lost_s, returned_s = database_outage.number("outage-from-s"), database_outage.number("outage-until-s")
    judge.at_least(
        "share of 200 while the database is up", _share(beats.between(0, lost_s - _SETTLED_BEFORE_S)), READY_SHARE,
        source="contract: 200",
    )  # fmt: skip
    _judge_not_ready(judge, database_outage, beats)
    _judge_cause(judge, recorded(database_outage, "ready-lost"))
    again = [beat for beat in beats.beats if beat.intended_s >= returned_s and beat.status == 200]
    judge.equal("ready again after the return", bool(again), True, source="contract: 200 again ≤ 20 s after")
    if again:
        judge.at_most(
            "until ready again", again[0].intended_s + again[0].latency_s - returned_s, READY_AGAIN_S, unit="s",
            source="contract: ≤ 20 s after its return, + 20 %",
        )  # fmt: skip
    judge.at_most(
        "slowest answer, frozen database included", beats.worst_s, READY_ANSWER_S, unit="s",
        source="contract: each answer < 5 s, + 20 %",
    )  # fmt: skip
    judge.at_least(
        "share of 200 while only upstreams are down", _share(_outage_beats(upstream_outage, "ready")), READY_SHARE,
        source="contract: no upstream counts",
    )  # fmt: skip
    judge.evidence(beats, name="latency of /health/ready around the outage")


def _judge_not_ready(judge: Judge, artifact: Artifact, beats: Heartbeats) -> None:
    """Not ready in the first outage, or else within the long one."""
    told = None
    for outage in ("outage", "long-outage"):
        if f"{outage}-from-s" not in artifact.facts:
            continue
        since_s, until_s = artifact.number(f"{outage}-from-s"), artifact.number(f"{outage}-until-s")
        refused = [beat for beat in beats.between(since_s, until_s).beats if beat.status == 503]
        if refused:
            told = min(beat.intended_s + beat.latency_s for beat in refused) - since_s
            break
    judge.equal(
        "503 while the database is away", told is not None, True, source="contract: 503 ≤ 15 s after its loss"
    )
    if told is not None:
        judge.at_most(
            "until it is told", told, NOT_READY_S, unit="s", source="contract: ≤ 15 s after its loss, + 20 %"
        )


def _judge_cause(judge: Judge, readings: Sequence[Exchange]) -> None:
    """Half of the points are for saying no, the rest for saying why."""
    refusals = [reading for reading in readings if reading.status == 503]
    if refusals:
        named = any(_NAMES_THE_DATABASE.search(refusal.body) for refusal in refusals)
        judge.graded(
            "the 503 names the database",
            int(named),
            full=1,
            zero=-1,
            source="contract: 503 naming what failed",
        )
        judge.evidence(refusals[-1])


@check(
    id="liveness-independence",
    category="monitoring-reliability",
    level="mid",
    title="Liveness looks at the process only",
    failure_title="Liveness fails when a dependency does",
    why="The platform restarts what is not alive. Liveness that asks the database restarts every process in the middle of the "
    "database's outage, and again, and again.",
    remediation="Let /health/live answer 200 from the event loop without touching database, pool or upstreams, and keep the loop "
    "free, so that it is answered while they hang.",
    question="The database is down for ten minutes. What should the orchestrator do with your processes?",
)
def test_liveness_independence(
    database_outage: Artifact, upstream_outage: Artifact, upstream_hang: Artifact, judge: Judge
) -> None:
    for name, beats in (
        ("the database is away", database_outage.heartbeats_of("live")),
        ("upstreams refuse and hang", _outage_beats(upstream_outage, "live")),
        ("orders wait for hanging upstreams", _since(upstream_hang.heartbeats_of("live"), upstream_hang)),
    ):
        judge.at_least(
            f"share of 200 within 1 s while {name}", _share(beats, LIVE_WORST_S), LIVE_SHARE,
            source="contract: /health/live never > 1 s (+ 20 %), looks at nothing else; 1 % for noise",
        )  # fmt: skip
        judge.evidence(beats, name=f"latency of /health/live while {name}")


@check(
    id="graceful-shutdown",
    category="monitoring-reliability",
    level="mid",
    title="SIGTERM loses nothing",
    failure_title="SIGTERM cuts requests off or leaves work behind",
    why="Every deployment, and every move to another machine, is a SIGTERM. If it cuts off what is in flight, buyers are charged "
    "without an answer several times a day.",
    remediation="Let the server drain: stop accepting, finish what is in flight, then close pool, clients and background tasks in "
    "the lifespan; mails that wait belong into the database, not into memory. Do not install a handler that exits.",
    question="What does your service do between SIGTERM and its exit, and what is the longest this can take?",
)
def test_graceful_shutdown(shutdown: Artifact, judge: Judge) -> None:
    in_flight = shutdown.exchanges_of("in-flight")
    judge.equal(
        "orders in flight that were answered", sum(order.ok for order in in_flight), len(in_flight),
        source="contract: finish what is in flight",
    )  # fmt: skip
    judge.evidence(*_failed(in_flight)[:2])
    judge.equal(
        "every process has ended", shutdown.fact("gone"), True, source="contract: leave no process behind"
    )
    judge.at_most(
        "until the last process has ended", shutdown.number("gone-after-s"), EXIT_S, unit="s",
        source="contract: ≤ 20 s, + 20 %",
    )  # fmt: skip
    if shutdown.fact("gone") is True:
        judge.at_most(
            "until the last database session has ended", shutdown.number("sessions-gone-after-s"), SESSIONS_S, unit="s",
            source="contract: close database sessions; PostgreSQL notices within 1 s",
        )  # fmt: skip
    readings, replays = shutdown.exchanges_of("settled"), shutdown.exchanges_of("settled-replays")
    orders = purchases([*in_flight, *replays], readings)
    ledger = shutdown.ledger()
    judge_money(judge, orders, ledger, strays=False)
    mailed = {message.order_id for message in ledger.messages}
    confirmed = [order.order_id for order in orders if order.status == "confirmed"]
    judge.equal(
        "confirmed orders with a mail", sum(order_id in mailed for order_id in confirmed), len(confirmed),
        source="contract: mail of every confirmed order at least once, ≤ 15 s",
    )  # fmt: skip
    judge.evidence(shutdown.log_tail, name="end of the service's log")


def _streak_end(reads: Sequence[Exchange]) -> float | None:
    """When the first 20 reads in a row had succeeded."""
    in_a_row = 0
    for read in reads:
        in_a_row = in_a_row + 1 if read.status == 200 else 0
        if in_a_row == READS_IN_A_ROW:
            return read.ended_s
    return None


def _failed(exchanges: Sequence[Exchange]) -> list[Exchange]:
    return [exchange for exchange in exchanges if not exchange.ok]


def _share(beats: Heartbeats, within_s: float | None = None) -> float:
    """Share of beats answered 200, within ``within_s`` if given. Raises NotObserved without beats."""
    if not beats.beats:
        raise NotObserved("no heartbeat fell into the judged window")
    good = [
        beat
        for beat in beats.beats
        if beat.status == 200 and (within_s is None or beat.latency_s <= within_s)
    ]
    return len(good) / len(beats.beats)


def _outage_beats(artifact: Artifact, series: str) -> Heartbeats:
    since_s, until_s = artifact.number("outage-from-s"), artifact.number("outage-until-s")
    return artifact.heartbeats_of(series).between(since_s, until_s)


def _since(beats: Heartbeats, artifact: Artifact) -> Heartbeats:
    """Beats from the first hang on."""
    until_s = beats.beats[-1].intended_s + beats.interval_s if beats.beats else 0.0
    return beats.between(artifact.number("hang-from-s"), until_s)
