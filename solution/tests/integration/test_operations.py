from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from devstack.faults.model import Fault
from devstack.world import World
from tests.orders import order_body, place

pytestmark = pytest.mark.asyncio(loop_scope="session")


def samples(text: str, name: str, **labels: str) -> list[float]:
    return [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]


async def test_metrics_go_by_route_and_stay_few(client: httpx.AsyncClient, event_id: int) -> None:
    for path in (f"/events/{event_id}", "/orders/none", "/nothing"):
        await client.get(path)
    before = (await client.get("/metrics")).text
    for number in range(50):
        await client.get(f"/events/{10**8 + number}")
        await client.get(f"/nothing/{number}")
        await client.request(f"VERB{number}", "/events")
    after = (await client.get("/metrics")).text
    assert len(after.splitlines()) - len(before.splitlines()) < 60
    labels = {"method": "GET", "route": "/events/{event_id}", "status": "404"}
    counted = sum(samples(after, "http_requests_total", **labels))
    assert counted - sum(samples(before, "http_requests_total", **labels)) == 50


async def test_metrics_tell_of_connections_and_upstreams(
    client: httpx.AsyncClient, world: World, event_id: int
) -> None:
    await world.faults.set_faults(Fault(upstream="risk", kind="status"))
    await place(client, order_body(event_id))
    text = (await client.get("/metrics")).text
    assert samples(text, "db_connections", state="max") == [18]
    assert samples(text, "db_connections", state="in_use") == [0]
    assert sum(samples(text, "upstream_requests_total", upstream="risk", outcome="error")) >= 4


@pytest.mark.parametrize(
    ("given", "kept"), [("Request-7.a_b", True), ("no spaces", False), ("x" * 129, False)]
)
async def test_a_good_request_id_is_taken_over(client: httpx.AsyncClient, given: str, kept: bool) -> None:
    answer = await client.get("/health/live", headers={"X-Request-ID": given})
    assert (answer.headers["x-request-id"] == given) is kept


async def chunks() -> Iterator[bytes]:
    for _ in range(20):
        yield b" " * 100_000


async def test_a_body_over_a_megabyte_is_refused(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json", "Idempotency-Key": "large"}
    declared = await client.post("/orders", content=b" " * 1_000_001, headers=headers)
    streamed = await client.post("/orders", content=chunks(), headers=headers)
    assert declared.status_code == streamed.status_code == 413


async def test_ready_says_when_the_database_is_away_and_recovers_at_once(
    client: httpx.AsyncClient, world: World, event_id: int
) -> None:
    await world.faults.set_proxy(refuse=True)
    await world.faults.cut()
    away = await client.get("/health/ready")
    assert (away.status_code, away.json()["failed"]) == (503, ["database"])
    assert (await client.get("/health/live")).status_code == 200
    assert (await client.get(f"/events/{event_id}")).status_code == 503
    await world.faults.set_proxy()
    for _ in range(25):
        assert (await client.get(f"/events/{event_id}")).status_code == 200


async def test_a_frozen_database_is_given_up_in_time(
    client: httpx.AsyncClient, world: World, event_id: int
) -> None:
    await world.faults.set_proxy(frozen=True)
    async with asyncio.timeout(3):
        answers = await asyncio.gather(*(client.get(f"/events/{event_id}") for _ in range(40)))
    assert {answer.status_code for answer in answers} == {503}
    await world.faults.set_proxy()
    assert (await client.get(f"/events/{event_id}")).status_code == 200
