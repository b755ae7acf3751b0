"""Rates from EUR: kept for a minute, fetched once for all that wait, and never asked for too often.

The upstream grants 10 calls per currency pair and process in a minute. Answers are refreshed every 30 s (2 calls).
Without one, the first fetch may take 4 attempts, and then one probe every 10 s (4 + 5 calls in the first minute).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import httpx

from boxoffice.deadlines import Deadline
from boxoffice.money import BASE_CURRENCY
from boxoffice.single_flight import SingleFlight
from boxoffice.upstreams.client import Retries, UpstreamClient, UpstreamUnavailable

MAX_AGE_S = 60.0
REFRESH_AFTER_S = 30.0
PROBE_EVERY_S = 10.0
FETCH_TIMEOUT_S = 4.5
LARGEST_RATE = Decimal(100_000)
"""Beyond it prices would not fit their column; no currency is worth that little."""

FETCH = Retries(attempts=4, attempt_timeout_s=FETCH_TIMEOUT_S)
PROBE = Retries(attempts=1, attempt_timeout_s=FETCH_TIMEOUT_S)


@dataclass(slots=True)
class _Quote:
    """What is known of a currency; instants are on the monotonic clock."""

    rate: Decimal | None = None
    asked_at: float = float("-inf")  # just before the call: an answer may have been under way for long
    failed_at: float = float("-inf")

    def usable(self, now: float) -> Decimal | None:
        """The rate while it is young enough."""
        return self.rate if now - self.asked_at < MAX_AGE_S else None


class Rates:
    """Client of the rates upstream, with a cache bounded by the number of three-letter codes."""

    def __init__(self, client: UpstreamClient) -> None:
        self._client = client
        self._quotes: dict[str, _Quote] = {}
        self._fetches: SingleFlight[str, None] = SingleFlight()

    async def close(self) -> None:
        """Stop fetching."""
        await self._fetches.close()

    async def get(self, currency: str, *, deadline: Deadline) -> Decimal:
        """EUR to ``currency``, at most MAX_AGE_S old. Raises UpstreamUnavailable."""
        quote = self._quotes.setdefault(currency, _Quote())
        now = time.monotonic()
        rate = quote.usable(now)
        failed_recently = now - quote.failed_at < PROBE_EVERY_S
        if (rate is None or now - quote.asked_at > REFRESH_AFTER_S) and not failed_recently:
            fetch = self._fetches.start(currency, lambda: self._fetch(currency, quote))
            if rate is None:
                await asyncio.wait({fetch}, timeout=deadline.remaining())
                rate = quote.usable(time.monotonic())
        if rate is None:
            raise UpstreamUnavailable("rates", retry_after_s=PROBE_EVERY_S)
        return rate

    async def _fetch(self, currency: str, quote: _Quote) -> None:
        asked_at = time.monotonic()
        had_failed = quote.failed_at > quote.asked_at
        try:
            response = await self._client.call(
                "GET",
                f"/rates/{BASE_CURRENCY}/{currency}",
                deadline=Deadline.after(FETCH_TIMEOUT_S),
                retries=PROBE if had_failed or quote.rate is not None else FETCH,
            )
            rate = _parse(response)
        except UpstreamUnavailable:
            rate = None
        if rate is None:
            quote.failed_at = time.monotonic()
        else:
            quote.rate, quote.asked_at = rate, asked_at


def _parse(response: httpx.Response) -> Decimal | None:
    try:
        rate = Decimal(str(response.json()["rate"]))
    except (ValueError, KeyError, TypeError, InvalidOperation):
        return None
    return rate if rate.is_finite() and 0 < rate <= LARGEST_RATE else None
