"""The mutants fit the solution, and their expectations fit the checks."""

from __future__ import annotations

from pathlib import Path

import pytest

from grader.checks import collect_checks
from grader.errors import UsageError
from grader.rubric import load_rubric
from grader.validate.mutants import Mutant, load_mutants, materialise

MUTANTS = load_mutants()
CHECKS = collect_checks()
RUBRIC = load_rubric()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_to_the_solution_and_changes_it(mutant: Mutant, tmp_path: Path) -> None:
    materialise(mutant, tmp_path / "tree")
    changed = [line[6:] for line in _patch(mutant).splitlines() if line.startswith("+++ b/")]
    assert changed
    assert all((tmp_path / "tree" / name).is_file() for name in changed)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_expects_checks_that_exist_in_its_category(mutant: Mutant) -> None:
    expected = mutant.expectation
    assert {*expected.fails, *expected.also} <= CHECKS.keys()
    assert expected.category in {CHECKS[name].category for name in expected.fails}
    assert not set(expected.fails) & expected.also.keys()


def test_every_check_has_a_mutant_that_brings_it_down() -> None:
    seen = {name for mutant in MUTANTS for name in mutant.expectation.fails}
    graded = {name for name in CHECKS if RUBRIC.check(name).points}
    assert graded - seen == set()


def test_a_patch_that_does_not_fit_any_more_is_named(tmp_path: Path) -> None:
    mutant = MUTANTS[0]
    folder = tmp_path / mutant.name
    folder.mkdir()
    (folder / "mutant.patch").write_text(_patch(mutant).replace("\n-", "\n-was never there: "))
    with pytest.raises(UsageError, match=f"mutant {mutant.name} does not fit any more"):
        materialise(mutant.model_copy(update={"folder": folder}), tmp_path / "tree")


def test_an_unknown_mutant_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="there is no mutant 'nobody'"):
        load_mutants(["nobody"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [("title = ", "is not TOML"), ('title = "x"', "flaw: Field required")],
    ids=["syntax", "missing field"],
)
def test_a_malformed_expectation_is_told_in_one_line(tmp_path: Path, content: str, reason: str) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "expect.toml").write_text(content)
    with pytest.raises(UsageError, match=reason):
        load_mutants(folder=tmp_path)


def _patch(mutant: Mutant) -> str:
    return (mutant.folder / "mutant.patch").read_text()
