from __future__ import annotations

import asyncio

import pytest

from devstack.cluster_cache import connect


async def test_a_connection_attempt_that_is_cancelled_closes_its_socket_at_once() -> None:
    accepted, closed = asyncio.Event(), asyncio.Event()

    async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        closed.set()
        writer.close()

    async with await asyncio.start_server(never_answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connecting = asyncio.create_task(connect("127.0.0.1", port, "secret", "postgres"))
        await accepted.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await connecting
        assert cancelled.value.__traceback__ is not None, "the exception is still held"
        await asyncio.wait_for(closed.wait(), timeout=2)
