"""The evidence file and the cache: nothing half written counts, nothing stale counts."""

from __future__ import annotations

from pathlib import Path

import pytest
from validating import MACHINE, digests, record, row

from devstack.artifacts import Artifact
from grader.errors import RunDirectoryError
from grader.validate.rows import EvidenceFile
from grader.validate.subjects import Kind
from grader.validate.units import ArtifactCache, Driven, Unit, read_driven

UNIT = Unit("one", Kind.MUTANT, "tree", "calm", "s", 1)


@pytest.fixture
def evidence(tmp_path: Path) -> EvidenceFile:
    return EvidenceFile(tmp_path / "folder" / "evidence.jsonl")


def driven(artifact: Artifact) -> Driven:
    return Driven(date="2026-01-02", duration_s=1.5, lanes=6, machine=MACHINE, artifact=artifact)


def test_what_is_appended_is_read_back(evidence: EvidenceFile) -> None:
    rows = (row(), row(scenario="wait", fell=("of-wait",)))
    for one in rows:
        evidence.append(one)
    read = evidence.read(digests("one"))
    assert read.rows == rows
    assert (read.stale, read.unreadable) == (0, 0)


def test_no_file_is_no_evidence(evidence: EvidenceFile) -> None:
    assert evidence.read(digests("one")).rows == ()
    assert evidence.prune(digests("one")) == 0


def test_a_half_written_line_is_left_out_and_does_not_spoil_the_next(evidence: EvidenceFile) -> None:
    evidence.append(row())
    with evidence.path.open("a") as file:
        file.write('{"subject": "one", "scen')
    read = evidence.read(digests("one"))
    assert (len(read.rows), read.unreadable) == (1, 1)
    evidence.append(row(scenario="wait"))
    read = evidence.read(digests("one"))
    assert ([one.scenario for one in read.rows], read.unreadable) == (["calm", "wait"], 0)


@pytest.mark.parametrize("field", ["tree", "scenario_digest", "checks_digest"])
def test_a_row_of_other_bytes_is_stale(evidence: EvidenceFile, field: str) -> None:
    evidence.append(row(**{field: "another"}))
    read = evidence.read(digests("one"))
    assert (read.rows, read.stale) == ((), 1)


def test_a_row_of_somebody_who_was_not_asked_for_is_left_out_but_not_stale(evidence: EvidenceFile) -> None:
    evidence.append(row(subject="another"))
    read = evidence.read(digests("one"))
    assert (read.rows, read.stale) == ((), 0)


def test_a_later_row_of_an_attempt_takes_the_place_of_it_and_of_what_followed(evidence: EvidenceFile) -> None:
    for attempt in (1, 2, 3, 1):
        evidence.append(row(attempt=attempt))
    evidence.append(row(attempt=2, seed=5))
    read = evidence.read(digests("one"))
    assert [(one.seed, one.attempt) for one in read.rows] == [(1, 1), (5, 2)]


def test_pruning_keeps_what_counts_in_order(evidence: EvidenceFile) -> None:
    for one in (
        row(subject="two"),
        row(tree="old"),
        row(attempt=2),
        row(),
        row(attempt=2),
        row(subject="gone"),
    ):
        evidence.append(one)
    assert evidence.prune(digests("one", "two")) == 3
    read = evidence.read(digests("one", "two"))
    assert [(one.subject, one.attempt) for one in read.rows] == [("one", 1), ("one", 2), ("two", 1)]
    assert read.stale == 0


def test_evidence_that_cannot_be_read_or_written_is_told(tmp_path: Path) -> None:
    evidence = EvidenceFile(tmp_path)
    with pytest.raises(RunDirectoryError, match="cannot read the evidence"):
        evidence.read(digests("one"))
    with pytest.raises(RunDirectoryError, match="cannot write the evidence"):
        evidence.append(row())


def test_the_cache_keeps_each_attempt_and_forgets_them_together(tmp_path: Path) -> None:
    cache = ArtifactCache(tmp_path)
    for attempt in (1, 2):
        cache.write(UNIT, attempt, driven(record("calm", "of-calm")))
    assert list(cache.attempts(UNIT)) == [1, 2]
    assert read_driven(cache.path(UNIT, 2)) == driven(record("calm", "of-calm"))
    cache.forget(UNIT)
    assert cache.attempts(UNIT) == {}


@pytest.mark.parametrize("field", ["tree", "scenario", "scenario_digest", "seed"])
def test_a_record_is_found_by_tree_scenario_and_seed_not_by_name(tmp_path: Path, field: str) -> None:
    cache = ArtifactCache(tmp_path)
    cache.write(UNIT, 1, driven(record("calm")))
    plain = {
        "subject": "one",
        "kind": Kind.PAIR,
        "tree": "tree",
        "scenario": "calm",
        "scenario_digest": "s",
        "seed": 1,
    }
    assert cache.attempts(Unit(**{**plain, "subject": "renamed"}))  # type: ignore[arg-type]
    assert not cache.attempts(Unit(**{**plain, field: 7 if field == "seed" else "another"}))  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"no gzip", b"\x1f\x8b\x08\x00cut"])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    assert read_driven(tmp_path / "x") is None
    assert read_driven(tmp_path / "not there") is None
