"""Who is validated: baselines, mutants, pairs and repairs, and what is expected of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from grader.checks import collect_checks
from grader.errors import UsageError
from grader.validate.pairs import load_pairs
from grader.validate.repairs import load_repairs
from grader.validate.subjects import Kind, Subject, load_subjects, materialise, select

SUBJECTS = load_subjects()
PAIRS = load_pairs()
REPAIRS = load_repairs()
CHECKS = collect_checks()

REPAIR = 'title = "t"\nflaw = "A01"\ncategory = "performance"\n'
MUTANT = 'title = "t"\nflaw = "A01"\ncategory = "performance"\nlevel = "mid"\nfails = ["load-errors"]\n'
PAIR = 'title = "t"\nmutants = ["one", "two"]\nwhy = "w"\n'


def subject(**fields: object) -> Subject:
    return Subject.model_validate({"name": "s", "kind": Kind.MUTANT, "title": "t", "base": "/", **fields})


@pytest.mark.parametrize(
    "one",
    [one for one in SUBJECTS if one.kind in (Kind.PAIR, Kind.REPAIR)],
    ids=lambda one: one.name,
)
def test_a_pair_or_repair_applies_and_names_checks_that_exist(one: Subject, tmp_path: Path) -> None:
    materialise(one, tmp_path / "tree")
    assert (tmp_path / "tree" / "src" / "boxoffice" / "__init__.py").is_file()
    assert {*one.falls, *(one.holds or ()), *one.also} <= CHECKS.keys()


def test_there_are_enough_pairs_and_each_crosses_what_one_check_sees() -> None:
    assert len(PAIRS) >= 10
    for pair in PAIRS:
        first, second = (set(mutant.expectation.fails) for mutant in pair.mutants)
        assert first != second, pair.name
        assert pair.fails, pair.name


def test_a_pair_expects_the_falls_of_both_without_what_is_masked() -> None:
    [pair] = [one for one in PAIRS if one.name == "client-per-mail-that-never-leaves"]
    assert "confirmation-mail-sent" in pair.fails
    assert "upstream-connection-reuse" not in pair.fails
    assert "upstream-connection-reuse" in pair.also


def test_a_repair_judges_what_turns_green_and_nothing_that_other_flaws_decide() -> None:
    repaired = subject(holds=("load-errors",), also={"load-latency": "D02"})
    assert [repaired.expected(name) for name in ("load-errors", "load-latency", "request-id")] == [
        "holds",
        "either",
        "either",
    ]
    assert repaired.wanted == ("load-errors",)


def test_a_mutant_must_bring_down_its_checks_and_leave_the_others_in_peace() -> None:
    mutant = subject(falls=("load-errors",), also={"load-latency": "w"})
    expected = {name: mutant.expected(name, {"a-note"}) for name in ("load-errors", "load-latency", "request-id", "a-note")}  # fmt: skip
    assert expected == {
        "load-errors": "falls",
        "load-latency": "either",
        "request-id": "holds",
        "a-note": "either",
    }


def test_the_baselines_are_there_and_all_of_the_solution_must_hold() -> None:
    baselines = {one.name: one for one in SUBJECTS if one.kind is Kind.BASELINE}
    assert {"solution", "exercise", "sync-psycopg", "queue-asyncpg"} <= baselines.keys()
    assert {baselines["solution"].expected(name) for name in CHECKS} == {"holds"}
    assert baselines["solution"].wanted is None
    assert {baselines["exercise"].expected(name) for name in CHECKS} == {"falls", "either"}
    assert all({*one.falls, *one.also} <= CHECKS.keys() for one in baselines.values())


def test_mutants_are_the_default_names_come_before_kinds_and_unknown_ones_are_told() -> None:
    assert {one.kind for one in select(SUBJECTS)} == {Kind.MUTANT}
    assert {one.kind for one in select(SUBJECTS, kinds={Kind.PAIR, Kind.BASELINE})} == {
        Kind.PAIR,
        Kind.BASELINE,
    }
    assert [one.name for one in select(SUBJECTS, ["solution"], {Kind.PAIR})] == ["solution"]
    with pytest.raises(UsageError, match="there is no mutant 'nobody'"):
        select(SUBJECTS, ["solution", "nobody"])


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    drawn = select(SUBJECTS, sample=5, sample_seed=4)
    assert len(drawn) == 5
    assert drawn == select(SUBJECTS, sample=5, sample_seed=4)
    assert drawn != select(SUBJECTS, sample=5, sample_seed=5)
    assert len(select(SUBJECTS, ["solution"], sample=5)) == 1


def folder(root: Path, **files: str) -> Path:
    """Submissions in which ``mutants__one`` is the table of mutant ``one``; each has an empty patch."""
    for name, content in files.items():
        kind, one = name.split("__")
        path = root / kind / (f"{one}.toml" if kind == "pairs" else f"{one}/expect.toml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        for patch in ("mutant.patch", "repair.patch"):
            (path.parent / patch).touch()
    return root


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"repairs__r": REPAIR}, "says neither what it turns green nor what masks it"),
        ({"repairs__r": REPAIR + 'turns_green = ["a"]\n[masked]\na = "w"'}, "cannot both turn green and be masked"),
        ({"repairs__r": REPAIR + "turns = 1"}, "r/expect.toml: turns: Extra inputs"),
        ({"pairs__p": PAIR}, "pair p: there is no mutant 'one'"),
        ({"pairs__p": PAIR.replace('["one", "two"]', '["one"]')}, "pairs/p.toml: mutants: Tuple should have"),
        (
            {"pairs__p": PAIR + '[masks]\nrequest-id = "w"', "mutants__one": MUTANT, "mutants__two": MUTANT},
            "pair p masks 'request-id', which neither mutant brings down",
        ),
        ({"mutants__same": MUTANT, "repairs__same": REPAIR + 'turns_green = ["a"]'}, "two subjects are called 'same'"),
        ({"mutants__solution": MUTANT}, "two subjects are called 'solution'"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_malformed_subject_is_told_in_one_line(tmp_path: Path, files: dict[str, str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason.replace(".", r"\.")):
        load_subjects(folder=folder(tmp_path, **files))


def test_what_somebody_has_just_begun_does_not_stop_anybody_else(tmp_path: Path) -> None:
    root = folder(tmp_path, mutants__one=MUTANT, mutants__begun="title =", repairs__begun2="")
    assert "one" in {found.name for found in load_subjects(["one"], root)}
    with pytest.raises(UsageError):
        load_subjects(folder=root)


def test_a_baseline_that_does_not_exist_is_told(tmp_path: Path) -> None:
    (tmp_path / "baselines.toml").write_text("[baseline.nobody]\n")
    with pytest.raises(UsageError, match="speaks of 'nobody'"):
        load_subjects(folder=tmp_path)


def test_a_repair_without_its_patch_is_told(tmp_path: Path) -> None:
    root = folder(tmp_path, repairs__r=REPAIR + 'turns_green = ["a"]')
    (root / "repairs" / "r" / "repair.patch").unlink()
    with pytest.raises(UsageError, match=r"repair r has no repair\.patch"):
        load_subjects(folder=root)


def test_every_repair_names_its_flaw() -> None:
    assert all(one.table.flaw for one in REPAIRS)
