"""``python -m grader.sandbox.probe LEVEL``: whether a sandbox of that level works here, as a line of JSON."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import tempfile
from pathlib import Path

from devstack.errors import DevstackError
from devstack.placement import Placement
from grader.errors import GraderError, SandboxFailed, SandboxUnavailable
from grader.sandbox import bubblewrap, container, limits
from grader.sandbox.ground import SUBMISSION_ID
from grader.sandbox.levels import Sandbox, entered

ANSWER_LIMIT_S = 10.0

_SERVER = """
import os, socket
with socket.create_server((os.environ["HOST"], int(os.environ["PORT"]))) as server:
    connection, _ = server.accept()
    seen = sorted(name for name in os.listdir("/proc") if name.isdigit())
    connection.sendall(f"{os.getuid()} {len(seen)} {os.path.exists('/etc/shadow')}".encode())
"""
_RESTRICTED = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_CLONE = Path("/proc/sys/kernel/unprivileged_userns_clone")


def main() -> None:
    """Try, and tell."""
    try:
        details = _try(sys.argv[1])
        told = {"works": True, "details": details}
    except (GraderError, DevstackError, OSError) as error:
        reason = error.args[0] if isinstance(error, GraderError) and error.args else str(error)
        hint = getattr(error, "hint", "") or _hint()
        told = {"works": False, "reason": str(reason), "hint": hint}
    print(json.dumps(told))


def _try(level: str) -> list[str]:
    if level == "container":
        engine = container.find()
        with entered(Sandbox("container")) as placement:
            asyncio.run(_connect(placement))
        return [f"{engine.name} {engine.version}", "memory, processes and CPU weight by the engine"]
    program = bubblewrap.find()
    with entered(Sandbox("strong")) as placement:
        asyncio.run(_connect(placement))
    return [f"bubblewrap {program.version}", asyncio.run(_limits())]


async def _connect(placement: Placement) -> None:
    """Start a server inside and talk to it. Raises SandboxFailed."""
    python = Path(sys.executable)
    with tempfile.TemporaryDirectory(prefix="grader-probe-") as folder:
        place = Path(folder)
        place.chmod(0o755)
        async with placement.room() as room:
            port = room.free_port()
            environment = {"HOST": room.submission_address, "PORT": str(port), "HOME": str(place / "tmp")}
            process = await room.spawn(
                [str(python), "-I", "-S", "-c", _SERVER], cwd=place, env=environment, log=place / "log"
            )
            try:
                told = await _answer(room.address_for_grader(), port)
            except (OSError, TimeoutError) as error:
                log = (place / "log").read_text(errors="replace").strip().splitlines() or [str(error)]
                raise SandboxFailed(f"a server in the sandbox could not be reached: {log[-1]}") from error
            finally:
                await process.kill_all()
    if told not in (f"{bubblewrap.INNER_ID} 2 False", f"{SUBMISSION_ID} 2 False"):
        raise SandboxUnavailable(f"the sandbox shows more than it should: {told}")


async def _limits() -> str:
    confinement = limits.confine("probe", account_uid=SUBMISSION_ID if os.geteuid() == 0 else None)
    try:
        return confinement.description
    finally:
        await confinement.close()


async def _answer(host: str, port: int) -> str:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + ANSWER_LIMIT_S
    while True:
        try:
            reader, writer = await asyncio.open_connection(host, port, family=socket.AF_INET)
            break
        except OSError:
            if loop.time() > deadline:
                raise
            await asyncio.sleep(0.02)
    try:
        return (await asyncio.wait_for(reader.read(), ANSWER_LIMIT_S)).decode()
    finally:
        writer.close()


def _hint() -> str:
    if os.geteuid() != 0 and _reads(_RESTRICTED) == "1":
        return (
            "AppArmor forbids user namespaces: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
        )
    if os.geteuid() != 0 and _reads(_CLONE) == "0":
        return "the kernel forbids user namespaces: sudo sysctl -w kernel.unprivileged_userns_clone=1"
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return "this is a container: start it with --privileged, or grade on its host"
    return "see docs/security.md; --unsafe-no-sandbox grades code that you trust as it is"


def _reads(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


if __name__ == "__main__":
    main()
