"""The waitlist of a sold-out event. Not built yet: the README has the specification."""

from fastapi import APIRouter, HTTPException, status

router = APIRouter(prefix="/events/{event_id}/waitlist", tags=["waitlist"])

NOT_IMPLEMENTED = HTTPException(status.HTTP_501_NOT_IMPLEMENTED, "the waitlist is not built yet")


@router.post("")
async def join_waitlist(event_id: int) -> None:
    """Put a buyer on the waitlist of an event."""
    raise NOT_IMPLEMENTED


@router.get("/{entry_id}")
async def get_waitlist_entry(event_id: int, entry_id: int) -> None:
    """One entry of the waitlist."""
    raise NOT_IMPLEMENTED
