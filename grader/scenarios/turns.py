"""A database whose processes take turns: what is in flight at the same time overlaps, however short it is.

On a busy server the kernel interrupts whoever computes, at any point, for as long as others need. Here that happens
on purpose, many times a second, so that it does not depend on luck.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator

from devstack.postgres import Cluster
from grader import turning


@contextlib.asynccontextmanager
async def taking_turns(cluster: Cluster, role: str, order: random.Random) -> AsyncIterator[None]:
    """While inside, the processes that serve ``role`` compute one at a time, a slice each, in random order.

    For a second at most: whoever has ended is known by its number only. Sessions that are opened meanwhile are not
    interrupted. Raises PostgresError.
    """
    rows = await cluster.fetch("SELECT pid FROM pg_stat_activity WHERE usename = %s", role)
    arguments = [turning.__file__, str(order.getrandbits(32)), *(str(pid) for (pid,) in rows)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", *arguments, stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None, "a pipe was asked for"
    assert process.stdout is not None, "a pipe was asked for"
    try:
        await process.stdout.readline()
        yield
    finally:
        process.stdin.close()
        await process.wait()
