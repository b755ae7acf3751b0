"""One client shape: a service that looks at the bytes of its requests cannot tell the load from the checks."""

from __future__ import annotations

import asyncio
import json

import pytest

from devstack.asking import Client
from grader.client_shape import JSON_HEADERS, request_head
from tests.grader.load_asking import load_client_asks, talking

BODY = '{"items": [{"event_id": 3, "quantity": 1}]}'
REQUESTS = [
    ("GET", "/events?limit=20&city=K%C3%B6ln", {}, None, False),
    ("GET", "/orders/7", {"X-Request-ID": "0123abcd"}, None, False),
    (
        *("POST", "/orders"),
        {"Idempotency-Key": "a-key", "X-Request-ID": "0123abcd", **JSON_HEADERS},
        *(BODY, False),
    ),
]


class Listener:
    """Answers everything, and keeps the bytes that came on each connection."""

    def __init__(self) -> None:
        self.connections: list[bytearray] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard = bytearray()
        self.connections.append(heard)
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            heard += head
            if head.startswith(b"POST"):
                heard += await reader.readexactly(len(BODY))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            await writer.drain()


async def heard_from_checks(listener: Listener, base_url: str) -> None:
    async with Client(base_url, keep_alive=True) as client:
        for method, target, headers, body, _ in REQUESTS:
            content = None if body is None else body.encode()
            answer = await client.ask(method, target, content=content, headers=headers, timeout_s=5)
            assert answer.status == 200


@pytest.mark.integration
async def test_the_load_sends_the_bytes_that_a_check_sends() -> None:
    listener = Listener()
    async with talking(listener.talk) as base_url:
        await heard_from_checks(listener, base_url)
        found = await load_client_asks(base_url, REQUESTS)
    assert [answer["kind"] for answer in found] == [200, 200, 200]
    checks, load = listener.connections
    assert load.decode() == checks.decode()


@pytest.mark.integration
async def test_a_fresh_connection_of_the_load_is_used_once_like_one_of_a_check() -> None:
    listener = Listener()
    fresh = [(*request[:4], True) for request in REQUESTS]
    async with talking(listener.talk) as base_url:
        await load_client_asks(base_url, fresh)
    assert len(listener.connections) == len(REQUESTS)


def test_headers_stand_in_one_order_with_the_length_last() -> None:
    head = request_head("POST", "/orders", host="h:1", headers={"Idempotency-Key": "k"}, body_bytes=4)
    names = [line.split(":")[0] for line in head.decode().split("\r\n")[1:-2]]
    assert names == [
        "Host", "Accept", "Accept-Encoding", "Connection", "User-Agent", "Idempotency-Key", "Content-Length",
    ]  # fmt: skip
    assert b"Accept-Encoding: identity\r\n" in head


@pytest.mark.parametrize("target", ["", "events", "/a b", "/a\r\nX: y", "/é", "http://elsewhere/"])
def test_a_target_that_would_be_something_else_is_refused(target: str) -> None:
    with pytest.raises(ValueError, match="target"):
        request_head("GET", target, host="h", headers={}, body_bytes=None)


def test_a_header_cannot_become_two() -> None:
    with pytest.raises(ValueError, match="one line"):
        request_head("GET", "/", host="h", headers={"X-Request-ID": "a\r\nX: y"}, body_bytes=None)


def test_the_body_of_a_check_and_of_the_load_are_encoded_alike() -> None:
    assert json.dumps(json.loads(BODY)) == BODY
