"""What grew between two metrics pages, found by behaviour: the contract lets a submission choose its own names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from grader.checks.exposition import Series, samples_of

Growth = Mapping[Series, float]

_STATUS_CLASS = re.compile(r"([1-5])(?:\d\d|xx)", re.IGNORECASE)
_NOT_A_COUNT = ("_bucket", "_sum", "_created")


def growth(before: str, after: str) -> dict[Series, float]:
    """By how much each series of the page ``after`` differs from ``before``; those that do not are left out."""
    old = samples_of(before)
    changed = {series: value - old.get(series, 0.0) for series, value in samples_of(after).items()}
    return {series: by for series, by in changed.items() if by}


def counts(grown: Growth) -> dict[Series, float]:
    """The series that may count something: no buckets, sums or instants."""
    return {series: by for series, by in grown.items() if not series[0].endswith(_NOT_A_COUNT)}


def by_status_class(grown: Growth) -> dict[str, Counter[int]]:
    """Growth by first digit of the status, of each name and label that has statuses (``404``, ``4xx``) for values."""
    found: dict[str, Counter[int]] = {}
    for (name, labels), by in counts(grown).items():
        for label, value in labels:
            status = _STATUS_CLASS.fullmatch(value)
            if status is not None:
                found.setdefault(f"{name}{{{label}}}", Counter())[int(status[1])] += round(by)
    return found


@dataclass(frozen=True)
class Durations:
    """How a histogram grew: observations, and the sum of what was observed."""

    count: float
    total: float


def histograms(grown: Growth) -> dict[str, Durations]:
    """Growth of each histogram, over all its labels."""
    names = {name.removesuffix("_bucket") for name, _ in grown if name.endswith("_bucket")}
    return {
        name: Durations(count=_sum_of(grown, f"{name}_count"), total=_sum_of(grown, f"{name}_sum"))
        for name in sorted(names)
    }


def text_of(series: Series) -> str:
    """Name and labels in small letters, to look words up in."""
    name, labels = series
    return " ".join([name, *(f"{label}={value}" for label, value in sorted(labels))]).lower()


def _sum_of(grown: Growth, wanted: str) -> float:
    return sum(by for (name, _), by in grown.items() if name == wanted)
