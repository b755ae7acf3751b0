"""GET /orders/{id}/ticket."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Depends, Response

from boxoffice.errors import Conflict
from boxoffice.orders.endpoints import get_order_service
from boxoffice.orders.service import OrderService
from boxoffice.tickets import signing

router = APIRouter(prefix="/orders", tags=["tickets"])


@router.get("/{order_id}/ticket", response_class=Response)
async def get_ticket(
    order_id: str,
    service: Annotated[OrderService, Depends(get_order_service)],
) -> Response:
    """The ticket of a confirmed order, to show or print."""
    order = service.get(uuid.UUID(order_id))
    if order.status != "confirmed":
        raise Conflict("the order is not confirmed")
    return Response(signing.render(str(order.id)), media_type="image/svg+xml")
