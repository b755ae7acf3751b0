from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from devstack.artifacts import Charge
from devstack.faults.model import Fault
from devstack.seed import LiveData
from devstack.world import World
from tests.orders import mailed, order_body, place, seats_available, settled

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def charges(world: World, order_id: str) -> list[Charge]:
    ledger = await world.faults.ledger()
    return [
        charge for charge in ledger.charges if charge.order_ref == order_id and charge.status == "captured"
    ]


async def test_an_order_is_confirmed_charged_once_and_mailed(
    client: httpx.AsyncClient, world: World, event_id: int
) -> None:
    before = await seats_available(client, event_id)
    answer = await place(client, order_body(event_id, 3))
    assert answer.status_code == 201
    order = answer.json()
    assert (await client.get(answer.headers["location"])).json() == order
    [charge] = await charges(world, order["id"])
    assert (charge.charge_id, charge.amount, charge.currency) == (
        order["charge_id"],
        order["total"]["amount"],
        "EUR",
    )
    assert await seats_available(client, event_id) == before - 3
    await mailed(world, order["id"])


async def test_a_foreign_price_is_rounded_per_ticket(
    client: httpx.AsyncClient, world: World, live: LiveData, event_id: int
) -> None:
    rate = await world.faults.rate("EUR", "USD")
    price = next(event.price for event in live.events if event.id == event_id)
    order = (await place(client, order_body(event_id, 6, currency="USD"))).json()
    unit_price = round(price * rate, 2)  # half-even
    assert order["total"] == {"amount": f"{unit_price * 6:.2f}", "currency": "USD"}
    detail = (await client.get(f"/events/{event_id}?currency=USD")).json()
    assert detail["display_price"] == {"amount": f"{unit_price:.2f}", "currency": "USD"}


async def test_a_key_is_one_order_and_one_charge(
    client: httpx.AsyncClient, world: World, event_id: int
) -> None:
    body = order_body(event_id)
    answers = await asyncio.gather(*(place(client, body, "one key") for _ in range(15)))
    assert {answer.status_code for answer in answers} == {201}
    [order_id] = {answer.json()["id"] for answer in answers}
    assert len(await charges(world, order_id)) == 1
    reordered = json.dumps(dict(reversed(body.items())), indent=2)
    headers = {"Idempotency-Key": "one key", "content-type": "application/json"}
    assert (await client.post("/orders", content=reordered, headers=headers)).json()["id"] == order_id
    assert (await place(client, order_body(event_id), "one key")).status_code == 409


async def test_seats_are_never_sold_twice(
    client: httpx.AsyncClient, world: World, small_event_ids: Iterator[int]
) -> None:
    await world.faults.set_latency(payments=0.2)
    one, other = next(small_event_ids), next(small_event_ids)
    bodies = [order_body(one, items=[{"event_id": a, "quantity": 1}, {"event_id": b, "quantity": 1}])
              for a, b in [(one, other), (other, one)] * 15]  # fmt: skip
    answers = await asyncio.gather(*(place(client, body) for body in bodies))
    assert Counter(answer.status_code for answer in answers) == {201: 20, 409: 10}
    assert await seats_available(client, one) == await seats_available(client, other) == 0


@pytest.mark.parametrize(
    ("change", "status"),
    [({"card_token": "tok_decline"}, 402), ({"buyer_email": "deny@mail.example.com"}, 403)],
)
async def test_whoever_may_not_buy_holds_no_seats(
    client: httpx.AsyncClient, event_id: int, change: dict[str, str], status: int
) -> None:
    before = await seats_available(client, event_id)
    body = order_body(event_id, 6, **change)
    assert (await place(client, body, f"key {status}")).status_code == status
    assert (await place(client, body, f"key {status}")).status_code == status
    assert await seats_available(client, event_id) == before


async def test_an_unknown_event_is_not_found_and_a_closed_one_a_conflict(
    client: httpx.AsyncClient, live: LiveData
) -> None:
    assert (await place(client, order_body(2**31 - 1))).status_code == 404
    for event in (*live.not_yet_open()[:1], *live.closed()[:1]):
        assert (await place(client, order_body(event.id))).status_code == 409


