"""Calls to an upstream: shared connections, a deadline, safe retries, counted outcomes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import orjson

from boxoffice.deadlines import Deadline
from boxoffice.errors import Unavailable
from boxoffice.telemetry import UPSTREAM_LATENCY, UPSTREAM_REQUESTS, get_logger, request_id_var

RETRYABLE_STATUS = frozenset({408, 425, 429})
KEEP_ALIVE_S = 15.0

log = get_logger("boxoffice.upstreams")


class UpstreamUnavailable(Unavailable):
    """No usable answer within the limits.

    ``may_have_effect``: whether one of the attempts may still have done what was asked. ``refused``: the upstream
    answered that the request itself is wrong, so that asking again is of no use.
    """

    code = "upstream_unavailable"

    def __init__(
        self,
        upstream: str,
        *,
        retry_after_s: float | None = None,
        may_have_effect: bool = False,
        refused: bool = False,
    ) -> None:
        super().__init__(
            f"{upstream} cannot be reached, please try again", retry_after_s=retry_after_s or 1.0
        )
        self.may_have_effect = may_have_effect
        self.refused = refused


@dataclass(frozen=True, slots=True)
class Retries:
    """How often to try, and how long to wait in between: doubling from ``first_pause_s``, with jitter."""

    attempts: int = 4
    attempt_timeout_s: float = 2.5
    first_pause_s: float = 0.1
    longest_pause_s: float = 2.0

    def pause_s(self, attempt: int) -> float:
        """Seconds to wait after the attempt of this number (from 1)."""
        pause: float = min(self.first_pause_s * 2 ** (attempt - 1), self.longest_pause_s)
        return pause * random.uniform(1.0, 1.5)


@dataclass(frozen=True, slots=True)
class _Attempt:
    outcome: str
    response: httpx.Response | None = None
    retry_after_s: float | None = None
    may_have_effect: bool = False


class UpstreamClient:
    """One upstream. All calls share one pool of connections."""

    def __init__(self, name: str, base_url: str, *, max_connections: int) -> None:
        self.name = name
        self._http = httpx.AsyncClient(
            base_url=base_url,
            timeout=None,  # each attempt has a time limit for the whole exchange instead
            limits=httpx.Limits(
                max_connections=max_connections,
                max_keepalive_connections=max_connections,
                keepalive_expiry=KEEP_ALIVE_S,
            ),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        deadline: Deadline,
        retries: Retries,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> httpx.Response:
        """The first answer that is neither 5xx nor a request to come back later.

        Safe only for what may be repeated: reads, and writes with a key. Raises UpstreamUnavailable.
        """
        may_have_effect = False
        retry_after_s: float | None = None
        for number in range(1, retries.attempts + 1):
            timeout_s = min(retries.attempt_timeout_s, deadline.remaining())
            attempt = await self._attempt(timeout_s, method, path, body, params, idempotency_key)
            if attempt.response is not None:
                return attempt.response
            may_have_effect = may_have_effect or attempt.may_have_effect
            retry_after_s = attempt.retry_after_s
            pause_s = max(retries.pause_s(number), retry_after_s or 0.0)
            if number == retries.attempts or pause_s >= deadline.remaining():
                break
            await asyncio.sleep(pause_s)
        raise UpstreamUnavailable(self.name, retry_after_s=retry_after_s, may_have_effect=may_have_effect)

    async def _attempt(
        self,
        timeout_s: float,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        params: Mapping[str, str] | None,
        idempotency_key: str | None,
    ) -> _Attempt:
        headers = {"content-type": "application/json"} if body is not None else {}
        if idempotency_key is not None:
            headers["idempotency-key"] = idempotency_key
        request_id = request_id_var.get()
        if request_id is not None:
            headers["x-request-id"] = request_id
        content = None if body is None else orjson.dumps(body)
        started = time.perf_counter()
        try:
            async with asyncio.timeout(timeout_s):
                response = await self._http.request(
                    method, path, content=content, params=params, headers=headers
                )
        except TimeoutError:
            attempt = _Attempt("timeout", may_have_effect=True)
        except httpx.ConnectError:
            attempt = _Attempt("refused")
        except (httpx.HTTPError, httpx.InvalidURL):
            attempt = _Attempt("dropped", may_have_effect=True)
        else:
            attempt = _judge(response)
        UPSTREAM_REQUESTS.labels(self.name, attempt.outcome).inc()
        UPSTREAM_LATENCY.labels(self.name).observe(time.perf_counter() - started)
        if attempt.response is None:
            log.warning("upstream failed", upstream=self.name, outcome=attempt.outcome)
        return attempt


def _judge(response: httpx.Response) -> _Attempt:
    status = response.status_code
    if status < 400:
        return _Attempt("ok", response)
    if status < 500 and status not in RETRYABLE_STATUS:
        return _Attempt("rejected", response)
    retry_after_s = _retry_after_s(response)
    # Whoever says when to come back, or that it is too early or too much, has done nothing.
    turned_away = status in (425, 429) or retry_after_s is not None
    return _Attempt(
        "busy" if turned_away else "error",
        retry_after_s=retry_after_s,
        may_have_effect=not turned_away,
    )


def _retry_after_s(response: httpx.Response) -> float | None:
    """The header in its form as seconds; the form as a date counts as not given."""
    value = response.headers.get("retry-after", "")
    return float(value) if value.isascii() and value.isdigit() else None
