"""Orders as the tests send them."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from typing import Any

import httpx

from devstack.world import World

_numbers = itertools.count(1)


def order_body(event_id: int, quantity: int = 1, **fields: Any) -> dict[str, Any]:
    number = next(_numbers)
    return {
        "buyer_email": f"buyer{number}@mail.example.com",
        "card_token": f"tok_{number}",
        "items": [{"event_id": event_id, "quantity": quantity}],
        **fields,
    }


async def place(client: httpx.AsyncClient, body: dict[str, Any], key: str | None = None) -> httpx.Response:
    return await client.post("/orders", json=body, headers={"Idempotency-Key": key or uuid.uuid4().hex})


async def settled(client: httpx.AsyncClient, order_id: str, *, within_s: float = 20) -> dict[str, Any]:
    """The order once it is not pending any more."""
    async with asyncio.timeout(within_s):
        while True:
            order: dict[str, Any] = (await client.get(f"/orders/{order_id}")).json()
            if order["status"] != "pending":
                return order
            await asyncio.sleep(0.1)


async def mailed(world: World, order_id: str, *, within_s: float = 5) -> None:
    """Return when the mailer has the confirmation of an order."""
    async with asyncio.timeout(within_s):
        while order_id not in {message.order_id for message in (await world.faults.ledger()).messages}:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def seats_available(client: httpx.AsyncClient, event_id: int) -> int:
    seats: int = (await client.get(f"/events/{event_id}")).json()["seats_available"]
    return seats
