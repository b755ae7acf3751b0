"""Run by tests in a process of its own: enter the level ``argv[1]``, start ``argv[2:]``'s sources inside, print what they printed.

The sources see ``HOST``, ``PORT`` and ``STUB`` (address and port of a listener beside the stubs' end) and a loopback port
of the grader's as ``CONTROL``.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from grader.sandbox.levels import Sandbox, entered


async def drive(placement: Any, sources: list[str]) -> list[dict[str, Any]]:
    results = []
    with tempfile.TemporaryDirectory(prefix="sandbox-test-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        async with placement.room() as room:
            with (
                socket.create_server((room.bind_address, 0)) as stub,
                socket.create_server((placement.control_address, 0)) as control,
            ):
                for number, source in enumerate(sources):
                    environment = {
                        "HOST": room.submission_address,
                        "PORT": str(room.free_port()),
                        "HOME": str(place / "tmp"),
                        "STUB": f"{stub.getsockname()[0]}:{stub.getsockname()[1]}",
                        "CONTROL": f"{control.getsockname()[0]}:{control.getsockname()[1]}",
                        "PYTHONUNBUFFERED": "1",
                    }
                    log = place / f"{number}.log"
                    begun = time.monotonic()
                    argv = [sys.executable, "-I", "-S", "-c", source]
                    process = await room.spawn(argv, cwd=place, env=environment, log=log)
                    started_s = time.monotonic() - begun
                    await process.wait_gone(20)
                    members = process.members()
                    await process.kill_all()
                    results.append(
                        {
                            "status": process.returncode,
                            "members": len(members),
                            "started_s": started_s,
                            "exceeded": process.exceeded(),
                            "told": log.read_text(errors="replace").splitlines(),
                        }
                    )
    return results


def main() -> None:
    os.environ["CANARY_SECRET"] = "do-not-tell"
    with entered(Sandbox(sys.argv[1])) as placement:  # type: ignore[arg-type]
        print(json.dumps(asyncio.run(drive(placement, sys.argv[2:]))))


if __name__ == "__main__":
    main()
