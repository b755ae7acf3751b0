"""POST /orders and GET /orders/{id}."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Path, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from boxoffice.dependencies import DatabaseDep, OrdersDep
from boxoffice.errors import ErrorBody, NotFound
from boxoffice.orders import repository
from boxoffice.orders.schemas import OrderRead, OrderRequest
from boxoffice.responses import json_response

READ_TIMEOUT_S = 2.6
"""The contract's limit for reads is 3 s."""

IdempotencyKey = Annotated[str, Header(min_length=1, max_length=255, pattern=r"^[\x20-\x7e]+$")]
OrderId = Annotated[str, Path(max_length=64)]

router = APIRouter(prefix="/orders", tags=["orders"], responses={503: {"model": ErrorBody}})


@router.post(
    "",
    status_code=201,
    response_model=OrderRead,
    responses={
        202: {"model": OrderRead, "description": "The outcome is not known yet, see Location"},
        402: {"model": ErrorBody, "description": "The card was declined"},
        403: {"model": ErrorBody, "description": "The order was denied"},
        404: {"model": ErrorBody, "description": "Unknown event"},
        409: {
            "model": ErrorBody,
            "description": "Sold out, not on sale, or the key belongs to another request",
        },
        413: {"model": ErrorBody},
    },
)
async def place_order(
    request: Request, body: OrderRequest, orders: OrdersDep, idempotency_key: IdempotencyKey
) -> Response:
    """Reserve seats, charge the card and confirm. The same key and body give the same order."""
    order = await orders.place(body, key=idempotency_key, request_hash=_digest(await request.json()))
    return json_response(
        order.describe(),
        status_code=201 if order.status == "confirmed" else 202,
        headers={"location": f"/orders/{order.id}"},
    )


@router.get("/{order_id}", response_model=OrderRead, responses={404: {"model": ErrorBody}})
async def get_order(order_id: OrderId, database: DatabaseDep) -> Response:
    """One order."""
    order = await repository.get_order(database, parse_order_id(order_id), timeout_s=READ_TIMEOUT_S)
    if order is None:
        raise NotFound("there is no such order")
    return json_response(order.describe())


def parse_order_id(text: str) -> UUID:
    """The id of an order. Raises NotFound for what cannot be one."""
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("there is no such order") from None


def _digest(body: object) -> str:
    """Bodies compare as parsed JSON: white space and the order of fields do not matter."""
    try:
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    except RecursionError:
        problem = {"loc": ("body",), "msg": "nested too deeply", "type": "recursion"}
        raise RequestValidationError([problem]) from None
    return hashlib.sha256(canonical.encode()).hexdigest()
