"""Start the service: ``python -m boxoffice``."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from types import FrameType

import uvicorn

from boxoffice.settings import Settings

GRACEFUL_SHUTDOWN_S = 11
"""Longer than the longest answer (an order, 9 s), and leaves time for the lifespan within 20 s."""

KEEP_ALIVE_S = 30
MAX_CONNECTIONS_PER_PROCESS = 2000


def main() -> None:
    """Serve on HOST:PORT with WEB_CONCURRENCY processes until SIGTERM."""
    settings = Settings()
    # uvicorn raises the signal again after it has drained; a drained service exits with 0.
    signal.signal(signal.SIGTERM, _leave)
    if settings.web_concurrency == 1:
        _serve(settings)
        return
    # The workers share their metrics in files; prometheus_client reads this when it is imported.
    metrics = tempfile.mkdtemp(prefix="boxoffice-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = metrics
    try:
        _serve(settings)
    finally:
        shutil.rmtree(metrics, ignore_errors=True)


def _serve(settings: Settings) -> None:
    uvicorn.run(
        "boxoffice.app:create_app",
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.web_concurrency,
        loop="uvloop",  # with plain asyncio, connections of several workers lack TCP_NODELAY
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,  # boxoffice.telemetry configures logging, in the workers too
        access_log=False,  # boxoffice.middleware writes one line per request
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS_PER_PROCESS,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S,
    )


def _leave(signum: int, frame: FrameType | None) -> None:
    sys.exit(0)


if __name__ == "__main__":
    main()
