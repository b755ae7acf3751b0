"""Seeded traffic: which request is due when, the same for every service under the same load."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Literal

from pydantic import JsonValue

from devstack.artifacts import Frozen, Seconds
from devstack.seed import LiveData, LiveEvent

Endpoint = Literal[
    "list", "detail", "order", "order-read", "ticket", "sales", "replay", "invalid", "unknown", "waitlist"
]

Habit = Literal["limit", "request-id", "replay", "invalid", "unknown", "waitlist"]
"""What other checks ask for at leisure, and the load in between: a list of another length, the echo of a request's id,
an accepted order once more, an order that is none, things that do not exist, the waitlist of an event with seats."""

HABITS: tuple[Habit, ...] = ("limit", "request-id", "replay", "invalid", "unknown", "waitlist")

PROBES: Mapping[Endpoint, int] = {"replay": 1, "invalid": 1, "unknown": 1, "waitlist": 1}
"""Habits that are requests of their own, in 100."""

MIXED_DECK: Mapping[Endpoint, int] = {
    "list": 48,
    "detail": 25,
    "order": 12,
    "order-read": 5,
    "ticket": 4,
    "sales": 2,
    **PROBES,
}
"""Requests of each kind in 100. Each hundred is shuffled by itself, so that every run has the same mix."""

MAIN_DECK: Mapping[Endpoint, int] = {"list": 54, "detail": 25, "order": 12, "order-read": 5, **PROBES}
"""Without tickets and reports. A ticket's key stretching is prescribed and costs as much CPU as two hundred
requests, whether a report was cached says nothing of the others: CPU per request is taken from this part."""

RATE_PER_S = 25.0
"""Offered to each service. Two good services, PostgreSQL, the stubs and the generator then use about half of one
core of two; a service that costs several times as much, or blocks its event loop, falls visibly behind."""

WARM_UP_S = 4.0
"""One deck: every endpoint was asked, connections are open and their statements prepared."""

MIXED_S = 12.0
MAIN_S = 12.0
"""Three decks each: 600 requests of each service are measured, 306 of them lists and 72 orders, so that a p95
rests on 16 and 3 slower ones."""

TICKETS_SETTLE_S = 1.0
"""After the last ticket was due, before CPU time is counted."""

CLIENT_TIMEOUT_S = 10.0
"""A buyer's patience, from the instant at which the request was due; the contract's longest deadline."""

DRAIN_S = 10.0
"""After the last request was due: as long as the client would wait."""

USERS_PER_ARM = 64
"""Requests that may be in flight at once; twice the orders that the contract forbids to shed, plus reads."""

FIRST_ORDER_READ_S = 2.0
"""Orders are read and their tickets fetched from here on; before, an order is placed instead."""

PAGE_SIZE = 20
ORDER_SEATS_MINIMUM = 300
UNKNOWN_EVENTS_FROM = 900_000_000
"""Ids of events from here on do not exist."""

_SHARE_WITH_CITY = 0.15
_SHARE_WITH_CURSOR = 0.15
_SHARE_WITH_CURRENCY = 0.25
_SHARE_WITH_TWO_LINES = 0.25
_SHARE_WITH_LIMIT = 0.15
_LIMITS = (7, 13, 20, 33)
"""Mean about PAGE_SIZE: a list costs by its length."""

_SHARE_WITH_REQUEST_ID = 0.2
_SHARE_ON_FRESH_CONNECTION = 0.1
_SHARE_RECENT = {"detail": 0.4, "order-read": 0.6, "replay": 0.5}
"""Asked right after the order that it is about, or as soon as the event must show it."""

CURRENCIES = ("USD", "GBP", "CHF")
"""Foreign currencies that orders are placed in."""
_CENT = Decimal("0.01")


class PlannedOrder(Frozen):
    """An order to place. ``total`` is the decimal string that it must come to in ``currency``."""

    key: str
    buyer_email: str
    card_token: str
    currency: str
    currency_sent: bool
    items: tuple[tuple[int, int], ...]
    total: str

    def body(self) -> dict[str, JsonValue]:
        """The request's JSON."""
        body: dict[str, JsonValue] = {
            "buyer_email": self.buyer_email,
            "card_token": self.card_token,
            "items": [{"event_id": event_id, "quantity": quantity} for event_id, quantity in self.items],
        }
        if self.currency_sent:
            body["currency"] = self.currency
        return body


