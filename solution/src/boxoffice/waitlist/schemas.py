"""What the waitlist endpoints take and answer."""

from __future__ import annotations

from pydantic import BaseModel

from boxoffice.emails import EmailAddress
from boxoffice.orders.schemas import Quantity


class WaitlistRequest(BaseModel):
    """A buyer who would take ``quantity`` seats."""

    email: EmailAddress
    quantity: Quantity


class WaitlistEntry(BaseModel):
    """An entry; ``position`` counts from 1 within the event."""

    id: int
    event_id: int
    email: str
    quantity: int
    position: int
