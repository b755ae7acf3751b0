"""What each request of the load must be answered with, given what the service has said and sold so far."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from pydantic import JsonValue

from devstack.payloads import decode
from grader.load import requests
from grader.load.plan import HABITS, Arrival, Catalogue, ExpectedEvent, Habit, PlannedOrder
from grader.load.requests import Call, KnownOrder, Page

LIST_STALENESS_S = 6.0
DETAIL_STALENESS_S = 2.4
"""The contract's 5 s and 2 s, plus 20 %."""

_SHED = frozenset({429, 503})
_ID_LIMIT = 200
_CURSOR_LIMIT = 2_000
_NUMBER_CHARACTERS = 64
_REPEATED = (200, 201)
_NOT_YET_REPEATED = (202, 409, 425)
_REFUSED: Mapping[str, tuple[int, ...]] = {"invalid": (422, 400), "unknown": (404,), "waitlist": (409,)}
"""Contract, sections 3, 2 and 4: invalid orders, things that do not exist, a waitlist while there are seats."""


class Wrong(Exception):
    """An answer is not the right one; the message is the kind of failure."""


@dataclass(frozen=True)
class Sale:
    """Seats of one event whose order was confirmed at ``at_s``."""

    at_s: float
    quantity: int


class Shop:
    """One service as its client knows it. All instants are on one monotonic clock, in seconds."""

    def __init__(
        self,
        catalogue: Catalogue,
        *,
        habits: Sequence[Habit] = HABITS,
        asked_before: Sequence[tuple[int, int]] = (),
    ) -> None:
        """``habits``, ``asked_before``: see :class:`~grader.load.plan.Arm`."""
        self._events = {event.id: event for event in catalogue.events}
        self._upcoming = catalogue.events
        self._sales = {day.day: (day.tickets, Decimal(day.gross), day.orders) for day in catalogue.sales}
        self._pages: list[Page] = []
        self.orders: dict[int, KnownOrder] = {}
        self._requested: dict[int, int] = defaultdict(int)
        self._sold: dict[int, list[Sale]] = defaultdict(list)
        self._habits = frozenset(habits)
        for event_id, quantity in asked_before:
            self._requested[event_id] += quantity

    def call(self, arrival: Arrival, now_s: float = 0.0) -> Call | None:
        """The request to send now; ``None`` if it is about an order and the service has accepted none."""
        match arrival.endpoint:
            case "list":
                return self._list_call(arrival)
            case "detail":
                event_id = self._just_sold(now_s) if arrival.recent else None
                event_id = arrival.event_id or 0 if event_id is None else event_id
                return requests.get(arrival, f"/events/{event_id}", event_id=event_id)
            case "sales":
                return requests.get(arrival, f"/events/{arrival.event_id}/sales")
            case "order":
                planned = _order_of(arrival)
                call = requests.post(arrival, "/orders", planned.body(), key=planned.key)
                self._note_asked(call.json_body)
                return call
            case "invalid":
                call = requests.invalid_order(arrival, _order_of(arrival))
                # where validation is missing it may be sold
                self._note_asked(call.json_body)
                return call
            case "unknown":
                return requests.unknown_thing(arrival)
            case "waitlist":
                planned = _order_of(arrival)
                entry: dict[str, JsonValue] = {"email": planned.buyer_email, "quantity": planned.items[0][1]}
                return requests.post(arrival, f"/events/{arrival.event_id}/waitlist", entry)
        order = self._pick_order(arrival)
        if order is None:
            return None
        path = requests.order_path(order)
        match arrival.endpoint:
            case "replay":
                return requests.post(
                    arrival, "/orders", order.planned.body(), key=order.planned.key, order=order
                )
            case "ticket":
                return requests.get(arrival, f"{path}/ticket", order=order)
        return requests.get(arrival, path, order=order)

    def verify(
        self,
        arrival: Arrival,
        call: Call,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        sent_s: float,
        now_s: float,
    ) -> None:
        """Raise Wrong unless the answer is right; learn from it if it is. ``headers`` have lower-case names."""
        free = {habit for habit in arrival.habits if habit not in self._habits}
        if free - {"request-id"}:
            return
        try:
            self._verify_content(arrival, call, status, headers, body, sent_s, now_s)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError):
            # the payload is not of the contract's shape: whatever reading it ran into
            raise Wrong("malformed") from None
        if (
            arrival.request_id is not None
            and not free
            and headers.get(requests.REQUEST_ID.lower()) != arrival.request_id
        ):
            raise Wrong("wrong-request-id")

    def _verify_content(
        self,
        arrival: Arrival,
        call: Call,
        status: int,
        headers: Mapping[str, str],
        body: bytes,
        sent_s: float,
        now_s: float,
    ) -> None:
        if arrival.endpoint == "ticket":
            self._verify_ticket(call, status, headers, body)
            return
        if arrival.endpoint in _REFUSED:
            self._verify_refusal(arrival, call, status, headers)
            return
        if arrival.endpoint == "replay" and status in _NOT_YET_REPEATED and not _order_in(call).confirmed:
            return
        self._require_status(arrival, status, headers)
        payload = _payload(body)
        match arrival.endpoint:
            case "list":
                self._verify_list(call, arrival, payload, sent_s)
            case "detail":
                self._verify_event(self._events[call.event_id], payload, sent_s, DETAIL_STALENESS_S)
            case "sales":
                self._verify_sales(payload)
            case "order":
                self._verify_order(arrival, status, headers, payload, now_s)
            case "order-read":
                self._verify_order_read(call, payload, now_s)
            case "replay":
                self._verify_replay(call, headers, payload)

    @property
    def asked(self) -> tuple[tuple[int, int], ...]:
        """Event ids and quantities that were asked for so far."""
        return tuple(sorted(self._requested.items()))

    def _note_asked(self, body: Any) -> None:
        for item in body["items"]:
            self._requested[item["event_id"]] += max(0, item["quantity"])

    # -- requests ------------------------------------------------------------------------------------------

    def _list_call(self, arrival: Arrival) -> Call:
        page = self._pages[int(arrival.pick * len(self._pages))] if arrival.follow and self._pages else None
        return requests.list_of_events(arrival, page)

    def _pick_order(self, arrival: Arrival) -> KnownOrder | None:
        known = list(self.orders.values())
        if arrival.endpoint == "ticket":
            known = [order for order in known if order.confirmed] or known
        if not known:
            return None
        return known[-1] if arrival.recent else known[int(arrival.pick * len(known))]

    def _just_sold(self, now_s: float) -> int | None:
        """The event of which the last sale must show by now, and of all those the latest."""
        visible = {
            event_id: sales[-1].at_s
            for event_id, sales in self._sold.items()
            if sales[-1].at_s + DETAIL_STALENESS_S < now_s
        }
        return max(visible, key=lambda event_id: visible[event_id], default=None)

    # -- answers -------------------------------------------------------------------------------------------

    def _require_status(self, arrival: Arrival, status: int, headers: Mapping[str, str]) -> None:
        expected = {"order": (201, 202), "replay": _REPEATED}.get(arrival.endpoint, (200,))
        if status not in expected:
            raise Wrong(_kind_of(status, headers))

    def _verify_list(self, call: Call, arrival: Arrival, payload: Any, sent_s: float) -> None:
        city = call.page.city if call.page else arrival.city
        listed = [event for event in self._upcoming if city is None or event.city == city]
        seen, limit = (call.page.seen, call.page.limit) if call.page else (0, arrival.limit)
        expected = listed[seen : seen + limit]
        items = payload["items"]
        if [str(item["id"]) for item in items] != [str(event.id) for event in expected]:
            raise Wrong("wrong-events")
        for event, item in zip(expected, items, strict=True):
            self._verify_event(event, item, sent_s, LIST_STALENESS_S)
        cursor = payload["next_cursor"]
        more = len(listed) > seen + limit
        if more and not (isinstance(cursor, str) and 0 < len(cursor) <= _CURSOR_LIMIT):
            raise Wrong("wrong-cursor")
        if more:
            self._pages.append(Page(city, cursor, seen + limit, limit))
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
        gone = sum(sale.quantity for sale in self._sold.get(event.id, ()) if sale.at_s + staleness_s < sent_s)
        least = event.seats_total - self._requested.get(event.id, 0)
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
        self, arrival: Arrival, status: int, headers: Mapping[str, str], payload: Any, now_s: float
    ) -> None:
        planned = _order_of(arrival)
        order_id = _id_in(headers, payload)
        if "total" in payload:
            _verify_total(planned, payload)
        confirmed = payload.get("status", "confirmed") == "confirmed" and status != 202
        if not confirmed and status == 201:
            raise Wrong("not-confirmed")
        self._learn(arrival.number, KnownOrder(order_id, planned, confirmed), now_s)

    def _verify_order_read(self, call: Call, payload: Any, now_s: float) -> None:
        order = _order_in(call)
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

    def _verify_replay(self, call: Call, headers: Mapping[str, str], payload: Any) -> None:
        order = _order_in(call)
        if _id_in(headers, payload) != order.id:
            raise Wrong("another-order")
        if "total" in payload:
            _verify_total(order.planned, payload)

    def _verify_refusal(self, arrival: Arrival, call: Call, status: int, headers: Mapping[str, str]) -> None:
        refused = _REFUSED[arrival.endpoint]
        # an id that is none of this service's kind is malformed to it
        malformed_order = call.path.startswith("/orders/") and status == 422
        if status not in refused and not malformed_order:
            raise Wrong(_kind_of(status, headers))

    def _verify_ticket(self, call: Call, status: int, headers: Mapping[str, str], body: bytes) -> None:
        if status == 409 and not _order_in(call).confirmed:
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


