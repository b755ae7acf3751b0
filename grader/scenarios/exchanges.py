"""One request and its answer, as a record. What comes back is untrusted: capped, decoded with care, never raised."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping

import httpx
from pydantic import JsonValue

from devstack.artifacts import Exchange

TEXT_CAP = 64_000
BODY_CAP_BYTES = 4_000_000


async def exchange_with(
    client: httpx.AsyncClient,
    label: str,
    method: str,
    path: str,
    *,
    json_body: JsonValue = None,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float,
    now: Callable[[], float],
) -> Exchange:
    """One request and its answer as a record; network errors become its ``error``."""
    sent = dict(headers or {})
    body = content
    if json_body is not None:
        body = json.dumps(json_body).encode()
        sent.setdefault("Content-Type", "application/json")
    started = now()
    status: int | None = None
    received: dict[str, str] = {}
    raw = b""
    error: str | None = None
    try:
        async with asyncio.timeout(timeout_s):
            # Latin-1 is what the bytes of a header mean, and the only way to send those that are not ASCII.
            raw_headers = {name.encode(): value.encode("latin-1") for name, value in sent.items()}
            async with client.stream(method, path, content=body, headers=raw_headers) as answer:
                async for chunk in answer.aiter_bytes():
                    raw += chunk
                    if len(raw) > BODY_CAP_BYTES:
                        error = "too-large"
                        break
                if error is None:
                    status = answer.status_code
                received = {name.lower(): value[:1000] for name, value in list(answer.headers.items())[:60]}
    except TimeoutError:
        error = "timeout"
    except httpx.ConnectError:
        error = "refused"
    except (httpx.ReadError, httpx.WriteError, httpx.CloseError):
        error = "reset"
    except (httpx.HTTPError, httpx.InvalidURL):
        error = "protocol"
    text = raw.decode("utf-8", "replace")
    payload = parse_json(raw) if "json" in received.get("content-type", "") else None
    return Exchange(
        label=label,
        method=method,
        path=path,
        started_s=started,
        elapsed_s=now() - started,
        request_headers=sent,
        request_json=json_body,
        status=status,
        headers=received,
        body=text[:TEXT_CAP] if payload is None else text[:500],
        body_bytes=len(raw),
        payload=payload,
        error=error,
    )


def parse_json(raw: bytes) -> JsonValue:
    """Parse JSON from an untrusted service; ``None`` for what is not plain JSON (NaN, too deep, lone surrogates)."""
    try:
        payload: JsonValue = json.loads(raw, parse_constant=_refuse_constant)
        json.dumps(payload, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        return None
    return payload


def _refuse_constant(name: str) -> None:
    raise ValueError(name)
