"""Client of the payments provider."""

import logging
import time
import uuid
from decimal import Decimal

import requests

from boxoffice.errors import CardDeclined, ServiceUnavailable
from boxoffice.money import format_amount
from boxoffice.settings import settings

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
PAUSE_S = 1.0


class PaymentsUnavailable(ServiceUnavailable):
    """Payments did not answer, or not with anything that we understand."""


def charge(*, order_ref: str, amount: Decimal, currency: str, card_token: str) -> str:
    """Charge a card and return the charge's id. Raises CardDeclined, PaymentsUnavailable.

    The provider has a bad minute now and then, so we try a few times before we send a buyer away.
    """
    body = {
        "amount": format_amount(amount),
        "currency": currency,
        "card_token": card_token,
        "order_ref": order_ref,
    }
    for attempt in range(1, MAX_ATTEMPTS + 1):
        # The provider wants a unique key on every request.
        headers = {"Idempotency-Key": str(uuid.uuid4())}
        logger.info("charging, attempt %d: %s", attempt, body)
        try:
            response = requests.post(f"{settings.payments_url}/charges", json=body, headers=headers)
        except requests.ConnectionError:
            logger.warning("payments: connection failed")
        else:
            if response.status_code == 402:
                raise CardDeclined("the card was declined")
            if response.ok:
                return str(response.json()["charge_id"])
            logger.warning("payments answered %d: %s", response.status_code, response.text)
        if attempt < MAX_ATTEMPTS:
            time.sleep(PAUSE_S)
    raise PaymentsUnavailable("payments cannot be reached, please try again later")
