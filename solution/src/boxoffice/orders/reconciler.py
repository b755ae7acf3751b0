"""The reconciler: settles orders whose request left them behind.

Pending: charge again with the same key. Payments answer with the first outcome if there was one, so whatever
happened to the request (payments slow, connection lost, process killed), the order ends up confirmed or declined.
Failed: when no charge can turn up any longer, look once more, and refund what is there.

Every process looks for work. A claim is a lease, so that an order of a process that died is looked at again.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

from sqlalchemy import TextClause, text

from boxoffice.db import Database
from boxoffice.deadlines import Deadline
from boxoffice.errors import DatabaseUnavailable
from boxoffice.orders import repository
from boxoffice.orders.outbox import Outbox
from boxoffice.orders.repository import Unsuccessful
from boxoffice.task_pool import TaskPool
from boxoffice.telemetry import ORDERS_SETTLED, RECONCILIATIONS, describe_error, get_logger
from boxoffice.upstreams.client import Retries, UpstreamUnavailable
from boxoffice.upstreams.payments import ChargeRequest, Payments

POLL_EVERY_S = 1.5
AT_ONCE = 64
ATTEMPT_TIMEOUT_S = 9.0
"""Payments may take 8 s (contract)."""

ONCE = Retries(attempts=1, attempt_timeout_s=ATTEMPT_TIMEOUT_S)
LONGEST_PAUSE_S = 5.0
GIVE_UP_AFTER_S = 15 * 60
STATEMENT_TIMEOUT_S = 3.0
DRAIN_TIMEOUT_S = 2.0
PURGE_EVERY_S = 3600.0

# The lease is longer than an attempt; the pause after it is set when the attempt is over.
_CLAIM = text("""
    WITH due AS (
        SELECT id FROM orders
        WHERE reconcile_at <= now()
        ORDER BY reconcile_at
        LIMIT :limit
        FOR UPDATE SKIP LOCKED
    )
    UPDATE orders
    SET reconcile_at = now() + interval '12 seconds', reconcile_attempts = reconcile_attempts + 1
    FROM due WHERE orders.id = due.id
    RETURNING orders.id, status, total, currency, card_token, reconcile_attempts AS attempts,
              extract(epoch FROM now() - created_at)::float8 AS age_s
""")
_POSTPONE = text("""
    UPDATE orders SET reconcile_at = now() + CAST(:pause_s AS float8) * interval '1 second'
    WHERE id = :id AND reconcile_at IS NOT NULL
