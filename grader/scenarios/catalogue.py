"""What is shown and when: pages of the list, orders right after their answer, windows, freshness; far from UTC."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlencode

from pydantic import JsonValue

from devstack.artifacts import Exchange
from devstack.faults import Fault
from devstack.seed import LiveData, LiveEvent
from grader.answers import PLACED, listed_seats, order_id_of, seats_available_of, sold_tickets
from grader.scenarios.clients import Order, new_order, require_an_answer, send_order
from grader.scenarios.own_events import Additions
from grader.scenarios.stage import Scenario, Stage

ZONES = {
    "Pacific/Kiritimati": 14, "Pacific/Tongatapu": 13, "Pacific/Fakaofo": 13, "Pacific/Tarawa": 12,
    "Pacific/Wake": 12, "Pacific/Pago_Pago": -11, "Pacific/Niue": -11, "Pacific/Honolulu": -10,
}  # fmt: skip
"""Zones without summer time, hours from UTC: at any hour it is another day in some of them."""

PASSING, PASSING_EVERY_S, FIRST_PASSES_S = 75, 4, 8
"""Events that begin one after the other while the list is read, for five minutes."""

TIED = 12
WINDOWS_MINUTES = (40, 530)
"""How far from now a sale opens or closes: far from any race, nearer than the zones are from UTC."""

WHOLE_PAGE, TIED_PAGE, PASSING_PAGE = 33, 5, 5
STALE_S = 6.5
"""Contract: lists are at most 5 s stale, + 20 % and a little."""

MOST_PAGES = 40
EVENT_STALE_S, LIST_STALE_S, SALES_STALE_S = 2.4, 6.0, 72.0
"""Contract: 2 s, 5 s, 60 s, + 20 %."""

COMMIT_DELAY_S = 0.8
"""A COMMIT sent before the answer only makes the order later; one sent after it is not there yet for the reader."""

SOLD = ("some", 20, 6), ("all", 4, 4)
"""Seats of two events, and how many of them one order buys."""


@dataclass(frozen=True)
class CatalogueData(LiveData):
    """Live data with events that pass, events at one instant, cities with alike names, and windows about now."""

    passing: tuple[LiveEvent, ...] = ()
    tied: tuple[LiveEvent, ...] = ()
    on_sale: tuple[LiveEvent, ...] = ()
    not_on_sale: tuple[LiveEvent, ...] = ()


@dataclass(frozen=True)
class Sold:
    """An event of which one order buys ``bought`` seats."""

    name: str
    event: LiveEvent
    bought: int

    @property
    def left(self) -> int:
        """Seats that are free afterwards."""
        return self.event.seats_total - self.bought

    @property
    def page(self) -> str:
        """Where the event is shown."""
        return f"/events/{self.event.id}"

    @property
    def listing(self) -> str:
        """A list that the event is on."""
        return f"/events?{urlencode({'city': self.event.city, 'limit': 100})}"


def catalogue_data(live: LiveData, now: dt.datetime) -> CatalogueData:
    """The run's live data and these events, whose times are counted from ``now``."""
    more = Additions(live, "catalogue", now)
    begins = more.now + dt.timedelta(seconds=FIRST_PASSES_S)
    every = dt.timedelta(seconds=PASSING_EVERY_S)
    venue = more.venue()
    passing = tuple(more.event(venue, starts_at=begins + number * every) for number in range(PASSING))
    venue = more.venue()
    first = more.event(venue)
    tied = (first, *(more.event(venue, starts_at=first.starts_at) for _ in range(TIED - 1)))
    for alike in (f"{venue.city} North", venue.city.upper()):
        more.event(more.venue(alike))
    venue = more.venue()

    def ago() -> dt.timedelta:
        return dt.timedelta(minutes=more.chance.randint(*WINDOWS_MINUTES))

    on_sale = [
        more.event(venue, sales_open_at=more.now - ago(), sales_close_at=more.now + ago()) for _ in range(3)
    ]
    not_on_sale = [more.event(venue, sales_open_at=more.now + ago()) for _ in range(3)]
    not_on_sale += [more.event(venue, sales_close_at=more.now - ago()) for _ in range(3)]
    return CatalogueData(
        live.seed, live.now, (*live.venues, *more.venues), (*live.events, *more.events),
        passing, tied, tuple(on_sale), tuple(not_on_sale),
    )  # fmt: skip


async def drive(stage: Stage) -> None:
    """Orders read at once first; then everything that mostly waits, side by side; an order left open last."""
    live = stage.world.live
    assert isinstance(live, CatalogueData)
    zone = far_zone(dt.datetime.now(dt.UTC), stage.random.choice)
    await stage.start(environment={"TZ": zone})
    stage.fact("zone", zone)
    _record_truth(stage, live)
    await stage.get("event", f"/events/{live.on_sale[0].id}")
    sold = [Sold(name, live.open_events(seats, seats)[0], bought) for name, seats, bought in SOLD]
    await stage.get("_warm", f"/events/{sold[0].event.id}/sales")
    orders = await _orders_read_at_once(stage, live)
    confirmed = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(_pages(stage, live))
        group.create_task(_freshness(stage, sold, confirmed))
        await _windows(stage, live)
        await _tickets(stage, orders)
        await confirmed.wait()
        await _open_order(stage, live)
    for name in ("_warm", "_poll"):
        stage.record.exchanges.pop(name, None)
    await stage.ledger()


