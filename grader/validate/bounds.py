"""How sure a count makes us: exact (Clopper–Pearson) bounds of a share."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, lgamma, log, log1p

CONFIDENCE = 0.95


def clopper_pearson(count: int, total: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided exact bounds of a share of which ``count`` of ``total`` was seen; of nothing seen, 0 and 1.

    The lower bound is the share with which so many or more are seen with probability (1 - confidence) / 2, the
    upper one that with which so few or fewer are; 0 of 97 gives (0, 0.0373). Raises ValueError for no such count.
    """
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total} is no share")
    tail = (1 - confidence) / 2
    lower = 0.0 if count == 0 else _solve(lambda share: 1 - _at_most(count - 1, total, share), tail)
    upper = 1.0 if count == total else _solve(lambda share: -_at_most(count, total, share), -tail)
    return lower, upper


def _at_most(count: int, total: int, share: float) -> float:
    """Probability of ``count`` or fewer out of ``total`` where each has ``share``."""
    # by logarithms: the binomial coefficients of some thousands are no floats
    whole = lgamma(total + 1)
    return sum(
        exp(whole - lgamma(k + 1) - lgamma(total - k + 1) + k * log(share) + (total - k) * log1p(-share))
        for k in range(count + 1)
    )


def _solve(rising: Callable[[float], float], target: float) -> float:
    """Where a function that rises from 0 to 1 crosses ``target``."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if rising(middle) < target:
            low = middle
        else:
            high = middle
    return (low + high) / 2
