"""Prometheus text as samples. The page is untrusted: a line that is none is left out, nothing here raises."""

from __future__ import annotations

import math
import re

Series = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name and its labels."""

MAX_LINES = 100_000
MAX_LINE = 4_000
MAX_LABEL = 300
MAX_SAMPLES = 50_000
MAX_VALUE = 1e18
"""Beyond these a line is none: a metrics page has some hundred lines of some hundred characters, and its figures can be
added and rounded. What is looked for in a label takes time with the square of its length."""

_FIELDS = 4
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'\s*([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?')
_END_OF_LABELS = re.compile(r"\s*\}")
_ESCAPED = re.compile(r"\\(.)")


def samples_of(page: str) -> dict[Series, float]:
    """The samples of a page by series, of values the finite ones; of a series that is there twice the first.

    Prometheus takes the first, too. At most MAX_SAMPLES, of MAX_LINES lines.
    """
    found: dict[Series, float] = {}
    for line in page.splitlines()[:MAX_LINES]:
        sample = _sample(line.strip()) if len(line) <= MAX_LINE else None
        if sample is not None:
            found.setdefault(*sample)
            if len(found) == MAX_SAMPLES:
                break
    return found


def _sample(line: str) -> tuple[Series, float] | None:
    name = _NAME.match(line)
    if name is None:
        return None
    position = name.end()
    labels = set()
    if line[position : position + 1] == "{":
        position += 1
        while label := _LABEL.match(line, position):
            if len(label[2]) > MAX_LABEL:
                return None
            labels.add((label[1], _ESCAPED.sub(_plain, label[2])))
            position = label.end()
        end = _END_OF_LABELS.match(line, position)
        if end is None:
            return None
        position = end.end()
    value = _number(line[position:].split(maxsplit=_FIELDS))
    return None if value is None else ((name[0], frozenset(labels)), value)


def _plain(escaped: re.Match[str]) -> str:
    return "\n" if escaped[1] == "n" else escaped[1]


def _number(fields: list[str]) -> float | None:
    """The value; a time or an exemplar may follow it."""
    try:
        value = float(fields[0])
    except (IndexError, ValueError):
        return None
    return value if math.isfinite(value) and abs(value) <= MAX_VALUE else None
