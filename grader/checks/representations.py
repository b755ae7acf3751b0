"""Events and orders as the contract shows them: what is wrong with one, a sentence each."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from pydantic import JsonValue

from grader.checks.values import instant, is_money, lines_of, member, members

CLOCK_S = 60.0
"""Between the service's clock and ours, at most; a wrong zone is hours off."""

INSTANT_S = 1.0
"""A time may be shown in whole seconds."""

STATUSES = frozenset({"pending", "confirmed", "declined", "failed"})


def event_faults(shown: JsonValue, truth: JsonValue) -> list[str]:
    """What is wrong with an event. ``truth`` has it as the scenario's fact ``events`` does."""
    return list(_event_faults(shown, truth))


def _event_faults(shown: JsonValue, truth: JsonValue) -> Iterator[str]:
    for name in ("title", "venue", "seats_total"):
        if not _includes(member(shown, name), member(truth, name)):
            yield f"{name} is {member(shown, name)!r}, expected {member(truth, name)!r}"
    for name in ("starts_at", "sales_open_at", "sales_close_at"):
        at_s, expected = instant(member(shown, name)), member(truth, name)
        if at_s is None:
            yield f"{name} is no time with an offset: {member(shown, name)!r}"
        elif not isinstance(expected, int | float) or abs(at_s - expected) > INSTANT_S:
            yield f"{name} is another instant: {member(shown, name)!r}"
    if not is_money(member(shown, "price"), Decimal(str(member(truth, "price") or 0)), "EUR"):
        yield f"price is {member(shown, 'price')!r}, expected {member(truth, 'price')} EUR"
    available, seats = member(shown, "seats_available"), member(shown, "seats_total")
    if not isinstance(available, int) or not isinstance(seats, int) or not 0 <= available <= seats:
        yield f"seats_available is {available!r}"
    if member(shown, "display_price") is not None:
        yield f"display_price is {member(shown, 'display_price')!r} although no currency was asked for"


def _includes(shown: JsonValue, truth: JsonValue) -> bool:
    """Further fields are fine."""
    if isinstance(truth, dict):
        return isinstance(shown, dict) and all(shown.get(name) == value for name, value in truth.items())
    return shown == truth and isinstance(shown, bool) == isinstance(truth, bool)


def order_faults(
    shown: JsonValue, sent: JsonValue, *, total: Decimal, charge_ids: set[str], placed_s: tuple[float, float]
) -> list[str]:
    """What is wrong with an order in EUR that was ``sent`` between two instants (seconds since the epoch)."""
    return list(_order_faults(shown, sent, total, charge_ids, placed_s))


def _order_faults(
    shown: JsonValue, sent: JsonValue, total: Decimal, charge_ids: set[str], placed_s: tuple[float, float]
) -> Iterator[str]:
    if not isinstance(member(shown, "id"), str):
        yield f"id is {member(shown, 'id')!r}, expected a string"
    status = member(shown, "status")
    if not isinstance(status, str) or status not in STATUSES:
        yield f"status is {status!r}"
    if len(members(member(shown, "items"))) != len(lines_of(shown)) or sorted(lines_of(shown)) != sorted(
        lines_of(sent)
    ):
        yield f"items are {member(shown, 'items')!r}, ordered were {lines_of(sent)}"
    if not is_money(member(shown, "total"), total, "EUR"):
        yield f"total is {member(shown, 'total')!r}, expected {total} EUR"
    if status == "confirmed" and member(shown, "charge_id") not in list[JsonValue](charge_ids):
        yield f"charge_id is {member(shown, 'charge_id')!r}, charged was {sorted(charge_ids)}"
    created_s = instant(member(shown, "created_at"))
    if created_s is None:
        yield f"created_at is no time with an offset: {member(shown, 'created_at')!r}"
    elif not placed_s[0] - CLOCK_S <= created_s <= placed_s[1] + CLOCK_S:
        yield f"created_at is {created_s - placed_s[0]:.0f} s from when the order was placed"