def far_zone(now: dt.datetime, choose: Callable[[list[str]], str]) -> str:
    """A zone where it is another day than in UTC, now and for the next minutes."""
    fitting = []
    for name, hours in ZONES.items():
        shift = dt.timedelta(hours=hours)
        moments = (now, now + dt.timedelta(minutes=5))
        if all((moment + shift).date() != moment.date() for moment in moments):
            fitting.append(name)
    return choose(fitting)


def _record_truth(stage: Stage, live: LiveData) -> None:
    """What the answers are compared with; times of day are seconds since the epoch."""
    stage.fact("ticket-secret", stage.world.settings.ticket_secret)
    stage.fact("clock-s", time.time() - stage.now())
    venues = {venue.id: venue for venue in live.venues}
    truth: dict[str, JsonValue] = {}
    for event in live.events:
        venue = venues[event.venue_id]
        truth[str(event.id)] = {
            "title": event.title,
            "starts_at": event.starts_at.timestamp(),
            "sales_open_at": event.sales_open_at.timestamp(),
            "sales_close_at": event.sales_close_at.timestamp(),
            "venue": {"id": venue.id, "name": venue.name, "city": venue.city},
            "price": str(event.price),
            "seats_total": event.seats_total,
        }
    stage.fact("events", truth)


# -- orders ------------------------------------------------------------------------------------------------


async def _orders_read_at_once(stage: Stage, live: LiveData) -> list[Order]:
    """Three orders side by side while COMMITs are late, each read as soon as it is answered."""
    one, two, three = live.open_events(minimum_seats=300)[:3]
    orders = [
        new_order(stage, one.id, 2),
        Order(stage.order_body([(one.id, 1), (two.id, 3)]), stage.key()),
        _with_unknown_fields(new_order(stage, three.id)),
    ]

    async def place(order: Order) -> None:
        answer = await send_order(stage, "orders", order)
        order_id = order_id_of(answer)
        if answer.status in PLACED and order_id is not None:
            await stage.get("orders-at-once", f"/orders/{order_id}", fresh=True, timeout_s=5)

    stage.record.exchanges["orders-at-once"] = []
    # What a first order costs once (connections, statements prepared) would come on top of the late COMMITs.
    warm = await send_order(stage, "_warm", new_order(stage, one.id))
    require_an_answer([warm], "one order was placed")
    await stage.world.faults.set_proxy(commit_delay_s=COMMIT_DELAY_S)
    try:
        await asyncio.gather(*(place(order) for order in orders))
    finally:
        await stage.world.faults.set_proxy()
    await stage.settle("orders-read", stage.record.exchanges["orders"], within_s=8)
    await send_order(stage, "replay", orders[0])
    return orders


def _with_unknown_fields(order: Order) -> Order:
    """Contract: unknown fields are ignored."""
    items = order.body["items"]
    assert isinstance(items, list)
    assert isinstance(items[0], dict)
    line: JsonValue = {**items[0], "row": "F"}
    return Order({**order.body, "items": [line], "newsletter": True}, order.key)


async def _tickets(stage: Stage, orders: list[Order]) -> None:
    """A ticket, and what there is none of; the unknown order's id looks like a known one's."""
    order_id = next(filter(None, map(order_id_of, stage.record.exchanges["orders"])), None)
    if order_id is not None:
        await stage.get("ticket", f"/orders/{order_id}/ticket")
    for name in (stage.key(), "not-an-order"):
        await stage.get("no-order", f"/orders/{name}")
        await stage.get("no-order", f"/orders/{name}/ticket")
    await stage.get("no-event", "/events/999999999")
    await stage.get("no-event", "/events/999999999/sales")


async def _open_order(stage: Stage, live: LiveData) -> None:
    """An order whose charge hangs: where it is told before its end, there is no ticket yet."""
    hanging = Fault(upstream="payments", kind="hang", operation="charge")
    await stage.world.faults.set_faults(hanging)
    answer = await send_order(stage, "open", new_order(stage, live.open_events(minimum_seats=300)[3].id))
    order_id = order_id_of(answer)
    stage.record.exchanges["open-ticket"] = []
    if answer.status == 202 and order_id is not None:
        await stage.get("open-read", f"/orders/{order_id}")
        await stage.get("open-ticket", f"/orders/{order_id}/ticket")
    await stage.world.faults.clear_faults()


