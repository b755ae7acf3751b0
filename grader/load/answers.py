"""What each request of the load must be answered with, given what the service has said and sold so far."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import quote, urlencode

from grader.load.plan import PAGE_SIZE, Arrival, Catalogue, ExpectedEvent, PlannedOrder

LIST_STALENESS_S = 6.0
DETAIL_STALENESS_S = 2.4
"""The contract's 5 s and 2 s, plus 20 %."""

_SHED = frozenset({429, 503})
_ID_LIMIT = 200
_CURSOR_LIMIT = 2_000


class Wrong(Exception):
    """An answer is not the right one; the message is the kind of failure."""


@dataclass(frozen=True)
class Page:
    """A page that has another one behind it: ``seen`` events of the list (of ``city``) came so far."""

    city: str | None
    cursor: str
    seen: int


@dataclass
class KnownOrder:
    """An order that the service accepted, and whether it ever called it confirmed."""

    id: str
    planned: PlannedOrder
    confirmed: bool


@dataclass(frozen=True)
class Sale:
    """Seats of one event whose order was confirmed at ``at_s``."""

    at_s: float
    quantity: int


@dataclass(frozen=True)
class Call:
    """A request as it goes out: path, and what its answer is about."""

    path: str
    page: Page | None = None
    order: KnownOrder | None = None


