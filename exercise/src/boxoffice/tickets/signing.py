"""Signature of a ticket and its SVG.

The turnstiles verify the signature offline, so payload and iterations must not change.
"""

import hashlib
import io

import segno

from boxoffice.settings import settings

ITERATIONS = 800_000


def sign(order_id: str) -> str:
    """Signature of an order's ticket, in hexadecimal."""
    return hashlib.pbkdf2_hmac(
        "sha256",
        order_id.encode(),
        settings.ticket_secret.encode(),
        ITERATIONS,
        dklen=32,
    ).hex()


def payload(order_id: str) -> str:
    """What the QR code says."""
    return f"boxoffice:{order_id}:{sign(order_id)}"


def render(order_id: str) -> bytes:
    """The ticket as SVG: the QR code, with its text as the description for screen readers."""
    text = payload(order_id)
    out = io.BytesIO()
    segno.make(text, error="m", micro=False).save(out, kind="svg", scale=6, title="Ticket", desc=text)
    return out.getvalue()
