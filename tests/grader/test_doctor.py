from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
from traces import Ended

from devstack.paths import CACHE_VARIABLE
from grader import doctor
from grader.errors import RubricError

Usage = namedtuple("Usage", "total used free")


def lines_of(ended: Ended) -> dict[str, str]:
    """The line of each examined part."""
    return {line[3:].partition(":")[0]: line for line in ended.out.splitlines()}


@pytest.mark.integration
def test_a_machine_that_can_grade_is_told_so(
    grader: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.psutil, "cpu_count", lambda: 2)
    ended = grader("doctor")
    lines = lines_of(ended)
    assert ended.code == 0
    assert list(lines) == ["Python", "cores", "disk", "rubric", "PostgreSQL", "sandbox"]
    assert all(line.startswith("ok ") for line in lines.values())
    assert "started and stopped" in lines["PostgreSQL"]


def test_each_part_that_is_missing_is_told_with_the_next_step(
    grader: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise RubricError("weights add up to 99", hint="correct it there")

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 10**6))
    monkeypatch.setattr(doctor.psutil, "cpu_count", lambda: None)
    monkeypatch.setattr(doctor, "load_rubric", broken)
    ended = grader("doctor", "--postgres-bin", tmp_path)
    lines = lines_of(ended)

    assert ended.code == 2
    assert {name for name, line in lines.items() if line.startswith("no ")} == {
        "cores",
        "disk",
        "rubric",
        "PostgreSQL",
    }
    assert lines["cores"] == "no cores: 1 (2 or more are needed: the load runs beside the service)"
    assert lines["rubric"].endswith("(correct it there)")
    assert "--postgres-bin" in lines["PostgreSQL"]


def test_a_cache_that_cannot_be_used_is_told_in_one_line(
    grader: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    ended = grader("doctor")
    assert ended.code == 2
    [complaint] = ended.complaints
    assert complaint.startswith("grader: cannot create the cache ")
    assert complaint.endswith(f"set {CACHE_VARIABLE} to a directory of yours")
