"""Amounts of money: decimals inside, strings with two places outside."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Annotated

from pydantic import BaseModel, StringConstraints

BASE_CURRENCY = "EUR"
CENT = Decimal("0.01")

CurrencyCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]


class Money(BaseModel):
    """An amount with two decimal places and its currency."""

    amount: str
    currency: str


def format_amount(amount: Decimal) -> str:
    """``12.5`` as ``"12.50"``."""
    return f"{amount:.2f}"


def money(amount: Decimal, currency: str = BASE_CURRENCY) -> dict[str, str]:
    """An amount as it appears in an answer, see :class:`Money`."""
    return {"amount": format_amount(amount), "currency": currency}


def convert(price: Decimal, rate: Decimal) -> Decimal:
    """A unit price in another currency, rounded half-even to cents."""
    return (price * rate).quantize(CENT, ROUND_HALF_EVEN)


def total(prices_and_quantities: Iterable[tuple[Decimal, int]]) -> Decimal:
    """The sum over lines of unit price times quantity."""
    return sum((price * quantity for price, quantity in prices_and_quantities), Decimal(0))
