"""To come: order-beside-slow-mailer, mail-after-outage, silent-failures."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.judge import Judge, check


@check(
    id="order-beside-slow-mailer",
    category="async-fundamentals",
    level="junior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_order_beside_slow_mailer(mailer_outage: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="mail-after-outage",
    category="system-design",
    level="senior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_mail_after_outage(mailer_outage: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="silent-failures",
    category="monitoring-reliability",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_silent_failures(mailer_outage: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")
