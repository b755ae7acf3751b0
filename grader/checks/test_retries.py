"""To come: event-loop-retry-pause, denied-orders-charged, error-mapping, retry-discipline, retry-after, circuit-breaker."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.judge import Judge, check


@check(
    id="event-loop-retry-pause",
    category="async-fundamentals",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_event_loop_retry_pause(upstream_errors: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="denied-orders-charged",
    category="async-fundamentals",
    level="senior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_denied_orders_charged(upstream_errors: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="error-mapping",
    category="system-design",
    level="junior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_error_mapping(upstream_errors: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="retry-discipline",
    category="system-design",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_retry_discipline(upstream_errors: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="retry-after",
    category="monitoring-reliability",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_retry_after(upstream_errors: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="circuit-breaker",
    category="system-design",
    level="senior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_circuit_breaker(upstream_errors: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")
