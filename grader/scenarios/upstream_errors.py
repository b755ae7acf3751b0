"""Rates, payments and risk refuse, fail, shed and reject, one kind of fault after the other, under a few orders each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from devstack.artifacts import Exchange, Ledger, Upstream
from devstack.faults import Fault
from devstack.faults.rates import CURRENCIES
from grader.answers import FINAL_STATUSES, PLACED, UNAVAILABLE, order_id_of, order_status_of
from grader.scenarios.clients import Order, new_order, require_an_answer, send_order
from grader.scenarios.stage import Scenario, Stage

SLOW_RISK_S = 0.3
"""Six times what payments takes: a charge that does not wait for the decision is made before it."""

RETRY_AFTER_S = 3
SHEDDING_S = 2.8
"""An upstream that sheds serves again just before the moment that it named."""

HELD_S = 2.0
"""A fault lasts so long at least when an order was accepted: what goes on in the background meets it, too."""

BEAT_S = 0.05
BEAT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 6.0
"""Contract: event reads ≤ 3 s; later than twice that is all the same."""

MONEY_S = 36.0
"""Contract: money is judged 30 s after the last fault, + 20 %."""

LATE_CHARGE_S = 3.0
"""So long at least a charge that nobody should make is waited for after the last order."""

ACCEPTED = 202
SETTLE_PAUSE_S = 0.5
REPLAY_PAUSE_S = 2.0


@dataclass(frozen=True)
class Phase:
    """One fault and the orders that meet it, in waves; ``rates`` meets orders and pages in a currency at the same time."""

    upstream: Upstream
    kind: str
    orders: int
    waves: int = 1
    rates: str | None = None
    beats: bool = False

    @property
    def name(self) -> str:
        """How its orders are recorded."""
        return f"{self.upstream}-{self.kind}"


PHASES = (
    Phase("payments", "refuse", 1, rates="500"),
    Phase("payments", "500", 1, rates="503"),
    Phase("payments", "503", 4, beats=True),
    Phase("payments", "400", 1, rates="400"),
    Phase("payments", "429", 1, rates="429"),
    Phase("risk", "refuse", 2),
    Phase("risk", "500", 2),
    Phase("risk", "503", 6, waves=3, beats=True),
    Phase("risk", "400", 1),
    Phase("risk", "429", 2),
)
"""Payments first: what they leave open settles while risk fails. An open breaker of theirs is out of risk's way, too."""


@dataclass
class Shop:
    """What the phases share: the event that is sold, currencies not used before, all orders and their answers."""

    event_id: int
    currencies: list[str]
    orders: list[Order] = field(default_factory=list)
    answers: list[Exchange] = field(default_factory=list)

    async def buy(self, stage: Stage, name: str, orders: Sequence[Order]) -> list[Exchange]:
        """Send ``orders`` at once."""
        answers = await asyncio.gather(*(send_order(stage, name, order) for order in orders))
        self.orders += orders
        self.answers += answers
        return list(answers)


async def drive(stage: Stage) -> None:
    """Orders while only rates are down, then the phases, then until the money is right."""
    await stage.start()
    event = stage.world.live.open_events(minimum_seats=300)[0]
    currencies = [currency for currency in CURRENCIES if currency != "EUR"]
    shop = Shop(event.id, stage.random.sample(currencies, len(currencies)))
    await _no_rates(stage, shop)
    last = list(shop.answers)
    require_an_answer(last, "rates were down")
    for phase in PHASES:
        answers = await _phase(stage, shop, phase)
        await stage.ledger()
        # One phase may be lost on a service that stands still in every pause; the next one finds it alive again.
        require_an_answer([*last, *answers], "upstreams failed")
        last = answers
    await stage.world.faults.clear_faults()
    stage.fact("faults-over-s", stage.now())
    await _settle(stage, shop)


async def _no_rates(stage: Stage, shop: Shop) -> None:
    """Rates refuse connections, and risk takes its time. Orders in EUR need no rate, denied ones must not be charged.

    This comes first: no rate is known yet, not even one of EUR for which somebody may ask.
    """
    allowed, denied = ([new_order(stage, shop.event_id) for _ in range(count)] for count in (2, 3))
    declined = new_order(stage, shop.event_id)
    await stage.world.faults.set_decision(
        deny_emails=[str(order.body["buyer_email"]) for order in denied],
        decline_tokens=[str(declined.body["card_token"])],
    )
    await stage.world.faults.set_faults(
        Fault(upstream="rates", kind="refuse"),
        Fault(upstream="risk", kind="latency", seconds=SLOW_RISK_S),
    )
    await asyncio.gather(
        shop.buy(stage, "base-currency", allowed),
        shop.buy(stage, "denied", denied),
        shop.buy(stage, "declined", [declined]),
        stage.get("list", "/events?limit=5", fresh=True, timeout_s=READ_TIMEOUT_S),
        _with_currency(stage, shop, "rates-refuse"),
    )
    await stage.ledger()


