"""Queries on events."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from boxoffice.models import Event, Venue


class EventRepository:
    """Reads events through the request's session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def get(self, event_id: int) -> Event | None:
        """One event, or nothing."""
        return self.session.get(Event, event_id)

    def upcoming(self, *, city: str | None, limit: int, offset: int) -> list[Event]:
        """Events that have not begun, soonest first."""
        query = select(Event).where(Event.starts_at > func.now())
        if city is not None:
            query = query.join(Venue).where(Venue.city == city)
        query = query.order_by(Event.starts_at, Event.id).limit(limit).offset(offset)
        return list(self.session.scalars(query))
