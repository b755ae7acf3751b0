from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from tests.orders import order_body, place, seats_available

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def join(client: httpx.AsyncClient, event_id: int, email: str, quantity: object = 2) -> httpx.Response:
    return await client.post(f"/events/{event_id}/waitlist", json={"email": email, "quantity": quantity})


async def sold_out(client: httpx.AsyncClient, event_id: int) -> int:
    while seats := await seats_available(client, event_id):
        await place(client, order_body(event_id, min(seats, 6)))
    return event_id


async def test_positions_have_no_gaps_and_no_twins(
    client: httpx.AsyncClient, small_event_ids: Iterator[int]
) -> None:
    event_id = await sold_out(client, next(small_event_ids))
    emails = [f"{'Waiting' if n % 2 else 'waiting'}{n % 20}@mail.example.com" for n in range(80)]
    answers = await asyncio.gather(*(join(client, event_id, email) for email in emails))
    assert Counter(answer.status_code for answer in answers) == {201: 20, 200: 60}
    entries = {entry["id"]: entry["position"] for entry in (answer.json() for answer in answers)}
    assert sorted(entries.values()) == list(range(1, 21))


async def test_an_entry_is_never_changed(client: httpx.AsyncClient, small_event_ids: Iterator[int]) -> None:
    event_id = await sold_out(client, next(small_event_ids))
    entry = (await join(client, event_id, "Ada@mail.example.com", 2)).json()
    again = await join(client, event_id, "ada@mail.example.com", 5)
    assert (again.status_code, again.json()) == (200, entry)
    assert (await client.get(f"/events/{event_id}/waitlist/{entry['id']}")).json() == entry


async def test_answers_come_in_the_order_of_the_contract(client: httpx.AsyncClient, event_id: int) -> None:
    assert (await join(client, 999_999_999, "ada@mail.example.com", 0)).status_code == 422
    assert (await join(client, 999_999_999, "nobody")).status_code == 422
    assert (await join(client, 999_999_999, "ada@mail.example.com")).status_code == 404
    assert (await join(client, event_id, "ada@mail.example.com")).status_code == 409
