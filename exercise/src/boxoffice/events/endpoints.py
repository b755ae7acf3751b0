"""GET /events and GET /events/{id}."""

from typing import Annotated

from fastapi import APIRouter, Depends
from sqlalchemy.orm import Session

from boxoffice.db import get_session
from boxoffice.events.schemas import EventDetail, EventPage
from boxoffice.events.service import EventService

router = APIRouter(prefix="/events", tags=["events"])


def get_event_service(session: Annotated[Session, Depends(get_session)]) -> EventService:
    """The service on the request's session."""
    return EventService(session)


@router.get("")
async def list_events(
    service: Annotated[EventService, Depends(get_event_service)],
    city: str | None = None,
    limit: int = 20,
    cursor: str | None = None,
) -> EventPage:
    """Upcoming events, soonest first."""
    return service.list_upcoming(city=city, limit=limit, cursor=cursor)


@router.get("/{event_id}")
async def get_event(
    event_id: int,
    service: Annotated[EventService, Depends(get_event_service)],
    currency: str | None = None,
) -> EventDetail:
    """One event, optionally with its price in another currency."""
    return service.get(event_id, currency=currency)
