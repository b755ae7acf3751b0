"""Amounts and conversion."""

from decimal import Decimal

import pytest

from boxoffice.money import convert, format_amount, money


@pytest.mark.parametrize(
    ("amount", "text"),
    [(Decimal("12.5"), "12.50"), (Decimal(0), "0.00"), (Decimal("1999.90"), "1999.90")],
)
def test_an_amount_has_two_places(amount: Decimal, text: str) -> None:
    assert format_amount(amount) == text


def test_money_is_in_eur_unless_said_otherwise() -> None:
    assert money(Decimal("7.10")).currency == "EUR"
    assert money(Decimal("7.10"), "CHF").model_dump() == {"amount": "7.10", "currency": "CHF"}


def test_a_price_is_converted_and_rounded_to_cents() -> None:
    assert convert(Decimal("19.90"), 1.0853) == Decimal("21.6")
    assert convert(Decimal("10.00"), 0.8412) == Decimal("8.41")