async def _windows(stage: Stage, live: CatalogueData) -> None:
    for name, events in (("on-sale", live.on_sale), ("not-on-sale", live.not_on_sale)):
        await asyncio.gather(*(stage.order(name, [(event.id, 1)], fresh=True) for event in events))


# -- pages -------------------------------------------------------------------------------------------------


async def _pages(stage: Stage, live: CatalogueData) -> None:
    """Walk through the whole list, through events at one instant, and through a list whose events pass meanwhile."""
    await stage.get("default-page", "/events")
    tied, passing = live.tied[0].city, live.passing[0].city
    stage.fact("cities", {"tied": tied, "passing": passing})
    for name in (tied.lower(), tied[:-1], "%", f"{tied[:-1]}_"):
        await stage.get("other-city", f"/events?{urlencode({'city': name})}")

    async def until_some_passed() -> None:
        now_s = time.time()
        soon = sorted(
            event.starts_at.timestamp() for event in live.passing if event.starts_at.timestamp() > now_s
        )
        await asyncio.sleep(max(0.0, soon[1] - now_s) + STALE_S if len(soon) > 1 else 0.0)

    await _walk(stage, "passing", city=passing, limit=PASSING_PAGE, after_first=until_some_passed)
    await _walk(stage, "tied", city=tied, limit=TIED_PAGE)
    await _walk(stage, "whole", limit=WHOLE_PAGE)


async def _walk(
    stage: Stage,
    name: str,
    *,
    limit: int,
    city: str | None = None,
    after_first: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Follow the cursors to the end, recorded as ``pages-<name>``."""
    query = {"limit": str(limit)} | ({} if city is None else {"city": city})
    for number in range(MOST_PAGES):
        page = await stage.get(f"pages-{name}", f"/events?{urlencode(query)}")
        cursor = page.payload.get("next_cursor") if isinstance(page.payload, dict) and page.ok else None
        if isinstance(cursor, bool) or not isinstance(cursor, str | int):
            break
        query["cursor"] = str(cursor)
        if number == 0 and after_first is not None:
            await after_first()


# -- freshness ---------------------------------------------------------------------------------------------


async def _freshness(stage: Stage, sold: list[Sold], confirmed: asyncio.Event) -> None:
    """Buy seats of events whose pages have just been read, and read these until they show it."""
    stage.fact(
        "sold", {one.name: {"id": one.event.id, "left": one.left, "bought": one.bought} for one in sold}
    )
    try:
        first_day = dt.datetime.now(dt.UTC).date()
        answers = [await _buy(stage, one) for one in sold]
        await asyncio.gather(
            *(_shows_what_is_left(stage, one, answer) for one, answer in zip(sold, answers, strict=True))
        )
        await stage.settle("sold-read", answers, within_s=15)
    finally:
        confirmed.set()
    now_s, report = stage.now(), sold[0]
    last_day = dt.datetime.now(dt.UTC).date()
    stage.fact("utc-days", [first_day.isoformat(), last_day.isoformat()])
    stage.fact("confirmed-s", now_s)

    def right(page: Exchange) -> bool:
        return sold_tickets(page) == report.bought

    # An order that did not come about will not be reported, however long one waits.
    patience_s = SALES_STALE_S if answers[0].status in PLACED else 0.0
    await _until(stage, "sales", f"{report.page}/sales", now_s, patience_s, 1.0, right)


async def _buy(stage: Stage, sold: Sold) -> Exchange:
    for path in (sold.page, sold.listing):
        await stage.get("_warm", path)
    return await stage.order(f"sold-{sold.name}", [(sold.event.id, sold.bought)])


async def _shows_what_is_left(stage: Stage, sold: Sold, answer: Exchange) -> None:
    def on_page(page: Exchange) -> bool:
        return seats_available_of(page) == sold.left

    def on_list(page: Exchange) -> bool:
        return listed_seats(page, sold.event.id) == sold.left

    if answer.status not in PLACED:
        return
    name, since_s = f"sold-{sold.name}", answer.ended_s
    await asyncio.gather(
        _until(stage, f"{name}-page", sold.page, since_s, EVENT_STALE_S, 0.2, on_page),
        _until(stage, f"{name}-list", sold.listing, since_s, LIST_STALE_S, 0.5, on_list),
    )


async def _until(
    stage: Stage,
    name: str,
    path: str,
    since_s: float,
    within_s: float,
    pause_s: float,
    right: Callable[[Exchange], bool],
) -> None:
    """Read ``path`` until it is right or too old to be wrong; the last reading is recorded as ``name``."""
    while True:
        page = await stage.get("_poll", path, fresh=True, timeout_s=5)
        if right(page) or page.started_s > since_s + within_s or page.error == "refused":
            break
        await asyncio.sleep(pause_s)
    stage.record.exchanges[name] = [page.model_copy(update={"label": name})]


SCENARIO = Scenario(name="catalogue", drive=drive, budget_s=130, quiet=False, data=catalogue_data)
