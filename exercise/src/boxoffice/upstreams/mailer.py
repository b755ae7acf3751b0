"""Client of the mailer."""

import logging

import httpx

from boxoffice.settings import settings

logger = logging.getLogger(__name__)

CONFIRMATION = "order-confirmation"


async def send_confirmation(*, order_id: str, to: str) -> None:
    """Mail a buyer the confirmation of an order."""
    async with httpx.AsyncClient(base_url=settings.mailer_url) as client:
        try:
            await client.post(
                "/messages",
                json={"to": to, "template": CONFIRMATION, "order_id": order_id},
                headers={"Idempotency-Key": f"{CONFIRMATION}-{order_id}"},
            )
        except httpx.HTTPError:
            pass  # the order stands, with or without its mail
