"""Outcomes of a load → the figures that are judged. Pure."""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from pydantic import JsonValue

from devstack.artifacts import quantile
from grader.load.plan import HABITS, Arrival, Habit
from grader.load.result import Outcome

GROUPS: Mapping[str, tuple[str, ...]] = {"reads": ("list", "detail"), "orders": ("order",)}
"""Endpoints whose latency is judged together."""


def due_from(outcomes: Iterable[Outcome], arrivals: Iterable[Arrival], since_s: float) -> list[Outcome]:
    """The outcomes of arrivals planned for ``since_s`` or later: the same requests for every service."""
    counted = {arrival.number for arrival in arrivals if arrival.due_s >= since_s}
    return [outcome for outcome in outcomes if outcome.number in counted]


def summary(outcomes: Sequence[Outcome], *, timeout_s: float) -> dict[str, JsonValue]:
    """The figures of one service: counts, and latency in seconds.

    A failed request counts in the percentiles as long as its client would have waited (``timeout_s``), so that
    failing fast is never a good latency.
    """
    failed = Counter(outcome.failure for outcome in outcomes if outcome.failure is not None)
    endpoints = sorted({outcome.endpoint for outcome in outcomes})
    return {
        "offered": len(outcomes),
        "sent": sum(outcome.sent_s is not None for outcome in outcomes),
        "correct": len(outcomes) - failed.total(),
        "failed_by_kind": {str(kind): count for kind, count in sorted(failed.items())},
        **percentiles(outcomes, timeout_s=timeout_s),
        "by_endpoint": {name: _group(outcomes, (name,), timeout_s) for name in endpoints},
        "by_group": {name: _group(outcomes, members, timeout_s) for name, members in GROUPS.items()},
    }


def habits(
    outcomes: Iterable[Outcome], arrivals: Iterable[Arrival], kept: Sequence[Habit]
) -> dict[str, JsonValue]:
    """Of each habit that the service had before the load (``kept``): requests that showed it, and wrong answers."""
    failures: dict[Habit, list[bool]] = defaultdict(list)
    found = {outcome.number: outcome for outcome in outcomes}
    for arrival in arrivals:
        outcome = found.get(arrival.number)
        if outcome is not None and outcome.status is not None:
            for habit in arrival.habits:
                failures[habit].append(_is_broken(habit, outcome))
    return {
        habit: {"asked": len(failures[habit]), "wrong": sum(failures[habit])}
        for habit in HABITS
        if habit in kept
    }


def _is_broken(habit: Habit, outcome: Outcome) -> bool:
    match habit:
        case "request-id":
            return outcome.failure == "wrong-request-id"
        case "limit":
            return outcome.failure in ("wrong-events", "wrong-cursor", "malformed")
    return outcome.is_wrong and outcome.failure != "wrong-request-id"


def cost(outcomes: Sequence[Outcome], *, cpu_s: float) -> dict[str, JsonValue]:
    """CPU seconds of a window, and of each of the requests in it that were answered right (``None`` without any)."""
    correct = sum(outcome.failure is None for outcome in outcomes)
    return {
        "cpu_s": round(cpu_s, 3),
        "cpu_requests": correct,
        "cpu_per_correct_request_s": round(cpu_s / correct, 6) if correct else None,
    }


def percentiles(outcomes: Sequence[Outcome], *, timeout_s: float) -> dict[str, JsonValue]:
    """p50, p95 and p99 in seconds, to the tenth of a millisecond; all ``None`` without outcomes."""
    latencies = [outcome.latency(timeout_s) for outcome in outcomes]
    return {
        f"p{round(q * 100)}_s": round(quantile(latencies, q), 4) if latencies else None
        for q in (0.5, 0.95, 0.99)
    }


def _group(outcomes: Sequence[Outcome], members: tuple[str, ...], timeout_s: float) -> dict[str, JsonValue]:
    chosen = [outcome for outcome in outcomes if outcome.endpoint in members]
    failed = sum(outcome.failure is not None for outcome in chosen)
    return {"count": len(chosen), "failed": failed, **percentiles(chosen, timeout_s=timeout_s)}


def requests_csv(outcomes: Mapping[str, Sequence[Outcome]], *, start_s: float) -> str:
    """One line per request of each service; instants in seconds since the load's start."""
    header = ("arm", "number", "endpoint", "due_s", "sent_s", "ended_s", "status", "failure")
    rows = [
        (
            *(arm, outcome.number, outcome.endpoint),
            *(_since(start_s, instant) for instant in (outcome.due_s, outcome.sent_s, outcome.ended_s)),
            *(outcome.status if outcome.status is not None else "", outcome.failure or ""),
        )
        for arm, found in outcomes.items()
        for outcome in found
    ]
    return _csv(header, rows)


def seconds_csv(outcomes: Mapping[str, Sequence[Outcome]], *, start_s: float, timeout_s: float) -> str:
    """One line per second and service: requests due in it, how many were answered right, their latency."""
    header = ("arm", "second", "offered", "correct", "p50_s", "p95_s")
    rows = []
    for arm, found in outcomes.items():
        seconds: dict[int, list[Outcome]] = {}
        for outcome in found:
            seconds.setdefault(int(outcome.due_s - start_s), []).append(outcome)
        for second, due in sorted(seconds.items()):
            correct = sum(outcome.failure is None for outcome in due)
            figures = percentiles(due, timeout_s=timeout_s)
            rows.append((arm, second, len(due), correct, figures["p50_s"], figures["p95_s"]))
    return _csv(header, rows)


def _since(start_s: float, instant: float | None) -> str:
    return "" if instant is None else f"{instant - start_s:.4f}"


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
