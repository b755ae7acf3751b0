"""A quiet day: every endpoint, the validation of orders, request ids, mails, the waitlist and the metrics page."""

from __future__ import annotations

import asyncio
import string
from dataclasses import dataclass

from pydantic import JsonValue

from devstack.artifacts import Exchange
from grader.answers import PLACED, seats_available_of
from grader.scenarios.stage import Scenario, Stage
from grader.scenarios.waitlist import drive_waitlist

MAIL_WITHIN_S = 18.0
"""Contract: 15 s in normal operation, + 20 %."""

CONFIRMED_ORDERS = 10
DISTINCT_PATHS = 300
"""Of each kind: event ids and paths that do not exist. A raw-path label makes at least twice as many series."""

LONGEST_KEY = "key of 255 characters: " + "".join(chr(33 + number % 94) for number in range(232))
"""Contract: 1–255 printable ASCII characters, of which these are all."""

SAME_EVENT_TWICE = (1, 2)
SHOWN_WITHIN_S = 2.5
"""Contract: availability of an event is at most 2 s old."""

REQUEST_IDS = 20
REQUEST_IDS_AT_ONCE = 8
"""Orders, and as many reads: enough that a request is in flight while the next one's id is set."""


RATED = ("SEK", "CZK")
"""Currencies that nothing else in the scenario asks for."""


@dataclass(frozen=True)
class Case:
    """One invalid order: what is wrong, the body, and the idempotency key (``None``: a fresh one, "": none)."""

    name: str
    body: JsonValue
    key: str | None = None


async def drive(stage: Stage) -> None:
    """Walk the contract with one client, one request at a time."""
    await stage.start()
    live = stage.world.live
    event = live.open_events(minimum_seats=300)[0]
    await stage.get("list", "/events?limit=5")
    await stage.get("detail", f"/events/{event.id}")
    await stage.get("unknown-event", "/events/999999999")
    await _place_orders(stage)
    await _send_invalid_orders(stage, event.id)
    await _order_the_same_event_twice(stage)
    await _send_request_ids(stage, event.id)
    await drive_waitlist(stage)
    await _wait_for_mails(stage)
    await _spread_labels(stage)
    await stage.ledger()


async def _place_orders(stage: Stage) -> None:
    events = stage.world.live.open_events(minimum_seats=300)
    for number in range(CONFIRMED_ORDERS):
        event = events[number % len(events)]
        # The last order is the first buyer's again: a mail belongs to an order, not to a buyer.
        email = stage.world.live.buyer(800) if number in (0, CONFIRMED_ORDERS - 1) else None
        answer = await stage.order("orders", [(event.id, 1 + number % 3)], email=email)
        if answer.error == "timeout" and number >= 1:
            break
    stage.fact("prices", {str(event.id): str(event.price) for event in events})
    await stage.settle("orders-read", stage.record.exchanges["orders"], within_s=15)
    await stage.order(
        "declined", [(events[0].id, 1)], token=f"tok_decline_{stage.random.getrandbits(32):08x}"
    )
    await stage.order(
        "denied", [(events[0].id, 1)], email=f"deny.{stage.random.getrandbits(32):08x}@example.com"
    )
    await stage.order("unknown", [(999_999_999, 1)])
    refused = [*stage.record.exchanges["declined"], *stage.record.exchanges["denied"]]
    await stage.settle("refused-read", [answer for answer in refused if answer.status == 202], within_s=15)


