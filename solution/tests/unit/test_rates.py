from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from decimal import Decimal

import httpx
import pytest
import respx

from boxoffice.deadlines import Deadline
from boxoffice.upstreams import client as client_module
from boxoffice.upstreams.client import UpstreamClient, UpstreamUnavailable
from boxoffice.upstreams.rates import Rates

URL = "http://rates.test/rates/EUR/USD"


class Clock:
    """A monotonic clock that the test moves."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self._real = time.monotonic

    def __call__(self) -> float:
        return self._real() + self.ahead_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr("boxoffice.upstreams.rates.time.monotonic", moved)
    monkeypatch.setattr(client_module.Retries, "pause_s", lambda self, attempt: 0.001)
    return moved


@pytest.fixture
async def rates(clock: Clock) -> AsyncIterator[Rates]:
    upstream = UpstreamClient("rates", "http://rates.test", max_connections=5)
    book = Rates(upstream)
    yield book
    await book.close()
    await upstream.close()


async def get(rates: Rates) -> Decimal:
    return await rates.get("USD", deadline=Deadline.after(1))


@respx.mock
async def test_a_burst_on_a_cold_cache_is_one_call(rates: Rates) -> None:
    route = respx.get(URL).mock(return_value=httpx.Response(200, json={"rate": "1.0853"}))
    assert set(await asyncio.gather(*(get(rates) for _ in range(100)))) == {Decimal("1.0853")}
    assert route.call_count == 1


@respx.mock
async def test_a_rate_is_used_for_a_minute_and_not_longer(rates: Rates, clock: Clock) -> None:
    respx.get(URL).mock(return_value=httpx.Response(200, json={"rate": 2}))
    await get(rates)
    respx.get(URL).mock(return_value=httpx.Response(500))
    clock.ahead_s += 59
    assert await get(rates) == 2
    clock.ahead_s += 2
    with pytest.raises(UpstreamUnavailable):
        await get(rates)


@respx.mock
async def test_an_outage_costs_at_most_ten_calls_in_a_minute(rates: Rates, clock: Clock) -> None:
    route = respx.get(URL).mock(return_value=httpx.Response(500))
    for _ in range(118):
        with pytest.raises(UpstreamUnavailable):
            await get(rates)
        clock.ahead_s += 0.5
    assert route.call_count <= 10


@respx.mock
async def test_after_an_outage_there_is_a_rate_within_ten_seconds(rates: Rates, clock: Clock) -> None:
    respx.get(URL).mock(return_value=httpx.Response(500))
    with pytest.raises(UpstreamUnavailable):
        await get(rates)
    respx.get(URL).mock(return_value=httpx.Response(200, json={"rate": "1.5"}))
    clock.ahead_s += 10
    assert await get(rates) == Decimal("1.5")


@pytest.mark.parametrize("rate", ["0", "-1", "NaN", "Infinity", "1e9", "much", None])
@respx.mock
async def test_nonsense_is_no_rate(rates: Rates, rate: object) -> None:
    respx.get(URL).mock(return_value=httpx.Response(200, json={"rate": rate}))
    with pytest.raises(UpstreamUnavailable):
        await get(rates)
