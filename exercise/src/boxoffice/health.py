"""Liveness and readiness for the platform."""

import asyncio
import logging
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from boxoffice.events import availability
from boxoffice.settings import settings

logger = logging.getLogger(__name__)
router = APIRouter(prefix="/health", tags=["operations"])

PAYMENTS_CONNECT_TIMEOUT_S = 1.0


async def payments_reachable() -> bool:
    """Whether the payments provider takes connections."""
    url = urlsplit(settings.payments_url)
    try:
        _, writer = await asyncio.wait_for(
            asyncio.open_connection(url.hostname, url.port or 80),
            PAYMENTS_CONNECT_TIMEOUT_S,
        )
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


@router.get("/live")
async def live() -> JSONResponse:
    """Tell the platform whether to restart us: a worker that cannot sell is of no use."""
    problems = []
    try:
        availability.ping()
    except Exception:
        logger.exception("liveness: database")
        problems.append("database")
    if not await payments_reachable():
        problems.append("payments")
    if problems:
        return JSONResponse({"status": "failing", "problems": problems}, status_code=503)
    return JSONResponse({"status": "ok"})


@router.get("/ready")
async def ready(request: Request) -> JSONResponse:
    """Tell the balancer whether to send traffic; set once everything is connected, see app.lifespan."""
    if not request.app.state.ready:
        return JSONResponse({"status": "starting"}, status_code=503)
    return JSONResponse({"status": "ready"})
