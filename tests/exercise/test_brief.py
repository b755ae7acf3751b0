"""The brief says what is graded, no less and no more."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

KIT = Path(__file__).parents[2]
BRIEF = (KIT / "exercise" / "README.md").read_text(encoding="utf-8")
CONTRACT = (KIT / "docs" / "contract.md").read_text(encoding="utf-8")
RUBRIC = tomllib.loads((KIT / "grader" / "rubric.toml").read_text(encoding="utf-8"))


def between(text: str, start: str, end: str) -> str:
    return text[text.index(start) + len(start) : text.index(end)].strip()


def graded_lines() -> dict[str, tuple[str, int, str]]:
    """Lines of the brief's table: check id → category, points, tag."""
    table = between(BRIEF, "<!-- graded-lines:start -->", "<!-- graded-lines:end -->")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[0]: (row[1], int(row[2]), row[3]) for row in rows}


def test_graded_lines_are_those_of_the_rubric() -> None:
    rubric = {
        check_id: (category_id, check["points"], check["tag"])
        for category_id, category in RUBRIC["categories"].items()
        for check_id, check in category["checks"].items()
        if check["tag"] != "note"
    }
    assert graded_lines() == rubric


def test_weights_are_those_of_the_rubric() -> None:
    for category in RUBRIC["categories"].values():
        assert f"| {category['title']} | {category['weight']} |" in BRIEF


def test_core_share_is_as_stated() -> None:
    weights = {category_id: category["weight"] for category_id, category in RUBRIC["categories"].items()}
    core = sum(
        weights[category] * points / 100 for category, points, tag in graded_lines().values() if tag == "core"
    )
    stated = re.search(r"Core lines are (\d+) of the 100 points", BRIEF)
    assert stated is not None
    assert int(stated[1]) == round(core)
    assert core >= 65


def test_the_brief_carries_the_whole_contract() -> None:
    sections = CONTRACT[CONTRACT.index("## 1. The process") : CONTRACT.index("## Change log")].strip()
    one_level_deeper = re.sub(r"^(#+) ", r"#\1 ", sections, flags=re.MULTILINE)
    assert between(BRIEF, "<!-- contract:start -->", "<!-- contract:end -->") == one_level_deeper


@pytest.mark.parametrize("number", ["800_000", "300,000", "1 MB", "≤ 20 s", "≤ 15 s", "default 20"])
def test_numbers_that_people_look_for_are_in_the_brief(number: str) -> None:
    assert number in BRIEF
