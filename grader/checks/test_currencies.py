"""To come: money-rounding, rate-calls."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.judge import Judge, check


@check(
    id="money-rounding",
    category="system-design",
    level="junior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_money_rounding(currencies: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="rate-calls",
    category="performance",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_rate_calls(currencies: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")
