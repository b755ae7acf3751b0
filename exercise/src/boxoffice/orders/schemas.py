"""What the order endpoints take and answer."""

from datetime import datetime

from pydantic import BaseModel

from boxoffice.models import Order
from boxoffice.money import Money, money


class OrderLineCreate(BaseModel):
    """Tickets for one event."""

    event_id: int
    quantity: int


class OrderCreate(BaseModel):
    """An order as the shop sends it; charged in ``currency``, in EUR without one."""

    buyer_email: str
    card_token: str
    currency: str | None = None
    items: list[OrderLineCreate]


class OrderLineRead(BaseModel):
    """Tickets for one event, with the price that was charged for each."""

    event_id: int
    quantity: int
    unit_price: Money


class OrderRead(BaseModel):
    """An order."""

    id: str
    status: str
    items: list[OrderLineRead]
    total: Money
    charge_id: str | None
    created_at: datetime

    @classmethod
    def of(cls, order: Order) -> "OrderRead":
        """The answer for an order."""
        return cls(
            id=str(order.id),
            status=order.status,
            items=[
                OrderLineRead(
                    event_id=line.event_id,
                    quantity=line.quantity,
                    unit_price=money(line.unit_price, order.currency),
                )
                for line in order.lines
            ],
            total=money(order.total, order.currency),
            charge_id=order.charge_id,
            created_at=order.created_at,
        )
