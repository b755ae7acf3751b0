from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from pydantic import ValidationError

from boxoffice.events.repository import Cursor
from boxoffice.money import convert
from boxoffice.orders.schemas import OrderRequest
from boxoffice.settings import Settings
from boxoffice.single_flight import SingleFlight


@pytest.mark.parametrize(("price", "expected"), [("0.125", "0.12"), ("0.135", "0.14"), ("10.005", "10.00")])
def test_prices_are_rounded_half_even(price: str, expected: str) -> None:
    assert convert(Decimal(price), Decimal(1)) == Decimal(expected)


@pytest.mark.parametrize("budget", [1, 2, 5, 20, 21, 100])
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_the_pools_together_stay_within_the_budget(budget: int, processes: int) -> None:
    if processes > budget:
        pytest.skip("not even one connection per process")
    urls = {f"{name}_url": "http://x" for name in ("payments", "risk", "rates", "mailer")}
    settings = Settings.model_validate(
        {
            "database_url": "postgresql://x",
            "ticket_secret": "x",
            "database_max_connections": budget,
            "web_concurrency": processes,
            **urls,
        }
    )
    assert 1 <= settings.pool_size * processes <= budget


def test_a_cursor_survives_its_encoding() -> None:
    cursor = Cursor(datetime(2027, 1, 2, 3, 4, 5, 678901, UTC), 42)
    assert Cursor.decode(cursor.encode()) == cursor


@pytest.mark.parametrize(
    "text", ["x", "====", "MjAyNg==", Cursor(datetime(2027, 1, 1, tzinfo=UTC), 1).encode() + "A"]
)
def test_anything_else_is_no_cursor(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # which one depends on what is wrong with it
        Cursor.decode(text)


@pytest.mark.parametrize(
    "change",
    [
        {"buyer_email": "nobody"},
        {"buyer_email": "a@b"},
        {"buyer_email": "a@b.example\n"},
        {"card_token": ""},
        {"card_token": "tok\x00"},
        {"currency": "usd"},
        {"items": []},
        {"items": [{"event_id": 1, "quantity": 0}]},
        {"items": [{"event_id": 1, "quantity": 7}]},
        {"items": [{"event_id": 1, "quantity": True}]},
        {"items": [{"event_id": 1, "quantity": 1.5}]},
        {"items": [{"event_id": 2**31, "quantity": 1}]},
        {"items": [{"event_id": 1, "quantity": 1}] * 2},
        {"items": [{"event_id": n, "quantity": 1} for n in range(1, 6)]},
    ],
)
def test_an_order_that_makes_no_sense_is_invalid(change: dict[str, object]) -> None:
    order = {"buyer_email": "a@b.example", "card_token": "tok_1", "items": [{"event_id": 1, "quantity": 1}]}
    OrderRequest.model_validate(order)
    with pytest.raises(ValidationError):
        OrderRequest.model_validate(order | change)


async def test_a_caller_that_gives_up_takes_nothing_from_the_others() -> None:
    flights: SingleFlight[str, int] = SingleFlight()
    may_finish = asyncio.Event()

    async def work() -> int:
        await may_finish.wait()
        return 7

    impatient = asyncio.create_task(flights.run("key", work))
    patient = asyncio.create_task(flights.run("key", work))
    await asyncio.sleep(0)
    impatient.cancel()
    may_finish.set()
    assert await patient == 7
    assert len(flights) == 0
