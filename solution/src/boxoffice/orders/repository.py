"""Statements on orders. Each is one transaction and safe to repeat after a lost answer.

Rows are locked in one order everywhere, so nothing deadlocks: an order, then its events by id, then the key.
Lists travel as text: for an array the driver would ask each new connection about its type first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID

import orjson
from sqlalchemy import text

from boxoffice.db import Database, Rehearsal
from boxoffice.orders.models import Line, Mail, Order
from boxoffice.orders.schemas import OrderStatus

Unsuccessful = Literal["declined", "failed"]

CONFIRMATION = "order-confirmation"
RECONCILE_AFTER_S = 10
"""After the request is over for certain: an order answers within 9 s."""

VERIFY_AFTER_S = 12
"""A charge takes effect within 10 s of its request's arrival or never (contract)."""

MAIL_LEASE_S = 10
"""For so long the process that confirmed an order has its mail to itself."""

_QUOTE = text("""
    SELECT k.order_id, k.request_hash,
           e.id AS event_id, e.price, now() >= e.sales_open_at AND now() < e.sales_close_at AS on_sale
    FROM (SELECT 1) AS always
    LEFT JOIN idempotency_keys k ON k.key = :key AND k.created_at > now() - interval '24 hours'
    LEFT JOIN events e ON e.id = ANY(CAST(string_to_array(CAST(:event_ids AS text), ',') AS integer[]))
""")

# Locks the events in the order of their ids, decides on what it then sees, and writes everything or nothing.
# The key is claimed last and by the unique index: of two requests with one key, one gets the seats.
_RESERVE = text(f"""
    WITH wanted AS (
        SELECT *
        FROM jsonb_to_recordset(CAST(CAST(:lines AS text) AS jsonb)) AS line (
            line_no smallint, event_id integer, quantity integer, unit_price numeric, unit_price_eur numeric
        )
    ), locked AS (
        SELECT e.id, w.quantity, e.seats_taken + w.quantity <= e.seats_total AS fits
        FROM events e JOIN wanted w ON w.event_id = e.id
        WHERE now() >= e.sales_open_at AND now() < e.sales_close_at
        ORDER BY e.id
        FOR NO KEY UPDATE OF e
    ), verdict AS (
        SELECT count(*) = (SELECT count(*) FROM wanted) AND bool_and(fits) AS fits FROM locked
    ), claimed AS (
        INSERT INTO idempotency_keys AS k (key, request_hash, order_id)
        SELECT CAST(:key AS text), CAST(:request_hash AS text), CAST(:order_id AS uuid) FROM verdict WHERE fits
        ON CONFLICT (key) DO UPDATE
            SET request_hash = excluded.request_hash, order_id = excluded.order_id, created_at = now()
            WHERE k.created_at <= now() - interval '24 hours'
        RETURNING order_id
    ), taken AS (
        UPDATE events e SET seats_taken = e.seats_taken + locked.quantity
        FROM locked, claimed WHERE e.id = locked.id
    ), placed AS (
        INSERT INTO orders (id, buyer_email, currency, total, total_eur, card_token, idempotency_key, reconcile_at)
        SELECT order_id, :buyer_email, :currency, :total, :total_eur, :card_token, :key,
               now() + interval '{RECONCILE_AFTER_S} seconds'
        FROM claimed
        RETURNING id, created_at
    ), lines AS (
        INSERT INTO order_lines (order_id, line_no, event_id, quantity, unit_price, unit_price_eur)
        SELECT placed.id, line_no, event_id, quantity, unit_price, unit_price_eur FROM placed, wanted
    )
    SELECT placed.created_at FROM placed
""")

_FIND_KEY = text("SELECT order_id, request_hash FROM idempotency_keys WHERE key = :key")

_GET = text("""
    SELECT o.id, o.status, o.currency, o.charge_id, o.created_at,
           l.event_id, l.quantity, l.unit_price, l.unit_price_eur
    FROM orders o JOIN order_lines l ON l.order_id = o.id
    WHERE o.id = :id
    ORDER BY l.line_no
""")

_CONFIRM = text(f"""
    WITH confirmed AS (
        UPDATE orders SET status = 'confirmed', charge_id = :charge_id, card_token = NULL, reconcile_at = NULL
        WHERE id = :id AND status = 'pending'
        RETURNING id, buyer_email
    )
    INSERT INTO outbox (kind, order_id, payload, available_at)
    SELECT '{CONFIRMATION}', id, jsonb_build_object('to', buyer_email), now() + interval '{MAIL_LEASE_S} seconds'
    FROM confirmed
    RETURNING id, payload ->> 'to' AS recipient
""")

_CLOSE = text("""
    WITH closed AS (
        UPDATE orders
        SET status = CAST(:status AS text), card_token = NULL,
            reconcile_at = now() + CAST(:verify_after_s AS integer) * interval '1 second'
        WHERE id = :id AND status = 'pending'
        RETURNING id
    ), locked AS (
        SELECT e.id, l.quantity
        FROM closed JOIN order_lines l ON l.order_id = closed.id JOIN events e ON e.id = l.event_id
        ORDER BY e.id
        FOR NO KEY UPDATE OF e
    ), freed AS (
        UPDATE events e SET seats_taken = e.seats_taken - locked.quantity FROM locked WHERE e.id = locked.id
    )
    SELECT id FROM closed
""")


