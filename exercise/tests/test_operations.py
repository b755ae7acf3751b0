"""Health, metrics, errors, and what is not built yet."""

import httpx
import pytest

from boxoffice import health
from boxoffice.app import app
from boxoffice.errors import NotFound
from boxoffice.events import availability
from boxoffice.events.endpoints import get_event_service


async def test_alive_while_database_and_payments_answer(
    client: httpx.AsyncClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def reachable() -> bool:
        return True

    monkeypatch.setattr(availability, "ping", lambda: None)
    monkeypatch.setattr(health, "payments_reachable", reachable)
    answer = await client.get("/health/live")
    assert answer.status_code == 200


async def test_not_ready_before_the_start(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.state, "ready", False)
    answer = await client.get("/health/ready")
    assert answer.status_code == 503


async def test_ready_after_the_start(live_client: httpx.AsyncClient) -> None:
    assert (await live_client.get("/health/ready")).status_code == 200
    assert (await live_client.get("/health/live")).status_code in (200, 503)  # payments may not run here


async def test_requests_are_counted(client: httpx.AsyncClient) -> None:
    await client.get("/openapi.json")
    page = (await client.get("/metrics")).text
    assert 'http_requests_total{method="GET",path="/openapi.json",status="200"}' in page
    assert "http_request_duration_seconds_bucket" in page


async def test_an_error_is_answered_with_its_status_and_text(client: httpx.AsyncClient) -> None:
    def missing() -> None:
        raise NotFound("no such event")

    app.dependency_overrides[get_event_service] = missing
    try:
        answer = await client.get("/events/7")
    finally:
        app.dependency_overrides.clear()
    assert (answer.status_code, answer.json()) == (404, {"detail": "no such event"})


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/events/7/waitlist"), ("GET", "/events/7/waitlist/1")]
)
async def test_the_waitlist_is_not_built_yet(client: httpx.AsyncClient, method: str, path: str) -> None:
    answer = await client.request(method, path)
    assert answer.status_code == 501
