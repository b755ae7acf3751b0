"""The load generator's client in a process of its own (gevent patches nothing here), and a server of raw bytes for it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

_SCRIPT = """
import json, resource, sys, time
from grader.load.client import Client, NoAnswer
base_url, timeout_s, requests = json.load(sys.stdin)
client = Client(base_url, connections=4, timeout_s=timeout_s)
found = []
for method, target, headers, body, fresh in requests:
    cpu_s = time.process_time()
    try:
        answer = client.ask(
            method, target, headers=headers, body=None if body is None else body.encode(), fresh=fresh
        )
        kind = answer.status
        told = {"headers": answer.headers, "body": len(answer.body)}
    except NoAnswer as none:
        kind, told = str(none), {}
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found.append({"kind": kind, "cpu_s": time.process_time() - cpu_s, "peak_kb": peak_kb, **told})
json.dump(found, sys.stdout)
"""

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def get(target: str, *, fresh: bool = False) -> tuple[str, str, dict[str, str], None, bool]:
    return ("GET", target, {}, None, fresh)


async def load_client_asks(
    base_url: str, requests: Sequence[Any], *, timeout_s: float = 5
) -> list[dict[str, Any]]:
    """What became of each of (method, target, headers, body, fresh), one after the other."""
    said = json.dumps([base_url, timeout_s, list(requests)])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", _SCRIPT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate(said.encode())
    assert process.returncode == 0
    found: list[dict[str, Any]] = json.loads(output)
    return found


@asynccontextmanager
async def talking(talk: Talk) -> AsyncIterator[str]:
    """The base URL of a server that does with each connection what ``talk`` does."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(connected(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
