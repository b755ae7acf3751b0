"""Pure-ASGI middleware: request id, metrics and access log; size of the body."""

from __future__ import annotations

import contextlib
import re
import time
import uuid

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from boxoffice.errors import AppError, BodyTooLarge
from boxoffice.telemetry import HTTP_LATENCY, HTTP_REQUESTS, describe_error, get_logger, request_id_var

MAX_BODY_BYTES = 1_000_000
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UNMATCHED = "unmatched"
"""Route of all requests that no route matches, so that unknown paths make no new series."""

log = get_logger("boxoffice.access")


class InternalError(AppError):
    """Something that should not happen. The log says what, the caller learns nothing of it."""

    def __init__(self) -> None:
        super().__init__("something went wrong on our side")


class RequestTelemetry:
    """Gives each request an id; counts, times and logs it; answers what nobody else caught."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        token = request_id_var.set(request_id)
        started = time.perf_counter()
        status = 0  # stays 0 when not even the head of an answer was sent

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            log.error("unexpected error", path=scope["path"], **describe_error(error))
            if status != 0:
                raise  # too late for another answer: the server closes the connection
            await InternalError().response()(scope, receive, send_with_id)
        finally:
            _record(scope, status or 500, time.perf_counter() - started)
            request_id_var.reset(token)


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            given: str = value.decode("latin-1")
            return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    return uuid.uuid4().hex


def _record(scope: Scope, status: int, elapsed_s: float) -> None:
    method = scope["method"] if scope["method"] in METHODS else "other"
    route = getattr(scope.get("route"), "path", UNMATCHED)
    HTTP_REQUESTS.labels(method, route, str(status)).inc()
    HTTP_LATENCY.labels(method, route).observe(elapsed_s)
    log.info("request", method=method, path=scope["path"], status=status, ms=round(elapsed_s * 1000, 1))


class BodyLimit:
    """Refuses bodies over ``max_bytes``: by their declared length at once, else while they arrive."""

    def __init__(self, app: ASGIApp, max_bytes: int = MAX_BODY_BYTES) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
        if self._declares_too_much(scope):
            await self._refusal().response()(scope, receive, send)
            return
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise self._refusal()
            return message

        async def send_unless_refused(message: Message) -> None:
            # What the application makes of the failed read, mostly a 400, is not what the caller has to know.
            if received <= self.max_bytes:
                await send(message)

        with contextlib.suppress(BodyTooLarge):
            await self.app(scope, receive_limited, send_unless_refused)
        if received > self.max_bytes:
            await self._refusal().response()(scope, receive, send)

    def _declares_too_much(self, scope: Scope) -> bool:
        for name, value in scope["headers"]:
            if name == b"content-length":
                return not value.isdigit() or int(value) > self.max_bytes
        return False

    def _refusal(self) -> BodyTooLarge:
        return BodyTooLarge(f"the body is larger than {self.max_bytes} bytes")
