"""Placing an order: quote → assess → reserve → charge → confirm.

Between the steps nothing is held: no connection, no lock, no transaction. Whatever happens after the reservation,
the order is stored and pending, and the reconciler (boxoffice.orders.reconciler) settles what is left behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TypeVar
from uuid import UUID, uuid4

from boxoffice.db import Database
from boxoffice.deadlines import Deadline
from boxoffice.errors import (
    BuyerDenied,
    Conflict,
    DatabaseUnavailable,
    NotFound,
    Overloaded,
    PaymentDeclined,
    Unavailable,
)
from boxoffice.money import BASE_CURRENCY, convert, total
from boxoffice.orders import repository
from boxoffice.orders.models import Line, Order
from boxoffice.orders.outbox import Outbox
from boxoffice.orders.repository import Buyer, KnownKey, Quote, Unsuccessful
from boxoffice.orders.schemas import OrderLine, OrderRequest
from boxoffice.telemetry import ORDERS_IN_FLIGHT, ORDERS_SETTLED, get_logger
from boxoffice.upstreams.client import Retries, UpstreamUnavailable
from boxoffice.upstreams.payments import ChargeRequest, Payments
from boxoffice.upstreams.rates import Rates
from boxoffice.upstreams.risk import Risk

# An order answers within 10 s (contract). Each step leaves time for the ones after it.
ASSESS_BY_S = 5.0
CHARGE_BY_S = 7.5
ANSWER_BY_S = 9.0

STATEMENT_TIMEOUT_S = 4.0
SETTLE_PAUSE_S = 0.25
CHARGE = Retries(attempts=4, attempt_timeout_s=CHARGE_BY_S)
"""A slow charge is waited for: another attempt with the same key would only wait for the first."""

MAX_IN_FLIGHT = 100
"""Orders of one process at once. With payments at 3 s that is 33 orders per second."""

FIRST_POLL_S = 0.1
LONGEST_POLL_S = 0.5

T = TypeVar("T")
log = get_logger("boxoffice.orders")


class KeyReused(Conflict):
    """The idempotency key belongs to another request."""

    code = "idempotency_key_reused"


class SoldOut(Conflict):
    """Not enough seats are left."""

    code = "sold_out"


class NotOnSale(Conflict):
    """Outside the sales window."""

    code = "not_on_sale"


class OrderFailed(Unavailable):
    """The order of this key has failed, without a charge. Another try needs another key."""

    code = "order_failed"


@dataclass(frozen=True, slots=True)
class Stages:
    """When each stage of one request has to be over."""

    assess: Deadline
    charge: Deadline
    answer: Deadline

    @classmethod
    def from_now(cls) -> Stages:
        """For a request that begins now."""
        start = Deadline.after(0)
        return cls(start.plus(ASSESS_BY_S), start.plus(CHARGE_BY_S), start.plus(ANSWER_BY_S))


class OrderService:
    """Places orders. Its limits on work in flight are per process."""

    def __init__(
        self, database: Database, payments: Payments, risk: Risk, rates: Rates, outbox: Outbox
    ) -> None:
        self._database = database
        self._payments = payments
        self._risk = risk
        self._rates = rates
        self._outbox = outbox
        self._in_flight = 0

    async def place(self, request: OrderRequest, *, key: str, request_hash: str) -> Order:
        """The order of this key: confirmed, or pending when its outcome is not known in time.

        Raises NotFound, Conflict, BuyerDenied, PaymentDeclined, OrderFailed, Unavailable.
        """
        if self._in_flight >= MAX_IN_FLIGHT:
            raise Overloaded("too many orders at once, please try again")
        self._in_flight += 1
        ORDERS_IN_FLIGHT.inc()
        try:
            return _presentable(await self._place(request, key, request_hash, Stages.from_now()))
        finally:
            self._in_flight -= 1
            ORDERS_IN_FLIGHT.dec()

    async def _place(self, request: OrderRequest, key: str, request_hash: str, stages: Stages) -> Order:
        event_ids = [line.event_id for line in request.items]
        quote = await repository.quote(
            self._database, key, event_ids, timeout_s=min(STATEMENT_TIMEOUT_S, stages.assess.remaining())
        )
        if quote.known_key is not None:
            return await self._replay(quote.known_key, request_hash, stages)
        _check_offers(quote, event_ids)
        total_eur = total((quote.offers[line.event_id].price, line.quantity) for line in request.items)
        rate = await self._assess(request, total_eur, stages.assess)
        order = _price(request.items, quote, request.currency or BASE_CURRENCY, rate)
        buyer = Buyer(request.buyer_email, request.card_token.get_secret_value(), key, request_hash)
        created_at = await repository.reserve(
            self._database,
            order,
            total_eur,
            buyer,
            timeout_s=min(STATEMENT_TIMEOUT_S, stages.charge.remaining()),
        )
        if created_at is None:
            return await self._replay_or_sold_out(key, request_hash, stages)
        return await self._pay(replace(order, created_at=created_at), buyer, stages)

    async def _assess(self, request: OrderRequest, total_eur: Decimal, deadline: Deadline) -> Decimal:
        """Ask risk and rates at the same time; the rate. Raises BuyerDenied, UpstreamUnavailable."""
        assessment = self._risk.allows(
            buyer_email=request.buyer_email, amount_eur=total_eur, deadline=deadline
        )
        if request.currency in (None, BASE_CURRENCY):
            allowed, rate = await assessment, Decimal(1)
        else:
            allowed, rate = await _both(assessment, self._rates.get(request.currency, deadline=deadline))
        if not allowed:
            raise BuyerDenied("this order cannot be accepted")
        return rate

    async def _pay(self, order: Order, buyer: Buyer, stages: Stages) -> Order:
        request = ChargeRequest(str(order.id), order.total, order.currency, buyer.card_token)
        try:
            charge_id = await self._payments.charge(request, deadline=stages.charge, retries=CHARGE)
        except UpstreamUnavailable as error:
            if error.may_have_effect:
                log.warning("charge unknown, left to the reconciler", order_id=str(order.id))
                return order
            await self._close(order, "failed", stages.answer)
            raise
        if charge_id is None:
            return await self._close(order, "declined", stages.answer)
        return await self._confirm(order, charge_id, stages.answer)

    async def _confirm(self, order: Order, charge_id: str, deadline: Deadline) -> Order:
        try:
            mail = await _insist(
                deadline,
                lambda limit: repository.confirm(self._database, order.id, charge_id, timeout_s=limit),
            )
        except DatabaseUnavailable:
            log.warning("charged but not confirmed, left to the reconciler", order_id=str(order.id))
            return order
        if mail is None:  # settled by an earlier attempt whose answer was lost
            return await self._get(order.id, deadline)
        self._outbox.hand_over(mail)
        ORDERS_SETTLED.labels("confirmed").inc()
        return order.settled("confirmed", charge_id)

    async def _close(self, order: Order, status: Unsuccessful, deadline: Deadline) -> Order:
        try:
            await _insist(
                deadline, lambda limit: repository.close(self._database, order.id, status, timeout_s=limit)
            )
            ORDERS_SETTLED.labels(status).inc()
        except DatabaseUnavailable:
            log.warning("not closed, left to the reconciler", order_id=str(order.id), status=status)
        return order.settled(status)

    async def _replay_or_sold_out(self, key: str, request_hash: str, stages: Stages) -> Order:
        limit_s = min(STATEMENT_TIMEOUT_S, stages.answer.remaining())
        known = await repository.find_key(self._database, key, timeout_s=limit_s)
        if known is None:
            raise SoldOut("not enough seats are left")
        return await self._replay(known, request_hash, stages)

    async def _replay(self, known: KnownKey, request_hash: str, stages: Stages) -> Order:
        """The order of a key that has been used, waiting for it while it is in progress."""
        if known.request_hash != request_hash:
            raise KeyReused("this Idempotency-Key was used for another request")
        pause_s = FIRST_POLL_S
        order = await self._get(known.order_id, stages.answer)
        while order.status == "pending" and stages.answer.remaining() > pause_s + SETTLE_PAUSE_S:
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, LONGEST_POLL_S)
            order = await self._get(known.order_id, stages.answer)
        return order

    async def _get(self, order_id: UUID, deadline: Deadline) -> Order:
        limit_s = min(STATEMENT_TIMEOUT_S, deadline.remaining())
        order = await repository.get_order(self._database, order_id, timeout_s=limit_s)
        assert order is not None
        return order


def _check_offers(quote: Quote, event_ids: list[int]) -> None:
    for event_id in event_ids:
        if event_id not in quote.offers:
            raise NotFound(f"there is no event {event_id}")
    for event_id in event_ids:
        if not quote.offers[event_id].on_sale:
            raise NotOnSale(f"event {event_id} is not on sale")


def _price(items: list[OrderLine], quote: Quote, currency: str, rate: Decimal) -> Order:
    lines = tuple(
        Line(
            line.event_id,
            line.quantity,
            convert(quote.offers[line.event_id].price, rate),
            quote.offers[line.event_id].price,
        )
        for line in items
    )
    return Order(uuid4(), "pending", currency, lines, datetime.now(UTC))


def _presentable(order: Order) -> Order:
    if order.status == "declined":
        raise PaymentDeclined("the card was declined")
    if order.status == "failed":
        raise OrderFailed("this order failed and nothing was charged: place it again with a new key")
    return order


async def _both(assessment: Awaitable[bool], rate: Awaitable[Decimal]) -> tuple[bool, Decimal]:
    """Both results; the first failure ends the other call too."""
    try:
        async with asyncio.TaskGroup() as group:
            first = group.create_task(_as_coroutine(assessment))
            second = group.create_task(_as_coroutine(rate))
    except* UpstreamUnavailable as failures:
        failure = failures.exceptions[0]
    else:
        return first.result(), second.result()
    raise failure


async def _as_coroutine(awaitable: Awaitable[T]) -> T:
    return await awaitable


async def _insist(deadline: Deadline, statement: Callable[[float], Awaitable[T]]) -> T:
    """Repeat a statement while the database is away, until the deadline. Raises DatabaseUnavailable."""
    while True:
        try:
            return await statement(min(STATEMENT_TIMEOUT_S, deadline.remaining()))
        except DatabaseUnavailable:
            if deadline.remaining() <= SETTLE_PAUSE_S:
                raise
            await asyncio.sleep(SETTLE_PAUSE_S)
