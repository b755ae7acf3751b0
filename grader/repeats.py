"""Which scenarios are driven again, and how often, before the verdicts stand. Pure.

Repeating costs wall time, so there is a limit for each run: what is doubtful beyond it keeps its verdict, and that is
errored, not failed, where a disturbance was met.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from grader.errors import MAXIMUM_ATTEMPTS
from grader.model import CheckOutcome

MAXIMUM_REPEATS = 8
"""Drives of all scenarios together in one run."""

ROUNDS = 2
"""What was disturbed first may turn out borderline."""


def repeats(
    outcomes: Sequence[CheckOutcome],
    points: Mapping[str, float],
    attempts: Mapping[str, int],
    room: int = MAXIMUM_REPEATS,
) -> dict[str, int]:
    """How often to drive which scenario once more, at most ``room`` times together.

    ``attempts`` says how often each was driven already. Those that decide the most ``points`` come first.
    """
    times: dict[str, int] = {}
    weight: defaultdict[str, float] = defaultdict(float)
    for found in outcomes:
        if not points.get(found.id):
            continue
        for scenario, wanted in found.again.items():
            times[scenario] = max(times.get(scenario, 0), wanted)
            weight[scenario] += points[found.id]
    chosen: dict[str, int] = {}
    for scenario in sorted(times, key=lambda name: (-weight[name], name)):
        possible = min(times[scenario], MAXIMUM_ATTEMPTS - attempts.get(scenario, 0), room)
        if possible > 0:
            chosen[scenario] = possible
            room -= possible
    return chosen
