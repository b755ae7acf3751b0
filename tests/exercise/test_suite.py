"""The exercise's own tests pass, as a candidate runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

EXERCISE = Path(__file__).parents[2] / "exercise"


def test_the_suite_of_the_exercise_passes() -> None:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))
    }
    environment.pop("DATABASE_URL", None)
    run = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", "tests", "-q", "-p", "no:cacheprovider"],
        cwd=EXERCISE,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
