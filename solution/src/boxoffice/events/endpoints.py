"""GET /events and GET /events/{id}."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError
from sqlalchemy import Row
from starlette.responses import Response

from boxoffice.deadlines import Deadline
from boxoffice.dependencies import DatabaseDep, RatesDep
from boxoffice.errors import ErrorBody, NotFound
from boxoffice.events import repository
from boxoffice.events.schemas import EventDetail, EventId, EventPage
from boxoffice.money import BASE_CURRENCY, CurrencyCode, convert, money
from boxoffice.responses import json_response
from boxoffice.upstreams.client import UpstreamUnavailable
from boxoffice.upstreams.rates import Rates

DETAIL_TIMEOUT_S = 2.8
RATE_TIMEOUT_S = 1.5
"""A page without the converted price is worth more than a late one."""

router = APIRouter(prefix="/events", tags=["events"], responses={503: {"model": ErrorBody}})


@router.get("", response_model=EventPage)
async def list_events(
    database: DatabaseDep,
    city: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]*$")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    cursor: Annotated[str | None, Query(max_length=200)] = None,
) -> Response:
    """Upcoming events, soonest first."""
    after = _decode(cursor) if cursor else None
    rows = await repository.list_upcoming(database, city=city, cursor=after, limit=limit)
    next_cursor = None
    if len(rows) > limit:
        rows = rows[:limit]
        next_cursor = repository.Cursor(rows[-1].starts_at, rows[-1].id).encode()
    return json_response({"items": [_describe(row) for row in rows], "next_cursor": next_cursor})


@router.get("/{event_id}", response_model=EventDetail, responses={404: {"model": ErrorBody}})
async def get_event(
    event_id: EventId,
    database: DatabaseDep,
    rates: RatesDep,
    currency: Annotated[CurrencyCode | None, Query()] = None,
) -> Response:
    """One event, with ``currency`` priced in it too."""
    deadline = Deadline.after(DETAIL_TIMEOUT_S)
    row = await repository.get_event(database, event_id)
    if row is None:
        raise NotFound("there is no such event")
    detail = _describe(row)
    detail["display_price"] = await _display_price(rates, row.price, currency, deadline)
    return json_response(detail)


def _decode(cursor: str) -> repository.Cursor:
    try:
        return repository.Cursor.decode(cursor)
    except ValueError:
        problem = {"loc": ("query", "cursor"), "msg": "not a cursor of ours", "type": "value_error"}
        raise RequestValidationError([problem]) from None


async def _display_price(
    rates: Rates, price: Decimal, currency: str | None, deadline: Deadline
) -> dict[str, str] | None:
    if currency is None:
        return None
    if currency == BASE_CURRENCY:
        return money(price)
    patience = Deadline.after(min(RATE_TIMEOUT_S, deadline.remaining()))
    try:
        rate = await rates.get(currency, deadline=patience)
    except UpstreamUnavailable:
        return None
    return money(convert(price, rate), currency)


def _describe(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "title": row.title,
        "starts_at": row.starts_at,
        "sales_open_at": row.sales_open_at,
        "sales_close_at": row.sales_close_at,
        "venue": {"id": row.venue_id, "name": row.venue_name, "city": row.city},
        "price": money(row.price),
        "seats_total": row.seats_total,
        "seats_available": row.seats_available,
    }
