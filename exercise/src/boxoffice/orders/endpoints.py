"""POST /orders and GET /orders/{id}."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Header, status
from sqlalchemy.orm import Session

from boxoffice.db import get_session
from boxoffice.orders import idempotency
from boxoffice.orders.schemas import OrderCreate, OrderRead
from boxoffice.orders.service import OrderService

router = APIRouter(prefix="/orders", tags=["orders"])


def get_order_service(session: Annotated[Session, Depends(get_session)]) -> OrderService:
    """The service on the request's session."""
    return OrderService(session)


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_order(
    body: OrderCreate,
    service: Annotated[OrderService, Depends(get_order_service)],
    idempotency_key: Annotated[str | None, Header()] = None,
) -> OrderRead:
    """Buy tickets; the same Idempotency-Key gets the same order again."""
    if idempotency_key:
        known = idempotency.find(idempotency_key)
        if known is not None:
            return known
    order = OrderRead.of(await service.place(body, idempotency_key))
    if idempotency_key:
        idempotency.remember(idempotency_key, order)
    return order


@router.get("/{order_id}")
async def get_order(
    order_id: str,
    service: Annotated[OrderService, Depends(get_order_service)],
) -> OrderRead:
    """One order."""
    return OrderRead.of(service.get(uuid.UUID(order_id)))
