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
from grader.scenarios import exchanges
from grader.scenarios.exchanges import exchange_with, parse_json

Answer = Callable[[httpx.Request], httpx.Response]


async def exchanged(answer: Answer, **options: Any) -> Exchange:
    began = time.monotonic()
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://service") as client:
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
    monkeypatch.setattr(exchanges, "BODY_CAP_BYTES", 10_000)

    async def endless() -> Any:
        while True:
            yield b"x" * 1000

    exchange = await exchanged(lambda _: httpx.Response(200, content=endless()))
    assert (exchange.status, exchange.error) == (None, "too-large")
    assert exchange.body_bytes < 20_000


@pytest.mark.parametrize(
    ("raw", "payload"),
    [
        (b'{"a": [1, "\xc3\xa9"]}', {"a": [1, "é"]}),
        (b"", None),
        (b"{", None),
        (b'{"a": NaN}', None),
        (b'{"a": -Infinity}', None),
        (b'"\\ud800"', None),
        (b"\xff", None),
        (b"[" * 100_000, None),
        (b"1" * 5_000, None),
    ],
)
def test_only_plain_json_is_taken_from_a_service(raw: bytes, payload: object) -> None:
    assert parse_json(raw) == payload


async def test_json_that_is_not_declared_as_such_stays_text() -> None:
    exchange = await exchanged(lambda _: httpx.Response(200, text='{"a": 1}'))
    assert (exchange.body, exchange.payload) == ('{"a": 1}', None)
