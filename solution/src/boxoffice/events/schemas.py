"""What the event endpoints answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import Path
from pydantic import BaseModel

from boxoffice.money import Money

MAX_ID = 2**31 - 1

EventId = Annotated[int, Path(ge=1, le=MAX_ID)]


class VenueRead(BaseModel):
    """Where an event takes place."""

    id: int
    name: str
    city: str


class EventRead(BaseModel):
    """An event in the list. ``seats_available`` is what is neither sold nor held by an order being paid."""

    id: int
    title: str
    starts_at: datetime
    sales_open_at: datetime
    sales_close_at: datetime
    venue: VenueRead
    price: Money
    seats_total: int
    seats_available: int


class EventDetail(EventRead):
    """One event; ``display_price`` is null when no currency was asked for or no rate is to be had."""

    display_price: Money | None


class EventPage(BaseModel):
    """A page of events; ``next_cursor`` is null on the last one."""

    items: list[EventRead]
    next_cursor: str | None
