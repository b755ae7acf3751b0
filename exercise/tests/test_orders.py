"""Orders: schemas, idempotency and the way through the service."""

from collections.abc import Iterator

import httpx
import pytest
import respx
from pydantic import ValidationError

from boxoffice.models import Order
from boxoffice.orders import idempotency
from boxoffice.orders.schemas import OrderCreate, OrderRead
from boxoffice.settings import settings
from boxoffice.upstreams import payments


def test_an_order_is_answered_with_its_lines(order: Order) -> None:
    answer = OrderRead.of(order)
    assert answer.total.model_dump() == {"amount": "39.80", "currency": "EUR"}
    assert [(line.event_id, line.quantity) for line in answer.items] == [(7, 2)]


def test_an_order_needs_a_buyer() -> None:
    with pytest.raises(ValidationError):
        OrderCreate.model_validate({"card_token": "tok_1", "items": []})


def test_a_key_finds_its_order(order: Order) -> None:
    answer = OrderRead.of(order)
    idempotency.remember("key-of-ana", answer)
    assert idempotency.find("key-of-ana") is answer
    assert idempotency.find("another") is None


@pytest.fixture
def router() -> Iterator[respx.MockRouter]:
    """Risk, rates and mailer on a good day."""
    with respx.mock(assert_all_called=False) as router:
        router.post(f"{settings.risk_url}/assessments", name="risk").respond(
            json={"decision": "allow", "score": 3}
        )
        router.get(f"{settings.rates_url}/rates/EUR/CHF").respond(json={"rate": "0.9377", "as_of": "now"})
        router.post(f"{settings.mailer_url}/messages").respond(202)
        yield router


@pytest.fixture
def charges(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, object]]:
    """Payments on a good day: the charges that were made."""
    made: list[dict[str, object]] = []

    def charge(**arguments: object) -> str:
        made.append(arguments)
        return f"ch_{len(made)}"

    monkeypatch.setattr(payments, "charge", charge)
    return made


def body(event_id: int, quantity: int, **more: object) -> dict[str, object]:
    """The body of an order with one line."""
    return {
        "buyer_email": "ana@example.com",
        "card_token": "tok_1",
        "items": [{"event_id": event_id, "quantity": quantity}],
        **more,
    }


async def test_an_order_is_confirmed_and_takes_its_seats(
    live_client: httpx.AsyncClient,
    live_event: int,
    router: respx.MockRouter,
    charges: list[dict[str, object]],
) -> None:
    answer = await live_client.post("/orders", json=body(live_event, 4), headers={"Idempotency-Key": "a1"})
    assert answer.status_code == 201
    assert answer.json()["status"] == "confirmed"
    assert answer.json()["total"] == {"amount": "79.60", "currency": "EUR"}
    assert [str(charge["amount"]) for charge in charges] == ["79.60"]
    read = await live_client.get(f"/orders/{answer.json()['id']}")
    assert read.json() == answer.json()
    event = await live_client.get(f"/events/{live_event}")
    assert event.json()["seats_available"] == 6


async def test_an_order_in_another_currency_is_charged_in_it(
    live_client: httpx.AsyncClient,
    live_event: int,
    router: respx.MockRouter,
    charges: list[dict[str, object]],
) -> None:
    answer = await live_client.post("/orders", json=body(live_event, 2, currency="CHF"))
    assert answer.json()["total"] == {"amount": "37.32", "currency": "CHF"}
    assert [charge["currency"] for charge in charges] == ["CHF"]


async def test_a_denied_buyer_is_not_charged(
    live_client: httpx.AsyncClient,
    live_event: int,
    router: respx.MockRouter,
    charges: list[dict[str, object]],
) -> None:
    router["risk"].respond(json={"decision": "deny", "score": 97})
    answer = await live_client.post("/orders", json=body(live_event, 1))
    assert answer.status_code == 403
    assert charges == []


async def test_more_seats_than_there_are_is_a_conflict(
    live_client: httpx.AsyncClient,
    live_event: int,
    router: respx.MockRouter,
    charges: list[dict[str, object]],
) -> None:
    answer = await live_client.post("/orders", json=body(live_event, 11))
    assert answer.status_code == 409
    assert charges == []


async def test_an_unknown_order_is_not_found(live_client: httpx.AsyncClient) -> None:
    answer = await live_client.get("/orders/6f1f6f1e-6d6c-4f39-9f0c-0d8f9a3f5a10")
    assert answer.status_code == 404
