from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from devstack import stopping

FAMILY = 'sleep 600 & echo "$$ $!" > "$0.part"; mv "$0.part" "$0"; wait'


def pids_in(file: Path) -> list[int]:
    while not file.exists():
        time.sleep(0.01)
    return [int(pid) for pid in file.read_text().split()]


async def test_a_start_that_is_cancelled_halfway_leaves_no_process_of_its_session_and_does_not_wait_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = asyncio.create_subprocess_exec
    file = tmp_path / "pids"

    async def slowly(*command: str, **options: Any) -> asyncio.subprocess.Process:
        process = await start(*command, **options)
        await asyncio.to_thread(pids_in, file)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slowly)
    # The one in the background keeps the pipe open, as what a sandbox starts does.
    starting = asyncio.create_task(
        stopping.start_process(
            "/bin/sh", "-c", FAMILY, str(file), stdout=asyncio.subprocess.PIPE, start_new_session=True
        )
    )
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    family = await asyncio.to_thread(pids_in, file)
    assert len(family) == 2
    for pid in family:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_request_to_end_is_heeded_until_it_is_reset() -> None:
    stopping.heed()
    stopping.request()
    try:
        with pytest.raises(asyncio.CancelledError):
            stopping.heed()
    finally:
        stopping.reset()
    stopping.heed()
