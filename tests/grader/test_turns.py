"""Processes that take turns: each computes, none is left stopped, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, cast

import psutil
import pytest

from devstack.postgres import Cluster
from grader.scenarios.turns import taking_turns

COUNTING = "import itertools\nfor number in itertools.count():\n    print(number, flush=True)\n"


class Backends:
    """Stands in for the cluster: what it is asked for are the processes of a role."""

    def __init__(self, *processes: subprocess.Popen[str]) -> None:
        self.processes = processes

    async def fetch(self, query: str, role: str) -> list[tuple[Any, ...]]:
        assert role == "seller"
        return [(process.pid,) for process in self.processes]


@pytest.fixture
def counting() -> Iterator[list[subprocess.Popen[str]]]:
    processes = [
        subprocess.Popen([sys.executable, "-Ic", COUNTING], stdout=subprocess.DEVNULL, text=True)
        for _ in range(3)
    ]
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def states(processes: list[subprocess.Popen[str]]) -> list[str]:
    return [psutil.Process(process.pid).status() for process in processes]


async def turn(processes: list[subprocess.Popen[str]], meanwhile: Any) -> None:
    cluster = cast(Cluster, Backends(*processes))
    async with taking_turns(cluster, "seller", random.Random(1)):
        await meanwhile()


async def test_all_but_one_wait_and_all_go_on_in_the_end(counting: list[subprocess.Popen[str]]) -> None:
    used = [sum(psutil.Process(process.pid).cpu_times()[:2]) for process in counting]
    stopped: list[int] = []

    async def look() -> None:
        for _ in range(50):
            await asyncio.sleep(0.02)
            stopped.append(states(counting).count(psutil.STATUS_STOPPED))

    await turn(counting, look)
    assert max(stopped) >= 2
    assert psutil.STATUS_STOPPED not in states(counting)
    assert all(
        sum(psutil.Process(process.pid).cpu_times()[:2]) > before
        for process, before in zip(counting, used, strict=True)
    )


async def test_who_ends_meanwhile_is_left_out(counting: list[subprocess.Popen[str]]) -> None:
    async def end_one() -> None:
        counting[0].kill()
        counting[0].wait()
        await asyncio.sleep(0.1)

    await turn(counting, end_one)
    assert psutil.STATUS_STOPPED not in states(counting[1:])


async def test_none_is_left_stopped_by_an_error(counting: list[subprocess.Popen[str]]) -> None:
    async def fail() -> None:
        await asyncio.sleep(0.05)
        raise LookupError

    with pytest.raises(LookupError):
        await turn(counting, fail)
    assert psutil.STATUS_STOPPED not in states(counting)


async def test_nobody_is_there() -> None:
    async def wait() -> None:
        await asyncio.sleep(0.01)

    await turn([], wait)
