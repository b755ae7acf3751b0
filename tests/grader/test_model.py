from __future__ import annotations

import pytest
from pydantic import TypeAdapter, ValidationError

from devstack.artifacts import ConnectionSample, Exchange, Heartbeat, Heartbeats, Ledger
from grader.errors import VERDICT_POLICY, Cause
from grader.evidence import MAXIMUM_POINTS, evidence_of
from grader.model import CheckMeta, Evidence, HttpExchange, Judgement, LatencySeries, Verdict
from grader.text import excerpt, one_line


def test_every_cause_has_a_verdict_and_only_trouble_is_repeated() -> None:
    assert set(VERDICT_POLICY) == set(Cause)
    repeated = [cause for cause, policy in VERDICT_POLICY.items() if policy.attempts > 1]
    assert repeated == [Cause.NOT_DRIVABLE, Cause.TROUBLE, Cause.DISTURBED]
    assert not any(policy.verdict is Verdict.PASSED for policy in VERDICT_POLICY.values())


@pytest.mark.parametrize("score", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_score_outside_its_range_is_refused(score: float) -> None:
    with pytest.raises(ValidationError):
        Judgement(score=score, summary="")


def test_ids_are_kebab_case() -> None:
    with pytest.raises(ValidationError, match="pattern"):
        CheckMeta(
            id="Not_Kebab",
            category="first",
            title="",
            failure_title="",
            why="",
            remediation="",
            question="",
            level="mid",
            requires=(),
        )


def test_evidence_is_read_back_as_what_it_was() -> None:
    observations = (
        Exchange(
            label="read", method="GET", path="/events", started_s=0, elapsed_s=0.1, status=200, body="ok"
        ),
        Heartbeats(interval_s=0.05, beats=(Heartbeat(intended_s=0, latency_s=0.01),)),
        Ledger(taken_s=1),
        (ConnectionSample(at_s=0, total=3),),
        "a log line",
    )
    made = tuple(evidence_of(observation, "") for observation in observations)
    adapter = TypeAdapter(tuple[Evidence, ...])
    assert adapter.validate_json(adapter.dump_json(made)) == made
    assert [piece.kind for piece in made] == [
        "http_exchange",
        "latency_series",
        "ledger",
        "connection_series",
        "log_excerpt",
    ]


def test_a_long_series_keeps_its_peaks() -> None:
    beats = [Heartbeat(intended_s=n / 20, latency_s=9.0 if n == 777 else 0.01) for n in range(2_001)]
    series = evidence_of(Heartbeats(interval_s=0.05, beats=tuple(beats)), "live")
    assert isinstance(series, LatencySeries)
    assert len(series.points) <= MAXIMUM_POINTS
    assert (777 / 20, 9.0) in series.points


def test_hostile_text_is_disarmed() -> None:
    assert one_line("a\x1b[31mred\x07\u202e\u200b\n\tb") == "a[31mred b"
    assert one_line("x" * 1_000, 10) == "xxxxxxxxx…"
    assert excerpt("one\r\n\x00two\n") == "one\ntwo"
    answer = Exchange(label="x", method="GET", path="/\x1b", started_s=0, elapsed_s=0, body="\x9b" * 10_000)
    shortened = evidence_of(answer, "")
    assert isinstance(shortened, HttpExchange)
    assert (shortened.path, shortened.answer) == ("/", "…")
