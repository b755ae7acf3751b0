"""Starts into trouble: without upstreams, without a database."""

from __future__ import annotations

from math import ceil

from devstack.artifacts import Artifact
from grader.checks.limits import MARGIN, READ_DEADLINE_S
from grader.judge import Judge, check

READY_S = 30 * MARGIN


@check(
    id="startup-without-upstreams",
    category="monitoring-reliability",
    level="mid",
    title="The service starts while its upstreams are down",
    failure_title="The service cannot start while an upstream is down",
    why="In an incident services are restarted. One that needs payments, rates or the mailer to start cannot come back until all of "
    "them are up, and takes the pages that need none of them down with it.",
    remediation="Make clients at the start, but call nobody: fetch rates and the like on the first request or in the background, and "
    "let what fails fail where it is needed.",
    question="Which of your dependencies must be up for your service to start, and what does it serve while the others are away?",
)
def test_startup_without_upstreams(starts: Artifact, judge: Judge) -> None:
    ready = starts.fact("without-upstreams-ready") is True
    judge.true(
        "ready while every upstream refuses connections", ready, starts.texts.get("without-upstreams", ""),
        source="contract: ready ≤ 30 s after the start, whatever the upstreams do",
    )  # fmt: skip
    if ready:
        judge.at_most(
            "until ready", starts.number("without-upstreams-ready-after-s"), READY_S, unit="s",
            source="contract: ≤ 30 s after the start, + 20 %",
        )  # fmt: skip
        reads = starts.exchanges_of("reads")
        in_time = [read for read in reads if read.status == 200 and read.elapsed_s <= READ_DEADLINE_S]
        judge.equal(
            "event reads that are answered then", len(in_time), len(reads),
            source="contract: event reads ≤ 3 s whatever an upstream does, + 20 %",
        )  # fmt: skip
        judge.evidence(*reads)
    judge.evidence(starts.log_tail, name="end of the service's log")


@check(
    id="startup-without-database",
    category="monitoring-reliability",
    level="mid",
    title="A start without the database ends well",
    failure_title="A start without the database leaves a service that does not serve",
    why="After a power cut everything starts at once, and the service may be there before its database. Waiting is right, and so "
    "is leaving to be started again; staying without ever serving is not.",
    remediation="Connect on demand or in a loop with pauses; or end with an error and let the supervisor start you again.",
    question="Service and database start at the same moment. What happens in the first minute, and who makes it right?",
)
def test_startup_without_database(starts: Artifact, judge: Judge) -> None:
    ready = starts.fact("without-database-ready") is True if _tried(starts) else False
    restarted = starts.number("without-database-restarts") > 0
    manner = "it left, and was started again" if restarted else "it waited"
    seen = f"{manner}; {_outcome(starts)}" if ready else f"{manner}, and was not ready in time"
    judge.summary(f"started while the database was away: {seen}")
    judge.true(
        "ready after the database's return, by itself or by one restart", ready, seen,
        source="note: ready ≤ 30 s, + 20 %",
    )  # fmt: skip


def _tried(starts: Artifact) -> bool:
    """Whether the service could be started at all; raises NotObserved when the scenario did not come so far."""
    starts.fact("without-database-restarts")
    return "without-database-ready" in starts.facts


def _outcome(starts: Artifact) -> str:
    return f"ready within {max(1, ceil(starts.number('without-database-ready-after-s')))} s of the database's return"
