"""The metrics page as a record: whole, where an exchange keeps the beginning only, and when it was read."""

from __future__ import annotations

import contextlib

import httpx

from grader.scenarios.stage import Stage

PAGE_CAP = 2_000_000
TIMEOUT_S = 6.0


async def scrape(stage: Stage, name: str) -> None:
    """Read ``/metrics`` and record it as text ``name``, empty if it cannot be had; when, as facts."""
    stage.fact(f"{name}-asked-s", stage.now())
    page = ""
    async with httpx.AsyncClient(
        base_url=stage.service.base_url, trust_env=False, timeout=TIMEOUT_S
    ) as client:
        with contextlib.suppress(httpx.HTTPError, httpx.InvalidURL, ValueError):
            answer = await client.get("/metrics")
            page = answer.text if answer.status_code == 200 else ""
    stage.text(name, page, cap=PAGE_CAP)
    stage.fact(f"{name}-read-s", stage.now())
