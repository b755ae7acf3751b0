"""The rehearsal: what a service does at leisure decides what it is held to under load."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest

from devstack.artifacts import Exchange
from devstack.seed import LiveData
from grader.load.answers import Shop
from grader.load.plan import CURRENCIES, HABITS, catalogue, on_sale
from grader.load.rehearsal import habits_of, rehearsal
from grader.load.requests import Call
from tests.grader.load_shop import RightShop, echoed

LIVE = LiveData.from_seed(5, dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC))
EXPECTED = catalogue(LIVE, [])
RATES = {currency: Decimal("1.0937") for currency in CURRENCIES}
ARRIVALS = rehearsal(LIVE, RATES, seed=5)


class Service:
    """A right service at leisure, but for what ``changed`` says of requests whose path begins so."""

    def __init__(self, *, method: str = "", begins: str = "never", **changed: Any) -> None:
        self.shop = RightShop(EXPECTED)
        self.sent: list[Call] = []
        self._at = (method, begins)
        self._changed = changed
        for arrival in ARRIVALS:
            assert arrival.order is not None
            total = {"amount": arrival.order.total, "currency": arrival.order.currency}
            self.shop.totals[arrival.order.card_token] = total

    async def send(self, call: Call) -> Exchange:
        self.sent.append(call)
        headers = {name.lower(): value for name, value in call.headers.items()}
        status, _, body = self.shop.answer(call.path, call.body or b"", headers)
        answer: dict[str, Any] = {
            "status": status, "payload": json.loads(body), "headers": echoed(headers)
        }  # fmt: skip
        method, begins = self._at
        if call.method == method and call.path.startswith(begins):
            answer |= self._changed
        return Exchange(
            label="rehearsal", method=call.method, path=call.path, started_s=0, elapsed_s=0, **answer
        )


async def test_a_right_service_has_every_habit() -> None:
    service = Service()
    shop = Shop(EXPECTED)
    assert await habits_of(shop, ARRIVALS, service.send) == HABITS
    assert len(service.sent) == len(ARRIVALS)


async def test_what_was_asked_for_is_known_and_is_of_events_on_sale() -> None:
    shop = Shop(EXPECTED)
    service = Service()
    await habits_of(shop, ARRIVALS, service.send)
    sold = service.shop.sold
    assert sold
    assert all(dict(shop.asked)[event_id] >= quantity for event_id, quantity in sold.items())
    assert {event_id for event_id, _ in shop.asked} <= {event.id for event in on_sale(LIVE)}


@pytest.mark.parametrize(
    ("wrong", "missing"),
    [
        ({"method": "POST", "begins": "/orders", "status": 500}, {"replay", "invalid"}),
        ({"method": "POST", "begins": "/events", "status": 404}, {"waitlist"}),
        ({"method": "GET", "begins": "/orders/", "status": 500}, {"unknown"}),
        ({"method": "GET", "begins": "/events?", "payload": {"items": []}}, {"limit"}),
        ({"method": "GET", "begins": "/events?", "headers": {}}, {"request-id"}),
    ],
)
async def test_a_habit_that_is_missing_at_leisure_is_not_judged_under_load(
    wrong: dict[str, Any], missing: set[str]
) -> None:
    habits = await habits_of(Shop(EXPECTED), ARRIVALS, Service(**wrong).send)
    assert set(HABITS) - set(habits) == missing


async def test_a_service_that_does_not_answer_is_asked_no_more() -> None:
    service = Service(method="POST", begins="/orders", status=None, error="timeout")
    assert await habits_of(Shop(EXPECTED), ARRIVALS, service.send) == ()
    assert len(service.sent) == 1


def test_the_same_seed_gives_the_same_rehearsal() -> None:
    assert rehearsal(LIVE, RATES, seed=5) == ARRIVALS
    assert rehearsal(LIVE, RATES, seed=6) != ARRIVALS
