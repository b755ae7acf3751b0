"""The whole line, for real: what the solution gets. That flaws put back into it are seen: test_validate_real.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from devstack.paths import kit_root
from grader.judging import regrade
from grader.model import Verdict
from grader.pipeline import RunRequest, run
from grader.reports.terminal import RunView

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(400)]


async def test_the_solution_gets_everything_and_regrades_to_the_same_bytes(tmp_path: Path) -> None:
    request = RunRequest(submission=kit_root() / "solution", out=tmp_path / "run", seed=1)
    scorecard = await run(request, RunView(Console(quiet=True)))
    lost = {
        result.id: result.judgement for result in scorecard.results if result.verdict is not Verdict.PASSED
    }
    assert scorecard.score is not None, lost
    assert scorecard.score >= 97, lost
    assert all((category.score or 0) >= 95 for category in scorecard.categories)
    assert scorecard.complete
    written = (tmp_path / "run" / "scorecard.json").read_bytes()
    assert regrade(tmp_path / "run") == scorecard
    assert (tmp_path / "run" / "scorecard.json").read_bytes() == written
