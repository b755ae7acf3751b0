"""Stubs and wire proxy against clients that send anything: the process lives on, and takes no more than its share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import struct
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest

from devstack.asking import Client
from devstack.faults import Fault, FaultServer
from devstack.faults.http import MAX_CONNECTIONS
from devstack.faults.ledger import MAX_CALLS

pytestmark = pytest.mark.integration

LOOPBACK = "127.0.0.1"
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "300"))
CHARGE = b'{"amount": "20.00", "currency": "EUR", "card_token": "tok_1", "order_ref": "order-1"}'
FAULTS_OF_THE_PROCESS_MIB = 200

METHODS = (b"GET", b"POST", b"HEAD", b"CONNECT", b"PUT", b"OPTIONS", b"PRI", b"\x16\x03\x01", b"")
TARGETS = (
    b"/charges", b"/charges?order_ref=", b"/charges?order_ref=%ff&order_ref=%00", b"/charges/ch_1/refunds", b"/assessments",
    b"/messages", b"/rates/EUR/USD", b"/rates/" + b"x" * 3000 + b"/EUR", b"*", b"//", b"http://[", b"/?" + b"a&" * 4000,
    b"/" + b"\xff" * 20,
)  # fmt: skip
VERSIONS = (b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b" HTTP/1.1\n", b" HTTP/2.0\r\n", b" HTTP/0.9\r\n", b"\r\n")
HEADERS = (
    b"Host: stub\r\n", b"Host: stub\r\n", b"Idempotency-Key: k1\r\n", b"Idempotency-Key: " + b"k" * 9000 + b"\r\n",
    b"Content-Length: 85\r\n", b"Content-Length: 0\r\n", b"Content-Length: -1\r\n", b"Content-Length: 9999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n",
    b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"X-Retry-" + b"a" * 500 + b": 1\r\n", b"X-Request-ID: \x80\xff\x1b\r\n", b"a\x00: b\r\n",
    b" folded\r\n", b"a" * 20_000 + b": b\r\n", b"a: b\r\n" * 3000, b"Content-Encoding: gzip\r\n",
)  # fmt: skip
BODIES = (
    CHARGE, CHARGE, b"", b"null", b"[]", b"{}", b'{"amount": 1e999}', b'{"amount": NaN}', b'{"amount": ' + b"9" * 5000 + b"}",
    b'{"amount": ' + b"9" * 4000 + b', "buyer_email": "a"}', b'{"order_ref": "\\ud800"}', b'{"to": "\\u0000", "template": "\x1b[2J", "order_id": "a"}',
    b"[" * 20_000, b'{"a":' * 5000, b"5\r\nhello\r\n0\r\n\r\n", b"1;" + b"e" * 9000 + b"\r\nx\r\n" * 3, b"zz\r\n", b"1\r\nx\r\n" * 5000,
    b"0\r\n" + b"t: x\r\n" * 5000, b"x" * 100_000, b'{"currency": "' + "\u0130".encode() * 3 + b'", "amount": 1}',
    b'{"buyer_email": "' + "\u0130".encode() * 100 + b'", "amount": "1"}',
)  # fmt: skip


def http_junk(chance: random.Random) -> bytes:
    requests = []
    for _ in range(chance.choice([1, 1, 2, 5])):
        head = (
            chance.choice(METHODS[:2] if chance.random() < 0.7 else METHODS) + b" " + chance.choice(TARGETS)
        )
        head += chance.choice(VERSIONS[:1] if chance.random() < 0.8 else VERSIONS)
        headers = chance.sample(HEADERS, chance.randint(0, 4)) if chance.random() < 0.5 else []
        body = chance.choice(BODIES)
        if chance.random() < 0.7:
            headers += [b"Host: stub\r\n", b"Content-Length: %d\r\n" % len(body)]
        requests.append(head + b"".join(headers) + b"\r\n" + body)
    return mutated(b"".join(requests), chance)


def mutated(raw: bytes, chance: random.Random) -> bytes:
    changed = bytearray(raw)
    for _ in range(chance.choice([0, 0, 1, 10])):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed[: chance.randrange(len(changed) + 1)] if chance.random() < 0.2 else changed)


def startup(code: int, body: bytes, length: int | None = None) -> bytes:
    return struct.pack("!II", 8 + len(body) if length is None else length, code) + body


STARTUPS = (
    startup(196608, b"user\0probe\0\0"), startup(196608, b"user\0probe\0\0"), startup(80877103, b""), startup(80877104, b""),
    startup(80877103, b"x" * 5000), startup(80877102, struct.pack("!II", 1, 2)), startup(80877103, b"") * 1000, startup(196608, b"", 1 << 30),
    startup(196608, b"", 0), startup(0, b""), b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00",
)  # fmt: skip
MESSAGES = (
    b"Q" + struct.pack("!I", 13) + b"COMMIT; \0", b"B" + struct.pack("!I", 1 << 30) + b"x" * 5000, b"P" + struct.pack("!I", 0),
    b"S" + struct.pack("!I", 4), b"X" + struct.pack("!I", 4), b"\0" * 5000, b"Q" + struct.pack("!I", 0xFFFFFFFF), b"B\x00", b"commit",
)  # fmt: skip


def wire_junk(chance: random.Random) -> bytes:
    opening = [chance.choice(STARTUPS) for _ in range(chance.choice([1, 1, 2, 4]))]
    messages = [chance.choice(MESSAGES) for _ in range(chance.randint(0, 8))]
    return mutated(b"".join(opening + messages), chance)


async def send(port: int, raw: bytes, chance: random.Random) -> None:
    """Send in pieces, then leave in one way or another."""
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return
    with contextlib.suppress(OSError):
        while raw:
            cut = chance.choice([1, 7, 100, 5_000, len(raw)])
            writer.write(raw[:cut])
            await writer.drain()
            raw = raw[cut:] if chance.random() < 0.999 else b""
        way = chance.choice(["abort", "end", "read", "leave"])
        if way == "end" and writer.can_write_eof():
            writer.write_eof()
        if way in ("end", "read"):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.05):
                    await reader.read(1_000)
        if way == "leave":
            writer.close()
            return
    writer.transport.abort()


@pytest.fixture
async def database() -> AsyncIterator[int]:
    """Something behind the proxy that reads and answers nonsense; its port."""
    chance = random.Random(3)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while await reader.read(65_536):
                writer.write(chance.choice([b"R\0\0\0\x08\0\0\0\0", b"", b"Z" * 70_000]))
                await writer.drain()
                if chance.random() < 0.1:
                    break
        writer.transport.abort()

    server = await asyncio.start_server(answer, LOOPBACK, 0)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.fixture
async def faults(tmp_path: Path, database: int) -> AsyncIterator[FaultServer]:
    started = await FaultServer.start(
        tmp_path / "world",
        bind_address=LOOPBACK,
        database=(LOOPBACK, database),
        epoch=time.monotonic(),
        seed=7,
    )
    async with started:
        await started.set_latency(payments=0.01, risk=0.01, rates=0.01, mailer=0.01)
        yield started
    assert (tmp_path / "world" / "faults.log").read_text() == ""


def port_of(faults: FaultServer, upstream: str) -> int:
    return int(faults.urls[upstream].rpartition(":")[2])  # type: ignore[index]


def memory_mib() -> float:
    [process] = [
        child for child in psutil.Process().children() if "devstack.faults.process" in child.cmdline()
    ]
    return process.memory_info().rss / 2**20


async def still_charges(faults: FaultServer) -> bool:
    async with Client(faults.urls["payments"]) as client:
        sent = {"Idempotency-Key": f"after-{time.monotonic_ns()}"}
        answer = await client.ask("POST", "/charges", content=CHARGE, headers=sent, timeout_s=20)
    return answer.status == 201


async def in_turn(number: int, act: Callable[[int], object]) -> None:
    """``act`` for each number, eight at a time."""
    for first in range(0, number, 8):
        await asyncio.gather(*(act(index) for index in range(first, min(number, first + 8))))  # type: ignore[call-overload]


async def test_no_bytes_end_a_stub(faults: FaultServer) -> None:
    chance = random.Random(11)
    plans = [
        (),
        (Fault(upstream="payments", kind="hang"), Fault(upstream="mailer", kind="drip")),
        (Fault(upstream="risk", kind="status", status=503, retry_after_s=2, first=1, per_item=True),),
        (Fault(upstream="rates", kind="drop-before"), Fault(upstream="payments", kind="drop-after")),
        (Fault(upstream="mailer", kind="refuse"), Fault(upstream="risk", kind="latency", seconds=0.2)),
    ]

    async def act(number: int) -> None:
        if number % 40 == 0:
            await faults.set_faults(*plans[number // 40 % len(plans)])
        await send(port_of(faults, chance.choice(list(faults.urls))), http_junk(chance), chance)

    await in_turn(EXAMPLES, act)
    await faults.clear_faults()
    assert (await faults.ledger()).taken_s > 0
    assert await still_charges(faults)
    assert memory_mib() < FAULTS_OF_THE_PROCESS_MIB


async def test_no_bytes_end_the_wire_proxy(faults: FaultServer) -> None:
    chance = random.Random(12)

    async def act(number: int) -> None:
        if number % 20 == 0:
            await faults.set_proxy(
                delay_s=chance.choice([0, 0, 0.02]), commit_delay_s=chance.choice([0, 0.05]),
                frozen=chance.random() < 0.3, refuse=chance.random() < 0.1,
            )  # fmt: skip
        if number % 30 == 29:
            await faults.cut()
        await send(faults.proxy_port, wire_junk(chance), chance)

    await in_turn(EXAMPLES, act)
    await faults.set_proxy()
    await faults.cut()
    assert await still_charges(faults)
    counters = await faults.counters()
    for _ in range(100):
        if counters.connections_open == 0:
            break
        await asyncio.sleep(0.05)
        counters = await faults.counters()
    assert counters.connections_open == 0
    assert memory_mib() < FAULTS_OF_THE_PROCESS_MIB


@pytest.mark.parametrize("where", ["payments", "proxy"])
async def test_so_many_connections_and_no_more(faults: FaultServer, where: str) -> None:
    port = faults.proxy_port if where == "proxy" else port_of(faults, where)
    opened = [await asyncio.open_connection(LOOPBACK, port) for _ in range(MAX_CONNECTIONS)]
    try:
        assert all(await asyncio.gather(*(_turned_away(port) for _ in range(20))))
        assert not opened[0][0].at_eof()
    finally:
        for _, writer in opened:
            writer.transport.abort()
    for _ in range(100):
        if await still_charges(faults):
            return
    raise AssertionError("the stub did not recover")


async def _turned_away(port: int) -> bool:
    with contextlib.suppress(ConnectionError):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            return await reader.read(1) == b""
        finally:
            writer.transport.abort()
    return True


@pytest.mark.parametrize("frozen", [False, True])
async def test_a_message_of_a_gigabyte_is_not_collected(faults: FaultServer, frozen: bool) -> None:
    before = memory_mib()
    await faults.set_proxy(frozen=frozen)
    connections = [await asyncio.open_connection(LOOPBACK, faults.proxy_port) for _ in range(10)]
    for _, writer in connections:
        writer.write(STARTUPS[0] + b"B" + struct.pack("!I", 1 << 30))
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(1.5):
            await asyncio.gather(*(_pour(writer, 30_000_000) for _, writer in connections))
    assert memory_mib() < before + 100
    for _, writer in connections:
        writer.transport.abort()
    await faults.set_proxy()
    assert await still_charges(faults)


async def _pour(writer: asyncio.StreamWriter, number: int) -> None:
    with contextlib.suppress(OSError):
        for _ in range(0, number, 60_000):
            writer.write(b"x" * 60_000)
            await writer.drain()


async def test_a_flood_of_calls_fills_the_ledger_and_no_more(faults: FaultServer) -> None:
    body = b'{"amount": "1", "buyer_email": "a", "padding": "' + b"x" * 4_000 + b'"}'
    head = b"POST /assessments HTTP/1.1\r\nHost: stub\r\nContent-Length: %d\r\n\r\n" % len(body)
    await faults.set_latency(risk=0)

    async def act(number: int) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, port_of(faults, "risk"))
        with contextlib.suppress(OSError):
            for _ in range(100):
                writer.write(head + body)
                if not await reader.read(1_000):
                    break
        writer.transport.abort()

    await in_turn(32, act)
    ledger = await faults.ledger()
    assert faults.calls_dropped > 0
    assert 1_500 < len(ledger.calls) < MAX_CALLS
    assert not await still_charges(faults)
    assert memory_mib() < FAULTS_OF_THE_PROCESS_MIB


async def test_what_is_recorded_of_a_call_is_cut(faults: FaultServer) -> None:
    body = b'{"amount": "1", "buyer_email": "a@b", "list": [1], "padding": "' + b"x" * 9_000 + b'"}'
    sent = {
        "X-Request-ID": "r" * 5_000,
        "Idempotency-Key": "k" * 5_000,
        "X-Retry-" + "n" * 300: "1",
        "X-Retry-Count": "\x7e" * 10,
    }
    async with Client(faults.urls["risk"]) as client:
        assert (
            await client.ask("POST", "/assessments", content=body, headers=sent, timeout_s=20)
        ).status == 200
    [call] = (await faults.ledger()).calls
    assert call.body == {"amount": "1", "buyer_email": "a@b"}
    assert {name: len(value) for name, value in call.headers.items() if name != "user-agent"} == {
        "x-request-id": 1_000, "idempotency-key": 1_000, "x-retry-count": 10,
    }  # fmt: skip
    assert len(call.idempotency_key or "") == 300


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: stub\r\n" + b"a: b\r\n" * 20_000 + b"\r\n", b"431 "),
        (b"GET / HTTP/1.1\r\nHost: stub\r\na: " + b"b" * 200_000, b"431 "),
        (
            b"POST / HTTP/1.1\r\nHost: stub\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 5_000,
            b"413 ",
        ),
    ],
)
async def test_a_request_in_too_many_bytes_or_pieces_is_refused(
    faults: FaultServer, raw: bytes, status: bytes
) -> None:
    reader, writer = await asyncio.open_connection(LOOPBACK, port_of(faults, "rates"))
    with contextlib.suppress(OSError):
        writer.write(raw)
        assert status in await reader.read(4_096)
    writer.transport.abort()
    assert (await faults.ledger()).calls == ()
