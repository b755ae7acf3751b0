"""Requests to a service that may do anything: each becomes a record."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from devstack.artifacts import Exchange
from devstack.asking import Client
from grader.scenarios import exchanges
from grader.scenarios.exchanges import PATH_CAP, Room, exchange_with

Answer = Callable[[httpx.Request], httpx.Response]


async def exchanged(answer: Answer, **options: Any) -> Exchange:
    began = time.monotonic()
    async with Client("http://service", transport=httpx.MockTransport(answer)) as client:
        return await exchange_with(
            client, "sample", options.pop("method", "GET"), options.pop("path", "/events"),
            timeout_s=options.pop("timeout_s", 5), now=lambda: time.monotonic() - began, **options,
        )  # fmt: skip


def raising(error: Exception) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        raise error

    return answer


async def test_an_exchange_is_recorded_as_it_was() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.headers["Content-Type"] == "application/json"
        assert json.loads(request.content) == {"quantity": 2}
        return httpx.Response(201, json={"id": "7"}, headers={"X-Request-ID": "a" * 5000})

    exchange = await exchanged(
        answer, method="POST", path="/orders", json_body={"quantity": 2}, headers={"Idempotency-Key": "k"}
    )
    assert (exchange.status, exchange.payload, exchange.error) == (201, {"id": "7"}, None)
    assert exchange.request_json == {"quantity": 2}
    assert exchange.request_headers["Idempotency-Key"] == "k"
    assert len(exchange.headers["x-request-id"]) == 1000
    assert exchange.body_bytes == len(exchange.body)
    assert 0 <= exchange.started_s <= exchange.ended_s < 5


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (httpx.ConnectError("no"), "refused"),
        (httpx.ReadError("no"), "reset"),
        (httpx.WriteError("no"), "reset"),
        (httpx.RemoteProtocolError("no"), "protocol"),
        (httpx.InvalidURL("no"), "protocol"),
    ],
)
async def test_whatever_the_network_does_is_an_exchange_with_an_error(error: Exception, told: str) -> None:
    exchange = await exchanged(raising(error))
    assert (exchange.status, exchange.error) == (None, told)
    assert exchange.describe().startswith(f"GET /events failed ({told}) after ")


async def test_an_answer_that_does_not_come_in_time_is_a_timeout() -> None:
    async def slow(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(5)
        return httpx.Response(200)

    exchange = await exchanged(slow, timeout_s=0.05)  # type: ignore[arg-type]
    assert (exchange.status, exchange.error) == (None, "timeout")


async def test_an_endless_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "BODY_LIMIT_BYTES", 10_000)

    async def endless() -> Any:
        while True:
            yield b"x" * 1000

    exchange = await exchanged(lambda _: httpx.Response(200, content=endless()))
    assert (exchange.status, exchange.error) == (None, "too-large")
    assert exchange.body_bytes == 10_000


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"a": NaN}', b'{"a": 1, "a": 2}', b"[" * 90_000, b"1" * 5_000, b"\xff"]
)
async def test_what_is_not_plain_json_stays_text(raw: bytes) -> None:
    exchange = await exchanged(
        lambda _: httpx.Response(200, content=raw, headers={"Content-Type": "application/json"})
    )
    assert (exchange.status, exchange.payload, exchange.body_bytes) == (200, None, len(raw))
    assert exchange.body == raw.decode("utf-8", "replace")[:64_000]


async def test_of_a_decoded_answer_the_beginning_of_its_text_is_kept() -> None:
    exchange = await exchanged(lambda _: httpx.Response(200, json=["\U0001f3ab" * 1_000]))
    assert exchange.payload == ["\U0001f3ab" * 1_000]
    assert exchange.body == '["' + "\U0001f3ab" * 498


async def test_an_absurd_path_is_recorded_by_its_beginning() -> None:
    exchange = await exchanged(lambda _: httpx.Response(200), path="/orders/" + "x" * 50_000)
    assert (exchange.error, len(exchange.path)) == ("protocol", PATH_CAP)


async def test_a_header_that_cannot_be_sent_is_an_exchange_with_an_error() -> None:
    exchange = await exchanged(lambda _: httpx.Response(200), headers={"X-Request-ID": "\u20ac"})
    assert exchange.error == "protocol"


async def test_the_answers_of_a_scenario_have_so_much_room_together() -> None:
    room = Room(left_bytes=5_000)
    values: list[int] = [1] * 40
    first, second, third = [
        await exchanged(lambda _: httpx.Response(200, json=values), room=room) for _ in range(3)
    ]
    assert (first.payload, second.payload) == (values, values)
    assert (third.status, third.error, third.payload) == (None, "too-large", None)
    empty = await exchanged(lambda _: httpx.Response(204), room=room)
    assert (empty.status, empty.error) == (204, None)


async def test_json_that_is_not_declared_as_such_stays_text() -> None:
    exchange = await exchanged(lambda _: httpx.Response(200, text='{"a": 1}'))
    assert (exchange.body, exchange.payload) == ('{"a": 1}', None)
