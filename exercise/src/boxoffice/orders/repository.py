"""Queries on orders."""

import uuid
from decimal import Decimal

from sqlalchemy.orm import Session

from boxoffice.models import Event, Order, OrderLine


class OrderRepository:
    """Reads and writes orders through the request's session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    def get(self, order_id: uuid.UUID) -> Order | None:
        """One order, or nothing."""
        return self.session.get(Order, order_id)

    def add(
        self,
        *,
        buyer_email: str,
        card_token: str,
        currency: str,
        total: Decimal,
        total_eur: Decimal,
        idempotency_key: str | None,
    ) -> Order:
        """A new pending order without lines."""
        order = Order(
            id=uuid.uuid4(),
            buyer_email=buyer_email,
            card_token=card_token,
            currency=currency,
            total=total,
            total_eur=total_eur,
            idempotency_key=idempotency_key,
            status="pending",
        )
        self.session.add(order)
        self.session.flush()
        return order

    def add_line(self, order: Order, event: Event, *, quantity: int, unit_price: Decimal) -> None:
        """Append a line. Flushed at once, so that an error names the line that is to blame."""
        order.lines.append(
            OrderLine(
                line_no=len(order.lines) + 1,
                event_id=event.id,
                quantity=quantity,
                unit_price=unit_price,
                unit_price_eur=event.price,
            )
        )
        self.session.flush()

    def mark(self, order: Order, status: str, *, charge_id: str | None = None) -> None:
        """Settle an order; its card token is not needed any more."""
        order.status = status
        order.charge_id = charge_id
        order.card_token = None
        self.session.flush()
