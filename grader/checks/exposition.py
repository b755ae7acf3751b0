"""Prometheus text as samples. The page is untrusted: a line that is none is left out, nothing here raises."""

from __future__ import annotations

import math
import re

Series = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name and its labels."""

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r'\s*([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*,?')
_END_OF_LABELS = re.compile(r"\s*\}")
_ESCAPED = re.compile(r"\\(.)")


def samples_of(page: str) -> dict[Series, float]:
    """The samples of a page by series, of values the finite ones; of a series that is there twice the first.

    Prometheus takes the first, too.
    """
    found: dict[Series, float] = {}
    for line in page.splitlines():
        sample = _sample(line.strip())
        if sample is not None:
            found.setdefault(*sample)
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
            labels.add((label[1], _ESCAPED.sub(_plain, label[2])))
            position = label.end()
        end = _END_OF_LABELS.match(line, position)
        if end is None:
            return None
        position = end.end()
    value = _number(line[position:].split())
    return None if value is None else ((name[0], frozenset(labels)), value)


def _plain(escaped: re.Match[str]) -> str:
    return "\n" if escaped[1] == "n" else escaped[1]


def _number(fields: list[str]) -> float | None:
    """The value; a time or an exemplar may follow it."""
    try:
        value = float(fields[0])
    except (IndexError, ValueError):
        return None
    return value if math.isfinite(value) else None
