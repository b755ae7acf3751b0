"""What is shown, and when: orders and events, pages of the list, windows of sale, freshness; all of it far from UTC."""

from __future__ import annotations

import uuid
from decimal import Decimal

from pydantic import JsonValue

from devstack.artifacts import Artifact, Exchange
from grader.answers import PLACED, listed_seats, order_id_of, seats_available_of, sold_tickets
from grader.checks.limits import MARGIN
from grader.checks.purchases import Purchase, purchases
from grader.checks.reading import field
from grader.checks.representations import event_faults, order_faults
from grader.checks.test_async_fundamentals import signature
from grader.checks.values import lines_of, member, members, total
from grader.judge import Judge, check

ORDERS, DEFAULT_PAGE = 3, 20
EVENT_STALE_S, LIST_STALE_S, SALES_STALE_S = 2 * MARGIN, 5 * MARGIN, 60 * MARGIN
BEGINS_SOON_S = 1.0
"""An event that begins within so long of the last page may be on it or not."""

PASSED_S = LIST_STALE_S + 1
"""A list may be as old as this, and show an event that has begun meanwhile."""

SHOWN = "contract: section 2, Event and Order"


@check(
    id="order-contract",
    category="system-design",
    level="junior",
    title="Orders and tickets are what the contract says, and there once they are answered",
    failure_title="Orders or tickets are not as agreed, or not there yet when they are answered",
    why="A shop reads the order in the instant in which it was told of it. An answer that goes out before its transaction is "
    "committed shows the buyer an error page, and where the commit then fails, a ticket that does not exist.",
    remediation="Commit inside the endpoint or the service, before the answer is made; a `yield` dependency ends after the answer "
    '(unless it says `scope="function"`). Give times an offset, and amounts as decimals with their currency.',
    question="In which order do these happen in your service: the endpoint returns, the session commits, the answer is sent?",
)
def test_order_contract(catalogue: Artifact, judge: Judge) -> None:
    _judge_orders(judge, catalogue)
    _judge_events(judge, catalogue)
    _judge_tickets(judge, catalogue)
    for exchange in catalogue.exchanges_of("no-order"):
        _judge_missing_order(judge, catalogue, exchange)
    judge.equal(
        "statuses of an unknown event and its report", [one.status for one in catalogue.exchanges_of("no-event")], [404, 404],
        source="contract: section 2",
    )  # fmt: skip
    replay = catalogue.exchange("replay")
    first = order_id_of(catalogue.exchange("orders"))
    same = _of_key(catalogue, replay)
    judge.true(
        "a replay is the same order", replay.status in PLACED and order_id_of(replay) in same, replay.describe(),
        source="contract: 200 or 201 and the same order",
    )  # fmt: skip
    judge.evidence(*([] if first else catalogue.exchanges_of("orders")[:1]))


def _of_key(artifact: Artifact, replay: Exchange) -> set[str | None]:
    key = replay.request_headers.get("Idempotency-Key")
    orders = artifact.exchanges_of("orders")
    return {order_id_of(order) for order in orders if order.request_headers.get("Idempotency-Key") == key} - {
        None
    }


def _judge_orders(judge: Judge, artifact: Artifact) -> None:
    answers, readings = artifact.exchanges_of("orders"), artifact.exchanges_of("orders-read")
    judge.equal(
        "orders accepted",
        sum(answer.status in PLACED for answer in answers),
        ORDERS,
        source="contract: section 3",
    )
    confirmed = {order_id_of(answer) for answer in answers if answer.status == 201}
    at_once = artifact.exchanges_of("orders-at-once")
    late = [page for page in at_once if not _is_there(page, confirmed)]
    judge.equal(
        "orders that could be read as they had just been answered", len(at_once) - len(late), ORDERS,
        source="contract: success is answered only after its effect is committed",
    )  # fmt: skip
    orders = purchases(answers, readings)
    judge.equal("orders confirmed", sum(order.status == "confirmed" for order in orders), ORDERS)
    faults = [fault for order in orders for fault in _faults_of_order(artifact, order)]
    judge.equal("what is wrong about their fields", len(faults), 0, source=SHOWN)
    if faults:
        judge.evidence("\n".join(faults), name="fields")
    accepted = [answer for answer in (*answers, *artifact.exchanges.get("open", ())) if answer.status == 202]
    nowhere = [answer for answer in accepted if "/orders/" not in answer.headers.get("location", "")]
    judge.equal("answers 202 without a Location", len(nowhere), 0, source="contract: 202 + Location")
    judge.evidence(*late[:2], *nowhere[:1])


