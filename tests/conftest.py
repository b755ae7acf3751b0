"""What tests of both packages use: a tiny submission that behaves as it is told."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devstack.paths import first_migration
from devstack.world import Submission

TINY = Path(__file__).parent / "grader" / "tiny"


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Path]:
    """Make a submission that behaves as named (see ``tiny/src/boxoffice/__main__.py``); its root folder."""

    def make(behaviour: str = "ok", *, name: str = "a submission") -> Path:
        root = tmp_path / name
        shutil.copytree(TINY, root, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "src" / "boxoffice" / "behaviour.txt").write_text(behaviour)
        (root / "migrations").mkdir()
        shutil.copy(first_migration(), root / "migrations")
        return root

    return make


@pytest.fixture
def tiny_submission(tiny: Callable[..., Path]) -> Callable[..., Submission]:
    """Make a tiny submission with the interpreter that runs it: this one."""
    return lambda behaviour="ok": Submission(tiny(behaviour), Path(sys.executable))
