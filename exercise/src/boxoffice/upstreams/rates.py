"""Client of the exchange rates."""

import asyncio
import logging
import time

import httpx

from boxoffice.money import BASE_CURRENCY
from boxoffice.settings import settings

logger = logging.getLogger(__name__)

DISPLAY_RATE_TTL_S = 60.0
DISPLAY_RATE_TIMEOUT_S = 2.5

_loop: asyncio.AbstractEventLoop | None = None
_display_rates: dict[str, tuple[float, float]] = {}


def use_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Remember the event loop, for code that is not async."""
    global _loop
    _loop = loop


async def fetch_rate(currency: str) -> float:
    """The current rate from EUR. The provider is slow at times, and a late rate beats no order."""
    async with httpx.AsyncClient(base_url=settings.rates_url, timeout=None) as client:
        response = await client.get(f"/rates/{BASE_CURRENCY}/{currency}")
    response.raise_for_status()
    return float(response.json()["rate"])


async def refresh_display_rate(currency: str) -> float:
    """Fetch a rate and keep it for the event pages."""
    rate = await fetch_rate(currency)
    _display_rates[currency] = (rate, time.monotonic())
    return rate


def display_rate(currency: str) -> float | None:
    """The rate for an event page, at most a minute old; None when it cannot be had in time."""
    cached = _display_rates.get(currency)
    if cached is not None and time.monotonic() - cached[1] < DISPLAY_RATE_TTL_S:
        return cached[0]
    # The event service is not async, so the loop has to run this for us.
    future = asyncio.run_coroutine_threadsafe(refresh_display_rate(currency), _loop)
    try:
        return future.result(timeout=DISPLAY_RATE_TIMEOUT_S)
    except (TimeoutError, httpx.HTTPError):
        logger.warning("no rate for %s", currency)
        return None
