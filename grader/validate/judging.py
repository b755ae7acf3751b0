"""Judging cached records in a process of its own, so that it takes nothing from what is being driven."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from devstack.artifacts import Artifact
from grader.checks import check_functions
from grader.errors import JudgingFailed
from grader.judge import Judge, parameter_of
from grader.model import CheckMeta, CheckOutcome, Verdict
from grader.text import one_line
from grader.validate.rows import Seen
from grader.validate.units import read_driven
from grader.verdicts import run_check

T = TypeVar("T")

TOLD_CHARACTERS = 160
"""Of why a check fell: enough to see which measurement it was."""

Records = Mapping[str, Path]
"""Cached records by scenario."""


def judge_records(scenario: str, records: Records) -> dict[str, Seen]:
    """What the checks that read ``scenario`` come to, as far as every record that they need is there.

    Never raises for a broken check: that is ``errored``, by the grader's own policy.
    """
    found: dict[str, Seen] = {}
    for name, (meta, function) in check_functions().items():
        if scenario in meta.requires and set(meta.requires) <= records.keys():
            artifacts = {needed: _artifact_at(records[needed]) for needed in meta.requires}
            found[name] = _seen(_run(meta, function, artifacts))
    return found


def _run(
    meta: CheckMeta, function: Callable[..., None], artifacts: Mapping[str, Artifact | None]
) -> CheckOutcome:
    judge = Judge(meta)
    arguments: dict[str, Any] = {parameter_of(name): artifact for name, artifact in artifacts.items()}
    return run_check(judge, lambda: function(**arguments, judge=judge), artifacts)


def _seen(outcome: CheckOutcome) -> Seen:
    told = ""
    if outcome.verdict is not Verdict.PASSED:
        summary = outcome.judgement.summary if outcome.judgement else ""
        told = outcome.error or outcome.blocked_by or outcome.not_applicable or summary
    return Seen(
        verdict=outcome.verdict,
        score=outcome.score,
        told=one_line(told, TOLD_CHARACTERS),
        excused=outcome.verdict is Verdict.ERRORED and bool(outcome.again),
    )


def _artifact_at(path: Path) -> Artifact | None:
    try:
        return _artifact(path, path.stat().st_mtime_ns)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=8)
def _artifact(path: Path, written_ns: int) -> Artifact | None:
    """``written_ns``: so that a record that was made anew is read anew."""
    driven = read_driven(path)
    return None if driven is None else driven.artifact


class JudgingProcess:
    """An async context manager: one process that judges. It loads the checks at once, as they are on the disk now."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    async def __aenter__(self) -> JudgingProcess:
        self._pool = ProcessPoolExecutor(1, get_context("spawn"), initializer=_leave_signals_to_the_parent)
        await self._call(_load_checks)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    async def judge(self, scenario: str, records: Records) -> dict[str, Seen]:
        """As :func:`judge_records`."""
        return await self._call(judge_records, scenario, dict(records))

    async def _call(self, function: Callable[..., T], *arguments: object) -> T:
        assert self._pool is not None, "the judging process is not started"
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._pool, function, *arguments)
        except BrokenProcessPool as error:
            raise JudgingFailed("the judging process ended by itself: see above for what it said") from error


def _load_checks() -> None:
    check_functions()


def _leave_signals_to_the_parent() -> None:
    """Ctrl-C reaches the whole group; the parent decides what it means. What is driven goes first."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(5)
