"""Before the load, at leisure: which habits the service has. Only those are judged in the load.

What a service does not do when it has all the time is another check's matter; what it does only then is the load's.
"""

from __future__ import annotations

import json
import random
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal

from devstack.artifacts import Exchange
from devstack.seed import LiveData
from grader.load.answers import Shop, Wrong
from grader.load.plan import HABITS, UNKNOWN_EVENTS_FROM, Arrival, Habit, an_order, on_sale
from grader.load.requests import INVALID_ORDERS, Call

FIRST_NUMBER = 100_000
"""Of its arrivals: none of the load's buyers is among theirs."""

Send = Callable[[Call], Awaitable[Exchange]]


def rehearsal(live: LiveData, rates: Mapping[str, Decimal], *, seed: int) -> tuple[Arrival, ...]:
    """One request of each kind and variant; the order first, which others are about. ``rates``: see ``schedule``."""
    chance = random.Random(f"{seed}:rehearsal")
    event_id = chance.choice(live.events).id

    def arrival(number: int, endpoint: str, **details: object) -> Arrival:
        order = an_order(chance, on_sale(live), rates, buyer_email=live.buyer(FIRST_NUMBER + number))
        return Arrival.model_validate(
            {
                "number": FIRST_NUMBER + number, "due_s": 0.0, "endpoint": endpoint, "order": order,
                "event_id": order.items[0][0], "recent": True, **details,
            }
        )  # fmt: skip

    wanted: list[tuple[str, dict[str, object]]] = [
        ("order", {}),
        ("replay", {}),
        *[
            ("invalid", dict[str, object](pick=(number + 0.5) / INVALID_ORDERS))
            for number in range(INVALID_ORDERS)
        ],
        ("unknown", {"pick": 0.25, "event_id": UNKNOWN_EVENTS_FROM}),
        ("unknown", {"pick": 0.75}),
        ("waitlist", {}),
        ("list", {"limit": 7, "request_id": f"{chance.getrandbits(64):016x}"}),
        ("detail", {"event_id": event_id, "request_id": f"{chance.getrandbits(64):016x}"}),
    ]
    return tuple(arrival(number, endpoint, **details) for number, (endpoint, details) in enumerate(wanted))


async def habits_of(shop: Shop, arrivals: tuple[Arrival, ...], send: Send) -> tuple[Habit, ...]:
    """Send the rehearsal, one request after the other: the habits in which every answer was right.

    A service that leaves a request unanswered is asked no more. ``shop``: what it is to know; it learns on the way.
    """
    missing: set[Habit] = set()
    asked: set[Habit] = set()
    for arrival in arrivals:
        call = shop.call(arrival)
        if call is None:
            continue
        answer = await send(call)
        if answer.status is None:
            return ()
        asked |= set(arrival.habits)
        body = b"" if answer.payload is None else json.dumps(answer.payload).encode()
        try:
            shop.verify(arrival, call, answer.status, answer.headers, body, 0.0, 0.0)
        except Wrong as wrong:
            alone = "wrong-request-id"
            missing |= {
                habit for habit in arrival.habits if (habit == "request-id") == (str(wrong) == alone)
            } or set(arrival.habits)
    return tuple(habit for habit in HABITS if habit in asked - missing)
