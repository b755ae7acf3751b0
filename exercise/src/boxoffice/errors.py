"""Errors that the endpoints answer with."""

import logging

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

logger = logging.getLogger(__name__)


class BoxOfficeError(Exception):
    """Base of everything that we report to the caller on purpose."""

    status_code = 400

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class NotFound(BoxOfficeError):
    """The event, order or entry does not exist."""

    status_code = 404


class Conflict(BoxOfficeError):
    """Sold out, outside the sales window, or not confirmed yet."""

    status_code = 409


class CardDeclined(BoxOfficeError):
    """Payments refused the card."""

    status_code = 402


class BuyerDenied(BoxOfficeError):
    """The risk assessment said no."""

    status_code = 403


class ServiceUnavailable(BoxOfficeError):
    """Something that we need does not answer."""

    status_code = 503


async def boxoffice_error_handler(request: Request, exc: BoxOfficeError) -> JSONResponse:
    """Answer with the status and the text of the error."""
    return JSONResponse({"detail": exc.detail}, status_code=exc.status_code)


async def unexpected_error_handler(request: Request, exc: Exception) -> JSONResponse:
    """Answer with the cause, so that support can see at once what went wrong."""
    logger.exception("unexpected error: %s %s", request.method, request.url.path)
    return JSONResponse({"error": type(exc).__name__, "detail": str(exc)}, status_code=500)


def install_error_handlers(app: FastAPI) -> None:
    """Register the handlers above."""
    app.add_exception_handler(BoxOfficeError, boxoffice_error_handler)
    app.add_exception_handler(Exception, unexpected_error_handler)
