"""Structured logs and metrics.

The metrics of all serving processes add up: with several of them prometheus_client keeps the values in files of
PROMETHEUS_MULTIPROC_DIR, which ``boxoffice.__main__`` sets before anything imports this module.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from contextvars import ContextVar
from pathlib import Path

import orjson
import structlog
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

request_id_var: ContextVar[str | None] = ContextVar("request_id", default=None)

MULTIPROCESS_DIR = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

disable_created_metrics()  # type: ignore[no-untyped-call]  # they double the number of series
registry = CollectorRegistry()
HTTP_REQUESTS = Counter(
    "http_requests_total", "Requests answered", ["method", "route", "status"], registry=registry
)
HTTP_LATENCY = Histogram(
    "http_request_duration_seconds",
    "From the request's head to the end of its answer",
    ["method", "route"],
    buckets=LATENCY_BUCKETS_S,
    registry=registry,
)
UPSTREAM_REQUESTS = Counter(
    "upstream_requests_total", "Calls to upstreams by outcome", ["upstream", "outcome"], registry=registry
)
UPSTREAM_LATENCY = Histogram(
    "upstream_request_duration_seconds",
    "Time of one attempt",
    ["upstream"],
    buckets=LATENCY_BUCKETS_S,
    registry=registry,
)
DB_CONNECTIONS = Gauge(
    "db_connections",
    "Connections of the pools: in use, and how many there may be",
    ["state"],
    multiprocess_mode="livesum",
    registry=registry,
)
DB_FAILURES = Counter("db_failures_total", "Statements that failed, by kind", ["kind"], registry=registry)
ORDERS_SETTLED = Counter("orders_settled_total", "Orders by final status", ["status"], registry=registry)
ORDERS_IN_FLIGHT = Gauge(
    "orders_in_flight", "Orders being placed", multiprocess_mode="livesum", registry=registry
)
RECONCILIATIONS = Counter(
    "reconciliations_total", "Orders that the reconciler looked at, by result", ["result"], registry=registry
)
MAILS = Counter("mails_total", "Attempts to hand a mail over, by result", ["result"], registry=registry)


def render_metrics() -> bytes:
    """The Prometheus text of all serving processes. Reads files, so call it in a thread."""
    if MULTIPROCESS_DIR is None:
        return generate_latest(registry)
    _forget_dead_processes(Path(MULTIPROCESS_DIR))
    collected = CollectorRegistry()
    MultiProcessCollector(collected, MULTIPROCESS_DIR)  # type: ignore[no-untyped-call]
    return generate_latest(collected)


def _forget_dead_processes(directory: Path) -> None:
    """A process that was killed left its gauges behind; its counters still count."""
    for path in directory.glob("gauge_live*_*.db"):
        pid = int(path.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists():
            path.unlink(missing_ok=True)


def get_logger(name: str) -> FilteringBoundLogger:
    """A structured logger: an event in words, and its data as keywords."""
    logger: FilteringBoundLogger = structlog.get_logger(component=name)
    return logger


def describe_error(error: BaseException) -> dict[str, object]:
    """Type and place of an error for a log line, without its message: that may quote data of a buyer."""
    return {
        "error": type(error).__name__,
        "traceback": "".join(traceback.format_tb(error.__traceback__)),
    }


def configure_logging(level: str) -> None:
    """One JSON object per line on stdout, from this service and from its libraries alike."""
    threshold = logging.getLevelNamesMapping()[level]
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_request_id,
            structlog.processors.JSONRenderer(serializer=_dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.BytesLoggerFactory(sys.stdout.buffer),
        cache_logger_on_first_use=True,
    )
    handler = _StructuredHandler()
    logging.basicConfig(level=threshold, handlers=[handler], force=True)
    for chatty in ("httpx", "httpcore", "asyncio", "sqlalchemy"):
        logging.getLogger(chatty).setLevel(logging.WARNING)


class _StructuredHandler(logging.Handler):
    """Passes records of the standard library's logging on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        data = describe_error(record.exc_info[1]) if record.exc_info and record.exc_info[1] else {}
        get_logger(record.name).log(record.levelno, record.getMessage(), **data)


def _add_request_id(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    request_id = request_id_var.get()
    if request_id is not None:
        event["request_id"] = request_id
    return event


def _dumps(event: EventDict, **_: object) -> bytes:
    return orjson.dumps(event, default=str)
