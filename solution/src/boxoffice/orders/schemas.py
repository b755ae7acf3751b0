"""What the order endpoints take and answer."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, SecretStr, StrictInt

from boxoffice.emails import EmailAddress
from boxoffice.events.schemas import MAX_ID
from boxoffice.money import CurrencyCode, Money

MAX_LINES = 4
MAX_QUANTITY = 6

OrderStatus = Literal["pending", "confirmed", "declined", "failed"]
Quantity = Annotated[StrictInt, Field(ge=1, le=MAX_QUANTITY)]


class OrderLine(BaseModel):
    """Tickets for one event."""

    event_id: Annotated[StrictInt, Field(ge=1, le=MAX_ID)]
    quantity: Quantity


def _each_event_once(lines: list[OrderLine]) -> list[OrderLine]:
    if len({line.event_id for line in lines}) < len(lines):
        raise ValueError("one line per event, please")
    return lines


def _printable(token: SecretStr) -> SecretStr:
    if not token.get_secret_value().isprintable():
        raise ValueError("not a card token")
    return token


class OrderRequest(BaseModel):
    """An order as the shop sends it; charged in ``currency``, without one in EUR."""

    buyer_email: EmailAddress
    card_token: Annotated[SecretStr, Field(min_length=1, max_length=255), AfterValidator(_printable)]
    currency: CurrencyCode | None = None
    items: Annotated[
        list[OrderLine], Field(min_length=1, max_length=MAX_LINES), AfterValidator(_each_event_once)
    ]


class OrderLineRead(BaseModel):
    """Tickets for one event and the price of each."""

    event_id: int
    quantity: int
    unit_price: Money


class OrderRead(BaseModel):
    """An order. ``charge_id`` is null unless it is confirmed."""

    id: str
    status: OrderStatus
    items: list[OrderLineRead]
    total: Money
    charge_id: str | None
    created_at: datetime
