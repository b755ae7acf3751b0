"""For real: one flaw, one scenario; and what the command says where nothing can be driven."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from traces import Ended

from grader.errors import JudgingFailed
from grader.validate import cli, judging
from grader.validate.judging import JudgingProcess, judge_records
from grader.validate.worlds import migrations_digest

MUTANT = "rate-waited-for-on-the-loop"


@pytest.fixture
def validate(
    grader: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Ended]:
    """``grader validate`` with an evidence file and a cache of records of its own."""
    monkeypatch.setattr(cli, "records_folder", lambda: tmp_path / "records")
    return lambda *arguments: grader(
        "validate", *arguments, "--seed", "4", "--evidence", tmp_path / "evidence.jsonl"
    )


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_flaw_is_driven_once_and_judged_from_its_record_after_that(
    validate: Callable[..., Ended], tmp_path: Path
) -> None:
    ended = validate(MUTANT, "--keep", tmp_path / "kept")
    assert ended.code == 0, ended.out + ended.err
    assert f"ok  {MUTANT}" in ended.out
    assert "1 units driven, 0 of them to repeat" in ended.out
    written = (tmp_path / "evidence.jsonl").read_text()
    [line] = map(json.loads, written.splitlines())
    assert (line["subject"], line["scenario"], line["seed"]) == (MUTANT, "cold-endpoints", 4)
    assert line["verdicts"]["event-loop-deadlock"]["verdict"] == "failed"
    assert list((tmp_path / "kept").rglob("service.log"))

    (tmp_path / "evidence.jsonl").unlink()
    again = validate(MUTANT, "--report", tmp_path / "page.md")
    assert again.code == 0
    assert "0 units driven" in again.out
    assert (tmp_path / "evidence.jsonl").read_text() == written
    assert f"| {MUTANT} | mutant | 1 of" in (tmp_path / "page.md").read_text()


def test_nothing_is_driven_where_nothing_may_be(validate: Callable[..., Ended]) -> None:
    ended = validate(MUTANT, "--no-drive")
    assert ended.code == 2
    assert f"—   {MUTANT}" in ended.out
    assert "1 not driven" in ended.out


def test_stale_rows_are_removed_when_asked(validate: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "evidence.jsonl").write_text("half a line\n")
    ended = validate(MUTANT, "--no-drive", "--prune")
    assert "1 rows removed" in ended.out
    assert (tmp_path / "evidence.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("nobody",), "there is no mutant 'nobody'"),
        (("--fresh", "--no-drive"), "choose one of them"),
        (("--lanes", "0"), "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_asked_is_a_usage_error_of_one_line(
    validate: Callable[..., Ended], arguments: tuple[str, ...], reason: str
) -> None:
    ended = validate(*arguments)
    assert ended.code == 3
    assert reason in ended.err


async def test_a_judging_process_that_ends_is_told() -> None:
    async with JudgingProcess() as process:
        with pytest.raises(JudgingFailed, match="ended by itself"):
            await process._call(judging.os._exit, 1)


async def test_a_judging_process_judges(tmp_path: Path) -> None:
    async with JudgingProcess() as process:
        found = await process.judge("cold-endpoints", {"cold-endpoints": tmp_path / "not there"})
    assert {one.verdict for one in found.values()} == {"errored"}
    assert found == judge_records("cold-endpoints", {"cold-endpoints": tmp_path / "not there"})


def test_templates_are_shared_where_migrations_are_the_same(tmp_path: Path) -> None:
    for name, content in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0002_x.sql").write_text(content)
    assert migrations_digest(tmp_path / "a") == migrations_digest(tmp_path / "b")
    assert migrations_digest(tmp_path / "a") != migrations_digest(tmp_path / "c")