REHEARSAL: tuple[Rehearsal, ...] = (
    (_QUOTE, {"key": "", "event_ids": ""}),
    (
        _RESERVE,
        {
            "lines": "[]",
            "order_id": UUID(int=0),
            "currency": "EUR",
            "total": Decimal(0),
            "total_eur": Decimal(0),
            "buyer_email": "",
            "card_token": "",
            "key": "",
            "request_hash": "",
        },
    ),
    (_GET, {"id": UUID(int=0)}),
    (_CONFIRM, {"id": UUID(int=0), "charge_id": ""}),
)


@dataclass(frozen=True, slots=True)
class Offer:
    """An event as far as an order needs it."""

    price: Decimal
    on_sale: bool


@dataclass(frozen=True, slots=True)
class KnownKey:
    """What an idempotency key was used for."""

    order_id: UUID
    request_hash: str


@dataclass(frozen=True, slots=True)
class Quote:
    """What there is to know before an order: its key's past, and the events by id."""

    known_key: KnownKey | None
    offers: dict[int, Offer]


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who orders, and with which card and key."""

    email: str
    card_token: str
    key: str
    request_hash: str

    def __repr__(self) -> str:
        return "Buyer(…)"  # never the card token


async def quote(database: Database, key: str, event_ids: Sequence[int], *, timeout_s: float) -> Quote:
    """One round trip for all that decides whether an order may go on."""
    parameters = {"key": key, "event_ids": ",".join(map(str, event_ids))}
    rows = await database.fetch_all(_QUOTE, parameters, timeout_s=timeout_s)
    known = rows[0].order_id
    return Quote(
        known_key=None if known is None else KnownKey(known, rows[0].request_hash),
        offers={row.event_id: Offer(row.price, row.on_sale) for row in rows if row.event_id is not None},
    )


async def reserve(
    database: Database, order: Order, total_eur: Decimal, buyer: Buyer, *, timeout_s: float
) -> datetime | None:
    """Store the pending order with its seats; when it was created, or None: sold out, or the key is taken."""
    row = await database.fetch_one(
        _RESERVE,
        {
            "lines": _encode(order.lines),
            "order_id": order.id,
            "currency": order.currency,
            "total": order.total,
            "total_eur": total_eur,
            "buyer_email": buyer.email,
            "card_token": buyer.card_token,
            "key": buyer.key,
            "request_hash": buyer.request_hash,
        },
        timeout_s=timeout_s,
    )
    return None if row is None else row.created_at


async def find_key(database: Database, key: str, *, timeout_s: float) -> KnownKey | None:
    """What a key was used for."""
    row = await database.fetch_one(_FIND_KEY, {"key": key}, timeout_s=timeout_s)
    return None if row is None else KnownKey(row.order_id, row.request_hash)


async def get_order(database: Database, order_id: UUID, *, timeout_s: float) -> Order | None:
    """One order."""
    rows = await database.fetch_all(_GET, {"id": order_id}, timeout_s=timeout_s)
    if not rows:
        return None
    return Order(
        id=rows[0].id,
        status=rows[0].status,
        currency=rows[0].currency,
        charge_id=rows[0].charge_id,
        created_at=rows[0].created_at,
        lines=tuple(Line(row.event_id, row.quantity, row.unit_price, row.unit_price_eur) for row in rows),
    )


async def confirm(database: Database, order_id: UUID, charge_id: str, *, timeout_s: float) -> Mail | None:
    """Confirm a pending order and put its mail into the outbox; None when it was not pending any more."""
    row = await database.fetch_one(_CONFIRM, {"id": order_id, "charge_id": charge_id}, timeout_s=timeout_s)
    return None if row is None else Mail(row.id, order_id, CONFIRMATION, row.recipient)


async def close(
    database: Database, order_id: UUID, status: Unsuccessful, *, timeout_s: float
) -> OrderStatus | None:
    """End a pending order and put its seats on sale again; None when it was not pending any more.

    After a failure payments are asked once more, when no charge can turn up any longer.
    """
    verify_after_s = VERIFY_AFTER_S if status == "failed" else None
    parameters = {"id": order_id, "status": status, "verify_after_s": verify_after_s}
    row = await database.fetch_one(_CLOSE, parameters, timeout_s=timeout_s)
    return None if row is None else status


def _encode(lines: Sequence[Line]) -> str:
    return orjson.dumps(
        [
            {
                "line_no": number,
                "event_id": line.event_id,
                "quantity": line.quantity,
                "unit_price": str(line.unit_price),
                "unit_price_eur": str(line.unit_price_eur),
            }
            for number, line in enumerate(lines, start=1)
        ]
    ).decode()
