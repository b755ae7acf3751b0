"""Risk: may this buyer spend this much?"""

from __future__ import annotations

from decimal import Decimal

from boxoffice.deadlines import Deadline
from boxoffice.money import format_amount
from boxoffice.upstreams.client import Retries, UpstreamClient, UpstreamUnavailable

RETRIES = Retries(attempts=4, attempt_timeout_s=2.5)


class Risk:
    """Client of the risk upstream."""

    def __init__(self, client: UpstreamClient) -> None:
        self._client = client

    async def allows(self, *, buyer_email: str, amount_eur: Decimal, deadline: Deadline) -> bool:
        """Whether the order may go on. Raises UpstreamUnavailable when there is no decision."""
        response = await self._client.call(
            "POST",
            "/assessments",
            body={"buyer_email": buyer_email, "amount": format_amount(amount_eur)},
            deadline=deadline,
            retries=RETRIES,
        )
        try:
            decision = response.json()["decision"]
        except (ValueError, KeyError, TypeError):
            decision = None
        if decision not in ("allow", "deny"):
            raise UpstreamUnavailable("risk")
        return bool(decision == "allow")
