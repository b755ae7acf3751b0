from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from devstack import postgres
from devstack.errors import PostgresError
from devstack.postgres import Binaries, Cluster, find_binaries
from devstack.postmaster import ServerDirectory
from devstack.seed import LiveData, flagship_sales

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]


def server_processes(directory: Path) -> list[psutil.Process]:
    return [
        p for p in psutil.process_iter(["cmdline"]) if str(directory) in " ".join(p.info["cmdline"] or ())
    ]


async def gone(directory: Path, within_s: float = 15) -> bool:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not directory.exists() and not server_processes(directory):
            return True
        await asyncio.sleep(0.05)
    return False


async def test_the_server_is_never_root_and_ends_with_its_run(binaries: Binaries, tmp_path: Path) -> None:
    started = time.monotonic()
    cluster = await Cluster.start(tmp_path / "run", binaries=binaries, bind_address="127.0.0.1")
    print(f"start with a copy of the cluster: {time.monotonic() - started:.2f} s")
    directory = cluster._server.directory.path
    processes = server_processes(directory)
    users = [p.uids().real for p in processes if p.name() == "postgres"]
    started = time.monotonic()
    await cluster.stop()
    await cluster.stop()
    print(f"stop: {time.monotonic() - started:.2f} s")

    assert users
    assert 0 not in users
    assert not directory.exists()
    assert not any(p.is_running() for p in processes)
    assert "ready to accept connections" in (tmp_path / "run" / "postgres.log").read_text()


@pytest.mark.parametrize("after_s", [0.0, 0.03, 0.08, 0.12, 0.16])
async def test_nothing_is_left_when_starting_is_cancelled(
    binaries: Binaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after_s: float
) -> None:
    claimed: asyncio.Queue[ServerDirectory] = asyncio.Queue()
    claim: Callable[..., Any] = postgres.claim_directory

    async def watched(cache: Path) -> ServerDirectory:
        directory: ServerDirectory = await claim(cache)
        claimed.put_nowait(directory)
        return directory

    monkeypatch.setattr(postgres, "claim_directory", watched)
    starting = asyncio.create_task(Cluster.start(tmp_path, binaries=binaries, bind_address="127.0.0.1"))
    directory = await claimed.get()
    await asyncio.sleep(after_s)
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await (await starting).stop()

    assert await gone(directory.path)
    assert not directory.lock.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_nothing_is_left_when_the_run_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    program = """
        import asyncio, sys
        from pathlib import Path
        from devstack.postgres import Cluster, find_binaries

        async def main():
            async with await Cluster.start(Path(sys.argv[1]), binaries=find_binaries(), bind_address="127.0.0.1") as cluster:
                print(cluster._server.directory.path, flush=True)
                await asyncio.sleep(60)

        asyncio.run(main())
    """
    run = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", textwrap.dedent(program), str(tmp_path)),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert run.stdout is not None
    directory = Path((await run.stdout.readline()).decode().strip())
    assert directory.is_dir()
    run.send_signal(number)
    await asyncio.wait_for(run.wait(), 20)

    assert await gone(directory)


async def test_what_a_killed_guard_left_is_removed_by_the_next_start(
    binaries: Binaries, tmp_path: Path
) -> None:
    first = await Cluster.start(tmp_path, binaries=binaries, bind_address="127.0.0.1")
    directory = first._server.directory
    first._server._guard.kill()
    [postmaster] = [p for p in server_processes(directory.path) if p.name() == "postgres"]
    postmaster.kill()
    await first.stop()
    assert directory.path.exists()

    async with await Cluster.start(tmp_path, binaries=binaries, bind_address="127.0.0.1"):
        assert await gone(directory.path)


async def test_a_server_that_died_is_reported_as_the_kits_own_trouble(
    binaries: Binaries, tmp_path: Path
) -> None:
    cluster = await Cluster.start(tmp_path, binaries=binaries, bind_address="127.0.0.1")
    [postmaster] = [
        p
        for p in server_processes(cluster._server.directory.path)
        if p.name() == "postgres" and "-D" in p.info["cmdline"]
    ]
    postmaster.kill()
    await asyncio.sleep(0.3)
    with pytest.raises(PostgresError, match="ended by itself"):
        await cluster.fetch("SELECT 1")
    await cluster.stop()


async def test_a_full_disk_is_one_line(
    binaries: Binaries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await (
        await Cluster.start(tmp_path, binaries=binaries, bind_address="127.0.0.1")
    ).stop()  # the cache is there
    program = postgres.run_program

    async def full(command: list[str], **options: Any) -> None:
        await program(
            ["sh", "-c", 'echo "cp: error writing: No space left on device" >&2; exit 1'], **options
        )

    monkeypatch.setattr(postgres, "run_program", full)
    with pytest.raises(PostgresError, match="No space left on device; make room"):
        await Cluster.start(tmp_path, binaries=binaries, bind_address="127.0.0.1")


OTHER_SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


@pytest.mark.skipif(not OTHER_SERVERS, reason="no other PostgreSQL server is installed here")
async def test_any_other_server_works_too(live: LiveData, tmp_path: Path) -> None:
    found = find_binaries(OTHER_SERVERS[0])
    async with await Cluster.start(tmp_path, binaries=found, bind_address="127.0.0.1") as cluster:
        [(version,)] = await cluster.fetch("SHOW server_version")
        name = await cluster.make_template("plain", live=live, migrations=tmp_path)
        clone = await cluster.clone(name, connection_limit=1)
        async with await psycopg.AsyncConnection.connect(clone.dsn(cluster.host, cluster.port)):
            sample = await cluster.sessions(clone)
        sales = await flagship_sales(cluster)

    assert version.startswith(found.version)
    assert not found.embedded
    assert sample.total == 1
    assert len(sales) == 365
