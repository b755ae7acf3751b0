"""Asking services that answer with floods, bombs and nonsense, over real sockets."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import os
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator

import httpx
import pytest
from hostile_server import Handler, saying, serving, streaming
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from devstack import asking
from devstack.asking import HEAD_LIMIT_BYTES, MAX_HEADERS, MAX_PIECES, Answer, Client

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "60"))
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
LIMIT = 100_000


async def asked(handler: Handler, *, timeout_s: float = 20, limit_bytes: int = LIMIT) -> Answer:
    async with serving(handler) as address, Client(address) as client:
        return await client.ask("GET", "/events", timeout_s=timeout_s, limit_bytes=limit_bytes)


def for_ever(piece: bytes, first: bytes = b"") -> Iterator[bytes]:
    return itertools.chain((first,), itertools.repeat(piece))


async def test_an_honest_answer_arrives_as_it_was_sent() -> None:
    answer = await asked(
        saying(OK + b"X-Request-ID: r1\r\nVary: a\r\nVary: b\r\nContent-Length: 2\r\n\r\n{}")
    )
    expected = {"x-request-id": "r1", "vary": "a, b", "content-length": "2"}
    assert answer == Answer(status=200, headers=expected, body=b"{}")


async def test_a_request_is_the_same_for_every_service_and_asks_for_no_compression() -> None:
    heads: list[bytes] = []
    async with (
        serving(saying(OK + b"Content-Length: 0\r\n\r\n", asked=heads)) as address,
        Client(address) as client,
    ):
        await client.ask(
            "POST", "/orders?a=%20b", content=b"{}", headers={"Idempotency-Key": "k"}, timeout_s=5
        )
    lines = heads[0].decode().split("\r\n")
    assert lines[0] == "POST /orders?a=%20b HTTP/1.1"
    assert [line.partition(": ")[0].lower() for line in lines[1:-2]] == [
        "host", "accept", "accept-encoding", "connection", "user-agent", "idempotency-key", "content-length",
    ]  # fmt: skip
    assert "Accept-Encoding: identity" in lines


async def test_cookies_are_not_kept_and_redirects_not_followed() -> None:
    heads: list[bytes] = []
    reply = b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with serving(saying(reply, asked=heads)) as address, Client(address, keep_alive=True) as client:
        answers = [await client.ask("GET", "/events", timeout_s=5) for _ in range(2)]
    assert [answer.status for answer in answers] == [307, 307]
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


@pytest.mark.parametrize("path", ["http://127.0.0.1:1/x", "//127.0.0.1:1/x", "/orders/http://127.0.0.1:1/"])
async def test_a_path_never_leads_to_another_server(path: str) -> None:
    heads: list[bytes] = []
    async with serving(saying(OK + b"\r\n", asked=heads)) as address, Client(address) as client:
        assert (await client.ask("GET", path, timeout_s=5)).status == 200
    assert len(heads) == 1


@pytest.mark.parametrize("path", ["/" + "x" * 5_000, "/a\nb", "/a\x00", "/\ud800"])
async def test_a_path_that_is_none_is_not_asked_for(path: str) -> None:
    async with Client("http://127.0.0.1:1") as client:
        assert (await client.ask("GET", path, timeout_s=5)).error == "protocol"


@pytest.mark.parametrize("value", ["\u20ac", "a\r\nb: c"])
async def test_a_header_that_is_none_is_not_sent(value: str) -> None:
    heads: list[bytes] = []
    async with serving(saying(OK + b"\r\n", asked=heads)) as address, Client(address) as client:
        answer = await client.ask("GET", "/", headers={"X-Request-ID": value}, timeout_s=5)
    assert (answer.error, heads) == ("protocol", [])


async def test_nobody_listening_is_refused() -> None:
    async with Client("http://127.0.0.1:1") as client:
        assert await client.ask("GET", "/", timeout_s=5) == Answer(None, {}, b"", "refused")


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([], "protocol"),
        ([b"\x00" * 1000], "protocol"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"], "protocol"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"], "protocol"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"], "protocol"),
        ([b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"], "protocol"),
        ([CHUNKED + b"zz\r\n"], "protocol"),
        ([CHUNKED + b"-1\r\n"], "protocol"),
        ([CHUNKED + b"ffffffffffffffffffff\r\nx"], "protocol"),
        ([OK + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"], "protocol"),
        ([OK + b"a: b\x00\r\n\r\n"], "protocol"),
    ],
)  # fmt: skip
async def test_an_answer_that_is_no_http_is_an_error_of_the_service(pieces: list[bytes], error: str) -> None:
    answer = await asked(saying(*pieces))
    assert (answer.status, answer.error) == (None, error)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param(for_ever(b"HTTP/1.1 100 Continue\r\n\r\n"), id="1xx without end"),
        pytest.param(for_ever(b"a: b\r\n", OK), id="headers without end"),
        pytest.param([OK + b"a: b\r\n" * 10_000 + b"\r\n"], id="10,000 headers"),
        pytest.param([OK + b"a: " + b"x" * 100_000 + b"\r\n\r\n"], id="a header of 100 KB"),
        pytest.param(for_ever(b"x" * 10_000), id="a status line without end"),
        pytest.param(for_ever(b"x" * 60_000, OK + b"\r\n"), id="a body without end"),
        pytest.param(for_ever(b"ea60\r\n" + b"x" * 60_000 + b"\r\n", CHUNKED), id="chunks without end"),
        pytest.param(for_ever(b"1;" + b"e" * 9_000 + b"\r\nx\r\n", CHUNKED), id="extensions of chunks"),
        pytest.param(for_ever(b"a: b\r\n", CHUNKED + b"0\r\n"), id="trailers without end"),
        pytest.param([OK + f"Content-Length: {LIMIT + 1}\r\n\r\n".encode() + b"x" * (LIMIT + 1)], id="a byte too many"),
    ],
)  # fmt: skip
async def test_a_flood_is_cut_off_at_a_limit(pieces: Iterable[bytes]) -> None:
    answer = await asked(streaming(pieces))
    assert (answer.status, answer.error) in {(None, "too-large"), (None, "protocol")}
    assert len(answer.body) <= LIMIT


async def test_a_body_of_exactly_the_limit_is_complete() -> None:
    answer = await asked(saying(OK + f"Content-Length: {LIMIT}\r\n\r\n".encode() + b"x" * LIMIT))
    assert (answer.status, len(answer.body)) == (200, LIMIT)


async def test_a_hundred_thousand_tiny_chunks_are_cut_off_by_their_number() -> None:
    chunks = saying(CHUNKED + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n")
    answer = await asked(chunks, limit_bytes=4_000_000)
    assert (answer.status, answer.error) == (None, "too-large")
    assert len(answer.body) <= MAX_PIECES + 1


async def test_some_thousand_small_chunks_are_a_complete_answer() -> None:
    answer = await asked(saying(CHUNKED + b"3\r\nabc\r\n" * 5_000 + b"0\r\n\r\n"))
    assert (answer.status, answer.body) == (200, b"abc" * 5_000)


async def test_everybody_else_has_a_turn_while_chunks_are_read() -> None:
    turns = 0

    async def somebody_else() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(somebody_else())
    answer = await asked(saying(CHUNKED + b"1\r\nx\r\n" * 10_000 + b"0\r\n\r\n"))
    task.cancel()
    assert answer.status == 200
    assert turns >= 10_000 / 200


async def test_a_body_that_drips_is_given_up_when_its_time_is_over() -> None:
    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK + b"Content-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    answer = await asked(dripping, timeout_s=0.3)
    assert (answer.status, answer.error, answer.headers) == (None, "timeout", {})
    assert answer.body.strip(b"x") == b""


async def test_a_head_that_drips_is_given_up_after_some_reads() -> None:
    async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(OK)
        while True:
            writer.write(b"a")
            await writer.drain()
            await asyncio.sleep(0.0002)

    assert (await asked(dripping)).error == "too-large"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_is_decoded_up_to_the_limit_and_no_further(encoding: str) -> None:
    packed = (gzip.compress if encoding == "gzip" else zlib.compress)(bytes(100_000_000))
    head = f"Content-Encoding: {encoding}\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    tracemalloc.start()
    try:
        answer = await asked(saying(OK + head + packed), limit_bytes=1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (answer.status, answer.error, len(answer.body)) == (None, "too-large", 1_000_000)
    assert peak < 10_000_000


async def test_a_compressed_answer_is_read_although_nobody_asked_for_it() -> None:
    packed = gzip.compress(b'{"items": []}')
    head = f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n".encode()
    assert (await asked(saying(OK + head + packed))).body == b'{"items": []}'


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "x" * 500])
async def test_what_is_packed_in_another_way_stays_as_it_is(encoding: str) -> None:
    answer = await asked(
        saying(OK + f"Content-Encoding: {encoding}\r\nContent-Length: 3\r\n\r\nabc".encode())
    )
    assert (answer.status, answer.body) == (200, b"abc")


async def test_headers_are_kept_up_to_a_number_and_a_length() -> None:
    head = b"".join(b"h%d: %s\r\n" % (number, b"v" * 90) for number in range(100)) + b"n" * 300 + b": x\r\n"
    assert len(head) < HEAD_LIMIT_BYTES
    answer = await asked(
        saying(OK + b"long: " + b"v" * 2_000 + b"\r\n" + head + b"Content-Length: 0\r\n\r\n")
    )
    assert answer.status == 200
    assert len(answer.headers) == MAX_HEADERS
    assert len(answer.headers["long"]) == asking.MAX_HEADER_VALUE


async def test_answers_read_at_the_same_time_share_one_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "IN_FLIGHT_LIMIT_BYTES", 250_000)
    released = asyncio.Event()
    handler = _waiting(CHUNKED + b"%x\r\n" % LIMIT + b"x" * LIMIT + b"\r\n", released, b"0\r\n\r\n")
    async with serving(handler) as address, Client(address) as client:
        answers = await asyncio.gather(*(client.ask("GET", "/", timeout_s=1) for _ in range(5)))
        assert "too-large" in {answer.error for answer in answers}
        assert {answer.status for answer in answers} == {None}
        released.set()
        assert (await client.ask("GET", "/", timeout_s=20)).status == 200


def _waiting(first: bytes, until: asyncio.Event, then: bytes) -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(first)
        await writer.drain()
        await until.wait()
        writer.write(then)
        await writer.drain()

    return handler


async def test_an_endless_answer_costs_no_more_memory_than_its_limit() -> None:
    tracemalloc.start()
    try:
        answer = await asked(streaming(for_ever(b"x" * 60_000, OK + b"\r\n")), limit_bytes=1_000_000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.error == "too-large"
    assert peak < 10_000_000


PARTS = (
    OK, b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 204 No\r\n", b"HTTP/1.1 304 No\r\n", b"HTTP/1.1 100 C\r\n\r\n", b"HTTP/1.1 101 S\r\n",
    b"HTTP/1.1 999 ?\r\n", b"HTTP/1.1 099 ?\r\n", b"HTTP/2.0 200 OK\r\n", b"\r\n", b"\n", b"\r", b" ", b":", b"a: b\r\n", b"0\r\n", b"5\r\n",
    b"hello", b"\x00", b"\xff" * 9, b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"Content-Length: 99999999999\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n",
    b"Content-Encoding: gzip\r\n", b"Content-Encoding: deflate\r\n", gzip.compress(b"x"), b"Content-Type: application/json; charset=\xff\r\n",
    b"Set-Cookie: a=b\r\n", b"Location: file:///etc/passwd\r\n", b"Trailer: a\r\n", b"Keep-Alive: timeout=x\r\n",
)  # fmt: skip


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.sampled_from(PARTS) | st.binary(max_size=40), max_size=14),
    method=st.sampled_from(["GET", "POST", "HEAD", "DELETE"]),
    keep_alive=st.booleans(),
)
def test_no_bytes_of_a_service_raise(pieces: list[bytes], method: str, keep_alive: bool) -> None:
    async def ask_twice() -> list[Answer]:
        async with serving(saying(*pieces)) as address, Client(address, keep_alive=keep_alive) as client:
            return [await client.ask(method, "/orders", content=b"{}", timeout_s=20) for _ in range(2)]

    for answer in asyncio.run(ask_twice()):
        assert (answer.status is None) == (answer.error is not None)
        assert answer.error in {None, "protocol", "reset", "refused", "too-large"}


async def test_other_transports_may_stand_in_for_the_network() -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text=request.url.path))
    async with Client("http://service", transport=transport) as client:
        assert (await client.ask("GET", "/events", timeout_s=5)).body == b"/events"
