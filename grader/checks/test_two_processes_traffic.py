"""To come: connection-budget, metrics-two-processes."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.judge import Judge, check


@check(
    id="connection-budget",
    category="database-connections",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_connection_budget(two_processes_traffic: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="metrics-two-processes",
    category="monitoring-reliability",
    level="senior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_metrics_two_processes(two_processes_traffic: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")
