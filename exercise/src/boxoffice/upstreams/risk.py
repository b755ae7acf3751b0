"""Client of the risk assessment."""

import logging
from decimal import Decimal

import httpx

from boxoffice.errors import BuyerDenied
from boxoffice.money import format_amount
from boxoffice.settings import settings

logger = logging.getLogger(__name__)


async def assess(*, buyer_email: str, amount: Decimal) -> None:
    """Have a buyer assessed; ``amount`` is in EUR. Raises BuyerDenied."""
    async with httpx.AsyncClient(base_url=settings.risk_url) as client:
        response = await client.post(
            "/assessments",
            json={"buyer_email": buyer_email, "amount": format_amount(amount)},
        )
    response.raise_for_status()
    assessment = response.json()
    if assessment["decision"] == "deny":
        logger.info("risk denied an order, score %s", assessment.get("score"))
        raise BuyerDenied("this order cannot be accepted")
