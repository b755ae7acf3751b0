"""Events as buyers see them."""

import base64
import binascii

from sqlalchemy.orm import Session

from boxoffice.errors import BoxOfficeError, NotFound
from boxoffice.events.availability import seats_available
from boxoffice.events.repository import EventRepository
from boxoffice.events.schemas import EventDetail, EventPage, EventRead, VenueRead
from boxoffice.models import Event
from boxoffice.money import BASE_CURRENCY, convert, money
from boxoffice.upstreams import rates


class InvalidCursor(BoxOfficeError):
    """The cursor is not one of ours."""

    status_code = 422


def encode_cursor(offset: int) -> str:
    """An opaque cursor, so that clients do not compute with it."""
    return base64.urlsafe_b64encode(f"o:{offset}".encode()).decode()


def decode_cursor(cursor: str) -> int:
    """The offset in a cursor. Raises InvalidCursor."""
    try:
        prefix, _, offset = base64.urlsafe_b64decode(cursor.encode()).decode().partition(":")
        if prefix != "o":
            raise InvalidCursor("invalid cursor")
        return int(offset)
    except (binascii.Error, ValueError):
        raise InvalidCursor("invalid cursor") from None


def describe(event: Event) -> dict[str, object]:
    """The fields that list and detail have in common."""
    return {
        "id": event.id,
        "title": event.title,
        "starts_at": event.starts_at,
        "sales_open_at": event.sales_open_at,
        "sales_close_at": event.sales_close_at,
        "venue": VenueRead(id=event.venue.id, name=event.venue.name, city=event.venue.city),
        "price": money(event.price),
        "seats_total": event.seats_total,
        "seats_available": seats_available(event.id, event.seats_total),
    }


class EventService:
    """Lists and shows events."""

    def __init__(self, session: Session) -> None:
        self.events = EventRepository(session)

    def list_upcoming(self, *, city: str | None, limit: int, cursor: str | None) -> EventPage:
        """One page of upcoming events."""
        offset = decode_cursor(cursor) if cursor else 0
        events = self.events.upcoming(city=city, limit=limit + 1, offset=offset)
        items = [EventRead.model_validate(describe(event)) for event in events[:limit]]
        next_cursor = encode_cursor(offset + limit) if len(events) > limit else None
        return EventPage(items=items, next_cursor=next_cursor)

    def get(self, event_id: int, *, currency: str | None) -> EventDetail:
        """One event, priced in ``currency`` too. Raises NotFound."""
        event = self.events.get(event_id)
        if event is None:
            raise NotFound("no such event")
        detail = EventDetail.model_validate(describe(event))
        if currency == BASE_CURRENCY:
            detail.display_price = money(event.price)
        elif currency:
            rate = rates.display_rate(currency)
            if rate is not None:
                detail.display_price = money(convert(event.price, rate), currency)
        return detail
