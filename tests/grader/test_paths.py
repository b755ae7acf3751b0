from __future__ import annotations

from pathlib import Path

import pytest

from grader.paths import RunPaths, canonical_json, write_json, write_text


def test_attempts_come_in_the_order_they_were_driven(tmp_path: Path) -> None:
    run = RunPaths(tmp_path)
    for attempt in (10, 2, 1):
        write_json(run.artifact("outage", attempt), {})
    (run.artifacts / "outage" / "notes.json").write_text("{}")
    assert [path.stem for path in run.attempts("outage")] == ["1", "2", "10"]
    assert run.attempts("never-driven") == ()


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "lock.json"
    write_text(target, "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(target, "new \ud800")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("lock.json", "old")]


def test_numbers_that_json_does_not_have_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"latency_s": float("nan")})