class Shop:
    """One service as its client knows it. All instants are on one monotonic clock, in seconds."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._events = {event.id: event for event in catalogue.events}
        self._upcoming = catalogue.events
        self._sales = {day.day: (day.tickets, Decimal(day.gross), day.orders) for day in catalogue.sales}
        self._pages: list[Page] = []
        self.orders: dict[int, KnownOrder] = {}
        self._requested: dict[int, int] = defaultdict(int)
        self._sold: dict[int, list[Sale]] = defaultdict(list)

    def call(self, arrival: Arrival) -> Call | None:
        """The request to send now; ``None`` if it is about an order and the service has accepted none."""
        match arrival.endpoint:
            case "list":
                return self._list_call(arrival)
            case "detail":
                return Call(f"/events/{arrival.event_id}")
            case "sales":
                return Call(f"/events/{arrival.event_id}/sales")
            case "order":
                for event_id, quantity in _order_of(arrival).items:
                    self._requested[event_id] += quantity
                return Call("/orders")
        order = self._pick_order(arrival)
        if order is None:
            return None
        path = f"/orders/{quote(order.id, safe='')}"
        return Call(f"{path}/ticket" if arrival.endpoint == "ticket" else path, order=order)

    def verify(
        self,
        arrival: Arrival,
        call: Call,
        status: int,
        headers: dict[str, str],
        body: bytes,
        sent_s: float,
        now_s: float,
    ) -> None:
        """Raise Wrong unless the answer is right; learn from it if it is. ``headers`` have lower-case names."""
        try:
            if arrival.endpoint == "ticket":
                self._verify_ticket(call, status, headers, body)
                return
            self._require_status(arrival, status, headers)
            payload = json.loads(body)
            match arrival.endpoint:
                case "list":
                    self._verify_list(call, arrival, payload, sent_s)
                case "detail":
                    event = self._events[arrival.event_id or 0]
                    self._verify_event(event, payload, sent_s, DETAIL_STALENESS_S)
                case "sales":
                    self._verify_sales(payload)
                case "order":
                    self._verify_order(arrival, status, headers, payload, now_s)
                case "order-read":
                    self._verify_order_read(call, payload, now_s)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
            # the payload is not of the contract's shape: whatever reading it ran into
            raise Wrong("malformed") from None

    # -- requests ------------------------------------------------------------------------------------------

    def _list_call(self, arrival: Arrival) -> Call:
        page = self._pages[int(arrival.pick * len(self._pages))] if arrival.follow and self._pages else None
        city = page.city if page else arrival.city
        query = {"limit": str(PAGE_SIZE)}
        if city is not None:
            query["city"] = city
        if page is not None:
            query["cursor"] = page.cursor
        return Call(f"/events?{urlencode(query)}", page=page)

    def _pick_order(self, arrival: Arrival) -> KnownOrder | None:
        known = list(self.orders.values())
        if arrival.endpoint == "ticket":
            known = [order for order in known if order.confirmed] or known
        return known[int(arrival.pick * len(known))] if known else None

    # -- answers -------------------------------------------------------------------------------------------

    def _require_status(self, arrival: Arrival, status: int, headers: dict[str, str]) -> None:
        expected = (201, 202) if arrival.endpoint == "order" else (200,)
        if status not in expected:
            raise Wrong(_kind_of(status, headers))

    def _verify_list(self, call: Call, arrival: Arrival, payload: Any, sent_s: float) -> None:
        city = call.page.city if call.page else arrival.city
        listed = [event for event in self._upcoming if city is None or event.city == city]
        seen = call.page.seen if call.page else 0
        expected = listed[seen : seen + PAGE_SIZE]
        items = payload["items"]
        if [str(item["id"]) for item in items] != [str(event.id) for event in expected]:
            raise Wrong("wrong-events")
        for event, item in zip(expected, items, strict=True):
            self._verify_event(event, item, sent_s, LIST_STALENESS_S)
        cursor = payload["next_cursor"]
        more = len(listed) > seen + PAGE_SIZE
        if more and not (isinstance(cursor, str) and 0 < len(cursor) <= _CURSOR_LIMIT):
            raise Wrong("wrong-cursor")
        if more:
            self._pages.append(Page(city, cursor, seen + PAGE_SIZE))
            del self._pages[:-50]

    def _verify_event(self, event: ExpectedEvent, item: Any, sent_s: float, staleness_s: float) -> None:
        same = (
            str(item["id"]) == str(event.id)
            and item["title"] == event.title
            and item["venue"]["city"] == event.city
            and _number(item["price"]["amount"]) == Decimal(event.price)
            and item["price"]["currency"] == "EUR"
            and item["seats_total"] == event.seats_total
        )
        if not same:
            raise Wrong("wrong-event")
        # Whatever was still in flight may be held or not; what was confirmed long enough ago must be gone.
        gone = sum(sale.quantity for sale in self._sold[event.id] if sale.at_s + staleness_s < sent_s)
        least = event.seats_total - self._requested[event.id]
        if not least <= item["seats_available"] <= event.seats_total - gone:
            raise Wrong("stale-availability")

    def _verify_sales(self, payload: Any) -> None:
        found = {
            str(item["day"])[:10]: (item["tickets"], _number(item["gross"]), item["orders"])
            for item in payload["items"]
            if item["tickets"] != 0
        }
        if found != self._sales:
            raise Wrong("wrong-report")

    def _verify_order(
        self, arrival: Arrival, status: int, headers: dict[str, str], payload: Any, now_s: float
    ) -> None:
        planned = _order_of(arrival)
        order_id = payload.get("id")
        if order_id is None:
            order_id = headers.get("location", "").rstrip("/").rpartition("/orders/")[2]
        if (
            not isinstance(order_id, str | int)
            or isinstance(order_id, bool)
            or not 0 < len(str(order_id)) <= _ID_LIMIT
        ):
            raise Wrong("malformed")
        if "total" in payload:
            _verify_total(planned, payload)
        confirmed = payload.get("status", "confirmed") == "confirmed" and status != 202
        if not confirmed and status == 201:
            raise Wrong("not-confirmed")
        self._learn(arrival.number, KnownOrder(str(order_id), planned, confirmed), now_s)

    def _verify_order_read(self, call: Call, payload: Any, now_s: float) -> None:
        order = call.order
        assert order is not None, "an order is read by its id"
        if str(payload["id"]) != order.id:
            raise Wrong("wrong-order")
        _verify_total(order.planned, payload)
        lines = sorted((int(item["event_id"]), int(item["quantity"])) for item in payload["items"])
        if lines != sorted(order.planned.items):
            raise Wrong("wrong-order")
        if payload["status"] == "confirmed":
            if not order.confirmed:
                order.confirmed = True
                self._count_sold(order.planned, now_s)
        elif order.confirmed or payload["status"] != "pending":
            raise Wrong("not-confirmed")

    def _verify_ticket(self, call: Call, status: int, headers: dict[str, str], body: bytes) -> None:
        assert call.order is not None, "a ticket is of an order"
        if status == 409 and not call.order.confirmed:
            return
        if status != 200:
            raise Wrong(_kind_of(status, headers))
        if b"<svg" not in body:
            raise Wrong("malformed")

    def _learn(self, number: int, order: KnownOrder, now_s: float) -> None:
        self.orders[number] = order
        if order.confirmed:
            self._count_sold(order.planned, now_s)

    def _count_sold(self, planned: PlannedOrder, now_s: float) -> None:
        for event_id, quantity in planned.items:
            self._sold[event_id].append(Sale(now_s, quantity))


def _order_of(arrival: Arrival) -> PlannedOrder:
    assert arrival.order is not None, "an arrival at the order endpoint carries its order"
    return arrival.order


def _kind_of(status: int, headers: dict[str, str]) -> str:
    return "shed" if status in _SHED and "retry-after" in headers else f"status-{status}"


def _verify_total(planned: PlannedOrder, payload: Any) -> None:
    total = payload["total"]
    if _number(total["amount"]) != Decimal(planned.total) or total["currency"] != planned.currency:
        raise Wrong("wrong-total")


def _number(value: object) -> Decimal:
    """A decimal string or a JSON number. Raises ValueError for anything else, and for what is not finite."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("not a number")
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError("not a finite number")
    return number
