"""What a service may do to the load's client: the request fails, and costs next to nothing."""

from __future__ import annotations

import asyncio
import contextlib
import gzip

import pytest

from grader.load.requests import REQUEST_ID
from tests.grader.load_asking import get, load_client_asks, talking

pytestmark = pytest.mark.integration

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
MANY_HEADERS = b"".join(b"x-%d: y\r\n" % number for number in range(300))
FLOOD = b"".join(b"x-%d: y\r\n" % number for number in range(5_000))
CRUMBS = b"".join(b"1\r\nx\r\n" for _ in range(50_000))
INTERIM = b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5_000
BOMB = gzip.compress(b" " * 50_000_000)

ANSWERS = {
    "/endless": (b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 65_536 * 40, "too-large"),
    "/announced": (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 3_000_000, "too-large"),
    "/flood": (b"HTTP/1.1 200 OK\r\n" + FLOOD + b"Content-Length: 2\r\n\r\n{}", "too-large"),
    "/many": (b"HTTP/1.1 200 OK\r\n" + MANY_HEADERS + b"Content-Length: 2\r\n\r\n{}", "too-large"),
    "/long": (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000 + b"\r\n\r\n", "too-large"),
    "/crumbs": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + CRUMBS, "too-large"),
    "/interim": (INTERIM + OK, "too-large"),
    "/twice": (OK + OK, "protocol"),
    "/garbage": (b"\x00\xff not HTTP at all\r\n\r\n", "protocol"),
    "/lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", "protocol"),
    "/number": (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\n{}", "protocol"),
    "/switch": (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "reset"),
    "/nothing": (b"", "reset"),
    "/half": (b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{}", "protocol"),
    "/right": (OK, 200),
}


async def hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        answer, kind = ANSWERS[head.split()[1].decode()]
        writer.write(answer)
        await writer.drain()
        if kind != 200:
            return


async def test_whatever_a_service_sends_the_request_fails_and_the_next_one_is_answered() -> None:
    paths = [path for target in ANSWERS for path in (target, "/right")]
    async with talking(hostile) as base_url:
        found = await load_client_asks(base_url, [get(path) for path in paths])
    kinds = {path: answer["kind"] for path, answer in zip(paths, found, strict=True)}
    wanted = {path: kind for path, (_, kind) in ANSWERS.items()}
    lenient = {"/switch", "/half"}
    assert {path: kind for path, kind in kinds.items() if path not in lenient} == {
        path: kind for path, kind in wanted.items() if path not in lenient
    }
    assert all(kinds[path] in ("reset", "protocol") for path in lenient)
    assert all(answer["kind"] == 200 for answer in found[1::2])
    assert max(answer["cpu_s"] for answer in found) < 0.1
    assert found[-1]["peak_kb"] - found[1]["peak_kb"] < 20_000


async def test_a_compressed_bomb_is_not_opened() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(BOMB) + BOMB
        )
        await writer.drain()
        await reader.read()

    async with talking(talk) as base_url:
        (found,) = await load_client_asks(base_url, [get("/events")])
    assert (found["kind"], found["body"]) == (200, len(BOMB))


async def test_neither_cookies_nor_redirects_change_the_next_request() -> None:
    heard: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(
                b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nSet-Cookie: seen=1\r\nContent-Length: 0\r\n\r\n"
            )
            await writer.drain()

    async with talking(talk) as base_url:
        found = await load_client_asks(base_url, [get("/events"), get("/events")])
    assert [answer["kind"] for answer in found] == [302, 302]
    assert len(heard) == 2
    assert heard[0] == heard[1]


async def test_a_service_that_says_nothing_is_waited_for_as_long_as_agreed() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readexactly(1_000_000)

    async with talking(talk) as base_url:
        (found,) = await load_client_asks(base_url, [get("/events")], timeout_s=0.2)
    assert found["kind"] == "timeout"


async def test_the_id_of_a_request_comes_back_in_lower_case() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX-Request-Id: abc\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with talking(talk) as base_url:
        (found,) = await load_client_asks(base_url, [("GET", "/", {REQUEST_ID: "abc"}, None, False)])
    assert found["headers"]["x-request-id"] == "abc"
