"""Orders in foreign currencies: amounts on which wrong rounding shows, then a crowd in a currency nobody used before."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal

from pydantic import JsonValue

from devstack.artifacts import Exchange
from devstack.faults.rates import CURRENCIES, HALF_CENT_CURRENCY, rate
from devstack.seed import LiveData, LiveEvent
from grader.scenarios.clients import require_an_answer
from grader.scenarios.own_events import Additions
from grader.scenarios.stage import Scenario, Stage

CENT = Decimal("0.01")
HALF_CENT_PRICES = tuple(Decimal(5 * odd).quantize(CENT) for odd in range(1, 24, 2))
"""Odd numbers of five euros: in HALF_CENT_CURRENCY each is worth a number of cents and a half."""

QUANTITY = 6
BURST_READS, BURST_ORDERS = 30, 8
BURST_LATENCY_S = 0.3
"""Of the rates upstream: the whole crowd has arrived before the first rate is there."""

TRICKLE, TRICKLE_PAUSE_S = 8, 0.25


@dataclass(frozen=True)
class CurrencyData(LiveData):
    """Live data with events whose prices land on half a cent, each kind of mistake at another of them."""

    half_cents: tuple[LiveEvent, ...] = ()


def currency_data(live: LiveData, now: dt.datetime) -> CurrencyData:
    """The run's live data and the half-cent events."""
    more = Additions(live, "currencies", now)
    venue = more.venue()
    events = tuple(
        more.event(venue, price=price)
        for price in half_cent_prices(rate(live.seed, "EUR", HALF_CENT_CURRENCY))
    )
    return CurrencyData(
        live.seed, live.now, (*live.venues, *more.venues), (*live.events, *more.events), events
    )


def half_cent_prices(quote: Decimal) -> tuple[Decimal, ...]:
    """A price that rounding half up gets wrong at the rate ``quote``, and one that floating point gets wrong."""
    up = (price for price in HALF_CENT_PRICES if _exact(price, quote) != _half_up(price, quote))
    binary = (price for price in HALF_CENT_PRICES if _wrong_in_binary(price, quote))
    # At one rate in 45 floating point happens to be right for each of them.
    return tuple(found for found in (next(up), next(binary, None)) if found is not None)


def _exact(price: Decimal, quote: Decimal) -> Decimal:
    return (price * quote).quantize(CENT, ROUND_HALF_EVEN)


def _half_up(price: Decimal, quote: Decimal) -> Decimal:
    return (price * quote).quantize(CENT, ROUND_HALF_UP)


def _wrong_in_binary(price: Decimal, quote: Decimal) -> bool:
    product = float(price) * float(quote)
    exact = _exact(price, quote)
    return exact not in (Decimal(str(round(product, 2))), Decimal(f"{product:.2f}"))


async def drive(stage: Stage) -> None:
    """Amounts first, one order after the other; then the crowd, and a trickle after it."""
    await stage.start()
    live = stage.world.live
    assert isinstance(live, CurrencyData)
    currencies = [found for found in CURRENCIES if found not in ("EUR", HALF_CENT_CURRENCY)]
    stage.random.shuffle(currencies)
    rates = {found: await stage.world.faults.rate("EUR", found) for found in CURRENCIES}
    stage.fact("rates", {found: str(value) for found, value in rates.items()})
    stage.fact("prices", {str(event.id): str(event.price) for event in live.events})
    await _amounts(stage, live, currencies[0], rates[currencies[0]])
    await stage.settle("orders-read", stage.record.exchanges["orders"], within_s=8)
    stage.fact("crowd-currency", currencies[1])
    await _crowd(stage, live.open_events(minimum_seats=300), currencies[1])
    await stage.ledger()


async def _amounts(stage: Stage, live: CurrencyData, currency: str, quote: Decimal) -> None:
    """The orders one after the other, then what the pages say of the prices."""
    stage.record.exchanges["displays"] = []
    orders = amounts(live, currency, quote)
    for items, chosen in orders:
        answer = await stage.order("orders", items, currency=chosen)
        if answer.status is None:
            break
    for items, chosen in orders[: len(live.half_cents) + 2]:
        await stage.get("displays", f"/events/{items[0][0]}?currency={chosen}")


def amounts(
    live: CurrencyData, currency: str, quote: Decimal
) -> list[tuple[list[tuple[int, int]], str | None]]:
    """What is ordered, as lines of event and quantity, and in which currency; all of it together can be had.

    Each half-cent event alone and both together; several tickets at once; the same in EUR, said and not said.
    """
    with_seats = live.open_events(minimum_seats=300)
    cheap = next(event for event in with_seats if event.price < 1)
    per_ticket = _rounded_per_ticket([event for event in with_seats if event is not cheap], quote)
    alone = [([(event.id, 1)], HALF_CENT_CURRENCY) for event in live.half_cents]
    together = [(event.id, 2) for event in live.half_cents]
    return [
        *alone,
        ([*together, (cheap.id, 3)], HALF_CENT_CURRENCY),
        ([(per_ticket.id, QUANTITY)], currency),
        ([(cheap.id, QUANTITY), (per_ticket.id, 5)], currency),
        ([(per_ticket.id, 3)], "EUR"),
        ([(cheap.id, 3), (per_ticket.id, 3)], None),
    ]


def _rounded_per_ticket(events: Sequence[LiveEvent], quote: Decimal) -> LiveEvent:
    """An event where rounding the price and rounding the total of QUANTITY tickets differ."""

    def differing() -> Iterator[LiveEvent]:
        for event in events:
            total = (event.price * quote * QUANTITY).quantize(CENT, ROUND_HALF_EVEN)
            if _exact(event.price, quote) * QUANTITY != total:
                yield event

    return next(differing(), events[0])


async def _crowd(stage: Stage, events: Sequence[LiveEvent], currency: str) -> None:
    """Reads and orders in one instant while nothing is known of the currency, then one after the other."""
    for name in ("trickle-reads", "trickle-orders"):
        stage.record.exchanges[name] = []
    await stage.world.faults.set_latency(rates=BURST_LATENCY_S)
    reads = [_display(stage, "crowd-reads", events[number], currency) for number in range(BURST_READS)]
    orders = [
        stage.order("crowd-orders", [(events[number].id, 1)], currency=currency, fresh=True)
        for number in range(BURST_ORDERS)
    ]
    answers = await asyncio.gather(*reads, *orders)
    require_an_answer(answers, "a crowd asked for one currency")
    await stage.world.faults.set_latency(rates=0.02)
    for number in range(TRICKLE):
        read = await _display(stage, "trickle-reads", events[number], currency)
        answer = await stage.order("trickle-orders", [(events[number].id, 1)], currency=currency)
        if read.status is None or answer.status is None:
            break
        await asyncio.sleep(TRICKLE_PAUSE_S)


async def _display(stage: Stage, name: str, event: LiveEvent, currency: JsonValue) -> Exchange:
    return await stage.get(name, f"/events/{event.id}?currency={currency}", fresh=True)


SCENARIO = Scenario(name="currencies", drive=drive, budget_s=75, quiet=False, data=currency_data)
