"""What each request of the load looks like: method, path, headers of its own, body. Pure, and the same at leisure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from pydantic import JsonValue

from grader.client_shape import JSON_HEADERS
from grader.load.plan import PAGE_SIZE, Arrival, PlannedOrder

REQUEST_ID = "X-Request-ID"


@dataclass(frozen=True)
class Page:
    """A page that has another one behind it: ``seen`` events of the list (of ``city``) came so far, ``limit`` each."""

    city: str | None
    cursor: str
    seen: int
    limit: int = PAGE_SIZE


@dataclass
class KnownOrder:
    """An order that the service accepted, and whether it ever called it confirmed."""

    id: str
    planned: PlannedOrder
    confirmed: bool


@dataclass(frozen=True)
class Call:
    """A request as it goes out, and what its answer is about. ``headers``: in the order in which they are sent."""

    method: str
    path: str
    headers: Mapping[str, str]
    json_body: JsonValue = None
    page: Page | None = None
    order: KnownOrder | None = None
    event_id: int = 0

    @property
    def body(self) -> bytes | None:
        """The body's bytes, ``None`` without one."""
        return None if self.json_body is None else json.dumps(self.json_body).encode()


def get(
    arrival: Arrival,
    path: str,
    *,
    page: Page | None = None,
    order: KnownOrder | None = None,
    event_id: int = 0,
) -> Call:
    """A request without a body."""
    return Call("GET", path, _own_headers(arrival), page=page, order=order, event_id=event_id)


def post(
    arrival: Arrival, path: str, body: JsonValue, *, key: str = "", order: KnownOrder | None = None
) -> Call:
    """A request with a JSON body, and an idempotency ``key`` unless that is empty."""
    headers = {"Idempotency-Key": key} if key else {}
    headers |= {**_own_headers(arrival), **JSON_HEADERS}
    return Call("POST", path, headers, json_body=body, order=order)


def list_of_events(arrival: Arrival, page: Page | None) -> Call:
    """The list, or what follows ``page``."""
    city, limit = (page.city, page.limit) if page else (arrival.city, arrival.limit)
    query = {"limit": str(limit)}
    if city is not None:
        query["city"] = city
    if page is not None:
        query["cursor"] = page.cursor
    return get(arrival, f"/events?{urlencode(query)}", page=page)


def order_path(order: KnownOrder) -> str:
    """Where an order is read; its id is the service's own invention."""
    return f"/orders/{quote(order.id, safe='')}"


def invalid_order(arrival: Arrival, planned: PlannedOrder) -> Call:
    """``planned`` with one thing wrong, chosen by the arrival's ``pick``. The contract answers 422 or 400."""
    spoil = _SPOILERS[int(arrival.pick * len(_SPOILERS))]
    body = planned.body()
    key = spoil(body, planned)
    return post(arrival, "/orders", body, key=key)


def unknown_thing(arrival: Arrival) -> Call:
    """An event, or an order, that nobody has made."""
    if arrival.pick < 0.5:
        return get(arrival, f"/events/{arrival.event_id}")
    digits = f"{arrival.number:08x}{int(arrival.pick * 2**48):012x}"
    return get(arrival, f"/orders/{digits[:8]}-0000-4000-8000-{digits[8:]}")


def _quantity(value: int) -> Callable[[dict[str, JsonValue], PlannedOrder], str]:
    def spoil(body: dict[str, JsonValue], planned: PlannedOrder) -> str:
        body["items"] = [{"event_id": planned.items[0][0], "quantity": value}]
        return planned.key

    return spoil


def _with(name: str, value: JsonValue) -> Callable[[dict[str, JsonValue], PlannedOrder], str]:
    def spoil(body: dict[str, JsonValue], planned: PlannedOrder) -> str:
        body[name] = value
        return planned.key

    return spoil


def _without_email(body: dict[str, JsonValue], planned: PlannedOrder) -> str:
    del body["buyer_email"]
    return planned.key


def _without_key(body: dict[str, JsonValue], planned: PlannedOrder) -> str:
    return ""


_SPOILERS: tuple[Callable[[dict[str, JsonValue], PlannedOrder], str], ...] = (
    _quantity(0),
    _quantity(7),
    _with("items", []),
    _with("buyer_email", "nobody"),
    _without_email,
    _without_key,
)
"""Each changes the body and returns the idempotency key to send with it."""

INVALID_ORDERS = len(_SPOILERS)


def _own_headers(arrival: Arrival) -> dict[str, str]:
    return {} if arrival.request_id is None else {REQUEST_ID: arrival.request_id}
