"""Starts the load generator's process and reads its result."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import BaseModel, ValidationError

from devstack.placement import Account, LocalPlacement, Process
from grader.errors import GraderError
from grader.load.plan import LoadPlan
from grader.load.result import LoadResult
from grader.paths import write_json

START_LIMIT_S = 30.0
"""Importing Locust takes about a second; a busy machine may need several."""

END_SLACK_S = 10.0
"""Beyond the plan's end, for writing the result."""

RESULT_LIMIT_BYTES = 64_000_000
"""A thousand outcomes take half a megabyte."""

_POLL_S = 0.02
LOG_NAME = "generator.log"
_FOREIGN_SETTINGS = ("LOCUST_", "GEVENT_", "PYTHON")


class LoadTrouble(GraderError):
    """The load could not be offered as planned; nothing that the submission did explains it."""


class Started(BaseModel):
    """``start_s``: instant 0 of the plan, on the machine's monotonic clock."""

    start_s: float


class Generator:
    """A running generator. Made by :func:`generator`."""

    def __init__(self, process: Process, plan: LoadPlan, directory: Path) -> None:
        """``directory``: where the process writes its files."""
        self._process = process
        self._plan = plan
        self._directory = directory
        self._start_s = 0.0

    async def started(self) -> float:
        """Wait until the load begins; the instant on the monotonic clock. Raises LoadTrouble."""
        path = self._directory / "started.json"
        deadline_s = time.monotonic() + START_LIMIT_S
        while not path.exists():
            await self._wait(deadline_s, "did not start")
        try:
            self._start_s = Started.model_validate_json(_read(path)).start_s
        except (OSError, ValidationError) as error:
            raise LoadTrouble(f"the load generator did not say when it started: {error}") from error
        return self._start_s

    async def result(self) -> LoadResult:
        """Wait until the load is over, after :meth:`started`. Raises LoadTrouble."""
        path = self._directory / "result.json"
        deadline_s = self._start_s + self._plan.end_s + self._plan.drain_s + END_SLACK_S
        while not path.exists():
            await self._wait(deadline_s, "did not end")
        try:
            return LoadResult.model_validate_json(_read(path))
        except (OSError, ValidationError) as error:
            raise LoadTrouble(f"the load generator's result cannot be read: {error}") from error

    async def _wait(self, deadline_s: float, complaint: str) -> None:
        if self._process.returncode not in (None, 0):
            raise LoadTrouble(
                f"the load generator ended with status {self._process.returncode}",
                hint=f"see {self._directory.parent / LOG_NAME}",
            )
        if time.monotonic() > deadline_s:
            raise LoadTrouble(f"the load generator {complaint} in time")
        await asyncio.sleep(_POLL_S)


@asynccontextmanager
async def generator(
    plan: LoadPlan, directory: Path, *, account: Account | None = None
) -> AsyncIterator[Generator]:
    """A generator that has been started with ``plan``; leaving ends its process. Its files lie in ``directory``.

    It runs in a session of its own, in a directory of its own and without settings of Locust's, gevent's or
    Python's from the environment. It reads what a submission answers, so it gives its rights up to ``account`` before
    it sends anything. Raises LoadTrouble if it cannot be started.
    """
    neutral = directory / "cwd"
    neutral.mkdir(parents=True, exist_ok=True)
    for name in ("started", "result"):
        (neutral / f"{name}.json").unlink(missing_ok=True)
    write_json(directory / "plan.json", plan)
    argv = [sys.executable, "-I", "-m", "grader.load.locustfile", str((directory / "plan.json").resolve())]
    if account is not None:
        os.chown(neutral, account.uid, account.gid)
        argv.append(f"{account.uid}:{account.gid}")
    try:
        process = await LocalPlacement().spawn(
            argv, cwd=neutral, env=_environment(os.environ), log=directory / LOG_NAME
        )
    except OSError as error:
        raise LoadTrouble(f"the load generator could not be started: {error.strerror}") from error
    try:
        yield Generator(process, plan, neutral)
    finally:
        await process.kill_all()


def _read(path: Path) -> bytes:
    """What the generator wrote. It is another account's: no link is followed. Raises OSError."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        return file.read(RESULT_LIMIT_BYTES)


def _environment(inherited: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in inherited.items() if not name.startswith(_FOREIGN_SETTINGS)}
