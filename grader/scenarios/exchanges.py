"""One request and its answer, as a record. What comes back is untrusted: capped, decoded with care, never raised."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from devstack.artifacts import Exchange
from devstack.asking import BODY_LIMIT_BYTES, Client
from devstack.payloads import Decoded, decode

TEXT_CAP = 64_000
PATH_CAP = 2_000
"""Characters of a recorded path; the service's own ids and cursors are part of some."""

_BESIDE_PAYLOAD_CAP = 500
"""Characters of a body that are kept beside what was decoded from it."""

RECORD_LIMIT_BYTES = 128_000_000
"""What all answers of one scenario may take in memory; an honest service's take some 5 MB."""

_VALUE_BYTES = 64
"""A decoded value takes about that, however short it was written."""


@dataclass
class Room:
    """What is left of RECORD_LIMIT_BYTES. When it is used up, every answer that has a body is too large."""

    left_bytes: int = RECORD_LIMIT_BYTES


async def exchange_with(
    client: Client,
    label: str,
    method: str,
    path: str,
    *,
    json_body: JsonValue = None,
    content: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float,
    now: Callable[[], float],
    room: Room | None = None,
) -> Exchange:
    """One request and its answer as a record; whatever the service and the network do becomes its ``error``.

    ``timeout_s``: for all of it. ``now``: seconds on the record's axis. ``room``: what is left for the answers of the
    scenario; this one takes its part.
    """
    room = Room() if room is None else room
    sent = dict(headers or {})
    body = content
    if json_body is not None:
        body = json.dumps(json_body).encode()
        sent.setdefault("Content-Type", "application/json")
    started = now()
    answer = await client.ask(
        method, path, content=body, headers=sent, timeout_s=timeout_s,
        limit_bytes=max(0, min(BODY_LIMIT_BYTES, room.left_bytes)),
    )  # fmt: skip
    elapsed_s = now() - started
    is_json = "json" in answer.headers.get("content-type", "")
    decoded = decode(answer.body) if is_json else Decoded()
    payload = decoded.value
    text = _beginning(answer.body, TEXT_CAP if payload is None else _BESIDE_PAYLOAD_CAP)
    room.left_bytes -= len(text) + (
        0 if payload is None else len(answer.body) + _VALUE_BYTES * decoded.values
    )
    return Exchange(
        label=label,
        method=method,
        path=path[:PATH_CAP],
        started_s=started,
        elapsed_s=elapsed_s,
        request_headers=sent,
        request_json=json_body,
        status=answer.status,
        headers=dict(answer.headers),
        body=text,
        body_bytes=len(answer.body),
        payload=payload,
        error=answer.error,
    )


def _beginning(raw: bytes, characters: int) -> str:
    """The first ``characters`` of the text; a character has at most 4 bytes, so the rest is not decoded for it."""
    return raw[: 4 * characters].decode("utf-8", "replace")[:characters]
