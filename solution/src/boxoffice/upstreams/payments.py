"""Payments: charges with a key each, refunds, and the charges of an order."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

import httpx

from boxoffice.deadlines import Deadline
from boxoffice.money import format_amount
from boxoffice.upstreams.client import Retries, UpstreamClient, UpstreamUnavailable

DECLINED = 402


@dataclass(frozen=True, slots=True)
class ChargeRequest:
    """What to charge. ``order_ref`` is the order's id and the key of the charge."""

    order_ref: str
    amount: Decimal
    currency: str
    card_token: str

    def __repr__(self) -> str:
        return f"ChargeRequest(order_ref={self.order_ref!r})"  # never the card token


class Payments:
    """Client of the payments upstream."""

    def __init__(self, client: UpstreamClient) -> None:
        self._client = client

    async def charge(self, request: ChargeRequest, *, deadline: Deadline, retries: Retries) -> str | None:
        """Charge once per order, however often it is asked for; the charge's id, or None when declined.

        Raises UpstreamUnavailable, which says whether the charge may have taken effect.
        """
        response = await self._client.call(
            "POST",
            "/charges",
            body={
                "amount": format_amount(request.amount),
                "currency": request.currency,
                "card_token": request.card_token,
                "order_ref": request.order_ref,
            },
            idempotency_key=request.order_ref,
            deadline=deadline,
            retries=retries,
        )
        if response.status_code == DECLINED:
            return None
        if response.status_code >= 400:
            raise UpstreamUnavailable("payments", refused=True)
        charge_id = _field(response, "charge_id")
        if charge_id is None:
            raise UpstreamUnavailable("payments", may_have_effect=True)
        return charge_id

    async def captured(self, order_ref: str, *, deadline: Deadline, retries: Retries) -> list[str]:
        """Ids of the order's charges that are not refunded. Raises UpstreamUnavailable."""
        response = await self._client.call(
            "GET", "/charges", params={"order_ref": order_ref}, deadline=deadline, retries=retries
        )
        try:
            return [
                str(item["charge_id"]) for item in response.json()["items"] if item["status"] == "captured"
            ]
        except (ValueError, KeyError, TypeError):
            raise UpstreamUnavailable("payments") from None

    async def refund(self, charge_id: str, *, deadline: Deadline, retries: Retries) -> None:
        """Refund a charge in full; again and again is the same as once. Raises UpstreamUnavailable."""
        response = await self._client.call(
            "POST", f"/charges/{charge_id}/refunds", deadline=deadline, retries=retries
        )
        if response.status_code >= 400:
            raise UpstreamUnavailable("payments", refused=True)


def _field(response: httpx.Response, name: str) -> str | None:
    try:
        value = response.json()[name]
    except (ValueError, KeyError, TypeError):
        return None
    return value if isinstance(value, str) and value else None
