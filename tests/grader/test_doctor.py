from __future__ import annotations

import sys
from collections import namedtuple
from pathlib import Path

import pytest

from devstack.paths import CACHE_VARIABLE
from grader import cli, doctor
from grader.errors import RubricError

Usage = namedtuple("Usage", "total used free")


def diagnosis(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, dict[str, str]]:
    """Exit code, and the line of each examined part."""
    monkeypatch.setattr(sys, "argv", ["grader", "doctor", *arguments])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    assert isinstance(ending.value.code, int)
    lines = capsys.readouterr().out.splitlines()
    return ending.value.code, {line[3:].partition(":")[0]: line for line in lines}


@pytest.mark.integration
def test_a_machine_that_can_grade_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor.psutil, "cpu_count", lambda: 2)
    code, lines = diagnosis(monkeypatch, capsys)
    assert code == 0
    assert list(lines) == ["Python", "cores", "disk", "rubric", "PostgreSQL", "sandbox"]
    assert all(line.startswith("ok ") for line in lines.values())
    assert "started and stopped" in lines["PostgreSQL"]


def test_each_part_that_is_missing_is_told_with_the_next_step(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def broken(*_: object) -> None:
        raise RubricError("weights add up to 99", hint="correct it there")

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 10**6))
    monkeypatch.setattr(doctor.psutil, "cpu_count", lambda: None)
    monkeypatch.setattr(doctor, "load_rubric", broken)
    code, lines = diagnosis(monkeypatch, capsys, "--postgres-bin", str(tmp_path))

    assert code == 2
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
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(sys, "argv", ["grader", "doctor"])
    with pytest.raises(SystemExit) as ending:
        cli.main()
    assert ending.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("grader: cannot create the cache ")
    assert err.rstrip().endswith(f"set {CACHE_VARIABLE} to a directory of yours")
