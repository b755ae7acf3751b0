"""What makes evidence stale: what is observed by, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from grader.scenarios import SCENARIOS
from grader.validate import digests
from grader.validate.digests import checks_digest, digest_of, imported, meaning, scenario_digest, source_of

BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}


def changed_after(monkeypatch: pytest.MonkeyPatch, module: str, digest: object) -> bool:
    """Whether ``digest()`` is another one when the source of ``module`` says something else."""
    assert callable(digest)
    before = digest()
    original = digests._meaning_of_file
    target = source_of(module)
    monkeypatch.setattr(
        digests, "_meaning_of_file", lambda path: original(path) + (b"x = 1\n" if path == target else b"")
    )
    after = digest()
    monkeypatch.undo()
    return bool(before != after)


@pytest.mark.parametrize(
    ("module", "scenario", "stale"),
    [
        ("grader.scenarios.shutdown", "shutdown", True),
        ("grader.scenarios.shutdown", "economy", False),
        ("grader.scenarios.stage", "shutdown", True),
        ("grader.scenarios", "shutdown", False),
        ("grader.driving", "shutdown", True),
        ("devstack.faults.payments", "shutdown", True),
        ("devstack.visible", "shutdown", False),
        ("grader.load.locustfile", "load", True),
        ("grader.load.locustfile", "shutdown", False),
        ("grader.checks.test_shutdown", "shutdown", False),
        ("grader.scenarios.waitlist", "contract", True),
    ],
)
def test_a_changed_module_makes_stale_what_it_drives(
    monkeypatch: pytest.MonkeyPatch, module: str, scenario: str, stale: bool
) -> None:
    assert source_of(module) is not None
    assert changed_after(monkeypatch, module, lambda: scenario_digest(BY_NAME[scenario])) is stale


@pytest.mark.parametrize(
    ("module", "scenario", "stale"),
    [
        ("grader.checks.test_load", "load", True),
        ("grader.checks.test_load", "economy", False),
        ("grader.checks.limits", "load", True),
        ("grader.verdicts", "load", True),
        ("grader.scenarios.load", "load", False),
        ("grader.reports.terminal", "load", False),
    ],
)
def test_a_changed_check_makes_stale_what_it_judged(
    monkeypatch: pytest.MonkeyPatch, module: str, scenario: str, stale: bool
) -> None:
    assert changed_after(monkeypatch, module, lambda: checks_digest(scenario)) is stale


def test_every_scenario_has_a_digest_of_its_own() -> None:
    found = digests.scenario_digests()
    assert found.keys() == BY_NAME.keys()
    assert len(set(found.values())) == len(found)
    assert digests.checks_digests().keys() == BY_NAME.keys()


def test_the_load_depends_on_the_solution_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []
    monkeypatch.setattr(digests, "digest_of", lambda files, *texts: seen.extend(files) or "")
    scenario_digest(BY_NAME["economy"])
    assert not any("solution" in path.parts for path in seen)
    scenario_digest(BY_NAME["load"])
    assert any(path.parts[-3:-1] == ("boxoffice", "orders") for path in seen)


def test_imports_are_followed_but_lists_of_modules_are_not() -> None:
    found = imported("grader.scenarios.economy")
    assert {"grader.scenarios.stage", "devstack.artifacts"} <= found
    assert not {"grader.scenarios", "grader.scenarios.load"} & found


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("x = 1  # one\n", "# a comment\n\nx = 1\n", True),
        ('def f():\n    """Says."""\n    return 1\n', "def f():\n    return 1\n", True),
        ('x = 1\n"""Of a constant."""\n', "x = 1\n", True),
        ('x = "# no comment"\n', 'x = "# another"\n', False),
        ("x = 1\n", "x = 2\n", False),
        ("if x:\n    y = 1\nz = 2\n", "if x:\n    y = 1\n    z = 2\n", False),
        ('def f(): "says"\n', 'def g(): "says"\n', False),
        ('x = """\nline  # kept\n"""\n', 'x = """\nline  # other\n"""\n', False),
    ],
)
def test_comments_docstrings_and_blank_lines_do_not_count(one: str, other: str, same: bool) -> None:
    assert (meaning(one) == meaning(other)) is same


def test_a_digest_tells_names_and_contents_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "kit_root", lambda: tmp_path)
    for name, content in (("a.sql", "1"), ("b.sql", "2")):
        (tmp_path / name).write_text(content)
    first = digest_of([tmp_path / "a.sql"])
    assert first == digest_of([tmp_path / "a.sql"])
    assert len({first, digest_of([tmp_path / "b.sql"]), digest_of([tmp_path / "a.sql"], "text")}) == 3
