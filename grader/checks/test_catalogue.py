"""To come: order-contract, sales-window, answer-freshness, list-pages."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.judge import Judge, check


@check(
    id="order-contract",
    category="system-design",
    level="junior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_order_contract(catalogue: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="sales-window",
    category="system-design",
    level="junior",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_sales_window(catalogue: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="answer-freshness",
    category="performance",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_answer_freshness(catalogue: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")


@check(
    id="list-pages",
    category="performance",
    level="mid",
    title="To come",
    failure_title="To come",
    why="To come.",
    remediation="To come.",
    question="To come?",
)
def test_list_pages(catalogue: Artifact, judge: Judge) -> None:
    judge.not_applicable("not built yet")
