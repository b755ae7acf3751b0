"""Which figures of its dependencies a service shows: found by what moves when they are used, not by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from devstack.artifacts import Artifact, UpstreamCall
from grader.checks.exposition import Series, samples_of
from grader.checks.growth import counts, growth, text_of

UPSTREAM_WORD = "payment"
CALLED_SHARE = 0.8
COUNTED_TOO_OFTEN = 1.2
COUNT_SLACK = 3

IN_USE_AT_LEAST = 3
"""Of eight reads that wait for the database; the smallest pools have five connections."""

LARGEST_POOL = 20

_POOL_WORDS = ("db", "database", "pool", "conn", "postgres", "psycopg", "asyncpg", "sqlalchemy")
_LIMIT_WORDS = ("max", "limit", "size", "capacity")


@dataclass(frozen=True)
class Figure:
    """Something that should be shown, whether it is, and what was seen."""

    what: str
    found: bool
    detail: str


def figures_of(artifact: Artifact) -> tuple[Figure, ...]:
    """The four figures of the contract: calls by upstream, failures apart, connections in use, and their maximum."""
    return (*_upstream_figures(artifact), _in_use(artifact), _maximum(artifact))


def _upstream_figures(artifact: Artifact) -> tuple[Figure, Figure]:
    """Counts that moved with the calls that succeeded, and others that moved only with those that failed."""
    succeeded = _payment_counts(artifact, "metrics-before", "metrics-good")
    calls = _calls(artifact, "metrics-before", "metrics-good")
    low, high = CALLED_SHARE * len(_items(calls)), COUNTED_TOO_OFTEN * len(calls) + COUNT_SLACK
    fitting = [by for by in _by_name(succeeded).values() if low <= by <= high]
    moved = max(succeeded.values(), default=0)
    counted = Figure(
        "calls to payments are counted",
        bool(fitting and calls),
        f"{len(calls)} calls, a count grew by {moved:g}",
    )
    failing = [call for call in _calls(artifact, "metrics-good", "metrics-failed") if _failed(call)]
    apart = {
        series: by
        for series, by in _payment_counts(artifact, "metrics-good", "metrics-failed").items()
        if series not in succeeded
    }
    seen = sum(apart.values())
    separated = Figure(
        "failed calls are counted apart",
        bool(failing) and seen >= CALLED_SHARE * len(_items(failing)),
        f"{len(failing)} calls failed, counts that did not move before grew by {seen:g}",
    )
    return counted, separated


def _payment_counts(artifact: Artifact, before: str, after: str) -> dict[Series, float]:
    grown = counts(growth(artifact.text(before), artifact.text(after)))
    words = (UPSTREAM_WORD, *_addresses(artifact))
    return {series: by for series, by in grown.items() if any(word in text_of(series) for word in words)}


def _addresses(artifact: Artifact) -> tuple[str, ...]:
    """Instrumentations of HTTP clients name an upstream by its address or port."""
    port = artifact.facts.get("payments-port")
    return (f":{port}", f"={port}") if isinstance(port, int) else ()


def _by_name(grown: dict[Series, float]) -> dict[str, float]:
    found: dict[str, float] = {}
    for (name, _), by in grown.items():
        found[name] = found.get(name, 0.0) + by
    return found


def _calls(artifact: Artifact, before: str, after: str) -> list[UpstreamCall]:
    """Calls to payments between two ledgers."""
    known = len(artifact.ledger(before).calls_to("payments"))
    return list(artifact.ledger(after).calls_to("payments")[known:])


def _failed(call: UpstreamCall) -> bool:
    return call.status is None or call.status >= 400


def _items(calls: Sequence[UpstreamCall]) -> set[str]:
    """What the calls were about: a service may count each attempt, or each charge with all its attempts."""
    return {str(call.item) for call in calls}


def _in_use(artifact: Artifact) -> Figure:
    """A gauge of the pool that moved while reads waited for the database, and came back."""
    idle, busy = samples_of(artifact.text("metrics-after")), samples_of(artifact.text("metrics-busy"))
    later = samples_of(artifact.text("metrics-idle"))
    moved = {
        series: busy[series] - idle.get(series, 0.0)
        for series in busy
        if _has(series, _POOL_WORDS)
        and abs(busy[series] - idle.get(series, 0.0)) >= IN_USE_AT_LEAST
        and abs(busy[series] - later.get(series, 0.0)) >= IN_USE_AT_LEAST
    }
    shown = ", ".join(f"{text_of(series)} {by:+g}" for series, by in sorted(moved.items(), key=str)[:2])
    return Figure(
        "connections in use", bool(moved), shown or "no gauge moved while reads waited for the database"
    )


def _maximum(artifact: Artifact) -> Figure:
    """A gauge of the pool that stayed what it is, within the budget."""
    pages = [samples_of(artifact.text(name)) for name in ("metrics-after", "metrics-busy", "metrics-idle")]
    steady = [
        f"{text_of(series)} {value:g}"
        for series, value in pages[0].items()
        if _has(series, _POOL_WORDS) and _has(series, _LIMIT_WORDS)
        and 1 <= value <= LARGEST_POOL
        and all(page.get(series) == value for page in pages)
    ]  # fmt: skip
    return Figure("most connections there may be", bool(steady), ", ".join(steady[:2]) or "no such gauge")


def _has(series: Series, words: Sequence[str]) -> bool:
    return any(word in text_of(series) for word in words)
