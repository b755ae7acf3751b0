"""What an answer of the service means, for scenarios and checks alike. Payloads are untrusted: nothing here raises."""

from __future__ import annotations

from pydantic import JsonValue

from devstack.artifacts import Exchange

PLACED = frozenset({200, 201, 202})
"""Contract: the order exists (confirmed, replayed, or its outcome is still unknown)."""

UNAVAILABLE = frozenset({429, 502, 503, 504})
"""Contract: an upstream or the database cannot serve, or load is shed."""

FINAL_STATUSES = frozenset({"confirmed", "declined", "failed"})
"""Statuses that an order keeps."""

LONGEST_ID = 255
"""Characters; a longer id is none: it becomes part of paths, and of each reading's record."""


def order_id_of(exchange: Exchange) -> str | None:
    """The order's id in an answer to ``POST /orders``, or behind its ``Location``."""
    if isinstance(exchange.payload, dict) and exchange.status in PLACED:
        found = exchange.payload.get("id")
        if isinstance(found, str | int) and not isinstance(found, bool):
            return _sensible(str(found))
    location = exchange.headers.get("location", "")
    return _sensible(location.rstrip("/").rpartition("/orders/")[2]) if "/orders/" in location else None


def _sensible(order_id: str) -> str | None:
    return order_id if 0 < len(order_id) <= LONGEST_ID else None


def order_status_of(exchange: Exchange) -> str | None:
    """The status in an order's representation."""
    if isinstance(exchange.payload, dict) and exchange.status in PLACED:
        found = exchange.payload.get("status")
        return found if isinstance(found, str) else None
    return None


def seats_available_of(exchange: Exchange) -> int | None:
    """``seats_available`` of an event's representation."""
    if isinstance(exchange.payload, dict) and exchange.status == 200:
        found = exchange.payload.get("seats_available")
        return found if isinstance(found, int) and not isinstance(found, bool) else None
    return None


def listed_seats(page: Exchange, event_id: int) -> int | None:
    """``seats_available`` of one event on a page of the list."""
    for event in _items(page):
        if isinstance(event, dict) and event.get("id") == event_id:
            found = event.get("seats_available")
            return found if isinstance(found, int) and not isinstance(found, bool) else None
    return None


def sold_tickets(report: Exchange) -> int | None:
    """All tickets of a sales report together."""
    days = [day.get("tickets") if isinstance(day, dict) else None for day in _items(report)]
    tickets = [found for found in days if isinstance(found, int) and not isinstance(found, bool)]
    return sum(tickets) if report.status == 200 and len(tickets) == len(days) else None


def _items(page: Exchange) -> list[JsonValue]:
    found = page.payload.get("items") if isinstance(page.payload, dict) and page.status == 200 else None
    return found if isinstance(found, list) else []
