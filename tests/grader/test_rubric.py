from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from grader.checks import collect_checks
from grader.errors import RubricError, UnknownCheck
from grader.model import CheckMeta
from grader.rubric import MINIMUM_CORE_SHARE, Rubric, core_share, default_rubric, load_rubric, validate_rubric


def test_the_rubric_and_the_checks_fit_each_other() -> None:
    validate_rubric(load_rubric(), collect_checks())


def test_weights_are_those_of_the_hiring_guide_and_points_add_up_to_100() -> None:
    categories = load_rubric().categories
    assert {name: category.weight for name, category in categories.items()} == {
        "async-fundamentals": 25,
        "database-connections": 20,
        "system-design": 20,
        "performance": 20,
        "monitoring-reliability": 15,
    }
    assert {category.points for category in categories.values()} == {100}
    assert core_share(load_rubric()) >= MINIMUM_CORE_SHARE


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weight = 25", "weight = 24", "add up to 99, not 100"),
        ("points = 13", "points = nan", "points: Input should be a finite number"),
        ("points = 13", "points = -1", "points: Input should be greater than or equal to 0"),
        ('tag = "core"', 'tag = "nice"', "tag: Input should be 'core', 'stretch' or 'note'"),
        ("[categories.performance]", "[categories.performance", "not TOML"),
        ("{ points = 13", "{ points = 0", "whatever carries none is a note"),
        ("request-cost =", "load-errors =", "not TOML"),
        ("request-cost =", "request-id =", "check 'request-id' is in two categories"),
        ("request-cost =", "Request_Cost =", "should match pattern"),
        ('tag = "core"', 'colour = "red", tag = "core"', "colour: Extra inputs are not permitted"),
    ],
)
def test_a_broken_rubric_is_explained_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    broken = tmp_path / "rubric.toml"
    broken.write_text(default_rubric().read_text().replace(old, new, 1))
    with pytest.raises(RubricError) as caught:
        load_rubric(broken)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_rubric_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(RubricError, match="No such file"):
        load_rubric(tmp_path / "none.toml")


def test_a_rubric_of_mostly_stretch_checks_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "rubric.toml"
    broken.write_text(default_rubric().read_text().replace('"core"', '"stretch"', 12))
    with pytest.raises(RubricError, match="core checks are worth"):
        load_rubric(broken)


def metas(rubric: Rubric) -> dict[str, CheckMeta]:
    texts = {"title": "", "failure_title": "", "why": "", "remediation": "", "question": ""}
    return {
        name: CheckMeta(id=name, category=rubric.category_of(name), level="mid", requires=(), **texts)
        for name in rubric.check_ids
    }


def test_a_difference_to_the_checks_is_found_in_both_directions(rubric: Rubric) -> None:
    checks = metas(rubric)
    validate_rubric(rubric, checks)
    without = {name: meta for name, meta in checks.items() if name != "retries"}
    with pytest.raises(RubricError, match="'retries', but there is no such check"):
        validate_rubric(rubric, without)
    extra = checks["retries"].model_copy(update={"id": "unheard-of"})
    with pytest.raises(RubricError, match="'unheard-of' is missing from the rubric"):
        validate_rubric(rubric, {**checks, "unheard-of": extra})
    moved = checks["retries"].model_copy(update={"category": "first"})
    with pytest.raises(RubricError, match="belongs to 'first'"):
        validate_rubric(rubric, {**checks, "retries": moved})


def test_a_selection_names_checks_and_categories(rubric: Rubric) -> None:
    assert rubric.select([]) == rubric.check_ids
    assert rubric.select(["timeouts", "first"]) == ("quick-reads", "slow-writes", "timeouts")
    with pytest.raises(UnknownCheck, match="did you mean 'retries'"):
        rubric.select(["retrys"])


def test_own_checks_are_collected_without_running_them(checks_folder: Callable[[str], Path]) -> None:
    body = "@check(id='own', category='first')\ndef test_own(busy_minute, judge):\n    raise SystemExit\n"
    meta = collect_checks(checks_folder(body))["own"]
    assert (meta.category, meta.requires) == ("first", ("busy-minute",))


def test_two_checks_of_one_name_are_refused(checks_folder: Callable[[str], Path]) -> None:
    body = "".join(
        f"@check(id='own', category='first')\ndef test_{name}(judge):\n    pass\n\n" for name in "ab"
    )
    with pytest.raises(RubricError, match="two checks are called 'own'"):
        collect_checks(checks_folder(body))


def test_own_checks_that_cannot_be_imported_are_named(checks_folder: Callable[[str], Path]) -> None:
    with pytest.raises(RubricError, match=r"test_own\.py: NameError"):
        collect_checks(checks_folder("undefined_name\n"))
