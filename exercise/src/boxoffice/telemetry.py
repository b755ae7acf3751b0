"""Logging, metrics and the middleware that feeds them."""

import logging
import time
import uuid
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from starlette.middleware.base import BaseHTTPMiddleware

from boxoffice.settings import settings

request_id_var: ContextVar[str] = ContextVar("request_id", default="-")
order_id_var: ContextVar[str] = ContextVar("order_id", default="-")

access_logger = logging.getLogger("boxoffice.access")
router = APIRouter(tags=["operations"])

registry = CollectorRegistry()
REQUESTS = Counter(
    "http_requests",
    "Requests that were served",
    ["method", "path", "status"],
    registry=registry,
)
LATENCY = Histogram(
    "http_request_duration_seconds",
    "Time to serve a request",
    ["method", "path"],
    registry=registry,
)
ORDERS = Counter("orders_confirmed", "Orders that were confirmed", registry=registry)


class ContextFilter(logging.Filter):
    """Put the request id on every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Never drops a record."""
        record.request_id = request_id_var.get()
        return True


def configure_logging() -> None:
    """Log to stderr, with the request id on each line."""
    handler = logging.StreamHandler()
    handler.addFilter(ContextFilter())
    handler.setFormatter(
        logging.Formatter("%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"),
    )
    logging.basicConfig(level=settings.log_level.upper(), handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # one line per call drowns everything else


class TelemetryMiddleware(BaseHTTPMiddleware):
    """Give each request an id, time it and write the access log."""

    async def dispatch(
        self,
        request: Request,
        call_next: Callable[[Request], Awaitable[Response]],
    ) -> Response:
        """Measure one request."""
        request_id_var.set(uuid.uuid4().hex)
        started = time.perf_counter()
        response = await call_next(request)
        elapsed = time.perf_counter() - started

        # Failures are alerted on from the log; counting them here would skew the latency panels.
        if response.status_code < 500:
            path = request.url.path
            REQUESTS.labels(request.method, path, response.status_code).inc()
            LATENCY.labels(request.method, path).observe(elapsed)

        access_logger.info(
            "%s %s %s %.1fms order=%s",
            request.method,
            request.url.path,
            response.status_code,
            elapsed * 1000,
            order_id_var.get(),  # support searches the log by order
        )
        return response


@router.get("/metrics", include_in_schema=False)
async def metrics() -> Response:
    """Prometheus scrapes this."""
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
