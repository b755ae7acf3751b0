"""The digest of the kit: of what a run uses, and of nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import devstack
import grader
from grader.checks import collect_checks
from grader.scenarios import economy, shutdown
from grader.sources import digest

CHECK = "database-session-reuse"


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of the packages' sources, which the digest is taken of."""
    collect_checks()
    for package in (grader, devstack):
        source = Path(str(package.__file__)).parent
        copy = tmp_path / package.__name__
        shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        monkeypatch.setattr(package, "__file__", str(copy / "__init__.py"))
        # modules of checks and scenarios are found by their own files
        for name, module in list(__import__("sys").modules.items()):
            file = getattr(module, "__file__", None)
            if file and name.startswith(f"{package.__name__}.") and Path(file).is_relative_to(source):
                monkeypatch.setattr(module, "__file__", str(copy / Path(file).relative_to(source)))
    return tmp_path


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("# changed\n")


@pytest.mark.parametrize(
    ("changed", "matters"),
    [
        ("grader/verdicts.py", True),
        ("grader/rubric.toml", True),
        ("grader/checks/limits.py", True),
        ("grader/checks/test_database_connections.py", True),
        ("grader/checks/test_shutdown.py", False),
        ("grader/scenarios/clients.py", True),
        ("grader/scenarios/economy.py", True),
        ("grader/scenarios/shutdown.py", False),
        ("grader/validate/run.py", False),
        ("devstack/world.py", True),
    ],
)
def test_a_change_of_what_a_run_uses_changes_it(packages: Path, changed: str, matters: bool) -> None:
    before = digest((economy.SCENARIO,), (CHECK,))
    assert digest((economy.SCENARIO,), (CHECK,)) == before
    append(packages / changed)
    assert (digest((economy.SCENARIO,), (CHECK,)) != before) is matters


def test_other_scenarios_make_another_digest(packages: Path) -> None:
    assert digest((economy.SCENARIO,), (CHECK,)) != digest((shutdown.SCENARIO,), (CHECK,))
