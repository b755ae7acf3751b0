"""To come: money-after-crash."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.judge import Judge, check


@check(
    id="money-after-crash",
    category="system-design",
    level="senior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_money_after_crash(crash: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")
