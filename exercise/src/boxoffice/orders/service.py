"""Placing an order: check, assess, price, charge, confirm."""

import logging
import uuid
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy.orm import Session

from boxoffice.errors import CardDeclined, Conflict, NotFound
from boxoffice.events.availability import seats_available
from boxoffice.events.repository import EventRepository
from boxoffice.models import Event, Order
from boxoffice.money import BASE_CURRENCY, convert
from boxoffice.orders.repository import OrderRepository
from boxoffice.orders.schemas import OrderCreate, OrderLineCreate
from boxoffice.telemetry import ORDERS, order_id_var
from boxoffice.upstreams import mailer, payments, rates, risk
from boxoffice.upstreams.payments import PaymentsUnavailable

logger = logging.getLogger(__name__)


@dataclass
class PricedLine:
    """A line of an order with its event and the price of one ticket in the order's currency."""

    event: Event
    quantity: int
    unit_price: Decimal


class OrderService:
    """Places and shows orders."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.events = EventRepository(session)
        self.orders = OrderRepository(session)

    def get(self, order_id: uuid.UUID) -> Order:
        """One order. Raises NotFound."""
        order = self.orders.get(order_id)
        if order is None:
            raise NotFound("no such order")
        return order

    async def place(self, request: OrderCreate, idempotency_key: str | None) -> Order:
        """Sell tickets.

        Raises NotFound for an unknown event, Conflict when it is sold out or not on sale,
        BuyerDenied, CardDeclined and PaymentsUnavailable.
        """
        events = [self._sellable_event(line) for line in request.items]
        total_eur = sum(
            (event.price * line.quantity for event, line in zip(events, request.items, strict=True)),
            Decimal(0),
        )

        await risk.assess(buyer_email=request.buyer_email, amount=total_eur)
        currency = request.currency or BASE_CURRENCY
        lines = await self._price(request.items, events, currency)
        total = sum((line.unit_price * line.quantity for line in lines), Decimal(0))

        order = self.orders.add(
            buyer_email=request.buyer_email,
            card_token=request.card_token,
            currency=currency,
            total=total,
            total_eur=total_eur,
            idempotency_key=idempotency_key,
        )
        order_id_var.set(str(order.id))
        for line in lines:
            self.orders.add_line(order, line.event, quantity=line.quantity, unit_price=line.unit_price)

        self._charge(order, request.card_token)
        ORDERS.inc()
        logger.info("order %s confirmed, %s %s", order.id, order.total, order.currency)
        self._notify(order)
        return order

    def _sellable_event(self, line: OrderLineCreate) -> Event:
        """The event of a line, when it is on sale and has the seats."""
        event = self.events.get(line.event_id)
        if event is None:
            raise NotFound(f"no such event: {line.event_id}")
        now = datetime.now()
        opens, closes = event.sales_open_at.replace(tzinfo=None), event.sales_close_at.replace(tzinfo=None)
        if not opens <= now < closes:
            raise Conflict(f"event {event.id} is not on sale")
        if seats_available(event.id, event.seats_total) < line.quantity:
            raise Conflict(f"event {event.id} is sold out")
        return event

    async def _price(
        self,
        items: list[OrderLineCreate],
        events: list[Event],
        currency: str,
    ) -> list[PricedLine]:
        """Lines with the price of a ticket in ``currency``."""
        rate = None if currency == BASE_CURRENCY else await rates.fetch_rate(currency)
        return [
            PricedLine(event, line.quantity, event.price if rate is None else convert(event.price, rate))
            for event, line in zip(events, items, strict=True)
        ]

    def _charge(self, order: Order, card_token: str) -> None:
        """Take the money and confirm the order, or record why not."""
        try:
            charge_id = payments.charge(
                order_ref=str(order.id),
                amount=order.total,
                currency=order.currency,
                card_token=card_token,
            )
        except CardDeclined:
            self.orders.mark(order, "declined")
            self.session.commit()
            raise
        except PaymentsUnavailable:
            # We cannot know whether the card was charged: leave it pending, back office looks at those.
            self.session.commit()
            raise
        self.orders.mark(order, "confirmed", charge_id=charge_id)

    def _notify(self, order: Order) -> None:
        """Mail the buyer, without keeping the checkout waiting."""
        mailer.send_confirmation(order_id=str(order.id), to=order.buyer_email)
