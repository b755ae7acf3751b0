"""GET /orders/{id}/ticket."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from boxoffice.dependencies import DatabaseDep, TicketsDep
from boxoffice.errors import Conflict, ErrorBody, NotFound
from boxoffice.orders import repository
from boxoffice.orders.endpoints import READ_TIMEOUT_S, OrderId, parse_order_id

router = APIRouter(prefix="/orders", tags=["tickets"])


SVG = "image/svg+xml"


@router.get(
    "/{order_id}/ticket",
    response_class=Response,
    responses={
        200: {"content": {SVG: {"schema": {"type": "string"}}}},
        404: {"model": ErrorBody},
        409: {"model": ErrorBody},
        503: {"model": ErrorBody},
    },
)
async def get_ticket(order_id: OrderId, database: DatabaseDep, tickets: TicketsDep) -> Response:
    """The ticket of a confirmed order, to show or print."""
    parsed_id = parse_order_id(order_id)
    ticket = tickets.cached(str(parsed_id))
    if ticket is None:
        order = await repository.get_order(database, parsed_id, timeout_s=READ_TIMEOUT_S)
        if order is None:
            raise NotFound("there is no such order")
        if order.status != "confirmed":
            raise Conflict("the order is not confirmed")
        ticket = await tickets.print(str(parsed_id))
    return Response(ticket, media_type=SVG)
