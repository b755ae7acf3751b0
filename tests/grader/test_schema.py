from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema

from grader.model import CheckResult, Judgement, LogExcerpt, Measurement, RunLock, Verdict
from grader.reports import json as json_report
from grader.rubric import Rubric
from grader.scoring import score

PUBLISHED = Path(__file__).parents[2] / "docs" / "scorecard.schema.json"


def test_the_published_schema_is_current() -> None:
    assert PUBLISHED.read_text() == json_report.schema(), (
        "renew it: python -m grader.reports.json > docs/scorecard.schema.json"
    )


def test_a_scorecard_follows_the_schema(
    lock: RunLock, rubric: Rubric, result: Callable[..., CheckResult]
) -> None:
    judgement = Judgement(
        score=0,
        summary="slow",
        measurements=(Measurement(name="p95", measured=1.5, expected="≤ 0.3", unit="s", score=0),),
        evidence=(LogExcerpt(name="log", text="line"),),
    )
    results = [
        result("quick-reads", Verdict.FAILED, 0.0, judgement=judgement),
        result("slow-writes", Verdict.BLOCKED, 0.0, blocked_by="busy-minute: did not start"),
        result("retries", Verdict.ERRORED, error="trouble"),
        result("timeouts", Verdict.PASSED, 1.0),
    ]
    document = json.loads(json_report.render(score(lock, rubric, results)))
    schema = json.loads(json_report.schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    assert document["score"] is None
    assert {"id", "title", "weight", "score"} <= document["categories"][0].keys()
