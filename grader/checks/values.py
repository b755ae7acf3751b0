"""Amounts and instants in answers. Payloads are untrusted: what is neither is ``None``, and nothing here raises."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

from pydantic import JsonValue

CENT = Decimal("0.01")
_LONGEST = 40
"""Characters of a number or an instant; more is junk."""

_MOST_DIGITS = 30
"""Before or after the point; such numbers can be added, rounded and written out."""


def member(value: JsonValue, name: str) -> JsonValue:
    """A field of a JSON object, ``None`` where there is no such thing."""
    return value.get(name) if isinstance(value, dict) else None


def members(value: JsonValue) -> Sequence[JsonValue]:
    """The elements of a JSON array, none where there is no such thing."""
    return value if isinstance(value, list) else ()


def amount(value: JsonValue) -> Decimal | None:
    """A decimal string or a JSON number."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    try:
        found = Decimal(str(value)) if len(str(value)) <= _LONGEST else None
    except (InvalidOperation, ValueError):
        return None
    if found is None or not found.is_finite() or abs(found.adjusted()) > _MOST_DIGITS:
        return None
    return found


def whole(value: JsonValue) -> int | None:
    """A whole number, or a string that is one."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    try:
        return int(value) if len(str(value)) <= _MOST_DIGITS else None
    except ValueError:
        return None


def is_money(value: JsonValue, expected: Decimal, currency: str) -> bool:
    """Whether this is ``{amount, currency}`` of exactly so much."""
    return amount(member(value, "amount")) == expected and member(value, "currency") == currency


def instant(value: JsonValue) -> float | None:
    """Seconds since the epoch of an RFC 3339 time; one without an offset is none."""
    if not isinstance(value, str) or len(value) > _LONGEST:
        return None
    try:
        found = dt.datetime.fromisoformat(value.replace("z", "Z"))
        return None if found.tzinfo is None else found.timestamp()
    except (ValueError, OverflowError):
        return None


def converted(price: Decimal, rate: Decimal) -> Decimal:
    """Contract: the unit price × rate, rounded half-even to 2 places."""
    return (price * rate).quantize(CENT, ROUND_HALF_EVEN)


def total(lines: Iterable[tuple[Decimal, int]]) -> Decimal:
    """The sum of unit price × quantity."""
    return sum((price * quantity for price, quantity in lines), Decimal(0))


def lines_of(body: JsonValue) -> list[tuple[int, int]]:
    """Event and quantity of each line of an order, as sent or as answered; junk is left out."""
    found = []
    for line in members(member(body, "items")):
        event_id, quantity = member(line, "event_id"), member(line, "quantity")
        if _whole(event_id) and _whole(quantity):
            found.append((int(str(event_id)), int(str(quantity))))
    return found


def _whole(value: JsonValue) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
