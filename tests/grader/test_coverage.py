"""Contract and checks, both ways: nothing is graded that is not stated, nothing stated is ungraded without a reason."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from grader.checks import collect_checks
from grader.rubric import load_rubric

KIT = Path(__file__).parents[2]
CONTRACT = (KIT / "docs" / "contract.md").read_text(encoding="utf-8")
COVERAGE = tomllib.loads((KIT / "docs" / "checks" / "coverage.toml").read_text(encoding="utf-8"))["statement"]
RUBRIC = load_rubric()


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def sections() -> dict[int, str]:
    """The numbered sections of the contract, without their headings."""
    body = CONTRACT[: CONTRACT.index("## Change log")]
    parts = re.split(r"^## (\d)\. .*$", body, flags=re.MULTILINE)[1:]
    return {int(number): text for number, text in zip(parts[::2], parts[1::2], strict=True)}


def statements(text: str) -> list[str]:
    """Table rows, list items and the sentences of paragraphs: what a reader takes as one rule."""
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    found: list[str] = []
    for block in re.split(r"\n\s*\n|\n(?=\d\. |- |\||#)", text):
        block = plain(block)
        if not block or block.startswith("#") or re.fullmatch(r"[|\s-]+", block):
            continue
        if block.startswith("|"):
            found.append(block)
        else:
            found += re.split(r"(?<=[.:])\s+(?=[A-Z`*])", re.sub(r"^(\d\.|-) ", "", block))
    headers = {"| matter | rule |", "| variable | meaning |", "| method and path | what it does | answers |"}
    headers |= {"| outcome | status |", "| order | situation | status |", "| situation | must hold |"}
    headers |= {"| measured | full points | none |", "| name | calls | normal latency |"}
    return [statement for statement in found if statement not in headers]


STATEMENTS = [
    pytest.param(number, statement, id=f"{number}-{index}")
    for number, text in sections().items()
    for index, statement in enumerate(statements(text))
]


@pytest.mark.parametrize(("number", "statement"), STATEMENTS)
def test_every_statement_of_the_contract_is_graded_or_has_a_reason_not_to_be(
    number: int, statement: str
) -> None:
    entries = [
        entry for entry in COVERAGE if entry["section"] == number and plain(entry["quote"]) in statement
    ]
    assert entries, f"section {number} says {statement!r}: add it to docs/checks/coverage.toml"


def test_every_entry_quotes_the_contract_and_decides() -> None:
    by_section = {number: plain(text) for number, text in sections().items()}
    for entry in COVERAGE:
        assert entry.keys() <= {"section", "quote", "checks", "ungraded"}
        assert plain(entry["quote"]) in by_section[entry["section"]], entry["quote"]
        assert bool(entry.get("checks")) != bool(entry.get("ungraded")), entry["quote"]


def test_the_checks_of_the_entries_exist_and_none_is_left_out() -> None:
    named = {check for entry in COVERAGE for check in entry.get("checks", ())}
    graded = {check for check in RUBRIC.check_ids if RUBRIC.check(check).points}
    assert named <= collect_checks().keys()
    assert graded - named == set()
