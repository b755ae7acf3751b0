"""Amounts in foreign currencies and calls for rates: what the checks pass, and each mistake that they must see."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from shop_records import Spoil, failures, outcome_of, read, with_exchanges, with_ledger

from devstack.artifacts import Artifact, Charge, Exchange, Ledger, UpstreamCall
from devstack.faults.rates import CURRENCIES, HALF_CENT_CURRENCY, rate
from devstack.seed import LiveData
from grader.checks import test_currencies as checks
from grader.model import Verdict
from grader.scenarios.currencies import HALF_CENT_PRICES, amounts, currency_data, half_cent_prices

PRICES = {"1": "15.00", "2": "25.00", "3": "0.07", "4": "33.33"}
RATES = {"GBP": "0.871", "SEK": "11.0123", "CAD": "1.6203"}

ORDERS: tuple[tuple[dict[int, int], str | None, str, str], ...] = (
    ({1: 1}, "GBP", "13.06", "15.00"),  # 13.065
    ({2: 1}, "GBP", "21.78", "25.00"),  # 21.775
    ({1: 2, 2: 2, 3: 3}, "GBP", "69.86", "80.21"),
    ({4: 6}, "SEK", "2202.24", "199.98"),  # 367.0399… each
    ({3: 6, 4: 5}, "SEK", "1839.82", "167.07"),
    ({4: 3}, "EUR", "99.99", "99.99"),
    ({3: 3}, None, "0.21", "0.21"),
)


def sent(number: int) -> dict[str, Any]:
    lines, currency, _, _ = ORDERS[number]
    body: dict[str, Any] = {
        "buyer_email": f"b{number}@example.com",
        "card_token": f"tok_{number}",
        "items": [{"event_id": event, "quantity": quantity} for event, quantity in lines.items()],
    }
    return body if currency is None else {**body, "currency": currency}


def order(number: int, *, status: int = 201, label: str = "orders") -> Exchange:
    return Exchange(
        label=label, method="POST", path="/orders", started_s=number, elapsed_s=0.1, status=status,
        request_headers={"Idempotency-Key": f"key-{number}"}, request_json=sent(number),
        payload={"id": f"o{number}", "status": "confirmed"} if status == 201 else None,
    )  # fmt: skip


def reading(number: int, total: Any = None) -> Exchange:
    _, currency, amount, _ = ORDERS[number]
    money = {"amount": amount if total is None else total, "currency": currency or "EUR"}
    return read(
        "orders-read",
        f"/orders/o{number}",
        payload={"id": f"o{number}", "status": "confirmed", "total": money},
    )


def charge(number: int, amount: str | None = None, currency: str | None = None) -> Charge:
    _, wanted, exact, _ = ORDERS[number]
    return Charge(
        charge_id=f"ch_{number}", order_ref=f"o{number}", amount=amount or exact, currency=currency or wanted or "EUR",
        status="captured", idempotency_key=f"charge-{number}", captured_s=1, card_token=f"tok_{number}",
    )  # fmt: skip


def assessment(number: int, amount: Any = None) -> UpstreamCall:
    body = {
        "buyer_email": f"b{number}@example.com",
        "amount": ORDERS[number][3] if amount is None else amount,
    }
    return UpstreamCall(
        upstream="risk", operation="assess", connection=1, started_s=1, method="POST", path="/assessments", body=body
    )  # fmt: skip


def rate_call(currency: str) -> UpstreamCall:
    return UpstreamCall(
        upstream="rates", operation="rate", connection=1, started_s=1, method="GET", path=f"/rates/EUR/{currency}"
    )  # fmt: skip


def display(event: int, currency: str, amount: Any, name: str = "displays") -> Exchange:
    shown = None if amount is None else {"amount": amount, "currency": currency}
    return read(name, f"/events/{event}?currency={currency}", payload={"id": event, "display_price": shown})


def book(
    *, charges: dict[int, Charge] | None = None, calls: list[UpstreamCall] | None = None, rates: int = 1
) -> Ledger:
    numbers = range(len(ORDERS))
    assessments = [assessment(number) for number in numbers] if calls is None else calls
    return Ledger(
        taken_s=9,
        charges=tuple((charges or {}).get(number, charge(number)) for number in numbers),
        calls=(*assessments, rate_call("GBP"), rate_call("SEK"), *[rate_call("CAD")] * rates),
    )


@pytest.fixture
def shop() -> Artifact:
    return Artifact(
        scenario="currencies",
        facts={"rates": dict(RATES), "prices": dict(PRICES), "crowd-currency": "CAD"},
        exchanges={
            "orders": tuple(order(number) for number in range(len(ORDERS))),
            "orders-read": tuple(reading(number) for number in range(len(ORDERS))),
            "displays": (display(1, "GBP", "13.06"), display(2, "GBP", 21.78), display(4, "SEK", "367.04")),
            "crowd-orders": (order(3, label="crowd-orders"),) * 8,
            "trickle-orders": (order(3, label="trickle-orders"),) * 8,
            "trickle-reads": (display(4, "CAD", "54.00", "trickle-reads"),) * 8,
        },
        ledgers={"final": book()},
    )


def test_exact_amounts_pass_as_text_and_as_numbers(shop: Artifact) -> None:
    assert outcome_of(checks.test_money_rounding, shop).verdict is Verdict.PASSED
    as_numbers = with_exchanges(
        shop, orders_read=[reading(number, float(ORDERS[number][2])) for number in range(len(ORDERS))]
    )
    assert outcome_of(checks.test_money_rounding, as_numbers).verdict is Verdict.PASSED


def with_total(number: int, amount: Any) -> Spoil:
    readings = [reading(n, amount if n == number else None) for n in range(len(ORDERS))]
    return lambda shop: with_exchanges(shop, orders_read=readings)


def with_book(**changed: Any) -> Spoil:
    return lambda shop: with_ledger(shop, "final", book(**changed))


def unconfirmed(shop: Artifact) -> Artifact:
    return with_exchanges(shop, orders=[order(0, status=503), *(order(n) for n in range(1, len(ORDERS)))])


TOTAL, CHARGE, ASSESSED = (f"orders with a wrong {what}" for what in ("total", "charge", "assessment"))
ASSESSED_IN_SEK = [assessment(3, "2202.24"), *(assessment(number) for number in (0, 1, 2, 4, 5, 6))]


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (with_total(0, "13.07"), {TOTAL}),  # half up
        (with_total(1, "21.77"), {TOTAL}),  # in floating point
        (with_total(3, "2202.23"), {TOTAL}),  # rounded after multiplying
        (with_total(3, [1]), {TOTAL}),
        (with_book(charges={3: charge(3, "2202.23")}), {CHARGE}),
        (with_book(charges={3: charge(3, currency="EUR")}), {CHARGE}),
        (with_book(calls=ASSESSED_IN_SEK), {ASSESSED}),
        (with_book(calls=[]), {ASSESSED}),
        (lambda shop: with_exchanges(shop, displays=[display(1, "GBP", "13.07")]), {"wrong display prices"}),
        (lambda shop: with_exchanges(shop, displays=[display(1, "GBP", None)]), set()),  # rate-calls' question
    ],
)  # fmt: skip
def test_a_cent_too_many_or_too_few_is_seen(shop: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert failures(outcome_of(checks.test_money_rounding, spoil(shop))) == seen


def test_orders_that_do_not_come_about_are_seen(shop: Artifact) -> None:
    few = with_exchanges(shop, orders=[order(0, status=503)], orders_read=[])
    assert "orders confirmed" in failures(outcome_of(checks.test_money_rounding, few))


def test_one_call_for_a_crowd_passes_and_so_do_ten(shop: Artifact) -> None:
    assert outcome_of(checks.test_rate_calls, shop).verdict is Verdict.PASSED
    assert outcome_of(checks.test_rate_calls, with_book(rates=12)(shop)).verdict is Verdict.PASSED


CROWD = "calls for one pair: 38 requests on a cold cache, 16 more one by one"
SHOWN = "pages that show the converted price after the crowd"


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (with_book(rates=13), {CROWD}),
        (with_book(calls=[rate_call("USD")] * 13), {"most calls for another pair"}),
        (lambda shop: with_exchanges(shop, trickle_reads=[display(4, "CAD", None)] * 8), {SHOWN}),
        (lambda shop: with_exchanges(shop, trickle_reads=[]), {SHOWN}),
        (lambda shop: with_exchanges(shop, crowd_orders=[order(3, status=503)]), {"orders in that currency that were refused"}),
    ],
)  # fmt: skip
def test_calls_without_end_and_a_service_that_asks_nobody_are_seen(
    shop: Artifact, spoil: Spoil, seen: set[str]
) -> None:
    assert failures(outcome_of(checks.test_rate_calls, spoil(shop))) == seen


@pytest.mark.parametrize("seed", range(40))
def test_the_events_of_the_scenario_tell_ways_of_rounding_apart(seed: int) -> None:
    live = LiveData.from_seed(seed, dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC))
    data = currency_data(live, live.now)
    quote = rate(seed, "EUR", HALF_CENT_CURRENCY)
    prices = [event.price for event in data.half_cents]
    assert tuple(prices) == half_cent_prices(quote)
    assert all(price in HALF_CENT_PRICES and (price * quote * 1000) % 10 == 5 for price in prices)
    assert len({event.id for event in data.events}) == len(data.events)
    assert set(live.events) < set(data.events)
    assert any(event.price < 1 for event in data.open_events())


@pytest.mark.parametrize("seed", range(40))
def test_all_that_is_ordered_can_be_had(seed: int) -> None:
    live = LiveData.from_seed(seed, dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC))
    data = currency_data(live, live.now)
    seats = {event.id: event.seats_total for event in data.open_events()}
    for currency in set(CURRENCIES) - {"EUR", HALF_CENT_CURRENCY}:
        left = Counter(seats)
        for items, _ in amounts(data, currency, rate(seed, "EUR", currency)):
            assert len({event for event, _ in items}) == len(items), "a line for each event"
            left.subtract(dict(items))
        assert min(left.values()) >= 0


def test_half_up_and_binary_rounding_are_both_caught() -> None:
    assert half_cent_prices(Decimal("0.871")) == (Decimal("15.00"), Decimal("25.00"))
