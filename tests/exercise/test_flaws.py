"""The list of flaws points at code and at checks that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

KIT = Path(__file__).parents[2]
SOURCE = KIT / "exercise" / "src" / "boxoffice"
FLAWS = (KIT / "docs" / "flaws.md").read_text(encoding="utf-8")
RUBRIC = tomllib.loads((KIT / "grader" / "rubric.toml").read_text(encoding="utf-8"))
CHECKS = {check for category in RUBRIC["categories"].values() for check in category["checks"]}
GRADED = {
    check
    for category in RUBRIC["categories"].values()
    for check, worth in category["checks"].items()
    if worth["points"]
}
GUARDS = set(
    re.findall(
        r"^\| ([a-z]+-[a-z-]+) \|",
        FLAWS.partition("<!-- guards:start -->")[2].partition("<!-- guards:end -->")[0],
        flags=re.MULTILINE,
    )
)

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in FLAWS.splitlines()
    if re.match(r"\| [A-EG]\d\d ", line)
]
INDISPENSABLE = {
    *(
        "A01",
        "A02",
        "A04",
        "A05",
        "A06",
        "A07",
        "B01",
        "B04",
        "B09",
        "B10",
        "C01",
        "C02",
        "C04",
        "C06",
        "C17",
    ),
    *("D01", "D07", "E01", "E05", "E06", "E07", "E10"),
}


def test_there_are_at_least_28_flaws_each_once() -> None:
    numbers = [row[0].split()[0] for row in ROWS]
    assert len(numbers) == len(set(numbers)) >= 28
    assert set(numbers) >= INDISPENSABLE


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].split()[0])
def test_a_flaw_names_its_place_its_repairs_and_a_level(row: list[str]) -> None:
    _, where, symptom, check, repairs, level = row
    assert level in ("junior", "mid", "senior")
    assert symptom
    assert check
    assert "·" in repairs, "at least two valid repairs"
    places = re.findall(r"`([\w/]+\.py)(?::(\w+))?`", where)
    assert places
    for file, name in places:
        text = (SOURCE / file).read_text(encoding="utf-8")
        assert name == "" or re.search(rf"\b{name}\b", text), f"{name} is not in {file}"


def test_checks_that_are_named_exist() -> None:
    for row in ROWS:
        for check in re.split(r"[,;] ", row[3]):
            name = re.sub(r" \(.*", "", check)
            assert name in CHECKS, f"{row[0]}: {name}"


def test_every_check_but_those_of_the_load_and_guards_has_a_flaw() -> None:
    seen = " ".join(row[3] for row in ROWS)
    unseen = {check for check in GRADED if check not in seen}
    assert unseen <= {"load-errors", "load-latency", "request-cost"} | GUARDS
    assert {check for check in GUARDS if check in seen} == set()


def test_the_exercise_is_of_a_size_to_be_read() -> None:
    lines = sum(
        len(path.read_text(encoding="utf-8").splitlines())
        for path in (KIT / "exercise").rglob("*.py")
        if ".venv" not in path.parts
    )
    assert 1_200 <= lines <= 2_000


def test_the_schema_is_the_frozen_one() -> None:
    name = "migrations/0001_initial.sql"
    assert (KIT / "exercise" / name).read_bytes() == (KIT / "solution" / name).read_bytes()


def test_the_allow_list_is_what_the_kit_installs() -> None:
    def packages(path: Path) -> set[str]:
        return {
            line for line in path.read_text(encoding="utf-8").split("\n") if line and not line.startswith("#")
        }

    assert packages(KIT / "exercise" / "ALLOWED.txt") == packages(KIT / "requirements" / "service.in")


def test_every_check_was_seen_to_fail_on_a_real_run() -> None:
    table = FLAWS[FLAWS.index("<!-- seen-on-a-real-run:start -->") :]
    assert set(re.findall(r"^\| ([a-z-]+) \| failed \|", table, flags=re.MULTILINE)) == GRADED - GUARDS