class Arrival(Frozen):
    """One request of the schedule, due ``due_s`` seconds after the load's start.

    ``event_id`` is asked for by detail, sales, unknown and waitlist; a list may be of one ``city``, of another
    ``limit``, or (``follow``) continue an earlier page; ``pick`` (0…1) chooses among the orders placed, pages seen or
    variants there are, and ``recent`` takes what was sold last instead. ``order`` is placed, or (invalid) spoilt first.
    ``request_id`` is sent along; ``fresh`` is a connection of its own.
    """

    number: int
    due_s: Seconds
    endpoint: Endpoint
    pick: float = 0.0
    event_id: int | None = None
    city: str | None = None
    limit: int = PAGE_SIZE
    follow: bool = False
    recent: bool = False
    request_id: str | None = None
    fresh: bool = False
    order: PlannedOrder | None = None

    @property
    def habits(self) -> tuple[Habit, ...]:
        """What a service that answers this right has kept up."""
        found: list[Habit] = [habit for habit in HABITS if habit == self.endpoint]
        if self.limit != PAGE_SIZE:
            found.append("limit")
        if self.request_id is not None:
            found.append("request-id")
        return tuple(found)


class ExpectedEvent(Frozen):
    """What never changes about an event; ``price`` is a decimal string in EUR."""

    id: int
    title: str
    city: str
    price: str
    seats_total: int


class ExpectedDay(Frozen):
    """A day of the sales report: UTC day (ISO), tickets, gross in EUR (decimal string), orders."""

    day: str
    tickets: int
    gross: str
    orders: int


class Catalogue(Frozen):
    """What right answers are made of: upcoming events, soonest first, and the flagship's sales."""

    events: tuple[ExpectedEvent, ...]
    sales: tuple[ExpectedDay, ...]


class Arm(Frozen):
    """A service under load. Its whole schedule is shifted by ``offset_s``.

    ``habits`` are judged; in others any answer is as good as another, because the service did not have them before
    the load either. ``asked_before``: event ids and quantities that were asked for by then, and may be sold.
    """

    name: str
    base_url: str
    offset_s: Seconds = 0.0
    habits: tuple[Habit, ...] = HABITS
    asked_before: tuple[tuple[int, int], ...] = ()


class LoadPlan(Frozen):
    """Everything that the generator needs. All instants are seconds after the load's start.

    Requests due before ``warm_up_s`` are not counted; CPU time is, from ``costed_from_s`` on. The last request is
    due before ``end_s``; ``drain_s`` later nobody waits for an answer any more.
    """

    arms: tuple[Arm, ...]
    arrivals: tuple[Arrival, ...]
    catalogue: Catalogue
    warm_up_s: Seconds = WARM_UP_S
    costed_from_s: Seconds = WARM_UP_S + MIXED_S + TICKETS_SETTLE_S
    end_s: Seconds = WARM_UP_S + MIXED_S + MAIN_S
    drain_s: Seconds = DRAIN_S
    timeout_s: Seconds = CLIENT_TIMEOUT_S
    users_per_arm: int = USERS_PER_ARM


def side_by_side(*services: tuple[str, str]) -> tuple[Arm, ...]:
    """Arms for (name, base URL) pairs, spread over the mean gap between requests so that they do not collide."""
    return tuple(
        Arm(name=name, base_url=base_url, offset_s=number / len(services) / RATE_PER_S)
        for number, (name, base_url) in enumerate(services)
    )


def schedule(live: LiveData, rates: Mapping[str, Decimal], *, seed: int) -> tuple[Arrival, ...]:
    """The arrivals of a whole load. ``rates``: units of each currency for one EUR.

    Instants are jittered within a regular grid: no two services and no two endpoints stay in phase, and the
    offered rate is exact.
    """
    chance = random.Random(f"{seed}:load")
    events = sorted(live.events, key=lambda event: event.starts_at)
    sellable = on_sale(live)
    arrivals = []
    for number, endpoint in enumerate(_endpoints(chance)):
        due_s = (number + chance.random()) / RATE_PER_S
        if endpoint in ("order-read", "ticket", "replay") and due_s < FIRST_ORDER_READ_S:
            endpoint = "order"
        arrival = Arrival(
            number=number, due_s=due_s, endpoint=endpoint, pick=chance.random(),
            recent=chance.random() < _SHARE_RECENT.get(endpoint, 0.0),
            fresh=chance.random() < _SHARE_ON_FRESH_CONNECTION,
            request_id=f"{chance.getrandbits(64):016x}" if chance.random() < _SHARE_WITH_REQUEST_ID else None,
        )  # fmt: skip
        arrivals.append(arrival.model_copy(update=_details(arrival, chance, events, sellable, live, rates)))
    return tuple(arrivals)


