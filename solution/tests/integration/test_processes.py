"""The service as it is run: processes of its own, signals, several workers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import pytest_asyncio

from devstack.world import World, WorldSettings
from tests.integration.test_operations import samples
from tests.orders import order_body, place

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest_asyncio.fixture(loop_scope="session")
async def own_world(
    world_settings: WorldSettings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    async with World(world_settings, tmp_path_factory.mktemp("own-world")) as opened:
        yield opened


async def test_sigterm_finishes_what_is_in_flight_and_mails_are_not_lost(
    own_world: World, event_id: int
) -> None:
    await own_world.faults.set_latency(payments=1.5, mailer=1.5)
    service = await own_world.start_service()
    async with httpx.AsyncClient(base_url=service.base_url, timeout=15) as client:
        orders = [asyncio.create_task(place(client, order_body(event_id))) for _ in range(5)]
        await asyncio.sleep(0.7)
        service.terminate()
        assert [(await order).status_code for order in orders] == [201] * 5
    assert await service.wait_gone(15)
    assert service.returncode == 0
    assert (await own_world.cluster.sessions(own_world.database)).total == 0
    assert len((await own_world.faults.ledger()).messages) == 5


async def test_workers_share_metrics_budget_and_orders(own_world: World, event_ids: Iterator[int]) -> None:
    service = await own_world.start_service(processes=2)
    event_id = next(event_ids)
    body = order_body(event_id)
    limits = httpx.Limits(max_keepalive_connections=0)  # a connection per request reaches both workers
    async with httpx.AsyncClient(base_url=service.base_url, timeout=15, limits=limits) as client:
        answers = await asyncio.gather(*(place(client, body, "both") for _ in range(20)))
        assert len({answer.json()["id"] for answer in answers}) == 1
        counts = [
            sum(samples((await client.get("/metrics")).text, "http_requests_total", route="/orders"))
            for _ in range(8)
        ]
        assert counts == [20] * 8
        text = (await client.get("/metrics")).text
    assert samples(text, "db_connections", state="max") == [18]
    assert (await own_world.cluster.sessions(own_world.database)).total <= 20
    service.kill()  # the supervisor alone: its workers must not outlive it
    assert await service.wait_gone(10)


async def test_each_log_line_of_a_request_carries_its_id_and_no_card(own_world: World, event_id: int) -> None:
    service = await own_world.start_service()
    async with httpx.AsyncClient(base_url=service.base_url, timeout=15) as client:
        for number in range(5):
            body = order_body(event_id, card_token=f"tok_canary_{number}")
            headers = {"Idempotency-Key": f"logged {number}", "X-Request-ID": f"logged-{number}"}
            await client.post("/orders", json=body, headers=headers)
    service.terminate()
    await service.wait_gone(10)
    await service.close()  # now all of its output is in the log
    lines = service.log_text().splitlines()
    assert not any("tok_canary" in line for line in lines)
    for number in range(5):
        assert any(f'"logged-{number}"' in line for line in lines)
    sent = {
        call.headers.get("x-request-id") for call in (await own_world.faults.ledger()).calls_to("payments")
    }
    assert sent == {f"logged-{number}" for number in range(5)}
