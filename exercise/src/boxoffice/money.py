"""Amounts of money in answers and calls."""

from decimal import Decimal

from pydantic import BaseModel

BASE_CURRENCY = "EUR"


class Money(BaseModel):
    """An amount, as a decimal string with two places, and its currency."""

    amount: str
    currency: str


def format_amount(amount: Decimal | float) -> str:
    """Two decimal places, as the payments provider wants them."""
    return f"{amount:.2f}"


def money(amount: Decimal | float, currency: str = BASE_CURRENCY) -> Money:
    """An amount as it appears in an answer."""
    return Money(amount=format_amount(amount), currency=currency.strip())


def convert(price: Decimal, rate: float) -> Decimal:
    """A price in EUR, converted with a rate and rounded to cents."""
    return Decimal(str(round(float(price) * rate, 2)))