def _is_there(page: Exchange, confirmed: set[str | None]) -> bool:
    """Whether an order reads as it was answered: one that was answered 201 is confirmed."""
    told_confirmed = page.path.rpartition("/")[2] in confirmed
    return page.status == 200 and (field(page, "status") == "confirmed" or not told_confirmed)


def _faults_of_order(artifact: Artifact, order: Purchase) -> list[str]:
    attempt = order.attempts[0]
    truth = artifact.fact("events")
    lines = lines_of(attempt.request_json)
    prices = [
        (Decimal(str(member(member(truth, str(event)), "price"))), quantity) for event, quantity in lines
    ]
    clock_s = artifact.number("clock-s")
    charge_ids = {charge.charge_id for charge in order.charges_in(artifact.ledger())}
    shown = [reading.payload for reading in (order.reading,) if reading is not None]
    shown += [answer.payload for answer in order.attempts if answer.status in (200, 201)]
    return [
        fault
        for payload in shown
        for fault in order_faults(
            payload, attempt.request_json, total=total(prices), charge_ids=charge_ids,
            placed_s=(clock_s + attempt.started_s, clock_s + attempt.ended_s),
        )
    ]  # fmt: skip


def _judge_events(judge: Judge, artifact: Artifact) -> None:
    truth = artifact.fact("events")
    event = artifact.exchange("event")
    listed = members(field(artifact.exchange("default-page"), "items"))
    faults = event_faults(event.payload, member(truth, event.path.rpartition("/")[2]))
    for shown in listed:
        faults += event_faults(shown, member(truth, str(member(shown, "id"))))
    judge.equal("what is wrong about the fields of events", len(faults), 0, source=SHOWN)
    if faults:
        judge.evidence("\n".join(faults[:20]), event, name="events")


def _judge_tickets(judge: Judge, artifact: Artifact) -> None:
    found = artifact.exchanges.get("ticket", ())
    if not judge.true("there is an order to print a ticket of", bool(found), source="contract: section 3"):
        return
    ticket = found[0]
    order_id = ticket.path.split("/")[2]
    secret = str(artifact.fact("ticket-secret"))
    text = f"<desc>boxoffice:{order_id}:{signature(order_id, secret)}</desc>"
    kind = ticket.headers.get("content-type", "").partition(";")[0].strip()
    judge.true(
        "a ticket is an SVG with its payload", ticket.status == 200 and kind == "image/svg+xml" and text in ticket.body,
        f"{ticket.describe()}, {kind or 'no content type'}", source="contract: section 2, Ticket",
    )  # fmt: skip
    for refused in artifact.exchanges.get("open-ticket", ()):
        judge.equal(
            "status of the ticket of an order that is not confirmed",
            refused.status,
            409,
            source="contract: section 2",
        )


def _judge_missing_order(judge: Judge, artifact: Artifact, exchange: Exchange) -> None:
    """An id that looks like a known one's is not found; what cannot be one may be called invalid, too."""
    order_id = exchange.path.split("/")[2]
    alike = _is_uuid(order_id) and _is_uuid(order_id_of(artifact.exchange("orders")) or "")
    what = "an unknown order" if _is_uuid(order_id) else "a malformed id"
    ticket = "the ticket of " if exchange.path.endswith("/ticket") else ""
    judge.true(
        f"{ticket}{what} is not found", exchange.status in ((404,) if alike else (404, 422)), exchange.describe(),
        source="contract: 404 (a malformed id: 422 too)",
    )  # fmt: skip


