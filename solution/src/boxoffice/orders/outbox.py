"""The outbox: mails are stored with the confirmation of their order, and delivered at least once.

The process that confirms an order delivers its mail at once. Whatever is left (it failed, the process ended, there
were too many) is found by the poller of any process when its lease is over. An attempt never outlives its lease.
"""

from __future__ import annotations

import asyncio
import random

from sqlalchemy import text

from boxoffice.db import Database, Rehearsal
from boxoffice.deadlines import Deadline
from boxoffice.errors import DatabaseUnavailable
from boxoffice.orders.models import Mail
from boxoffice.task_pool import TaskPool
from boxoffice.telemetry import MAILS, describe_error, get_logger
from boxoffice.upstreams.client import Retries, UpstreamUnavailable
from boxoffice.upstreams.mailer import Mailer

POLL_EVERY_S = 2.0
DELIVERIES_AT_ONCE = 32
DELIVERY_TIMEOUT_S = 8.5
"""The mailer may take 8 s (contract); shorter than any lease."""

RETRIES = Retries(attempts=3, attempt_timeout_s=DELIVERY_TIMEOUT_S, first_pause_s=1.0)
DRAIN_TIMEOUT_S = 3.0
STATEMENT_TIMEOUT_S = 3.0

# Leases get longer from attempt to attempt: 10, 12, … 20 s. A failure needs no statement: its lease runs out.
_CLAIM = text("""
    WITH due AS (
        SELECT id FROM outbox
        WHERE sent_at IS NULL AND available_at <= now()
        ORDER BY available_at
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
    UPDATE outbox
    SET attempts = attempts + 1, available_at = now() + least(10 + 2 * attempts, 20) * interval '1 second'
    FROM due WHERE outbox.id = due.id
    RETURNING outbox.id, order_id, kind, payload ->> 'to' AS recipient
""")
_MARK_SENT = text(
    "UPDATE outbox SET sent_at = now() WHERE id = ANY(CAST(string_to_array(CAST(:ids AS text), ',') AS bigint[]))"
)

REHEARSAL: tuple[Rehearsal, ...] = ((_MARK_SENT, {"ids": ""}),)

log = get_logger("boxoffice.outbox")


class Outbox:
    """Delivers mails."""

    def __init__(self, database: Database, mailer: Mailer) -> None:
        self._database = database
        self._mailer = mailer
        self._deliveries = TaskPool(DELIVERIES_AT_ONCE)
        self._sent: list[int] = []
        self._marking = asyncio.Lock()

    def hand_over(self, mail: Mail) -> None:
        """Deliver a mail whose lease this process has; when it is too busy, the poller will."""
        if self._deliveries.free > 0:
            self._deliveries.start(self._deliver(mail))

    async def run(self) -> None:
        """Look for mails that were left behind, until cancelled."""
        while True:
            await asyncio.sleep(POLL_EVERY_S * random.uniform(0.75, 1.25))
            try:
                await self._claim()
            except DatabaseUnavailable:
                pass  # counted and shown by readiness; the next round tries again
            except Exception as error:
                log.error("outbox poll failed", **describe_error(error))

    async def close(self) -> None:
        """Finish deliveries under way, within DRAIN_TIMEOUT_S."""
        await self._deliveries.drain(timeout_s=DRAIN_TIMEOUT_S)

    async def _claim(self) -> None:
        if self._deliveries.free <= 0:
            return
        rows = await self._database.fetch_all(
            _CLAIM, {"limit": self._deliveries.free}, timeout_s=STATEMENT_TIMEOUT_S
        )
        for row in rows:
            self._deliveries.start(self._deliver(Mail(row.id, row.order_id, row.kind, row.recipient)))

    async def _deliver(self, mail: Mail) -> None:
        try:
            await self._mailer.send(
                to=mail.to,
                template=mail.template,
                order_id=str(mail.order_id),
                deadline=Deadline.after(DELIVERY_TIMEOUT_S),
                retries=RETRIES,
            )
        except UpstreamUnavailable:
            MAILS.labels("failed").inc()
            log.warning("mail not delivered, will be tried again", order_id=str(mail.order_id))
            return
        MAILS.labels("sent").inc()
        self._sent.append(mail.id)
        await self._mark_sent()

    async def _mark_sent(self) -> None:
        """Mark all mails that were sent meanwhile with one statement: under load there are many."""
        async with self._marking:
            if not self._sent:
                return
            ids, self._sent = self._sent, []
            try:
                await self._database.fetch_all(
                    _MARK_SENT, {"ids": ",".join(map(str, ids))}, timeout_s=STATEMENT_TIMEOUT_S
                )
            except DatabaseUnavailable:
                log.warning("mails not marked as sent, will be sent again", mails=len(ids))
