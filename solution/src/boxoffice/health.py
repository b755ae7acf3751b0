"""Liveness, readiness and metrics for the platform."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from boxoffice.dependencies import DatabaseDep
from boxoffice.errors import DatabaseUnavailable
from boxoffice.responses import json_response
from boxoffice.telemetry import render_metrics

READY_TIMEOUT_S = 3.5
"""The contract's limit for each answer is 5 s."""

router = APIRouter(tags=["operations"], include_in_schema=False)


@router.get("/health/live")
async def live() -> Response:
    """The process can serve: that it answers says so. Looks at nothing else."""
    return json_response({"status": "alive"})


@router.get("/health/ready")
async def ready(database: DatabaseDep) -> Response:
    """The database answers. Upstreams do not count: without them there is still much to serve."""
    try:
        await database.ping(timeout_s=READY_TIMEOUT_S)
    except DatabaseUnavailable as error:
        return json_response(
            {"status": "not ready", "failed": ["database"]}, status_code=503, headers=error.headers
        )
    return json_response({"status": "ready"})


@router.get("/metrics")
async def metrics() -> Response:
    """Prometheus scrapes this."""
    return Response(await asyncio.to_thread(render_metrics), media_type=CONTENT_TYPE_LATEST)
