"""Orders whose body is far over the limit, sent by hand: the answer may come, or the connection end, midway."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import JsonValue

from devstack.artifacts import Exchange
from grader.scenarios.stage import Stage

PIECE_BYTES = 65_536
ANSWER_TIMEOUT_S = 13.0
"""Above the contract's 10 s for an order + 20 %."""

_REST_TIMEOUT_S = 0.5
_HEAD_CAP_BYTES = 65_536
_STATUS = re.compile(rb"HTTP/1\.[01] ([2-5]\d\d)")


@dataclass(frozen=True)
class LargeBody:
    """A valid order, padded in a field that nobody knows to ``size`` bytes."""

    order: dict[str, JsonValue]
    size: int
    chunked: bool

    def pieces(self) -> Iterator[bytes]:
        """The body, piece by piece; all pieces together have ``size`` bytes."""
        head, tail = json.dumps(self.order)[:-1].encode() + b', "padding": "', b'"}'
        left = self.size - len(head) - len(tail)
        yield head
        while left > 0:
            yield b"x" * min(left, PIECE_BYTES)
            left -= PIECE_BYTES
        yield tail


async def send_large(stage: Stage, name: str, body: LargeBody, key: str) -> Exchange:
    """POST ``body`` as an order; reads while it sends, and stops sending when there is an answer.

    Recorded under ``name``. A connection that the service ended without an answer has the error ``reset``.
    """
    started_s = stage.now()
    address = urlsplit(stage.service.base_url)
    status: int | None = None
    text, error = "", None
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            try:
                status, text = await _exchange(reader, writer, body, _head(address.netloc, body, key))
            finally:
                writer.transport.abort()
    except TimeoutError:
        error = "timeout"
    except ConnectionRefusedError:
        error = "refused"
    except OSError:
        error = "reset"
    if status is None and error is None:
        error = "reset"
    exchange = Exchange(
        label=name, method="POST", path="/orders", started_s=started_s, elapsed_s=stage.now() - started_s,
        request_headers={"Idempotency-Key": key}, request_json=body.order, status=status, body=text, error=error,
    )  # fmt: skip
    stage.record.exchanges.setdefault(name, []).append(exchange)
    return exchange


def _head(host: str, body: LargeBody, key: str) -> bytes:
    framing = "Transfer-Encoding: chunked" if body.chunked else f"Content-Length: {body.size}"
    lines = (
        "POST /orders HTTP/1.1", f"Host: {host}", "Content-Type: application/json",
        f"Idempotency-Key: {key}", framing,
    )  # fmt: skip
    return "\r\n".join((*lines, "", "")).encode()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: LargeBody, head: bytes
) -> tuple[int | None, str]:
    sending = asyncio.create_task(_send(writer, body, head))
    try:
        return await _answer(reader)
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await sending


async def _send(writer: asyncio.StreamWriter, body: LargeBody, head: bytes) -> None:
    writer.write(head)
    for piece in body.pieces():
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece) if body.chunked else piece)
        await writer.drain()
    if body.chunked:
        writer.write(b"0\r\n\r\n")
        await writer.drain()


async def _answer(reader: asyncio.StreamReader) -> tuple[int | None, str]:
    """Status and text of the answer, ``None`` if the connection ended without one. Raises OSError."""
    received = b""
    while b"\r\n\r\n" not in received or _STATUS.search(received) is None:
        piece = await reader.read(PIECE_BYTES)
        received += piece
        if not piece or len(received) > _HEAD_CAP_BYTES:
            break
    found = _STATUS.search(received)
    if found is None:
        return None, ""
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(_REST_TIMEOUT_S):
            while len(received) < _HEAD_CAP_BYTES and (piece := await reader.read(PIECE_BYTES)):
                received += piece
                if _is_whole(received):
                    break
    return int(found[1]), received[found.start() :].decode("utf-8", "replace")


def _is_whole(received: bytes) -> bool:
    """Whether the announced body has arrived; the rest of an answer that announces nothing is waited for."""
    head, _, rest = received.partition(b"\r\n\r\n")
    announced = re.search(rb"(?i)content-length: *(\d{1,9})", head)
    return announced is not None and len(rest) >= int(announced[1])
