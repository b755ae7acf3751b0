"""Errors that are answered on purpose, and how.

AppError
├── NotFound              404
├── Conflict              409
├── PaymentDeclined       402
├── BuyerDenied           403
├── BodyTooLarge          413
└── Unavailable           503, with Retry-After
    ├── DatabaseUnavailable
    ├── UpstreamUnavailable   (boxoffice.upstreams.client)
    └── Overloaded
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.responses import Response

from boxoffice.responses import json_response


class ErrorBody(BaseModel):
    """Every error but a failed validation has this body."""

    code: str
    detail: str


class AppError(Exception):
    """Base of all errors that are answered on purpose. ``detail`` is shown to the caller."""

    status_code = 500
    code = "internal_error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers of the answer."""
        return {}

    def response(self) -> Response:
        """The answer."""
        return json_response(
            {"code": self.code, "detail": self.detail}, status_code=self.status_code, headers=self.headers
        )


class NotFound(AppError):
    """There is no such thing."""

    status_code = 404
    code = "not_found"


class Conflict(AppError):
    """Sold out, outside the sales window, not confirmed yet, key used for something else."""

    status_code = 409
    code = "conflict"


class PaymentDeclined(AppError):
    """Payments declined the card."""

    status_code = 402
    code = "payment_declined"


class BuyerDenied(AppError):
    """The risk assessment denied the order."""

    status_code = 403
    code = "denied"


class BodyTooLarge(AppError):
    """The body exceeds the limit."""

    status_code = 413
    code = "body_too_large"

    @property
    def headers(self) -> Mapping[str, str]:
        """The rest of the body is not read, so the connection cannot be used again."""
        return {"connection": "close"}


class Unavailable(AppError):
    """Cannot be served now; worth another try after ``retry_after_s`` seconds."""

    status_code = 503
    code = "unavailable"

    def __init__(self, detail: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s

    @property
    def headers(self) -> Mapping[str, str]:
        """``Retry-After`` in whole seconds, at least 1."""
        return {"retry-after": str(max(1, round(self.retry_after_s)))}


class DatabaseUnavailable(Unavailable):
    """The database did not answer in time, or the connection to it was lost."""

    code = "database_unavailable"

    def __init__(self, detail: str = "the database does not answer") -> None:
        super().__init__(detail)


class Overloaded(Unavailable):
    """More work in flight than one process takes on."""

    code = "overloaded"


async def _answer_app_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, AppError)
    return error.response()


async def _answer_invalid(request: Request, error: Exception) -> Response:
    """What is wrong and where, without the input: it may hold a card token."""
    assert isinstance(error, RequestValidationError)
    problems: list[dict[str, Any]] = [
        {"loc": list(problem["loc"]), "msg": problem["msg"], "type": problem["type"]}
        for problem in error.errors()
    ]
    return json_response({"detail": problems}, status_code=422)


def install_error_handlers(app: FastAPI) -> None:
    """Answer AppError and failed validations; what is left is for RequestTelemetry."""
    app.add_exception_handler(AppError, _answer_app_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
