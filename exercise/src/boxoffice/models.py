"""Tables of the box office, as created by the migrations."""

from __future__ import annotations

import uuid
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from sqlalchemy import CHAR, ForeignKey, Numeric, Text, func
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship
from sqlalchemy.types import DateTime


class Base(DeclarativeBase):
    """Base of all tables."""

    type_annotation_map: ClassVar = {datetime: DateTime(timezone=True), str: Text}


class Venue(Base):
    """Where a show takes place."""

    __tablename__ = "venues"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    city: Mapped[str]


class Event(Base):
    """A show on one evening. The price is in EUR."""

    __tablename__ = "events"

    id: Mapped[int] = mapped_column(primary_key=True)
    venue_id: Mapped[int] = mapped_column(ForeignKey("venues.id"))
    title: Mapped[str]
    starts_at: Mapped[datetime]
    sales_open_at: Mapped[datetime]
    sales_close_at: Mapped[datetime]
    price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    seats_total: Mapped[int]

    venue: Mapped[Venue] = relationship()


class Order(Base):
    """What a buyer ordered; ``total`` is in ``currency``."""

    __tablename__ = "orders"

    id: Mapped[uuid.UUID] = mapped_column(primary_key=True)
    buyer_email: Mapped[str]
    status: Mapped[str] = mapped_column(default="pending")
    currency: Mapped[str] = mapped_column(CHAR(3), default="EUR")
    total: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    total_eur: Mapped[Decimal] = mapped_column(Numeric(12, 2))
    card_token: Mapped[str | None]
    charge_id: Mapped[str | None]
    idempotency_key: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())

    lines: Mapped[list[OrderLine]] = relationship(order_by="OrderLine.line_no")


class OrderLine(Base):
    """Tickets for one event within an order; unit prices in the order's currency and in EUR."""

    __tablename__ = "order_lines"

    order_id: Mapped[uuid.UUID] = mapped_column(ForeignKey("orders.id"), primary_key=True)
    line_no: Mapped[int] = mapped_column(primary_key=True)
    event_id: Mapped[int] = mapped_column(ForeignKey("events.id"))
    quantity: Mapped[int]
    unit_price: Mapped[Decimal] = mapped_column(Numeric(10, 2))
    unit_price_eur: Mapped[Decimal] = mapped_column(Numeric(10, 2))