def _is_uuid(text: str) -> bool:
    try:
        return bool(uuid.UUID(text))
    except ValueError:
        return False


@check(
    id="sales-window",
    category="system-design",
    level="junior",
    title="Sales open, close and are counted at the right time, wherever the machine stands",
    failure_title="The machine's time zone moves the hours of sale",
    why="A naive time means the zone of whoever reads it. On a laptop in UTC nobody notices; on a machine elsewhere a sale opens "
    "half a day early, or the evening's sales are on the next day's report.",
    remediation="Aware datetimes only (`datetime.now(UTC)`, timestamptz), or let the database compare with its own `now()`; take the "
    "day with `AT TIME ZONE 'UTC'`.",
    question="What is the difference between `datetime.now()`, `datetime.utcnow()` and `datetime.now(UTC)`, and which compare?",
)
def test_sales_window(catalogue: Artifact, judge: Judge) -> None:
    within, outside = catalogue.exchanges_of("on-sale"), catalogue.exchanges_of("not-on-sale")
    refused = [order for order in within if order.status not in PLACED]
    sold = [order for order in outside if order.status != 409]
    source = f"contract: outside the sales window 409, in any TZ; here {catalogue.fact('zone')}"
    judge.equal("orders refused within the hours of sale", len(refused), 0, source=source)
    judge.equal("orders not refused (409) outside them", len(sold), 0, source=source)
    days = catalogue.fact("utc-days")
    rows = members(field(catalogue.exchange("sales"), "items"))
    reported = [member(row, "day") for row in rows]
    judge.true(
        "sales of now are reported under the UTC day", bool(rows) and all(day in members(days) for day in reported),
        f"{', '.join(map(str, reported[:3])) or 'no day'}; it is {' or '.join(map(str, members(days)))}",
        source="contract: `day` is the UTC date of `created_at`",
    )  # fmt: skip
    judge.evidence(*refused[:2], *sold[:2])


@check(
    id="answer-freshness",
    category="performance",
    level="mid",
    title="What was sold is shown in time",
    failure_title="Seats that are sold are still offered",
    why="A cache that outlives the seats sends people to a checkout that turns them away: work for nothing in the busiest minute, "
    "and the angriest kind of buyer.",
    remediation="Do not cache the counts, or for less than the promised age (2 s on an event, 5 s on a list, 60 s for a report), or "
    "drop what is cached when an order settles.",
    question="Which of your answers may be how old, who decides that, and what happens in the second after the last seat is sold?",
)
def test_answer_freshness(catalogue: Artifact, judge: Judge) -> None:
    sold = catalogue.fact("sold")
    for name, what in (("some", "seats sold"), ("all", "the last seats sold")):
        answer = catalogue.exchange(f"sold-{name}")
        if not judge.true(f"{what}: the order is accepted", answer.status in PLACED, answer.describe()):
            continue
        left, event_id = member(member(sold, name), "left"), member(member(sold, name), "id")
        page, listing = catalogue.exchange(f"sold-{name}-page"), catalogue.exchange(f"sold-{name}-list")
        listed = listed_seats(listing, event_id) if isinstance(event_id, int) else None
        _judge_age(
            judge,
            f"{what}: age of the event's page",
            page,
            seats_available_of(page) == left,
            answer.ended_s,
            EVENT_STALE_S,
        )
        _judge_age(judge, f"{what}: age of the list", listing, listed == left, answer.ended_s, LIST_STALE_S)
    report = catalogue.exchange("sales")
    right = sold_tickets(report) == member(member(sold, "some"), "bought")
    _judge_age(
        judge, "age of the sales report", report, right, catalogue.number("confirmed-s"), SALES_STALE_S
    )