async def test_an_invalid_order_is_refused_without_showing_its_card(
    client: httpx.AsyncClient, event_id: int
) -> None:
    answer = await place(client, order_body(event_id, 99, card_token="tok_secret\n"))
    assert answer.status_code == 422
    assert "tok_secret" not in answer.text
    assert (await client.post("/orders", json=order_body(event_id))).status_code == 422  # without a key


async def test_a_body_that_is_no_order_is_refused(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json", "Idempotency-Key": "no order"}
    for content in (b"", b"{", b"[]", b"null", b"\xff", b"[" * 5000, b'{"x": ' + b"9" * 5000 + b"}"):
        answer = await client.post("/orders", content=content, headers=headers)
        assert answer.status_code in (400, 422), content[:10]


async def test_a_lost_answer_is_asked_for_again_with_the_same_key(
    client: httpx.AsyncClient, world: World, event_id: int
) -> None:
    await world.faults.set_faults(Fault(upstream="payments", kind="drop-after", first=1, per_item=True))
    order = (await place(client, order_body(event_id))).json()
    assert order["status"] == "confirmed"
    assert len(await charges(world, order["id"])) == 1


async def test_payments_that_turn_us_away_fail_the_order(
    client: httpx.AsyncClient, world: World, event_id: int
) -> None:
    before = await seats_available(client, event_id)
    await world.faults.set_faults(
        Fault(upstream="payments", kind="status", operation="charge", status=429, retry_after_s=60)
    )
    body = order_body(event_id)
    answer = await place(client, body, "turned away")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert await seats_available(client, event_id) == before
    await world.faults.clear_faults()
    assert (await place(client, body, "turned away")).json()["code"] == "order_failed"


async def test_an_unknown_outcome_is_pending_and_settles_when_payments_answer(
    client: httpx.AsyncClient, world: World, event_id: int
) -> None:
    before = await seats_available(client, event_id)
    await world.faults.set_faults(Fault(upstream="payments", kind="drop-after"))
    answers = await asyncio.gather(*(place(client, order_body(event_id)) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {202}
    assert {answer.json()["status"] for answer in answers} == {"pending"}
    assert await seats_available(client, event_id) == before - 5
    await world.faults.clear_faults()
    for order in await asyncio.gather(*(settled(client, answer.json()["id"]) for answer in answers)):
        assert order["status"] == "confirmed"
        assert [charge.charge_id for charge in await charges(world, order["id"])] == [order["charge_id"]]


@pytest.mark.parametrize(("upstream", "currency"), [("risk", "EUR"), ("rates", "SEK")])
async def test_without_a_decision_or_a_rate_nothing_is_charged(
    client: httpx.AsyncClient, world: World, event_id: int, upstream: str, currency: str
) -> None:
    charged = len((await world.faults.ledger()).charges)
    await world.faults.set_faults(Fault.model_validate({"upstream": upstream, "kind": "status"}))
    answer = await place(client, order_body(event_id, currency=currency))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert len((await world.faults.ledger()).charges) == charged


async def test_assessment_and_rate_are_asked_for_at_the_same_time(
    client: httpx.AsyncClient, world: World, event_id: int
) -> None:
    await world.faults.set_latency(risk=0.5, rates=0.5)
    async with asyncio.timeout(0.95):
        assert (await place(client, order_body(event_id, currency="CHF"))).status_code == 201


async def test_what_is_too_much_is_shed_before_it_is_charged(
    client: httpx.AsyncClient, world: World, event_id: int
) -> None:
    await world.faults.set_latency(payments=1.5)
    answers = await asyncio.gather(*(place(client, order_body(event_id)) for _ in range(120)))
    counts = Counter(answer.status_code for answer in answers)
    assert counts == {201: 100, 503: 20}
    assert {answer.json()["code"] for answer in answers if answer.status_code == 503} == {"overloaded"}
