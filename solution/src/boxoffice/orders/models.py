"""Orders inside the service."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from boxoffice.money import money, total
from boxoffice.orders.schemas import OrderStatus


@dataclass(frozen=True, slots=True)
class Line:
    """Tickets for one event. ``unit_price`` is in the order's currency."""

    event_id: int
    quantity: int
    unit_price: Decimal
    unit_price_eur: Decimal


@dataclass(frozen=True, slots=True)
class Order:
    """An order as it is stored."""

    id: UUID
    status: OrderStatus
    currency: str
    lines: tuple[Line, ...]
    created_at: datetime
    charge_id: str | None = None

    @property
    def total(self) -> Decimal:
        """What is charged, in ``currency``."""
        return total((line.unit_price, line.quantity) for line in self.lines)

    def settled(self, status: OrderStatus, charge_id: str | None = None) -> Order:
        """The same order after the payment."""
        return replace(self, status=status, charge_id=charge_id)

    def describe(self) -> dict[str, Any]:
        """The order as it appears in an answer, see boxoffice.orders.schemas.OrderRead."""
        return {
            "id": str(self.id),
            "status": self.status,
            "items": [
                {
                    "event_id": line.event_id,
                    "quantity": line.quantity,
                    "unit_price": money(line.unit_price, self.currency),
                }
                for line in self.lines
            ],
            "total": money(self.total, self.currency),
            "charge_id": self.charge_id,
            "created_at": self.created_at,
        }


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail of the outbox that this process has to deliver."""

    id: int
    order_id: UUID
    template: str
    to: str
