from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
import respx

from boxoffice.deadlines import Deadline
from boxoffice.telemetry import request_id_var
from boxoffice.upstreams.client import Retries, UpstreamClient, UpstreamUnavailable

URL = "http://risk.test/assessments"
FAST = Retries(attempts=4, attempt_timeout_s=1.0, first_pause_s=0.001)


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    upstream = UpstreamClient("risk", "http://risk.test", max_connections=5)
    yield upstream
    await upstream.close()


async def call(client: UpstreamClient, deadline_s: float = 2.0) -> httpx.Response:
    return await client.call(
        "POST", "/assessments", body={}, deadline=Deadline.after(deadline_s), retries=FAST
    )


@pytest.mark.parametrize("status", [500, 503, 408, 425, 429])
@respx.mock
async def test_what_may_pass_is_tried_again(client: UpstreamClient, status: int) -> None:
    route = respx.post(URL).mock(
        side_effect=[httpx.Response(status), httpx.Response(status), httpx.Response(200)]
    )
    assert (await call(client)).status_code == 200
    assert route.call_count == 3


@pytest.mark.parametrize("status", [400, 401, 402, 404, 409, 422])
@respx.mock
async def test_what_will_not_pass_is_tried_once(client: UpstreamClient, status: int) -> None:
    route = respx.post(URL).mock(return_value=httpx.Response(status))
    assert (await call(client)).status_code == status
    assert route.call_count == 1


@respx.mock
async def test_four_attempts_are_enough(client: UpstreamClient) -> None:
    route = respx.post(URL).mock(return_value=httpx.Response(500))
    with pytest.raises(UpstreamUnavailable) as caught:
        await call(client)
    assert route.call_count == 4
    assert caught.value.may_have_effect


@pytest.mark.parametrize("status", [429, 503])
@respx.mock
async def test_a_retry_after_beyond_the_deadline_is_passed_on_at_once(
    client: UpstreamClient, status: int
) -> None:
    route = respx.post(URL).mock(return_value=httpx.Response(status, headers={"Retry-After": "30"}))
    with pytest.raises(UpstreamUnavailable) as caught:
        await call(client)
    assert route.call_count == 1
    assert caught.value.headers["retry-after"] == "30"
    assert not caught.value.may_have_effect


@respx.mock
async def test_a_retry_after_within_the_deadline_is_waited_for(client: UpstreamClient) -> None:
    respx.post(URL).mock(side_effect=[httpx.Response(429, headers={"Retry-After": "1"}), httpx.Response(200)])
    started = Deadline.after(1.0)
    await call(client, deadline_s=3)
    assert not started.remaining()


@pytest.mark.parametrize(
    ("failure", "may_have_effect"),
    [(httpx.ConnectError("refused"), False), (httpx.ReadError("reset"), True)],
)
@respx.mock
async def test_only_a_connection_that_stood_may_have_had_an_effect(
    client: UpstreamClient, failure: Exception, may_have_effect: bool
) -> None:
    respx.post(URL).mock(side_effect=failure)
    with pytest.raises(UpstreamUnavailable) as caught:
        await call(client)
    assert caught.value.may_have_effect is may_have_effect


@respx.mock
async def test_calls_carry_the_request_id(client: UpstreamClient) -> None:
    route = respx.post(URL).mock(return_value=httpx.Response(200))
    request_id_var.set("request-7")
    await call(client)
    assert route.calls.last.request.headers["x-request-id"] == "request-7"
