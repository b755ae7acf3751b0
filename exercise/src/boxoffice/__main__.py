"""Start the service: ``python -m boxoffice``."""

import uvicorn

from boxoffice.settings import settings


def main() -> None:
    """Serve on HOST:PORT with as many processes as WEB_CONCURRENCY says."""
    uvicorn.run(
        "boxoffice.app:app",
        host=settings.host,
        port=settings.port,
        workers=settings.web_concurrency,
        log_config=None,  # boxoffice.telemetry configures logging, also in the workers
        access_log=False,  # our middleware writes the access log
    )


if __name__ == "__main__":
    main()
