"""POST /events/{id}/waitlist and GET /events/{id}/waitlist/{entry_id}."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import Response

from boxoffice.dependencies import DatabaseDep
from boxoffice.errors import Conflict, ErrorBody, NotFound
from boxoffice.events.schemas import EventId
from boxoffice.responses import json_response
from boxoffice.waitlist import repository
from boxoffice.waitlist.schemas import WaitlistEntry, WaitlistRequest

router = APIRouter(
    prefix="/events/{event_id}/waitlist",
    tags=["waitlist"],
    responses={404: {"model": ErrorBody}, 503: {"model": ErrorBody}},
)


class SeatsAvailable(Conflict):
    """Nobody has to wait while there are seats."""

    code = "seats_available"


@router.post(
    "",
    status_code=201,
    response_model=WaitlistEntry,
    responses={
        200: {"model": WaitlistEntry, "description": "The entry that this e-mail already has, unchanged"},
        409: {"model": ErrorBody, "description": "There are seats available"},
        413: {"model": ErrorBody},
    },
)
async def join_waitlist(event_id: EventId, body: WaitlistRequest, database: DatabaseDep) -> Response:
    """Wait for seats of a sold-out event: one entry per e-mail address."""
    look = await _look(database, event_id, body.email)
    if look.entry is None and look.seats_available <= 0:
        entry = await repository.join(database, event_id, body.email, body.quantity)
        if entry is not None:
            return json_response(entry, status_code=201)
        look = await _look(database, event_id, body.email)  # something happened in between
    if look.entry is None:
        raise SeatsAvailable("there are seats available")
    return json_response(look.entry)


@router.get("/{entry_id}", response_model=WaitlistEntry)
async def get_waitlist_entry(
    event_id: EventId, entry_id: Annotated[int, Path(ge=1, le=2**63 - 1)], database: DatabaseDep
) -> Response:
    """One entry of the waitlist."""
    entry = await repository.get_entry(database, event_id, entry_id)
    if entry is None:
        raise NotFound("there is no such entry")
    return json_response(entry)


async def _look(database: DatabaseDep, event_id: int, email: str) -> repository.Look:
    look = await repository.look(database, event_id, email)
    if look is None:
        raise NotFound("there is no such event")
    return look
