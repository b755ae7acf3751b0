from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from devstack import service as service_module
from devstack.errors import NeverReady, ServiceDied
from devstack.placement import LocalPlacement
from devstack.service import Service, ServiceSettings

Start = Callable[..., Awaitable[Service]]

SETTINGS = ServiceSettings(
    database_url="postgresql://role:secret@127.0.0.1:1/none",
    upstream_urls={"payments": "http://127.0.0.1:1", "risk": "http://127.0.0.1:2"},
    ticket_secret="s",
    processes=2,
    extra={"ORDER_DEADLINE": "9"},
)


@pytest_asyncio.fixture
async def start(tiny: Callable[..., Path], tmp_path: Path) -> AsyncIterator[Start]:
    started: list[Service] = []

    async def make(behaviour: str = "ok", python: str = sys.executable) -> Service:
        service = await Service.start(
            LocalPlacement(),
            SETTINGS,
            python=Path(python),
            source=tiny(behaviour),
            temporary=tmp_path / "tmp",
            log=tmp_path / "service.log",
        )
        started.append(service)
        return service

    yield make
    for service in started:
        await service.close()


async def get(service: Service, path: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=service.base_url, trust_env=False) as client:
        return await client.get(path)


async def test_a_service_gets_the_environment_of_the_contract_and_nothing_else(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_CALLER", "hidden")
    service = await start()
    await service.wait_ready()

    given = (await get(service, "/environment")).json()
    assert "SECRET_OF_THE_CALLER" not in given
    expected = {
        "HOST": "127.0.0.1",
        "PORT": service.base_url.rpartition(":")[2],
        "WEB_CONCURRENCY": "2",
        "DATABASE_URL": "postgresql://role:secret@127.0.0.1:1/none",
        "DATABASE_MAX_CONNECTIONS": "20",
        "PAYMENTS_URL": "http://127.0.0.1:1",
        "RISK_URL": "http://127.0.0.1:2",
        "TICKET_SECRET": "s",
        "TMPDIR": str(tmp_path / "tmp"),
        "LOG_LEVEL": "INFO",
        "ORDER_DEADLINE": "9",
    }
    assert expected.items() <= given.items()


async def test_a_service_that_dies_at_once_is_told_with_its_status_and_its_last_words(start: Start) -> None:
    service = await start("dies-at-once")
    with pytest.raises(ServiceDied, match="ended with status 1 before it was ready"):
        await service.wait_ready()

    assert service.died
    assert "cannot import the payments module" in service.log_text()


@pytest.mark.parametrize(
    ("behaviour", "seen"),
    [("never-listens", "nothing listened on its port"), ("never-ready", "/health/ready answered 503")],
)
async def test_a_service_that_never_gets_ready_is_told_with_what_was_seen(
    start: Start, behaviour: str, seen: str
) -> None:
    service = await start(behaviour)
    with pytest.raises(NeverReady, match=f"not ready 1 s after its start: {seen}"):
        await service.wait_ready(1)
    assert not service.died


async def test_a_service_that_serves_is_driven_although_its_readiness_lies(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_module, "_PATIENCE_WITH_READINESS_S", 0.2)
    service = await start("unready-but-serves")
    await service.wait_ready(10)
    assert (await get(service, "/health/ready")).status_code == 503


async def test_output_of_any_length_does_not_hold_a_service_up(start: Start, tmp_path: Path) -> None:
    service = await start("chatty")
    await service.wait_ready()
    assert (tmp_path / "service.log").stat().st_size <= 20_000_000
    assert len(service.log_text(limit=1000)) == 1000


async def test_sigterm_ends_a_service_that_listens_to_it(start: Start) -> None:
    service = await start()
    await service.wait_ready()
    mark = service.log_mark()
    service.terminate()

    assert await service.wait_gone(5)
    assert (service.returncode, service.died) == (0, False)
    await service.close()
    assert service.log_text(since=mark).split() == ["stopped"]


async def test_a_service_that_ignores_sigterm_is_killed(start: Start) -> None:
    service = await start("ignores-sigterm")
    await service.wait_ready()
    service.terminate()
    assert not await service.wait_gone(0.5)

    service.kill()
    assert await service.wait_gone(5)
    assert not service.died


async def test_a_daemon_that_a_service_leaves_behind_is_counted_and_ended(start: Start) -> None:
    service = await start("forks-daemon")
    await service.wait_ready()
    assert service.usage().processes == 2
    service.terminate()
    assert not await service.wait_gone(0.5)
    assert len(service.members()) == 1

    await service.close()
    assert service.members() == []


async def test_a_missing_interpreter_is_told(start: Start) -> None:
    with pytest.raises(ServiceDied, match="could not be started"):
        await start(python="/missing/python")


def test_a_log_that_does_not_exist_yet_is_empty(tmp_path: Path) -> None:
    class Ended:
        pid = os.getpid()

    service = Service(Ended(), "http://127.0.0.1:1", tmp_path / "none")  # type: ignore[arg-type]
    assert service.log_mark() == 0
