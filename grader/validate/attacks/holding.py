"""What was observed of an attack against what must be."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from grader.model import Scorecard, Verdict
from grader.text import one_line
from grader.validate.attacks.running import Observed
from grader.validate.attacks.table import AttackTable

MOST_GAINED = 1.0
"""Points of 100 by which an attack may exceed its honest baseline: what repetition and rounding make."""


def faults(
    table: AttackTable, observed: Observed, baseline: float | None, left: Sequence[str]
) -> tuple[str, ...]:
    """Why the attack does not hold; nothing if it does. ``baseline``: points of the honest submission for ``only``."""
    return tuple(one_line(fault, 300) for fault in _faults(table, observed, baseline, left))


def _faults(
    table: AttackTable, observed: Observed, baseline: float | None, left: Sequence[str]
) -> Iterator[str]:
    if observed.exit_code not in table.exit_codes:
        last = (observed.told.strip().splitlines() or ["nothing"])[-1]
        ended = "it did not end" if observed.exit_code is None else f"exit code {observed.exit_code}"
        yield f"{ended}, and it said: {last}"
    if table.says and not re.search(table.says, observed.told):
        yield f"nothing said matches {table.says}"
    for pattern in table.log:
        if pattern not in observed.lines:
            yield f"no line of the log matches {pattern}"
    for pattern in table.never_log:
        if pattern in observed.lines:
            yield f"the log says: {observed.lines[pattern]}"
    for place in observed.leaked:
        yield f"a secret of the caller's environment stands in {place}"
    for thing in left:
        yield f"left behind: {thing}"
    if observed.scorecard is not None:
        yield from _judged(table, observed.scorecard, baseline)
    elif table.outcome == "graded" and observed.exit_code in table.exit_codes:
        yield "there is no scorecard"


def _judged(table: AttackTable, card: Scorecard, baseline: float | None) -> Iterator[str]:
    verdicts = {result.id: result.verdict for result in card.results}
    for name in table.falls:
        if verdicts.get(name, Verdict.PASSED) is Verdict.PASSED:
            yield f"{name} should fall, and is {verdicts.get(name, 'not there')}"
    for name in table.holds:
        if verdicts.get(name) is not Verdict.PASSED:
            yield f"{name} should hold, and is {verdicts.get(name, 'not there')}: {_why(card, name)}"
    for pattern in table.signs:
        if not any(re.search(pattern, flag) for flag in card.red_flags):
            yield f"no red flag matches {pattern}"
    if baseline is not None and points(card, table.only) > baseline + MOST_GAINED:
        yield f"it earned {points(card, table.only):.1f} points, the honest submission {baseline:.1f}"


def points(card: Scorecard, only: Sequence[str] = ()) -> float:
    """Points of 100 that the checks ``only`` (none: all) earned. A check without a score earned none."""
    worth = {category.id: (category.weight, category.points) for category in card.categories}
    return sum(
        worth[result.category][0] * result.points * (result.score or 0.0) / worth[result.category][1]
        for result in card.results
        if (not only or result.id in only) and worth[result.category][1]
    )


def _why(card: Scorecard, name: str) -> str:
    result = next((one for one in card.results if one.id == name), None)
    if result is None:
        return "it was not run"
    judgement = result.judgement.summary if result.judgement else ""
    return judgement or result.blocked_by or result.error or result.not_applicable or "no reason is given"
