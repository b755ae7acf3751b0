"""``python -m boxoffice``: an HTTP service from the standard library alone.

``behaviour.txt`` beside this file holds one word:

- ``ok``: serves, ends on SIGTERM
- ``dies-at-once``: ends with status 1 before it listens
- ``never-listens``: runs without opening its port
- ``never-ready``: listens; readiness and events answer 503
- ``unready-but-serves``: readiness answers 503, events 200
- ``dies-midway``: ends with status 4 at the third request for events
- ``hangs``: is ready, but never answers a request for events
- ``ignores-sigterm``: serves, and ignores SIGTERM
- ``forks-daemon``: leaves a grandchild behind in a session of its own
- ``chatty``: writes 30 MB to its log before it listens
- ``hogs-cpu``: spins in eight processes while it serves
- ``port-in-use``: says at its first start that its port is taken, serves at the second
- ``port-always-in-use``: says so at every start
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from pathlib import Path

BEHAVIOUR = Path(__file__).with_name("behaviour.txt").read_text().strip()
EVENTS_BEFORE_DEATH = 2


async def answer(path: str, served: list[str]) -> tuple[int, object]:
    if path == "/health/live":
        return 200, {"status": "ok"}
    if BEHAVIOUR == "never-ready":
        return 503, {"failed": ["database"]}
    if path == "/health/ready":
        if BEHAVIOUR == "unready-but-serves":
            return 503, {"failed": ["itself"]}
        return 200, {"status": "ok"}
    if path.startswith("/events"):
        served.append(path)
        if BEHAVIOUR == "hangs":
            await asyncio.sleep(3600)
        if BEHAVIOUR == "dies-midway" and len(served) > EVENTS_BEFORE_DEATH:
            print("out of luck", flush=True)
            os._exit(4)
        return 200, {"items": [], "next_cursor": None}
    if path == "/environment":
        return 200, dict(os.environ)
    return 404, {"detail": "Not Found"}


async def serve_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, served: list[str]) -> None:
    try:
        while request := (await reader.readline()).decode():
            length = 0
            while line := (await reader.readline()).strip().lower():
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            await reader.readexactly(length)
            status, payload = await answer(request.split()[1], served)
            body = json.dumps(payload).encode()
            head = f"HTTP/1.1 {status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def serve() -> None:
    served: list[str] = []
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if BEHAVIOUR == "ignores-sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        loop.add_signal_handler(signal.SIGTERM, stop.set)
    await asyncio.start_server(
        lambda reader, writer: serve_client(reader, writer, served),
        os.environ["HOST"],
        int(os.environ["PORT"]),
    )
    print("serving", flush=True)
    await stop.wait()
    print("stopped", flush=True)


def leave_daemon_behind() -> None:
    """The classic double fork: the grandchild is nobody's child and has no terminal."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    os.wait()


def spin_in_children(count: int) -> None:
    """Children that end with their parent."""
    parent = os.getpid()
    for _ in range(count):
        if os.fork() == 0:
            while os.getppid() == parent:
                sum(range(10_000))
            os._exit(0)


def main() -> None:
    if BEHAVIOUR == "dies-at-once":
        sys.exit("cannot import the payments module\x1b[2J")
    if BEHAVIOUR == "never-listens":
        time.sleep(600)
    if BEHAVIOUR == "forks-daemon":
        leave_daemon_behind()
    if BEHAVIOUR == "hogs-cpu":
        spin_in_children(8)
    if BEHAVIOUR == "chatty":
        for _ in range(30):
            print("x" * 1_000_000, flush=True)
    if BEHAVIOUR.endswith("in-use"):
        started = Path(os.environ["TMPDIR"]).with_name("started-before")
        if BEHAVIOUR == "port-always-in-use" or not started.exists():
            started.touch()
            sys.exit("[Errno 98] error while attempting to bind: Address already in use")
    asyncio.run(serve())
    os._exit(0)


if __name__ == "__main__":
    main()