def catalogue(live: LiveData, sales: Sequence[ExpectedDay]) -> Catalogue:
    """What a right service knows of ``live`` and of the flagship's ``sales``."""
    events = sorted(live.events, key=lambda event: event.starts_at)
    return Catalogue(
        events=tuple(
            ExpectedEvent(
                id=event.id,
                title=event.title,
                city=event.city,
                price=str(event.price),
                seats_total=event.seats_total,
            )
            for event in events
        ),
        sales=tuple(sales),
    )


def total_of(lines: Sequence[tuple[Decimal, int]], rate: Decimal) -> Decimal:
    """Contract: unit price × rate, rounded half-even to 2 places, times the quantity, summed over the lines."""
    prices = ((price * rate).quantize(_CENT, ROUND_HALF_EVEN) * quantity for price, quantity in lines)
    return sum(prices, Decimal(0))


def _endpoints(chance: random.Random) -> Iterator[Endpoint]:
    """The endpoints of the load, one shuffled deck after the other."""
    for deck, duration_s in ((MIXED_DECK, WARM_UP_S + MIXED_S), (MAIN_DECK, MAIN_S)):
        cards = [endpoint for endpoint, count in deck.items() for _ in range(count)]
        for _ in range(round(duration_s * RATE_PER_S) // len(cards)):
            chance.shuffle(cards)
            yield from cards


def _details(
    arrival: Arrival,
    chance: random.Random,
    events: Sequence[LiveEvent],
    sellable: Sequence[LiveEvent],
    live: LiveData,
    rates: Mapping[str, Decimal],
) -> dict[str, object]:
    match arrival.endpoint:
        case "list":
            draw = chance.random()
            if draw < _SHARE_WITH_CITY:
                return {"city": chance.choice(events).city}
            if draw < _SHARE_WITH_CITY + _SHARE_WITH_LIMIT:
                return {"limit": chance.choice(_LIMITS)}
            return {"follow": draw < _SHARE_WITH_CITY + _SHARE_WITH_LIMIT + _SHARE_WITH_CURSOR}
        case "detail":
            return {"event_id": chance.choice(events).id}
        case "sales":
            return {"event_id": live.flagship_id}
        case "unknown":
            return {"event_id": chance.randint(UNKNOWN_EVENTS_FROM, 2 * UNKNOWN_EVENTS_FROM)}
        case "waitlist":
            order = an_order(chance, sellable, rates, buyer_email=live.buyer(arrival.number))
            return {"event_id": order.items[0][0], "order": order}
        case "order" | "invalid":
            return {"order": an_order(chance, sellable, rates, buyer_email=live.buyer(arrival.number))}
    return {}


def on_sale(live: LiveData) -> tuple[LiveEvent, ...]:
    """The events that orders of the load are for: none of them sells out."""
    return live.open_events(minimum_seats=ORDER_SEATS_MINIMUM)


def an_order(
    chance: random.Random, sellable: Sequence[LiveEvent], rates: Mapping[str, Decimal], *, buyer_email: str
) -> PlannedOrder:
    """A valid order of one line or two, in EUR or a currency of ``rates``."""
    chosen = chance.sample(sellable, 2 if chance.random() < _SHARE_WITH_TWO_LINES else 1)
    lines = [(event, chance.randint(1, 3)) for event in chosen]
    foreign = chance.random() < _SHARE_WITH_CURRENCY
    currency = chance.choice(CURRENCIES) if foreign else "EUR"
    rate = rates[currency] if foreign else Decimal(1)
    return PlannedOrder(
        key=str(uuid.UUID(int=chance.getrandbits(128), version=4)),
        buyer_email=buyer_email,
        card_token=f"tok_{chance.getrandbits(64):016x}",
        currency=currency,
        currency_sent=foreign,
        items=tuple((event.id, quantity) for event, quantity in lines),
        total=str(total_of([(event.price, quantity) for event, quantity in lines], rate)),
    )
