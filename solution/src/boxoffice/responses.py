"""JSON answers, encoded once and directly: the models of the endpoints document them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response


def json_response(
    content: Any, *, status_code: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """``content`` as JSON; date-times must be aware and become RFC 3339 with offset."""
    return Response(orjson.dumps(content), status_code, headers, "application/json")