def _order_in(call: Call) -> KnownOrder:
    assert call.order is not None, "a call about an order carries it"
    return call.order


def _payload(body: bytes) -> Any:
    """Raises ValueError for what is no JSON, or none that anybody should read."""
    decoded = decode(body)
    if decoded.problem is not None:
        raise ValueError(decoded.problem)
    return decoded.value


def _id_in(headers: Mapping[str, str], payload: Any) -> str:
    """The id of an accepted order, from its body or else its ``Location``. Raises Wrong."""
    found = payload.get("id")
    if found is None:
        found = headers.get("location", "").rstrip("/").rpartition("/orders/")[2]
    if not isinstance(found, str | int) or isinstance(found, bool) or not 0 < len(str(found)) <= _ID_LIMIT:
        raise Wrong("malformed")
    return str(found)


def _kind_of(status: int, headers: Mapping[str, str]) -> str:
    return "shed" if status in _SHED and "retry-after" in headers else f"status-{status}"


def _verify_total(planned: PlannedOrder, payload: Any) -> None:
    total = payload["total"]
    if _number(total["amount"]) != Decimal(planned.total) or total["currency"] != planned.currency:
        raise Wrong("wrong-total")


def _number(value: object) -> Decimal:
    """A decimal string or a JSON number. Raises ValueError for anything else, and for what is not finite."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("not a number")
    if isinstance(value, str) and len(value) > _NUMBER_CHARACTERS:
        raise ValueError("too long for a number")
    number = Decimal(str(value))
    if not number.is_finite():
        raise ValueError("not a finite number")
    return number
