"""The one shape of the kit's requests: what a service sees of a client must not tell a load from a check.

Checks and health probes ask through :mod:`devstack.asking`, whose transport writes the head of a request as httpx does.
The load generator has another client, and writes its heads with :func:`request_head`: the same lines, in the same order
and spelling. tests/grader/test_client_shape.py compares the bytes of both.
"""

from __future__ import annotations

from collections.abc import Mapping

from devstack.asking import HEADERS

JSON_HEADERS: Mapping[str, str] = {"Content-Type": "application/json"}
"""After the headers of the request's own, where it has a JSON body."""


def request_head(
    method: str, target: str, *, host: str, headers: Mapping[str, str], body_bytes: int | None
) -> bytes:
    """Request line and headers of one HTTP/1.1 request, up to and including the empty line.

    ``target``: path and query, percent-encoded; ``host``: the ``Host`` header; ``headers``: the request's own, after
    those that every request has; ``body_bytes``: length of the body, ``None`` without one. Raises ValueError (a
    UnicodeError among them) for what would not be one request: a target with a space, a header with a line break.
    """
    if not target.startswith("/") or not target.isascii() or not target.isprintable() or " " in target:
        raise ValueError("a request's target is a path without spaces")
    fields = [("Host", host), *HEADERS.items(), *headers.items()]
    if body_bytes is not None:
        fields.append(("Content-Length", str(body_bytes)))
    if any("\r" in part or "\n" in part for field in fields for part in field):
        raise ValueError("a header is one line")
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
