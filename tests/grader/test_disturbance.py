"""The table of :mod:`grader.disturbance`, with synthetic disturbances."""

from __future__ import annotations

import pytest

from devstack.artifacts import Disturbance, MachineSample
from grader.disturbance import excuse

CORES, MEMORY_MIB = 2.0, 8000


def second(foreign: float = 0.0, submission: float = 0.2, **more: float) -> MachineSample:
    """One second in which others used ``foreign`` cores beside a busy grader."""
    used = {"submission": submission, "database": more.pop("database", 0.1), "kit": 0.1}
    return MachineSample.model_validate(
        {
            "at_s": 1.0,
            "seconds": 1.0,
            "busy": sum(used.values()) + foreign,
            "available_mib": 4000,
            **used,
            **more,
        }
    )


def found(
    *samples: MachineSample, cores: float = CORES, lag_s: float = 0.0, quiet: bool = True
) -> Disturbance:
    return Disturbance(cores=cores, memory_mib=MEMORY_MIB, quiet=quiet, lag_p99_s=lag_s, samples=samples)


def test_a_record_without_an_observer_excuses_nothing() -> None:
    assert excuse(None) is None
    assert excuse(found(lag_s=9.0)) is None


@pytest.mark.parametrize(
    "samples",
    [
        [second()] * 20,
        [second(0.5)] * 20,
        [second(0.6, submission=1.2)] * 20,
        [second(1.4)] + [second()] * 19,
        [second(0.0, submission=1.9)] * 20,
        [second(0.9, submission=1.3)] * 20,
    ],
    ids=["quiet", "half a core", "half a core and a busy submission", "a short burst", "a hog", "two hogs"],
)
def test_what_is_the_submissions_own(samples: list[MachineSample]) -> None:
    assert excuse(found(*samples)) is None


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        ([second(1.0)] * 20, "other programs used 1.0 of 2 cores for 20 s"),
        ([second(1.0, submission=1.0)] * 20, "other programs used 1.0 of 2 cores for 20 s"),
        ([second()] * 18 + [second(1.7)] * 2, "other programs used 1.7 of 2 cores for 2 s"),
        ([second(0.72, submission=0.9)] * 5, "other programs used 0.7 of 2 cores for 5 s"),
        ([second(), second(available_mib=100)], "only 100 of 8000 MiB of memory were left"),
    ],
)
def test_what_comes_from_outside(samples: list[MachineSample], told: str) -> None:
    assert excuse(found(*samples)) == told


def test_on_many_cores_one_that_others_use_disturbs_nobody() -> None:
    assert excuse(found(*[second(1.0)] * 20, cores=8)) is None
    assert excuse(found(*[second(6.9)] * 20, cores=8)) is not None
    crowded = second(4.0, submission=3.2)
    assert excuse(found(*[crowded] * 20, cores=8)) is not None


def test_on_one_core_a_third_is_what_others_may_use() -> None:
    assert excuse(found(*[second(0.3)] * 20, cores=1)) is None
    assert excuse(found(*[second(0.4)] * 20, cores=1)) is not None


def test_a_submission_that_takes_the_memory_is_never_excused() -> None:
    greedy = second(2.0, available_mib=50, submission_mib=2100)
    assert excuse(found(*[greedy] * 20, lag_s=3.0)) is None


@pytest.mark.parametrize(
    ("lag_s", "quiet", "excused"),
    [(0.049, True, False), (0.06, True, True), (0.06, False, False), (0.3, False, True)],
)
def test_a_grader_that_was_kept_from_running(lag_s: float, quiet: bool, excused: bool) -> None:
    record = found(*[second(lag_worst_s=0.4)] * 5, lag_s=lag_s, quiet=quiet)
    assert (excuse(record) is not None) is excused


@pytest.mark.parametrize("own", [{"submission": 1.1}, {"submission": 0.3, "database": 0.9}])
def test_by_a_submission_that_uses_the_machine(own: dict[str, float]) -> None:
    assert excuse(found(*[second(lag_worst_s=0.4, **own)] * 5, lag_s=0.4)) is None


def test_what_it_did_at_other_times_does_not_matter() -> None:
    record = found(second(lag_worst_s=0.4), *[second(submission=1.9)] * 9, lag_s=0.1)
    assert excuse(record) == "the grader itself was 100 ms late (p99)"
