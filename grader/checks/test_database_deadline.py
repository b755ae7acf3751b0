"""To come: database-deadline, money-across-database-outage."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.judge import Judge, check


@check(
    id="database-deadline",
    category="database-connections",
    level="senior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_database_deadline(database_lost_midway: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="money-across-database-outage",
    category="system-design",
    level="senior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_money_across_database_outage(database_lost_midway: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")
