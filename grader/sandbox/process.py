"""A service's process in a sandbox: the outermost process is bubblewrap's, the second one its init, then the service."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path

import psutil

from devstack.placement import LogCopy, Usage, children_of, descendants, living
from grader.errors import SandboxFailed
from grader.sandbox.bubblewrap import RELEASE
from grader.sandbox.limits import Confinement

START_LIMIT_S = 15.0
_POLL_S = 0.005
_SIGNALLED = 128
"""A shell's convention, which bubblewrap keeps: 128 + n for an end by signal n."""


class SandboxProcess:
    """A service in its sandbox, and everything that it started. Made by :meth:`adopt`."""

    def __init__(
        self,
        outer: asyncio.subprocess.Process,
        init: int,
        pid: int,
        confinement: Confinement,
        log: LogCopy,
    ) -> None:
        self._outer = outer
        self._init = init
        self.pid = pid
        self._confinement = confinement
        self._log = log
        confinement.started(self.members, self._kill)

    @classmethod
    async def adopt(
        cls,
        outer: asyncio.subprocess.Process,
        status: int,
        release: int,
        confinement: Confinement,
        log: Path,
    ) -> SandboxProcess:
        """Wait until bubblewrap has made the sandbox, and let the service begin.

        ``status``: the file of its ``--json-status-fd``; ``release``: our end of the service's standard input. Both are
        closed. The service is held back until its end is bound to ours: before, whatever kills us closes ``release``.
        Left open are the microseconds between bubblewrap's own binding and its word to the init that it may go on; an
        init that waits for that word is all that could stay.

        Raises SandboxFailed if it could not.
        """
        assert outer.stdout is not None
        copy = LogCopy(outer.stdout, log)
        try:
            async with asyncio.timeout(START_LIMIT_S):
                init, pid = await _made(outer, status)
            if not pid:
                raise SandboxFailed(f"bubblewrap could not start the service: {copy.last_line()}; see {log}")
            process = cls(outer, init, pid, confinement, copy)
            with contextlib.suppress(BrokenPipeError):  # it has ended: its status will say so
                os.write(release, RELEASE)
            return process
        except BaseException as error:
            with contextlib.suppress(ProcessLookupError):
                os.kill(outer.pid, signal.SIGKILL)
            await outer.wait()
            await copy.close()
            if isinstance(error, TimeoutError):
                raise SandboxFailed(
                    f"bubblewrap did not start the service in {START_LIMIT_S:.0f} s"
                ) from error
            raise
        finally:
            os.close(status)
            os.close(release)

    @property
    def returncode(self) -> int | None:
        """Exit status of the service's own process; −n if signal n ended it."""
        code = self._outer.returncode
        return code if code is None or code <= _SIGNALLED else _SIGNALLED - code

    def signal(self, number: int) -> None:
        """Send ``number`` to the service's own process; one that has ended is no error."""
        if self._outer.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def members(self) -> list[int]:
        """Host pids of what lives in the sandbox, its init left out."""
        if self._outer.returncode is not None:
            return []  # the init's number may be somebody else's by now
        found = descendants(self._init) - {self._init}
        return sorted(pid for pid in found if living(pid))

    def usage(self) -> Usage:
        """CPU (own plus reaped children) and resident memory of what lives in the sandbox."""
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
        """The limit that ended it, as a sentence; ``None``: none did."""
        return self._confinement.exceeded()

    async def wait_gone(self, timeout_s: float) -> bool:
        """Poll until nothing lives in the sandbox."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while self._outer.returncode is None:
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    async def kill_all(self) -> None:
        """End the sandbox: with its init everything in it ends."""
        self._kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._outer.wait(), timeout=5)
        await self._log.close()
        transport = getattr(self._outer, "_transport", None)
        if transport is not None:
            transport.close()
        await self._confinement.close()

    def _kill(self) -> None:
        if self._outer.returncode is None:
            for pid in (self._init, self._outer.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


async def _made(outer: asyncio.subprocess.Process, status: int) -> tuple[int, int]:
    """The pids of bubblewrap's init and of what it has started, once both will end with bubblewrap; 0 if it ended first."""
    while outer.returncode is None:
        line, complete, _ = os.pread(status, 4096, 0).partition(b"\n")
        if complete:
            init = int(json.loads(line)["child-pid"])
            children = children_of(init)
            # The filter is what the init puts on after it has asked to end with bubblewrap.
            if children and _is_filtered(init):
                return init, children[0]
        await asyncio.sleep(_POLL_S)
    return 0, 0


def _is_filtered(pid: int) -> bool:
    """Whether a process has a filter of system calls that we have not (a container may have given us one)."""
    theirs, ours = _filters(pid), _filters(os.getpid())
    return theirs is not None and theirs != ours


def _filters(pid: int) -> int | None:
    """The number of a process's filters; ``None`` if it has gone. Before Linux 5.9 there is none: the mode's, then."""
    try:
        lines = Path("/proc", str(pid), "status").read_text().splitlines()
    except OSError:
        return None
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields.get("Seccomp_filters", fields.get("Seccomp", "0")))
