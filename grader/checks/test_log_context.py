"""To come: log-context."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.judge import Judge, check


@check(
    id="log-context",
    category="monitoring-reliability",
    level="senior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_log_context(contract: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")
