"""Every check has a page that says what it does, and no page speaks of a check that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from grader.checks import collect_checks
from grader.model import CheckMeta

PAGES = Path(__file__).parents[2] / "docs" / "checks"
CHECKS = collect_checks()
INDEX = "README.md"
SECTIONS = [
    "What it does",
    "Why it matters",
    "How it is measured",
    "What good looks like",
    "Interview question",
]
LONGEST_LINE = 220


def plain(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def section(page: str, heading: str) -> str:
    return page.partition(f"## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("meta", CHECKS.values(), ids=lambda meta: meta.id)
def test_a_check_has_its_page(meta: CheckMeta) -> None:
    page = (PAGES / f"{meta.id}.md").read_text(encoding="utf-8")
    assert page.splitlines()[0] == f"# {meta.title}"
    assert re.findall(r"^## (.*)$", page, flags=re.MULTILINE) == SECTIONS
    assert all(plain(section(page, heading)) for heading in SECTIONS)
    designs = re.findall(r"^\s*[-*] ", section(page, "What good looks like"), flags=re.MULTILINE)
    assert len(designs) >= 2, "name two or more designs, a list item each"
    assert plain(meta.question) in plain(section(page, "Interview question"))
    assert max(map(len, page.splitlines())) <= LONGEST_LINE


def test_every_page_is_of_a_check_and_the_index_has_each() -> None:
    pages = {path.stem for path in PAGES.glob("*.md") if path.name != INDEX}
    assert pages == set(CHECKS)
    index = (PAGES / INDEX).read_text(encoding="utf-8")
    linked = re.findall(r"\]\(([a-z0-9-]+)\.md\)", index)
    assert sorted(linked) == sorted(CHECKS)
