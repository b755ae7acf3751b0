"""To come: reads-beside-sixty-orders, lock-order, hot-event-throughput, backpressure."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.judge import Judge, check


@check(
    id="reads-beside-sixty-orders",
    category="async-fundamentals",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_reads_beside_sixty_orders(bursts: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="lock-order",
    category="database-connections",
    level="senior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_lock_order(bursts: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="hot-event-throughput",
    category="performance",
    level="senior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_hot_event_throughput(bursts: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="backpressure",
    category="performance",
    level="senior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_backpressure(bursts: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")