def _judge_age(judge: Judge, name: str, last: Exchange, right: bool, since_s: float, limit_s: float) -> None:
    """``last`` is the first right reading, or one from beyond the limit."""
    judge.true(
        f"{name} is at most {limit_s:g} s", right and last.started_s - since_s <= limit_s,
        f"{'right' if right else 'still wrong'} after {max(0.0, last.started_s - since_s):.1f} s ({last.describe()})",
        source="contract: ≤ 2 s on an event, ≤ 5 s on the list, ≤ 60 s for sales, + 20 %",
    )  # fmt: skip
    if not right:
        judge.evidence(last)


@check(
    id="list-pages",
    category="performance",
    level="mid",
    title="Pages of the list neither repeat nor skip",
    failure_title="Pages of the list repeat, skip or are out of order",
    why="An offset counts rows that move: while an event passes, everything behind it slides forward and one is skipped at each "
    "border of a page. It also reads and throws away all rows before the page.",
    remediation="A keyset: `WHERE (starts_at, id) > (:starts_at, :id) ORDER BY starts_at, id LIMIT :n` with an index on both, and a "
    "cursor that carries both.",
    question="Why does the cursor need the id as well, and what would make you accept an offset?",
)
def test_list_pages(catalogue: Artifact, judge: Judge) -> None:
    default = catalogue.exchange("default-page")
    judge.equal(
        "events on a page without a limit",
        len(members(field(default, "items"))),
        DEFAULT_PAGE,
        source="contract: default 20",
    )
    cities = catalogue.fact("cities")
    for name, what in (
        ("whole", "the whole list"),
        ("tied", "events at one instant"),
        ("passing", "a list whose events pass"),
    ):
        _judge_walk(judge, catalogue, name, what, member(cities, name))
    other = catalogue.exchanges_of("other-city")
    wrong = [page for page in other if page.status != 200 or field(page, "items") != []]
    judge.equal(
        "cities that are not there and have events",
        len(wrong),
        0,
        source="contract: city is compared exactly",
    )
    judge.evidence(*wrong[:2])


def _judge_walk(judge: Judge, artifact: Artifact, name: str, what: str, city: JsonValue) -> None:
    pages = artifact.exchanges_of(f"pages-{name}")
    shown = [str(member(event, "id")) for page in pages for event in members(field(page, "items"))]
    begins = _beginnings(artifact, city)
    clock_s = artifact.number("clock-s")
    first_s, last_s = pages[0].started_s + clock_s, pages[-1].ended_s + clock_s
    expected = {number for number, at_s in begins.items() if at_s > last_s + BEGINS_SOON_S}
    allowed = {number for number, at_s in begins.items() if at_s > first_s - PASSED_S}
    source = "contract: upcoming events, soonest first; pages neither repeat nor skip an event"
    judge.equal(f"{what}: events skipped", len(expected - set(shown)), 0, source=source)
    judge.equal(f"{what}: events repeated", len(shown) - len(set(shown)), 0, source=source)
    judge.equal(f"{what}: events that do not belong there", len(set(shown) - allowed), 0, source=source)
    order = [begins[number] for number in shown if number in begins]
    judge.true(f"{what}: soonest first", order == sorted(order), source=source)
    judge.true(
        f"{what}: the last page says so", pages[-1].status == 200 and field(pages[-1], "next_cursor") is None,
        f"{len(pages)} pages; {pages[-1].describe()}", source="contract: next_cursor is null on the last page",
    )  # fmt: skip


def _beginnings(artifact: Artifact, city: JsonValue) -> dict[str, float]:
    """When each upcoming event (of ``city``, if any) begins, seconds since the epoch."""
    events = artifact.fact("events")
    found: dict[str, float] = {}
    for number, event in events.items() if isinstance(events, dict) else ():
        at_s = member(event, "starts_at")
        if isinstance(at_s, int | float) and city in (None, member(member(event, "venue"), "city")):
            found[number] = float(at_s)
    return found
