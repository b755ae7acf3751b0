"""What the event endpoints answer."""

from datetime import datetime

from pydantic import BaseModel

from boxoffice.money import Money


class VenueRead(BaseModel):
    """Where an event takes place."""

    id: int
    name: str
    city: str


class EventRead(BaseModel):
    """An event in a list."""

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
    """A single event; ``display_price`` is null without a currency or a rate for it."""

    display_price: Money | None = None


class EventPage(BaseModel):
    """One page of events; ``next_cursor`` is null on the last one."""

    items: list[EventRead]
    next_cursor: str | None
