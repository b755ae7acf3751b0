"""Requests that fail, each in a way of its own, and so often that a connection lost by each empties any pool."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass, field

from pydantic import JsonValue

from devstack.artifacts import Exchange, Ledger
from devstack.faults import Fault
from grader.answers import UNAVAILABLE, order_id_of
from grader.scenarios.stage import Stage

OF_EACH = 22
"""More than the 20 connections of the contract."""

AT_ONCE = 11
"""Well below the 30 orders in flight of which the contract lets none be shed."""

PROBE_ORDERS = 4
ORDERS_PER_FAULT = 8
READ_TIMEOUT_S = 5.0
ORDER_TIMEOUT_S = 13.0
SLOW_S = 1.5
SLOW_ORDERS = 5
UNKNOWN_ID = 999_999_999
SEATS = 20
"""Seats of the events whose orders fail."""

FAILING = ("payments-500", "payments-429", "payments-refused", "declined", "denied", "risk-500")
"""Ways in which an order fails after it was valid; each has an event of its own."""


@dataclass
class Shop:
    """The scenario's buyers: every card token carries ``marker``, and tells which order it belongs to."""

    stage: Stage
    marker: str
    event_id: int
    """An event with plenty of seats."""
    hold_events: dict[str, int]
    """The small event of each way to fail."""
    bought: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Event and quantity by card token."""

    @classmethod
    def on(cls, stage: Stage) -> Shop:
        """The shop of this run: its events follow from the seed."""
        live = stage.world.live
        small = live.open_events(minimum_seats=SEATS, maximum_seats=SEATS)
        return cls(
            stage,
            f"{stage.random.getrandbits(48):012x}",
            live.open_events(minimum_seats=300)[0].id,
            {name: event.id for name, event in zip(FAILING, small, strict=False)},
        )

    def body(
        self, event_id: int, quantity: int = 1, *, kind: str = "tok", email: str | None = None
    ) -> dict[str, JsonValue]:
        """A valid order of a buyer of its own."""
        token = f"{kind}_{self.marker}{len(self.bought):05}"
        self.bought[token] = (event_id, quantity)
        return self.stage.order_body([(event_id, quantity)], token=token, email=email)

    async def send(self, name: str, body: JsonValue, *, key: str | None = None) -> Exchange:
        """Send an order."""
        return await self.stage.send(
            name, "POST", "/orders", json_body=body,
            headers={"Idempotency-Key": key or self.stage.key()}, timeout_s=ORDER_TIMEOUT_S,
        )  # fmt: skip

    async def order(self, name: str, event_id: int, quantity: int = 1) -> Exchange:
        """Place a valid order."""
        return await self.send(name, self.body(event_id, quantity))

    def sold(self, ledger: Ledger, event_id: int) -> int:
        """Seats of the event whose orders have an unrefunded charge."""
        charged = {charge.card_token for charge in ledger.charges if charge.status == "captured"}
        return sum(
            quantity
            for token, (event, quantity) in self.bought.items()
            if event == event_id and token in charged
        )


Request = Callable[[int], Awaitable[Exchange]]


async def failing_payments(shop: Shop) -> None:
    """Orders while payments answers 500, answers 429, and refuses connections.

    A few go first: a service that takes longer for them than its buyers wait is not asked for more.
    """
    faults = shop.stage.world.faults
    await faults.set_faults(Fault(upstream="payments", kind="status", operation="charge", status=500))
    answered = await _repeat(lambda _: _hold(shop, "payments-500"), PROBE_ORDERS)
    if not answered:
        await faults.clear_faults()
        await _until_alive(shop.stage)
        return
    await _repeat(lambda _: _hold(shop, "payments-500"), ORDERS_PER_FAULT)
    await _tickets_of_pending(shop)
    for name, fault in (
        ("payments-429", Fault(upstream="payments", kind="status", operation="charge", status=429)),
        ("payments-refused", Fault(upstream="payments", kind="refuse")),
    ):
        await faults.set_faults(fault)
        if not await _repeat(lambda _, name=name: _hold(shop, name, 2), ORDERS_PER_FAULT):  # type: ignore[misc]
            break
    await faults.clear_faults()
    await _until_alive(shop.stage)


async def failing_orders(shop: Shop) -> None:
    """Declined and denied ones; then risk fails; then it is slow."""
    for kind, email in (("declined", None), ("denied", "deny.{}@example.com")):
        token = "tok_decline" if kind == "declined" else "tok"

        def refused(
            number: int, kind: str = kind, token: str = token, email: str | None = email
        ) -> Awaitable[Exchange]:
            address = email and email.format(f"{shop.marker}{number}")
            body = shop.body(shop.hold_events[kind], kind=token, email=address)
            return shop.send(f"fail:{kind}", body)

        if not await _repeat(refused, unless=UNAVAILABLE):
            return
    faults = shop.stage.world.faults
    await faults.set_faults(Fault(upstream="risk", kind="status", status=500))
    answered = await _repeat(lambda _: _hold(shop, "risk-500"))
    await faults.clear_faults()
    if answered:
        await faults.set_latency(risk=SLOW_S)
        await _repeat(lambda _: shop.order("slow", shop.event_id), SLOW_ORDERS)
        await faults.set_latency(risk=0.02)


async def failing_requests(shop: Shop) -> None:
    """Everything that needs no fault to fail: unknown things, invalid bodies, taken keys, closed sales."""
    for request in (*_reads(shop), *_posts(shop)):
        # Nothing is in the way of these: whoever cannot serve them has nothing left to serve anybody with.
        if not await _repeat(request, unless=UNAVAILABLE):
            await _until_alive(shop.stage)
            break


def _reads(shop: Shop) -> Iterator[Request]:
    stage = shop.stage
    paths: dict[str, Callable[[], str]] = {
        "unknown-event": lambda: f"/events/{UNKNOWN_ID}",
        "malformed-event": lambda: "/events/not-a-number",
        "malformed-limit": lambda: "/events?limit=ten",
        "unknown-order": lambda: f"/orders/{stage.key()}",
        "malformed-order": lambda: "/orders/not-an-id",
        "ticket-of-unknown-order": lambda: f"/orders/{stage.key()}/ticket",
        "report-of-unknown-event": lambda: f"/events/{UNKNOWN_ID}/sales",
        "unknown-entry": lambda: f"/events/{shop.event_id}/waitlist/{UNKNOWN_ID}",
    }
    for name, path in paths.items():

        def get(_: int, name: str = name, path: Callable[[], str] = path) -> Awaitable[Exchange]:
            return stage.get(f"fail:{name}", path(), timeout_s=READ_TIMEOUT_S, fresh=True)

        yield get


def _posts(shop: Shop) -> Iterator[Request]:
    stage = shop.stage
    taken = shop.stage.record.exchanges["good:orders"][0].request_headers["Idempotency-Key"]
    closed = stage.world.live.closed()[0].id
    four_seats = stage.world.live.open_events(minimum_seats=4, maximum_seats=4)[0].id
    yield lambda number: shop.send("fail:invalid-order", _invalid(shop, number))
    yield lambda _: shop.order("fail:order-of-unknown-event", UNKNOWN_ID)
    yield lambda _: shop.order("fail:sale-is-over", closed)
    yield lambda _: shop.order("fail:too-few-seats", four_seats, 6)
    yield lambda _: shop.send("fail:key-is-taken", shop.body(shop.event_id, 6), key=taken)
    for name, event_id, quantity in (
        ("waitlist-of-unknown-event", UNKNOWN_ID, 1),
        ("waitlist-seats-left", shop.event_id, 1),
        ("waitlist-invalid", shop.event_id, 7),
    ):

        def join(
            number: int, name: str = name, event_id: int = event_id, quantity: int = quantity
        ) -> Awaitable[Exchange]:
            body: JsonValue = {"email": stage.world.live.buyer(5000 + number), "quantity": quantity}
            return stage.send(
                f"fail:{name}",
                "POST",
                f"/events/{event_id}/waitlist",
                json_body=body,
                timeout_s=READ_TIMEOUT_S,
                fresh=True,
            )

        yield join


def _invalid(shop: Shop, number: int) -> JsonValue:
    """A body that is refused for another reason each time; whoever quotes it quotes the card token."""
    body = shop.body(shop.event_id)
    token = body["card_token"]
    changes: tuple[dict[str, JsonValue], ...] = (
        {"items": [{"event_id": shop.event_id, "quantity": 0}]},
        {"items": []},
        {"buyer_email": "nobody"},
        {"card_token": [token]},
        {"card_token": {"token": token}},
    )
    without: tuple[str, ...] = ("items", "buyer_email")
    which = number % (len(changes) + len(without))
    if which < len(changes):
        return {**body, **changes[which]}
    return {name: value for name, value in body.items() if name != without[which - len(changes)]}


def _hold(shop: Shop, kind: str, quantity: int = 1) -> Awaitable[Exchange]:
    return shop.order(f"fail:{kind}", shop.hold_events[kind], quantity)


async def _tickets_of_pending(shop: Shop) -> None:
    """Tickets of an order that cannot have been confirmed yet, where there is one."""
    placed = shop.stage.record.exchanges["fail:payments-500"]
    order_id = next((found for answer in placed if (found := order_id_of(answer))), None)
    if order_id is not None:
        path = f"/orders/{order_id}/ticket"
        await _repeat(
            lambda _: shop.stage.get("fail:ticket-of-pending", path, timeout_s=READ_TIMEOUT_S, fresh=True)
        )


async def _repeat(request: Request, count: int = OF_EACH, *, unless: Collection[int] = ()) -> bool:
    """Send ``count`` requests, some at once. ``False`` when one was waited for in vain or had a status of ``unless``;
    then no more are sent.
    """
    for start in range(0, count, AT_ONCE):
        numbers = range(start, min(count, start + AT_ONCE))
        answers = await asyncio.gather(*(request(number) for number in numbers))
        if any(answer.error == "timeout" or answer.status in unless for answer in answers):
            return False
    return True


async def _until_alive(stage: Stage) -> None:
    """Wait for a service that is still busy with what nobody waits for any more."""
    for _ in range(10):
        if (
            await stage.get("_alive", "/health/live", timeout_s=READ_TIMEOUT_S, fresh=True)
        ).status is not None:
            break
    stage.record.exchanges.pop("_alive", None)
