"""System Design: what a killed process leaves behind."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.checks.aftermath import judge_aftermath
from grader.judge import Judge, check


@check(
    id="money-after-crash",
    category="system-design",
    level="senior",
    title="A killed process loses neither money nor seats",
    failure_title="A kill in the middle of orders loses money, seats or orders",
    why="The kernel kills what takes too much memory, machines lose power, and no handler runs then. Whatever only the process "
    "knew about an order in that moment is gone: the card is charged for nothing, or seats stay held that nobody bought.",
    remediation="Commit the pending order with its seats and its key in one transaction before the charge, confirm in one more, "
    "and let every process look for pending orders whose time has come (a lease in the row, not a list in memory), settling "
    "them with the same charge key.",
    question="Your process is killed at any line of an order. Which row tells the next process what to do, and when may it?",
)
def test_money_after_crash(crash: Artifact, judge: Judge) -> None:
    judge_aftermath(judge, crash)
    judge.evidence(crash.log_tail, name="end of the service's log")