def invalid_orders(event_id: int, email: str, token: str) -> list[Case]:
    """Orders that the contract refuses with 422 (or 400); none may reach payments."""

    def body(**changes: JsonValue) -> dict[str, JsonValue]:
        whole: dict[str, JsonValue] = {
            "buyer_email": email,
            "card_token": token,
            "items": [{"event_id": event_id, "quantity": 1}],
        }
        return {**whole, **changes}

    def quantity(value: JsonValue) -> dict[str, JsonValue]:
        return body(items=[{"event_id": event_id, "quantity": value}])

    five_lines: JsonValue = [{"event_id": event_id + number, "quantity": 1} for number in range(5)]
    without_email = {name: value for name, value in body().items() if name != "buyer_email"}
    return [
        Case("quantity 0", quantity(0)),
        Case("quantity -1", quantity(-1)),
        Case("quantity 7", quantity(7)),
        Case("quantity 1000000000", quantity(1_000_000_000)),
        Case("quantity 1.5", quantity(1.5)),
        Case("quantity as a word", quantity("many")),
        Case("no lines", body(items=[])),
        Case("five lines", body(items=five_lines)),
        Case("line without an event", body(items=[{"quantity": 1}])),
        Case("no e-mail", without_email),
        Case("e-mail without @", body(buyer_email="nobody")),
        Case("e-mail without a dot in its domain", body(buyer_email="somebody@example")),
        Case("NUL in the e-mail", body(buyer_email="a\x00b@example.com")),
        Case("a list instead of an object", []),
        Case("no Idempotency-Key", body(), key=""),
        Case("a key of 256 characters", body(), key=LONGEST_KEY + "x"),
        Case("a key beyond ASCII", body(), key="bestellung-für-zwei"),
        Case("a key with a tab", body(), key="order\tfor two"),
    ]


async def _send_invalid_orders(stage: Stage, event_id: int) -> None:
    token = f"tok_invalid_{stage.random.getrandbits(32):08x}"
    stage.fact("invalid-token", token)
    for case in invalid_orders(event_id, stage.world.live.buyer(900), token):
        key = stage.key() if case.key is None else case.key
        headers = {"Idempotency-Key": key} if key else {}
        answer = await stage.send(
            f"invalid: {case.name}", "POST", "/orders", json_body=case.body, headers=headers
        )
        stage.record.exchanges.setdefault("invalid", []).append(answer)
        if answer.error == "timeout":
            break
    await stage.send(
        "not-json", "POST", "/orders", content=b'{"buyer_email": ',
        headers={"Idempotency-Key": stage.key(), "Content-Type": "application/json"},
    )  # fmt: skip
    await stage.order("longest-key", [(event_id, 1)], key=LONGEST_KEY)
    for limit in ("0", "-1", "101", "1000000", "ten"):
        answer = await stage.get("limits", f"/events?limit={limit}")
        if answer.error == "timeout":
            break


async def _order_the_same_event_twice(stage: Stage) -> None:
    """Two lines of one event; its availability before, and after when it shows both or had the time to."""
    event = stage.world.live.open_events(minimum_seats=300)[CONFIRMED_ORDERS]
    path = f"/events/{event.id}"
    before = await stage.get("twice-before", path)
    answer = await stage.order("twice", [(event.id, quantity) for quantity in SAME_EVENT_TWICE])
    seats = seats_available_of(before) or 0
    until_s = stage.now() + SHOWN_WITHIN_S
    while True:
        after = await stage.get("_twice", path)
        shown = seats_available_of(after) == seats - sum(SAME_EVENT_TWICE)
        if answer.status not in PLACED or shown or stage.now() > until_s:
            break
        await asyncio.sleep(0.2)
    stage.record.exchanges.pop("_twice", None)
    stage.record.exchanges["twice-after"] = [after.model_copy(update={"label": "twice-after"})]


async def _send_request_ids(stage: Stage, event_id: int) -> None:
    """Ids one at a time, answered 200, 201, 404 by endpoint and framework, and 422; then many at once."""
    mark = stage.service.log_mark()
    paths = (f"/events/{event_id}", "/events/999999999", "/no-such-page", "/events/not-a-number")
    for number in range(REQUEST_IDS):
        headers = {"X-Request-ID": _request_id(stage)}
        if number % 5 == 4:
            answer = await stage.order("request-ids", [(event_id, 1)], headers=headers)
        else:
            answer = await stage.get("request-ids", paths[number % 5], headers=headers)
        if answer.error == "timeout":
            break
    await _send_request_ids_at_once(stage, event_id)
    await _send_request_ids_for_rates(stage, event_id)
    await stage.get(
        "request-id-malformed", f"/events/{event_id}", headers={"X-Request-ID": "not ok; a b" + "x" * 200}
    )
    await stage.get("request-id-absent", f"/events/{event_id}")
    await asyncio.sleep(0.5)  # the log travels through a pipe
    stage.text("request-id-log", stage.service.log_text(since=mark))


