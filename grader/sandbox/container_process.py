"""A service's process in a container: the first process is our init, the second one the service."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from devstack.placement import LogCopy, Usage, children_of, descendants, living
from grader.errors import SandboxFailed
from grader.sandbox.limits import MEMORY_BYTES

if TYPE_CHECKING:
    from grader.sandbox.container import Engine

START_LIMIT_S = 30.0
_POLL_S = 0.02
_SIGNALLED = 128
_KILLED = -9


class ContainerProcess:
    """A service in its container, and everything that it started. Made by :meth:`adopt`."""

    def __init__(
        self, engine: Engine, name: str, outer: asyncio.subprocess.Process, init: int, pid: int, log: LogCopy
    ) -> None:
        self._engine = engine
        self._name = name
        self._outer = outer
        self._init = init
        self.pid = pid
        self._log = log
        self._asked = False

    @classmethod
    async def adopt(
        cls, engine: Engine, name: str, outer: asyncio.subprocess.Process, log: Path
    ) -> ContainerProcess:
        """Wait until the engine has started the service. Raises SandboxFailed if it could not."""
        assert outer.stdout is not None
        copy = LogCopy(outer.stdout, log)
        try:
            async with asyncio.timeout(START_LIMIT_S):
                init = await _init_of(engine, name, outer)
                pid = await _first_child(init, outer) if init else 0
        except TimeoutError as error:
            outer.kill()
            await outer.wait()
            raise SandboxFailed(
                f"{engine.name} did not start the service in {START_LIMIT_S:.0f} s"
            ) from error
        # 125–127: the engine itself, or what it was told to execute, failed.
        if not init and outer.returncode in (125, 126, 127):
            await copy.close()
            raise SandboxFailed(f"{engine.name} could not start the service: {copy.last_line()}; see {log}")
        return cls(engine, name, outer, init, pid or init, copy)

    @property
    def returncode(self) -> int | None:
        """Exit status of the service's own process; −n if signal n ended it."""
        code = self._outer.returncode
        return code if code is None or code <= _SIGNALLED else _SIGNALLED - code

    def signal(self, number: int) -> None:
        """Send ``number`` to the service's own process; one that has ended is no error."""
        if self._outer.returncode is None and self.pid:
            self._asked = True
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def members(self) -> list[int]:
        """Host pids of what lives in the container, its init left out."""
        if self._outer.returncode is not None or not self._init:
            return []  # the init's number may be somebody else's by now
        found = descendants(self._init) - {self._init}
        return sorted(pid for pid in found if living(pid))

    def usage(self) -> Usage:
        """CPU (own plus reaped children) and resident memory of what lives in the container."""
        cpu_s, rss_bytes, count = 0.0, 0, 0
        for pid in (self._init, *self.members()):
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                times = process.cpu_times()
                cpu_s += times.user + times.system + times.children_user + times.children_system
                if pid != self._init:
                    rss_bytes += process.memory_info().rss
                    count += 1
        return Usage(cpu_s=cpu_s, rss_bytes=rss_bytes, processes=count)

    def exceeded(self) -> str | None:
        """The kernel kills what needs more memory than it may have; nobody else kills without being asked."""
        if self.returncode == _KILLED and not self._asked:
            return f"killed, as what uses more than the {MEMORY_BYTES // 2**20} MiB that a service may use"
        return None

    async def wait_gone(self, timeout_s: float) -> bool:
        """Poll until the container has ended."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._outer.returncode is None:
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def kill_all(self) -> None:
        """End the container: with its init everything in it ends."""
        if self._outer.returncode is None:
            if self._init:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self._init, signal.SIGKILL)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._outer.wait(), timeout=10)
        await self._log.close()
        transport = getattr(self._outer, "_transport", None)
        if transport is not None:
            transport.close()


async def _init_of(engine: Engine, name: str, outer: asyncio.subprocess.Process) -> int:
    """Host pid of the container's first process; 0 if the engine ended first."""
    while outer.returncode is None:
        asking = await asyncio.create_subprocess_exec(
            engine.program, *engine.options, "inspect", "--format", "{{.State.Pid}}", name,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        told, _ = await asking.communicate()
        if told.strip().isdigit() and int(told):
            return int(told)
        await asyncio.sleep(_POLL_S)
    return 0


async def _first_child(init: int, outer: asyncio.subprocess.Process) -> int:
    while outer.returncode is None:
        if children := children_of(init):
            return children[0]
        await asyncio.sleep(_POLL_S)
    return 0
