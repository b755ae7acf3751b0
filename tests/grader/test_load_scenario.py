"""What the load scenario decides by itself: CPU between two readings, and when a measurement was disturbed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from grader.load.generator import LoadTrouble
from grader.load.plan import Catalogue, LoadPlan
from grader.load.result import LoadResult
from grader.scenarios.load import SOLUTION, SUBMISSION, Cpu, _refuse_trouble
from grader.scenarios.recorder import Recorder

PLAN = LoadPlan(arms=(), arrivals=(), catalogue=Catalogue(events=(), sales=()))


def test_cpu_counts_backends_that_were_opened_in_between_and_forgets_those_that_ended() -> None:
    before = Cpu(tree_s=2.0, backends_s={10: 0.5, 11: 3.0})
    after = Cpu(tree_s=5.0, backends_s={10: 0.75, 12: 0.25})
    assert after.since(before) == 3.5


def refuse(*, right: int = 600, reference: int = 600, cpu_s: float = 2.0, **disturbed: Any) -> None:
    recorder = Recorder()
    recorder.facts[SUBMISSION] = {"offered": 600, "correct": right}
    recorder.facts[SOLUTION] = {"offered": 600, "correct": reference}
    figures = {"cpu_share": 0.05, "lag_p99_s": 0.01, **disturbed}
    result = LoadResult(start_s=0, outcomes={}, orders={}, **figures)
    _refuse_trouble(SimpleNamespace(record=recorder), PLAN, result, cpu_s)  # type: ignore[arg-type]


def test_a_quiet_measurement_stands() -> None:
    refuse()


@pytest.mark.parametrize(
    ("disturbed", "reason"),
    [
        ({"cpu_share": 0.6}, "used 0.60 cores"),
        ({"lag_p99_s": 0.2}, "0.20 s late"),
        ({"reference": 500}, "reference solution failed"),
    ],
)
def test_a_disturbed_measurement_is_no_verdict(disturbed: dict[str, Any], reason: str) -> None:
    with pytest.raises(LoadTrouble, match=reason):
        refuse(**disturbed)


@pytest.mark.parametrize("culprit", [{"cpu_s": 10.0}, {"right": 100}])
def test_what_the_submission_itself_explains_is_no_excuse(culprit: dict[str, Any]) -> None:
    refuse(**culprit, lag_p99_s=0.2, reference=500)
