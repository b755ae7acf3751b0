"""Observations made small enough for a report."""

from __future__ import annotations

from collections.abc import Sequence

from devstack.artifacts import ConnectionSample, Exchange, Heartbeats, Ledger
from grader.model import (
    ConnectionSeries,
    Evidence,
    HttpExchange,
    LatencySeries,
    LedgerExcerpt,
    LogExcerpt,
    MetricSample,
    SourceLocation,
)
from grader.text import excerpt, one_line

MAXIMUM_POINTS = 200
MAXIMUM_ENTRIES = 50
MAXIMUM_ITEMS = 20

Observation = Evidence | Exchange | Heartbeats | Ledger | Sequence[ConnectionSample] | str

_MADE = (
    HttpExchange,
    LatencySeries,
    ConnectionSeries,
    LogExcerpt,
    MetricSample,
    SourceLocation,
    LedgerExcerpt,
)


def evidence_of(observation: Observation, name: str) -> Evidence:
    """``observation`` as evidence called ``name``; text is taken as an excerpt of a log."""
    if isinstance(observation, _MADE):
        return observation
    if isinstance(observation, Exchange):
        return _exchange(observation, name)
    if isinstance(observation, Heartbeats):
        points = tuple((beat.intended_s, beat.latency_s) for beat in observation.beats)
        return LatencySeries(name=name or "heartbeats", points=_thinned(points))
    if isinstance(observation, Ledger):
        return LedgerExcerpt(
            name=name or "ledger",
            calls=observation.calls[-MAXIMUM_ENTRIES:],
            charges=observation.charges[-MAXIMUM_ENTRIES:],
            messages=observation.messages[-MAXIMUM_ENTRIES:],
        )
    if isinstance(observation, str):
        return LogExcerpt(name=name or "log", text=excerpt(observation))
    samples = tuple(observation)
    step = max(1, -(-len(samples) // MAXIMUM_POINTS))
    return ConnectionSeries(name=name or "database sessions", samples=samples[::step])


def _exchange(exchange: Exchange, name: str) -> HttpExchange:
    return HttpExchange(
        label=name or exchange.label,
        method=exchange.method,
        path=one_line(exchange.path),
        status=exchange.status,
        error=exchange.error,
        started_s=exchange.started_s,
        elapsed_s=exchange.elapsed_s,
        answer=excerpt(exchange.body),
    )


def _thinned(points: tuple[tuple[float, float], ...]) -> tuple[tuple[float, float], ...]:
    """At most MAXIMUM_POINTS of ``points``: of each stretch the one that matters, its highest."""
    step = max(1, -(-len(points) // MAXIMUM_POINTS))
    if step == 1:
        return points
    stretches = (points[start : start + step] for start in range(0, len(points), step))
    return tuple(max(stretch, key=lambda point: point[1]) for stretch in stretches)
