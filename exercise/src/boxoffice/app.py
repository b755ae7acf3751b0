"""The application: lifespan, middleware, routes."""

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType

from fastapi import FastAPI

from boxoffice import health, telemetry
from boxoffice.errors import install_error_handlers
from boxoffice.events import availability
from boxoffice.events.endpoints import router as events_router
from boxoffice.orders.endpoints import router as orders_router
from boxoffice.reports.endpoints import router as reports_router
from boxoffice.tickets.endpoints import router as tickets_router
from boxoffice.upstreams import rates
from boxoffice.waitlist.endpoints import router as waitlist_router

logger = logging.getLogger(__name__)


def leave_on_sigterm(signum: int, frame: FrameType | None) -> None:
    """Leave when the platform asks us to.

    The server's own handler waits for the balancer's keep-alive connections, and a deploy of all
    pods took a quarter of an hour. The balancer retries elsewhere, so there is nothing to wait for.
    """
    logger.info("SIGTERM, leaving")
    os._exit(0)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Connect at start, so that a wrong configuration shows before the first buyer comes."""
    availability.connect()
    rates.use_loop(asyncio.get_running_loop())
    signal.signal(signal.SIGTERM, leave_on_sigterm)
    app.state.ready = True
    logger.info("box office is ready")
    yield


def create_app() -> FastAPI:
    """Assemble the application."""
    telemetry.configure_logging()
    app = FastAPI(title="Box office", version="1.0.0", lifespan=lifespan)
    app.state.ready = False
    app.add_middleware(telemetry.TelemetryMiddleware)
    install_error_handlers(app)
    app.include_router(health.router)
    app.include_router(telemetry.router)
    app.include_router(events_router)
    app.include_router(reports_router)
    app.include_router(waitlist_router)
    app.include_router(orders_router)
    app.include_router(tickets_router)
    return app


app = create_app()
