"""To come: sessions-closed."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.judge import Judge, check


@check(
    id="sessions-closed",
    category="monitoring-reliability",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_sessions_closed(shutdown: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")