async def _phase(stage: Stage, shop: Shop, phase: Phase) -> list[Exchange]:
    """Keep the fault until every order that met it is answered."""
    faults = [_fault(phase.upstream, phase.kind)]
    if phase.rates is not None:
        faults.append(_fault("rates", phase.rates))
    await stage.world.faults.set_faults(*faults)
    held_until_s = stage.now() + HELD_S
    async with AsyncExitStack() as stack:
        if phase.beats:
            await stack.enter_async_context(
                stage.heartbeats(phase.name, interval_s=BEAT_S, timeout_s=BEAT_TIMEOUT_S)
            )
        answers, _ = await asyncio.gather(_waves(stage, shop, phase), _beside(stage, shop, phase.rates))
        if any(answer.status == ACCEPTED for answer in answers):
            await asyncio.sleep(max(0.0, held_until_s - stage.now()))
    return answers


async def _waves(stage: Stage, shop: Shop, phase: Phase) -> list[Exchange]:
    answers: list[Exchange] = []
    for _ in range(phase.waves):
        wave = await shop.buy(
            stage, phase.name, [new_order(stage, shop.event_id) for _ in range(phase.orders)]
        )
        answers += wave
        if all(answer.status is None for answer in wave):
            break
    return answers


async def _beside(stage: Stage, shop: Shop, rates: str | None) -> None:
    if rates is not None:
        await _with_currency(stage, shop, f"rates-{rates}")


async def _with_currency(stage: Stage, shop: Shop, name: str) -> None:
    """An order and an event page, each in a currency of its own: whose rate was asked for can be told."""
    order = new_order(stage, shop.event_id, currency=shop.currencies.pop())
    path = f"/events/{shop.event_id}?currency={shop.currencies.pop()}"
    await asyncio.gather(
        shop.buy(stage, name, [order]),
        stage.get(f"{name}-page", path, fresh=True, timeout_s=READ_TIMEOUT_S),
    )


def _fault(upstream: Upstream, kind: str) -> Fault:
    """A fault by its name: ``refuse``, or a status; of payments it meets charges only, looking them up works."""
    if kind == "refuse":
        return Fault(upstream=upstream, kind="refuse")
    shedding = kind == "429"
    return Fault(
        upstream=upstream, kind="status", status=int(kind), operation="charge" if upstream == "payments" else None,
        retry_after_s=RETRY_AFTER_S if shedding else None, end_s=SHEDDING_S if shedding else None,
    )  # fmt: skip


async def _settle(stage: Stage, shop: Shop) -> None:
    """Until every order is final and only confirmed ones are charged: read them, replay those whose id nobody told.

    Orders without id and charge are at their end. The last reading of each order is recorded as ``settled``.
    """
    begun_s = stage.now()
    readings: dict[str, Exchange] = {}
    replays = stage.record.exchanges.setdefault("settled-replays", [])
    while True:
        elapsed_s = stage.now() - begun_s
        ledger = await stage.ledger()
        told = _told([*shop.answers, *replays])
        open_orders = [order for order in shop.orders if not _at_its_end(order, told, readings, ledger)]
        if elapsed_s > MONEY_S or (not open_orders and elapsed_s > LATE_CHARGE_S):
            break
        for order in open_orders:
            if order.key in told:
                read = await stage.get("_settling", f"/orders/{told[order.key]}", timeout_s=READ_TIMEOUT_S)
                readings[order.key] = read.model_copy(update={"label": "settled"})
        unknown = [order for order in open_orders if order.key not in told]
        await asyncio.gather(*(send_order(stage, "settled-replays", order) for order in unknown))
        await asyncio.sleep(REPLAY_PAUSE_S if unknown else SETTLE_PAUSE_S)
    stage.record.exchanges.pop("_settling", None)
    stage.record.exchanges["settled"] = list(readings.values())


def _told(answers: Sequence[Exchange]) -> dict[str, str]:
    """Ids by key, of orders that can be read: a refused one need not be."""
    readable = (answer for answer in answers if answer.status in PLACED | UNAVAILABLE)
    return {_key(answer): order_id for answer in readable if (order_id := order_id_of(answer))}


def _at_its_end(order: Order, told: dict[str, str], readings: dict[str, Exchange], ledger: Ledger) -> bool:
    charged = any(
        charge.card_token == order.body["card_token"] and charge.status == "captured"
        for charge in ledger.charges
    )
    if order.key not in told:
        return not charged
    status = order_status_of(readings[order.key]) if order.key in readings else None
    return status in FINAL_STATUSES and charged == (status == "confirmed")


def _key(exchange: Exchange) -> str:
    return exchange.request_headers.get("Idempotency-Key", "")


SCENARIO = Scenario(name="upstream-errors", drive=drive, budget_s=75, processes=1, quiet=False)
