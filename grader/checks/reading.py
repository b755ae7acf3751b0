"""Reading artifacts: small questions that several checks ask."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import JsonValue

from devstack.artifacts import Artifact, Exchange, Heartbeats, quantile
from grader.checks.limits import LIVE_P95_S, LIVE_SOURCE, LIVE_WORST_S, READ_P95_BESIDE_CPU_S
from grader.checks.values import member
from grader.judge import Judge

SERVING_PROCESSES = 2
"""`WEB_CONCURRENCY` of the scenarios in which processes meet."""


def field(exchange: Exchange, name: str) -> JsonValue:
    """A field of the answer's JSON object, ``None`` where there is no such thing."""
    return member(exchange.payload, name)


def in_window(artifact: Artifact, series: str, start: str, end: str) -> Heartbeats:
    """The beats of ``series`` due between two recorded instants; a short window is widened to five beats."""
    beats = artifact.heartbeats_of(series)
    begin, finish = artifact.number(start), artifact.number(end)
    return beats.between(begin, max(finish, begin + 5 * beats.interval_s))


def judge_liveness(judge: Judge, beats: Heartbeats, what: str = "/health/live") -> None:
    """The contract's promise about what needs nobody else, beside any load: p95 and worst."""
    judge.at_most(f"p95 of {what}", beats.quantile(0.95), LIVE_P95_S, unit="s", source=LIVE_SOURCE)
    judge.at_most(f"slowest {what}", beats.worst_s, LIVE_WORST_S, unit="s", source=LIVE_SOURCE)
    judge.evidence(beats, name=f"latency of {what}")


def judge_reads_beside(judge: Judge, reads: Sequence[Exchange], what: str) -> None:
    """The contract's promise about event reads beside CPU-heavy work: answered, p95."""
    latencies = [read.elapsed_s for read in reads]
    judge.true(f"event reads beside {what} are answered 200", bool(reads) and all(read.ok for read in reads))
    if latencies:
        judge.at_most(
            f"p95 of event reads beside {what}",
            quantile(latencies, 0.95),
            READ_P95_BESIDE_CPU_S,
            unit="s",
            source="contract: reads p95 ≤ 300 ms, + 20 %",
        )


def judge_serving_processes(judge: Judge, artifact: Artifact) -> None:
    """A scenario for several processes tells nothing when fewer serve."""
    serving = artifact.number("serving-processes")
    source = "contract: WEB_CONCURRENCY is honoured"
    judge.at_least("serving processes", serving, SERVING_PROCESSES, source=source)


def slowest(exchanges: Iterable[Exchange]) -> Exchange | None:
    """The exchange that took longest."""
    return max(exchanges, key=lambda exchange: exchange.elapsed_s, default=None)


def judge_slowest(
    judge: Judge, what: str, found: Sequence[Exchange], limit_s: float, source: str
) -> Exchange | None:
    """The slowest of ``found`` must have ended within ``limit_s``. Returns it."""
    worst = slowest(found)
    judge.at_most(f"slowest {what}", worst.elapsed_s if worst else 0.0, limit_s, unit="s", source=source)
    return worst