""")
_DONE = text("UPDATE orders SET reconcile_at = NULL WHERE id = :id")
_PURGE = text("DELETE FROM idempotency_keys WHERE created_at < now() - interval '25 hours'")

log = get_logger("boxoffice.reconciler")


@dataclass(frozen=True, slots=True)
class _Case:
    """An order to look at."""

    id: UUID
    status: str
    total: Decimal
    currency: str
    card_token: str | None
    attempts: int
    age_s: float

    def __repr__(self) -> str:
        return f"_Case(id={self.id!r})"  # never the card token


class Reconciler:
    """Settles pending orders and verifies failed ones."""

    def __init__(self, database: Database, payments: Payments, outbox: Outbox) -> None:
        self._database = database
        self._payments = payments
        self._outbox = outbox
        self._cases = TaskPool(AT_ONCE)

    async def run(self) -> None:
        """Look for orders, until cancelled."""
        purge = Deadline.after(PURGE_EVERY_S * random.random())
        while True:
            await asyncio.sleep(POLL_EVERY_S * random.uniform(0.75, 1.25))
            try:
                await self._claim()
                if not purge.remaining():
                    purge = Deadline.after(PURGE_EVERY_S)
                    await self._execute(_PURGE)
            except DatabaseUnavailable:
                pass  # counted and shown by readiness; the next round tries again
            except Exception as error:
                log.error("reconciliation failed", **describe_error(error))

    async def close(self) -> None:
        """Finish what is under way, within DRAIN_TIMEOUT_S. The rest is found when its lease is over."""
        await self._cases.drain(timeout_s=DRAIN_TIMEOUT_S)

    async def _claim(self) -> None:
        if self._cases.free <= 0:
            return
        rows = await self._database.fetch_all(
            _CLAIM, {"limit": self._cases.free}, timeout_s=STATEMENT_TIMEOUT_S
        )
        for row in rows:
            self._cases.start(self._handle(_Case(**row._mapping)))

    async def _handle(self, case: _Case) -> None:
        try:
            result = await self._look_at(case)
        except DatabaseUnavailable:
            result = "interrupted"  # found again when the lease is over
        RECONCILIATIONS.labels(result).inc()
        log.info("order reconciled", order_id=str(case.id), result=result, attempts=case.attempts)

    async def _look_at(self, case: _Case) -> str:
        started = Deadline.after(0)
        try:
            return await (self._settle(case) if case.status == "pending" else self._verify(case))
        except UpstreamUnavailable:
            # Counted from the start of the attempt, so that one that hung is followed by the next soon.
            pause_s = min(2.0 ** min(case.attempts, 8), LONGEST_PAUSE_S) * random.uniform(0.8, 1.0)
            await self._execute(_POSTPONE, id=case.id, pause_s=max(1.0, started.plus(pause_s).remaining()))
            return "postponed"

    async def _settle(self, case: _Case) -> str:
        """Confirm or decline. Raises UpstreamUnavailable when payments do not say."""
        if case.card_token is None or case.age_s > GIVE_UP_AFTER_S:
            return await self._give_up(case)
        request = ChargeRequest(str(case.id), case.total, case.currency, case.card_token)
        try:
            charge_id = await self._payments.charge(
                request, deadline=Deadline.after(ATTEMPT_TIMEOUT_S), retries=ONCE
            )
        except UpstreamUnavailable as error:
            if error.refused:
                return await self._give_up(case)
            raise
        if charge_id is None:
            return await self._close(case, "declined")
        return await self._confirm(case, charge_id)

    async def _give_up(self, case: _Case) -> str:
        """Take an earlier charge if there is one, else fail. Raises UpstreamUnavailable."""
        charges = await self._captured(case)
        if charges:
            return await self._confirm(case, charges[0])
        return await self._close(case, "failed")

    async def _verify(self, case: _Case) -> str:
        """Refund what a failed order was charged. Raises UpstreamUnavailable."""
        charges = await self._captured(case)
        for charge_id in charges:
            log.warning("refunding a charge of a failed order", order_id=str(case.id), charge_id=charge_id)
            await self._payments.refund(charge_id, deadline=Deadline.after(ATTEMPT_TIMEOUT_S), retries=ONCE)
        await self._execute(_DONE, id=case.id)
        return "refunded" if charges else "verified"

    async def _captured(self, case: _Case) -> list[str]:
        return await self._payments.captured(
            str(case.id), deadline=Deadline.after(ATTEMPT_TIMEOUT_S), retries=ONCE
        )

    async def _confirm(self, case: _Case, charge_id: str) -> str:
        mail = await repository.confirm(self._database, case.id, charge_id, timeout_s=STATEMENT_TIMEOUT_S)
        if mail is not None:
            self._outbox.hand_over(mail)
            ORDERS_SETTLED.labels("confirmed").inc()
        return "confirmed"

    async def _close(self, case: _Case, status: Unsuccessful) -> str:
        if await repository.close(self._database, case.id, status, timeout_s=STATEMENT_TIMEOUT_S):
            ORDERS_SETTLED.labels(status).inc()
        return status

    async def _execute(self, statement: TextClause, **parameters: object) -> None:
        await self._database.fetch_all(statement, parameters, timeout_s=STATEMENT_TIMEOUT_S)
