"""Frozen types at the borders of the grader: what checks say, what a run was, what is published.

``scorecard.json`` is a :class:`Scorecard`; its JSON Schema is ``docs/scorecard.schema.json``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from devstack.artifacts import Charge, ConnectionSample, Frozen, Message, Seconds, UpstreamCall

SCORECARD_SCHEMA_VERSION = 1

Level = Literal["junior", "mid", "senior"]
Tag = Literal["core", "stretch", "note"]
Identifier = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Percentage = Annotated[float, Field(ge=0, le=100)]
Value = bool | int | float | str


class Verdict(StrEnum):
    """What a check came to. Only passed, partial, failed and blocked carry a score."""

    PASSED = "passed"
    PARTIAL = "partial"
    FAILED = "failed"
    BLOCKED = "blocked"
    NOT_APPLICABLE = "not_applicable"
    ERRORED = "errored"


class CheckMeta(Frozen):
    """A check as its author describes it.

    ``title`` says what holds when it passes, ``failure_title`` what is wrong when it does not; ``why`` is
    the harm under load, ``remediation`` what to do, ``question`` what to ask in the interview. ``level`` is
    the least experience that should get it right. ``requires`` lists the scenarios whose artifacts it reads.
    """

    id: Identifier
    category: Identifier
    title: str
    failure_title: str
    why: str
    remediation: str
    question: str
    level: Level
    requires: tuple[Identifier, ...]


class HttpExchange(Frozen):
    """A request to the service and its answer, shortened for a report."""

    kind: Literal["http_exchange"] = "http_exchange"
    label: str
    method: str
    path: str
    status: int | None
    error: str | None = None
    started_s: Seconds
    elapsed_s: Seconds
    answer: str = ""


class LatencySeries(Frozen):
    """Latencies (``value`` in seconds) over the scenario's time axis: ``(at, value)`` pairs."""

    kind: Literal["latency_series"] = "latency_series"
    name: str
    points: tuple[tuple[Seconds, Seconds], ...]


class ConnectionSeries(Frozen):
    """Database sessions of the service over time."""

    kind: Literal["connection_series"] = "connection_series"
    name: str
    samples: tuple[ConnectionSample, ...]


class LogExcerpt(Frozen):
    """Lines of the service's log, or of another text that it gave."""

    kind: Literal["log_excerpt"] = "log_excerpt"
    name: str
    text: str


class MetricSample(Frozen):
    """One sample of the service's metrics page."""

    kind: Literal["metric_sample"] = "metric_sample"
    name: str
    labels: dict[str, str] = Field(default={})
    value: float


class SourceLocation(Frozen):
    """A line of the submission."""

    kind: Literal["source_location"] = "source_location"
    path: str
    line: int
    text: str = ""


class LedgerExcerpt(Frozen):
    """Entries of the upstream stubs' ledger."""

    kind: Literal["ledger"] = "ledger"
    name: str
    calls: tuple[UpstreamCall, ...] = ()
    charges: tuple[Charge, ...] = ()
    messages: tuple[Message, ...] = ()


Evidence = Annotated[
    HttpExchange
    | LatencySeries
    | ConnectionSeries
    | LogExcerpt
    | MetricSample
    | SourceLocation
    | LedgerExcerpt,
    Field(discriminator="kind"),
]


class Measurement(Frozen):
    """One judged quantity. ``expected`` reads as a condition (``≤ 0.36``); ``source`` is where it is from."""

    name: str
    measured: Value
    expected: str
    unit: str = ""
    score: Fraction
    source: str = ""


class Judgement(Frozen):
    """What a check says: the lowest score of its measurements, and what they rest on."""

    score: Fraction
    summary: str
    measurements: tuple[Measurement, ...] = ()
    evidence: tuple[Evidence, ...] = ()


class CheckOutcome(Frozen):
    """What running one check came to, before points are counted.

    ``score`` is ``None`` when the verdict is errored or not applicable. ``error`` says what went wrong in the
    grader, ``blocked_by`` which scenario could not be driven and why, ``not_applicable`` why it cannot arise.
    ``again`` is for the run alone: scenarios to drive once more, and how often, before this is the last word.
    """

    id: Identifier
    verdict: Verdict
    score: Fraction | None = None
    judgement: Judgement | None = None
    error: str | None = None
    blocked_by: str | None = None
    not_applicable: str | None = None
    again: dict[Identifier, int] = Field(default={})


class CheckResult(CheckMeta):
    """A check, its outcome and its points, as published. ``earned`` is ``None`` where there is no score.

    A ``note`` carries no points and decides nothing: it is shown because two valid designs cannot be told apart.
    """

    tag: Tag
    points: Annotated[float, Field(ge=0)]
    earned: float | None
    verdict: Verdict
    score: Fraction | None
    judgement: Judgement | None = None
    error: str | None = None
    blocked_by: str | None = None
    not_applicable: str | None = None


class CategoryScore(Frozen):
    """A category's score, 0…100, or ``None`` where it cannot be told. Weights add up to 100.

    ``points`` is what its applicable checks are worth together.
    """

    id: Identifier
    title: str
    weight: Annotated[float, Field(ge=0, le=100)]
    points: Annotated[float, Field(ge=0)]
    score: Percentage | None


class Machine(Frozen):
    """The machine that a run was made on."""

    system: str
    processor: str
    cpus: int
    memory_mib: int


class RunLock(Frozen):
    """What a run was made of: all that its scorecard needs besides the artifacts.

    ``sandbox_details`` says what the sandbox was made of. ``selection`` holds the ids of the checks that were asked for; empty means all. ``warnings`` and
    ``red_flags`` are what the run itself found worth saying; they are carried into the scorecard.
    """

    kit_version: str
    submission_name: str
    submission_digest: str
    dependencies_digest: str
    rubric_digest: str
    postgres_version: str
    python_version: str
    machine: Machine
    sandbox_level: Literal["none", "strong", "container"]
    sandbox_details: tuple[str, ...] = ()
    seed: int
    quick: bool = False
    selection: tuple[Identifier, ...] = ()
    calibration: dict[str, float] = Field(default={})
    warnings: tuple[str, ...] = ()
    red_flags: tuple[str, ...] = ()


class Scorecard(Frozen):
    """The outcome of a run, published as ``scorecard.json``.

    ``score`` (0…100, one decimal) and ``interval`` are ``None`` unless every category has a score;
    ``complete`` says whether every check of the rubric was judged.
    """

    schema_version: int = SCORECARD_SCHEMA_VERSION
    score: Percentage | None
    interval: tuple[Percentage, Percentage] | None = None
    complete: bool
    categories: tuple[CategoryScore, ...]
    results: tuple[CheckResult, ...]
    warnings: tuple[str, ...] = ()
    red_flags: tuple[str, ...] = ()
    lock: RunLock
