"""How checks judge: the ``check`` decorator, the ``judge`` fixture, and the pytest plugin that runs them.

``pytest grader/checks -p grader.judge --run-dir RUN`` works by hand. A check is a pure function of artifacts::

    @check(id="event-loop-slow-database", category="async-fundamentals", level="junior", title=..., ...)
    def test_event_loop_slow_database(slow_database: Artifact, judge: Judge) -> None:
        judge.at_most("p95 of /health/live", ..., 0.36, unit="s", source="contract 300 ms + 20 %")

A parameter other than ``judge`` names a scenario (dashes become underscores), whose artifact the check gets.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import NoReturn, TypeVar

from grader.evidence import MAXIMUM_ITEMS, Observation, evidence_of
from grader.model import CheckMeta, Evidence, Judgement, Level, Measurement, Value
from grader.text import one_line

Function = TypeVar("Function", bound=Callable[..., None])

# `-p grader.judge` brings the plugin that feeds checks with artifacts and writes down their outcomes.
pytest_plugins = ("grader.judge_plugin",)

_META_ATTRIBUTE = "__check_meta__"


class NotApplicable(Exception):
    """Raised by :meth:`Judge.not_applicable`; ends the check."""


class NoMeasurement(Exception):
    """A check came to its end without having measured anything."""


def check(
    *,
    id: str,  # noqa: A002 - the name of the field that it fills
    category: str,
    level: Level,
    title: str,
    failure_title: str,
    why: str,
    remediation: str,
    question: str,
) -> Callable[[Function], Function]:
    """Declare a test function to be a check. The fields are those of :class:`grader.model.CheckMeta`.

    ``requires`` is read off the parameter names. Raises TypeError if ``judge`` is not among them, and
    ``pydantic.ValidationError`` for a malformed id.
    """

    def declare(function: Function) -> Function:
        parameters = inspect.signature(function).parameters
        if "judge" not in parameters:
            raise TypeError(f"check {id!r} must take the parameter `judge`")
        meta = CheckMeta(
            id=id,
            category=category,
            level=level,
            title=title,
            failure_title=failure_title,
            why=why,
            remediation=remediation,
            question=question,
            requires=tuple(scenario_of(name) for name in parameters if name != "judge"),
        )
        setattr(function, _META_ATTRIBUTE, meta)
        return function

    return declare


def meta_of(candidate: object) -> CheckMeta | None:
    """The declaration of a check, or ``None`` if ``candidate`` is not one."""
    meta = getattr(candidate, _META_ATTRIBUTE, None)
    return meta if isinstance(meta, CheckMeta) else None


def scenario_of(parameter: str) -> str:
    """The scenario that a parameter names: ``slow_database`` → ``slow-database``."""
    return parameter.replace("_", "-")


def parameter_of(scenario: str) -> str:
    """The parameter that names a scenario: ``slow-database`` → ``slow_database``."""
    return scenario.replace("-", "_")


BORDERLINE = 0.15
"""A measured quantity this close to its limit might fall on the other side next time."""


class Judge:
    """Collects the measurements of one check. Its score is the lowest of theirs."""

    def __init__(self, meta: CheckMeta) -> None:
        self.meta = meta
        self._measurements: list[Measurement] = []
        self._ranges: list[tuple[float, float]] = []
        """Of each measurement: the scores that it might have next time."""
        self._evidence: list[Evidence] = []
        self._summary = ""

    def at_most(self, name: str, value: float, limit: float, *, unit: str = "", source: str = "") -> bool:
        """``value`` must be ≤ ``limit``. Returns whether it is. Raises ValueError for NaN and infinity."""
        ok = _finite(name, value) <= _finite(name, limit)
        return self._add(name, _plain(value), f"≤ {_number(limit)}", ok, unit, source, _close(value, limit))

    def at_least(self, name: str, value: float, limit: float, *, unit: str = "", source: str = "") -> bool:
        """``value`` must be ≥ ``limit``. Returns whether it is. Raises ValueError for NaN and infinity."""
        ok = _finite(name, value) >= _finite(name, limit)
        return self._add(name, _plain(value), f"≥ {_number(limit)}", ok, unit, source, _close(value, limit))

    def equal(self, name: str, value: object, expected: object, *, unit: str = "", source: str = "") -> bool:
        """``value`` must equal ``expected``. Returns whether it does."""
        return self._add(name, _plain(value), f"= {_text(expected)}", value == expected, unit, source)

    def true(self, name: str, ok: bool, detail: str = "", *, source: str = "") -> bool:
        """The statement ``name`` must hold; ``detail`` says what was seen. Returns ``ok``."""
        seen = one_line(detail) or ("yes" if ok else "no")
        return self._add(name, seen, "yes" if not detail else "to hold", ok, "", source)

    def graded(
        self, name: str, value: float, *, full: float, zero: float, unit: str = "", source: str = ""
    ) -> float:
        """Linear partial credit: 1 at ``full`` or better, 0 at ``zero`` or worse. Returns the credit.

        ``full`` < ``zero`` means that less is better. Raises ValueError if they are equal or not finite.
        """
        if _finite(name, full) == _finite(name, zero):
            raise ValueError(f"{name}: full and zero are both {full}")
        credit = _credit(_finite(name, value), full, zero)
        relation, opposite = ("≤", "≥") if full < zero else ("≥", "≤")
        expected = f"{relation} {_number(full)} (no points {opposite} {_number(zero)})"
        score = round(credit, 4)
        spread = BORDERLINE * value if _close(value, full) or _close(value, zero) else 0.0
        others = (_credit(value - spread, full, zero), _credit(value + spread, full, zero))
        self._ranges.append((min(others), max(others)) if spread else (score, score))
        self._measurements.append(
            Measurement(
                name=name, measured=_plain(value), expected=expected, unit=unit, score=score, source=source
            )
        )
        return score

    def evidence(self, *observations: Observation, name: str = "") -> None:
        """Keep what the judgement rests on: exchanges, heartbeats, ledgers, session samples, log text.

        Long ones are shortened; what is beyond the first 20 is left out.
        """
        room = max(0, MAXIMUM_ITEMS - len(self._evidence))
        self._evidence.extend(evidence_of(observation, name) for observation in observations[:room])

    def summary(self, text: str) -> None:
        """Say in one line what was found; without it, the worst measurement is told."""
        self._summary = one_line(text)

    def not_applicable(self, reason: str) -> NoReturn:
        """End the check: its precondition cannot arise with this valid design."""
        raise NotApplicable(one_line(reason))

    def judgement(self) -> Judgement:
        """The judgement so far. Raises NoMeasurement when there is nothing to judge by."""
        if not self._measurements:
            raise NoMeasurement("the check made no measurement")
        worst = min(self._measurements, key=lambda measurement: measurement.score)
        return self._judgement(worst.score, self._summary or self._told(worst))

    @property
    def borderline(self) -> bool:
        """Whether measurements close to their limits decide the score, so that it might be another one next time."""
        if not self._ranges:
            return False
        return min(low for low, _ in self._ranges) != min(high for _, high in self._ranges)

    def failure(self, reason: str) -> Judgement:
        """A judgement of score 0 for ``reason``, with what was measured before."""
        return self._judgement(0.0, one_line(reason))

    def _judgement(self, score: float, summary: str) -> Judgement:
        return Judgement(
            score=score,
            summary=summary,
            measurements=tuple(self._measurements),
            evidence=tuple(self._evidence),
        )

    def _told(self, worst: Measurement) -> str:
        if worst.score >= 1:
            return self.meta.title
        unit = f" {worst.unit}" if worst.unit else ""
        return f"{worst.name}: {shown(worst.measured)}{unit}, expected {worst.expected}{unit}"

    def _add(
        self, name: str, value: Value, expected: str, ok: bool, unit: str, source: str, close: bool = False
    ) -> bool:
        self._ranges.append((0.0, 1.0) if close else (float(ok), float(ok)))
        self._measurements.append(
            Measurement(
                name=name, measured=value, expected=expected, unit=unit, score=float(ok), source=source
            )
        )
        return ok


def shown(value: Value) -> str:
    """A measured value as text; numbers to four significant digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _number(value) if isinstance(value, int | float) else value


def _finite(name: str, value: float) -> float:
    if not math.isfinite(value):
        raise ValueError(f"{name}: {value} is not a finite number")
    return value


def _close(value: float, limit: float) -> bool:
    """Counts are exact: only quantities can be close to a limit."""
    return value != int(value) and abs(value - limit) <= BORDERLINE * abs(limit)


def _credit(value: float, full: float, zero: float) -> float:
    return min(1.0, max(0.0, (value - zero) / (full - zero)))


def _number(value: float) -> str:
    if value == int(value):
        return str(int(value))
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:.1f}"


def _plain(value: object) -> Value:
    """``value`` as a measured value; numbers to a millionth."""
    if isinstance(value, bool | int):
        return value
    return round(value, 6) if isinstance(value, float) and math.isfinite(value) else _text(value)


def _text(value: object) -> str:
    return shown(value) if isinstance(value, bool | int | float) else one_line(str(value))