async def _send_request_ids_at_once(stage: Stage, event_id: int) -> None:
    """Requests that overlap: orders, and reads of orders that do not exist, each with an order id of its own."""
    name = "request-ids-at-once"
    orders = [
        stage.order(name, [(event_id, 1)], headers={"X-Request-ID": _request_id(stage)}, fresh=True)
        for _ in range(REQUEST_IDS_AT_ONCE)
    ]
    reads = [
        stage.get(name, f"/orders/{stage.key()}", headers={"X-Request-ID": _request_id(stage)}, fresh=True)
        for _ in range(REQUEST_IDS_AT_ONCE)
    ]
    await asyncio.gather(*orders, *reads)


async def _send_request_ids_for_rates(stage: Stage, event_id: int) -> None:
    """An order and a page, each in a currency for which no rate is known yet."""
    for number, currency in enumerate(RATED):
        headers = {"X-Request-ID": _request_id(stage)}
        if number % 2:
            await stage.get("request-ids-rated", f"/events/{event_id}?currency={currency}", headers=headers)
        else:
            await stage.order("request-ids-rated", [(event_id, 1)], currency=currency, headers=headers)


def _request_id(stage: Stage) -> str:
    return "".join(stage.random.choices(string.ascii_letters + string.digits, k=24))


async def _wait_for_mails(stage: Stage) -> None:
    """Wait until every confirmed order has its mail, at most as long as the contract allows."""
    expected = _confirmed_ids(stage.record.exchanges.get("orders-read", []))
    deadline = stage.now() + MAIL_WITHIN_S
    while stage.now() < deadline:
        mailed = {message.order_id for message in (await stage.world.faults.ledger()).messages}
        if expected <= mailed:
            return
        await asyncio.sleep(0.5)


def _confirmed_ids(readings: list[Exchange]) -> set[str]:
    payloads = (reading.payload for reading in readings)
    return {
        str(found["id"])
        for found in payloads
        if isinstance(found, dict) and found.get("status") == "confirmed"
    }


async def _spread_labels(stage: Stage) -> None:
    """Read the metrics page before and after many distinct ids, paths, methods and hosts."""
    known = [event.id for event in stage.world.live.open_events(minimum_seats=1)]
    await stage.get("_warm", f"/events/{known[0]}")
    await stage.get("_warm", "/no-such-page")
    before = await stage.get("metrics-before", "/metrics")
    stage.text("metrics-before", before.body)
    marker = f"{stage.random.getrandbits(40):010x}"
    stage.fact("label-marker", marker)
    for number in range(DISTINCT_PATHS):
        event_id = known[number % len(known)] if number % 3 == 0 else 500_000_000 + number
        answer = await stage.get("_spread", f"/events/{event_id}")
        await stage.get("_spread", f"/{marker}/{number}")
        if answer.error == "timeout":
            break
    for number in range(10):
        headers = {"Host": f"{marker}-{number}.example", "User-Agent": f"{marker}-{number}"}
        await stage.send("_spread", f"X{marker.upper()}{number}", "/events", headers=headers)
    await asyncio.sleep(0.2)
    after = await stage.get("metrics-after", "/metrics")
    stage.text("metrics-after", after.body)
    stage.record.exchanges.pop("_spread", None)
    stage.record.exchanges.pop("_warm", None)


SCENARIO = Scenario(name="contract", drive=drive, budget_s=85)
