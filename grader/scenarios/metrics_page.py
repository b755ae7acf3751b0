"""The metrics page as a record: whole, where an exchange keeps the beginning only, and when it was read."""

from __future__ import annotations

from grader.scenarios.stage import Stage

PAGE_CAP = 2_000_000
TIMEOUT_S = 6.0


async def scrape(stage: Stage, name: str) -> None:
    """Read ``/metrics`` and record it as text ``name``, empty if it cannot be had; when, as facts."""
    stage.fact(f"{name}-asked-s", stage.now())
    answer = await stage.ask("GET", "/metrics", timeout_s=TIMEOUT_S, limit_bytes=PAGE_CAP)
    page = answer.body.decode("utf-8", "replace") if answer.status == 200 else ""
    stage.text(name, page, cap=PAGE_CAP)
    stage.fact(f"{name}-read-s", stage.now())
