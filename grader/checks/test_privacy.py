"""To come: secrets-in-logs, internals-in-answers."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.judge import Judge, check


@check(
    id="secrets-in-logs",
    category="monitoring-reliability",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_secrets_in_logs(failures: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="internals-in-answers",
    category="monitoring-reliability",
    level="junior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_internals_in_answers(failures: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")
