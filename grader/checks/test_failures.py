"""To come: connection-leaks, holds-released, metrics-errors, dependency-metrics, body-limit, memory-growth."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.judge import Judge, check


@check(
    id="connection-leaks",
    category="database-connections",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_connection_leaks(failures: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="holds-released",
    category="system-design",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_holds_released(failures: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="metrics-errors",
    category="monitoring-reliability",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_metrics_errors(failures: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="dependency-metrics",
    category="monitoring-reliability",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_dependency_metrics(failures: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="body-limit",
    category="monitoring-reliability",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_body_limit(failures: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="memory-growth",
    category="monitoring-reliability",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_memory_growth(failures: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")
