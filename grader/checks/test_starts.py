"""To come: startup-without-upstreams, startup-without-database."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.judge import Judge, check


@check(
    id="startup-without-upstreams",
    category="monitoring-reliability",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_startup_without_upstreams(starts: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="startup-without-database",
    category="monitoring-reliability",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_startup_without_database(starts: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")
