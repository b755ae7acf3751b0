"""What the contract says about single requests: validation, the waitlist, labels of metrics, request ids."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pydantic import JsonValue

from devstack.artifacts import Artifact, Exchange, Ledger
from grader.answers import PLACED, seats_available_of
from grader.checks.reading import field
from grader.judge import Judge, check

SERIES_GROWTH = 60
"""A histogram has about 14 series per label set: room for the new sets of a few templates, not for 600 paths."""

REFUSED = (400, 422)
INVALID_ORDERS, INVALID_ENTRIES = 19, 8
"""So many are sent; a service that stopped answering before the last has refused the fewer."""


@check(
    id="order-validation",
    category="system-design",
    level="junior",
    title="Invalid orders are refused before anything happens",
    failure_title="Invalid orders are accepted or crash the service",
    why="What is not refused at the door becomes a negative quantity in the books, a 500 in the logs, or a wrong charge.",
    remediation="Constrain the request model (`Field(ge=1, le=6)`, e-mail, list lengths), and let FastAPI answer 422.",
    question="Which rules belong in the request model, which in the database, and why do you want both?",
)
def test_order_validation(contract: Artifact, judge: Judge) -> None:
    invalid = (*contract.exchanges_of("invalid"), contract.exchange("not-json"))
    refused = [answer for answer in invalid if answer.status in REFUSED]
    wrong = [answer for answer in invalid if answer.status not in REFUSED]
    judge.graded(
        "share of invalid orders refused",
        len(refused) / INVALID_ORDERS,
        full=1.0,
        zero=0.6,
        source="contract: 422 (400 too)",
    )
    token = str(contract.fact("invalid-token"))
    charged = [call for call in contract.ledger().calls_to("payments", "charge") if token in str(call.body)]
    judge.equal("charges for invalid orders", len(charged), 0)
    limits = contract.exchanges_of("limits")
    judge.true(
        "list limits outside 1…100 are refused or clamped",
        all(answer.status in REFUSED or _clamped(answer) for answer in limits),
        "; ".join(
            answer.describe() for answer in limits if not (answer.status in REFUSED or _clamped(answer))
        ),
    )
    longest = contract.exchange("longest-key")
    judge.true(
        "a key of 255 printable characters is accepted", longest.status in PLACED, longest.describe(),
        source="contract: keys are 1–255 printable ASCII characters",
    )  # fmt: skip
    judge.equal("status for an unknown event", contract.exchange("unknown").status, 404)
    _judge_refusal(judge, contract, "declined", 402)
    _judge_refusal(judge, contract, "denied", 403)
    twice = contract.exchange("twice")
    fewer = _seats_taken(contract.exchange("twice-before"), contract.exchange("twice-after"))
    judge.true(
        "the same event twice is refused, or takes the seats of both lines",
        twice.status in REFUSED or (twice.status in PLACED and fewer == 3),
        f"{twice.describe()}; {fewer} seats fewer after 1 + 2",
        source="contract: the same event twice is merged or 422",
    )
    judge.evidence(*wrong[:8], *([] if longest.status in PLACED else [longest]))


def _judge_refusal(judge: Judge, contract: Artifact, name: str, status: int) -> None:
    """A refused order says so at once, or was accepted for later (202) and then shows that it failed."""
    answer = contract.exchange(name)
    later = [field(reading, "status") for reading in contract.exchanges_of("refused-read")]
    told_later = answer.status == 202 and any(found in ("declined", "failed") for found in later)
    judge.true(f"a {name} order is told so", answer.status == status or told_later, answer.describe())


def _seats_taken(before: Exchange, after: Exchange) -> int | None:
    there, left = seats_available_of(before), seats_available_of(after)
    return None if there is None or left is None else there - left


def _clamped(answer: Exchange) -> bool:
    items = field(answer, "items")
    return answer.status == 200 and isinstance(items, list) and len(items) <= 100


@check(
    id="waitlist-contract",
    category="system-design",
    level="junior",
    title="The waitlist does what the brief says",
    failure_title="The waitlist is missing or answers differently",
    why="It is the part of the exercise that is built, not repaired: an endpoint with validation and async database access.",
    remediation="Answer in the stated order: 422, 404, 200 for the existing entry, 409 while seats are left, 201.",
    question="Walk me through your waitlist endpoint: what is checked where, and what does the database guarantee?",
)
def test_waitlist_contract(contract: Artifact, judge: Judge) -> None:
    joined = contract.exchange("waitlist-join")
    again = contract.exchange("waitlist-again")
    second = contract.exchange("waitlist-second")
    read = contract.exchange("waitlist-read")
    judge.equal("status of joining", joined.status, 201)
    judge.equal("position of the first", field(joined, "position"), 1)
    judge.equal("quantity as sent", field(joined, "quantity"), 2)
    # Storing the address in small letters is a valid way to compare it without regard to case.
    sent = joined.request_json.get("email") if isinstance(joined.request_json, dict) else None
    judge.equal("e-mail as sent", str(field(joined, "email")).lower(), str(sent).lower())
    judge.equal("status of joining again, e-mail in capitals", again.status, 200)
    judge.equal("entry when joining again", _entry(again), _entry(joined))
    judge.equal("position of the second", field(second, "position"), 2)
    judge.equal("status of reading an entry", read.status, 200)
    judge.equal("entry as read", _entry(read), _entry(joined))
    elsewhere = contract.exchange("waitlist-read-elsewhere")
    judge.equal("status of reading an entry of another event", elsewhere.status, 404)
    judge.equal("status of an unknown entry", contract.exchange("waitlist-read-unknown").status, 404)
    judge.equal("status while seats are left", contract.exchange("waitlist-seats-left").status, 409)
    judge.equal("status for an unknown event", contract.exchange("waitlist-unknown-event").status, 404)
    held, back = contract.exchange("waitlist-while-held"), contract.exchange("waitlist-seat-is-back")
    judge.equal("status of joining while an order holds the last seat", held.status, 201)
    judge.equal("status of joining again when that seat is free", back.status, 200)
    judge.equal("entry when joining again then", _entry(back), _entry(held))
    judge.evidence(joined, again, second, read, elsewhere, held, back)


def _entry(answer: Exchange) -> tuple[object, ...]:
    return tuple(field(answer, name) for name in ("id", "event_id", "email", "quantity", "position"))


@check(
    id="waitlist-validation",
    category="system-design",
    level="junior",
    title="The waitlist refuses invalid entries",
    failure_title="The waitlist accepts invalid entries",
    why="An entry without a usable address or with an absurd quantity can never be served, and blocks those behind it.",
    remediation="A request model with an e-mail and a bounded quantity; validation comes before the look-up of the event.",
    question="Why does 422 come before 404 here, and how do you make sure that it does?",
)
def test_waitlist_validation(contract: Artifact, judge: Judge) -> None:
    invalid = contract.exchanges_of("waitlist-invalid")
    refused = [answer for answer in invalid if answer.status in REFUSED]
    judge.graded(
        "share of invalid entries refused",
        len(refused) / INVALID_ENTRIES,
        full=1.0,
        zero=0.5,
        source="contract: 422 first",
    )
    judge.evidence(*[answer for answer in invalid if answer.status not in REFUSED])


@check(
    id="metrics-cardinality",
    category="monitoring-reliability",
    level="mid",
    title="Metrics stay bounded whatever is requested",
    failure_title="Every path makes new metric series",
    why="A label with the raw path grows without end: the process and Prometheus run out of memory, on the busy day first.",
    remediation="Label by route template, put unmatched paths into one bucket, and record in `finally`.",
    question="Which labels would you put on a request counter, and how many series does that make?",
)
def test_metrics_cardinality(contract: Artifact, judge: Judge) -> None:
    page = contract.exchange("metrics-after")
    judge.equal("status of /metrics", page.status, 200)
    before, after = _series(contract.text("metrics-before")), _series(contract.text("metrics-after"))
    judge.at_least("series on the page", len(before), 5, source="a counter and a latency histogram by route")
    judge.at_most(
        "new series after 600 distinct paths", len(after - before), SERIES_GROWTH, source="contract: bounded"
    )
    marker = str(contract.fact("label-marker")).lower()
    marked = [series for series in after if marker in series.lower() or re.search(r"5000000\d\d", series)]
    judge.equal("series that carry a requested id", len(marked), 0)
    judge.true(
        "requests are counted by route",
        any("/events/{" in series for series in after) or any("event" in series for series in after),
    )
    order_ids = {str(field(order, "id")) for order in contract.exchanges_of("orders-read")}
    by_order = [series for series in after if any(order_id in series for order_id in order_ids)]
    judge.equal(
        "series that carry an order's id", len(by_order), 0, source="contract: a bounded number of series"
    )
    if marked or by_order:
        judge.evidence("\n".join(sorted([*marked, *by_order])[:5]), name="metrics")


def _series(page: str) -> set[str]:
    """Names with labels of all samples on a Prometheus text page."""
    lines = (line.strip() for line in page.splitlines())
    return {line.rpartition(" ")[0] for line in lines if line and not line.startswith("#")}


@check(
    id="request-id",
    category="monitoring-reliability",
    level="junior",
    title="A request can be followed by its id",
    failure_title="Requests cannot be followed through logs and upstreams",
    why="Without one id on the answer, the log lines and the upstream calls, an incident is read line by line.",
    remediation="A pure-ASGI middleware takes over or makes `X-Request-ID`, binds it to the log context, echoes it, and the "
    "upstream clients send it on.",
    question="How does the id get from the middleware to a log line three calls deeper, without passing it around?",
)
def test_request_id(contract: Artifact, judge: Judge) -> None:
    asked = contract.exchanges_of("request-ids")
    at_once = contract.exchanges_of("request-ids-at-once")
    log = contract.text("request-id-log")
    for what, exchanges, count in (("one at a time", asked, 20), ("16 at once", at_once, 16)):
        judge.equal(
            f"ids echoed, {what}",
            sum(exchange.headers.get("x-request-id") == _id_of(exchange) for exchange in exchanges),
            count,
            source="contract: taken over and echoed",
        )
        judge.equal(
            f"ids on a log line, {what}",
            sum(_id_of(exchange) in log for exchange in exchanges),
            count,
            source="contract: on at least one line",
        )
    orders = [_id_of(exchange) for exchange in asked if exchange.method == "POST"]
    passed_on = {call.headers.get("x-request-id") for call in contract.ledger().calls_to("risk")}
    judge.equal("ids of orders seen by risk", sum(sent in passed_on for sent in orders), len(orders))
    _judge_calls(judge, contract)
    mixed_up = _lines_of_another(at_once, log) + _calls_of_another(at_once, contract.ledger())
    judge.equal(
        "log lines and calls with another's id", len(mixed_up), 0, source="contract: none of another's"
    )
    if mixed_up:
        judge.evidence("\n".join(mixed_up[:5]), name="another's id")
    malformed = contract.exchange("request-id-malformed")
    given = malformed.headers.get("x-request-id", "")
    judge.true("a malformed id is replaced", bool(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", given)), given)
    made = contract.exchange("request-id-absent").headers.get("x-request-id", "")
    judge.true("an id is made when none is sent", bool(re.fullmatch(r"[A-Za-z0-9._-]{1,128}", made)), made)


def _judge_calls(judge: Judge, contract: Artifact) -> None:
    """Charges and rates: a call that was made after the answer, by a queue or a refresher, needs no id."""
    ledger = contract.ledger()
    asked = (*contract.exchanges_of("request-ids"), *contract.exchanges_of("request-ids-rated"))
    charges = [
        (exchange, call)
        for exchange in asked
        if (card := _card_of(exchange.request_json)) is not None
        for call in ledger.calls_to("payments", "charge")
        if _card_of(call.body) == card
    ]
    rates = [
        (exchange, call)
        for exchange in contract.exchanges_of("request-ids-rated")
        for call in ledger.calls_to("rates")
        if _currency_of(exchange) in call.path.split("/")
    ]
    for what, pairs in (("charges", charges), ("calls for rates", rates)):
        bare = [
            call
            for exchange, call in pairs
            if exchange.started_s <= call.started_s <= exchange.ended_s
            and call.headers.get("x-request-id") != _id_of(exchange)
        ]
        judge.equal(
            f"{what} made while answering, without the id", len(bare), 0,
            source="contract: sent with the calls made while answering",
        )  # fmt: skip
        if bare:
            judge.evidence(
                "\n".join(f"{call.method} {call.path} {call.headers}" for call in bare[:3]), name=what
            )


def _card_of(body: JsonValue) -> JsonValue:
    return body.get("card_token") if isinstance(body, dict) else None


def _currency_of(exchange: Exchange) -> str:
    sent = exchange.request_json
    found = sent.get("currency") if isinstance(sent, dict) else exchange.path.rpartition("currency=")[2]
    return str(found)


def _id_of(exchange: Exchange) -> str:
    return exchange.request_headers["X-Request-ID"]


def _lines_of_another(exchanges: Sequence[Exchange], log: str) -> list[str]:
    """Log lines that name the path of one read and the id of another request."""
    lines = log.splitlines()
    ids = {_id_of(exchange) for exchange in exchanges}
    return [
        line
        for read in exchanges
        if read.method == "GET"
        for line in lines
        if read.path in line and any(other in line for other in ids - {_id_of(read)})
    ]


def _calls_of_another(exchanges: Sequence[Exchange], ledger: Ledger) -> list[str]:
    """Assessments of one order's buyer that carry the id of another request."""
    ids = {_id_of(exchange) for exchange in exchanges}
    own = {_email_of(order.request_json): _id_of(order) for order in exchanges if order.method == "POST"}
    return [
        f"assessment of {email} carries the id {sent}"
        for call in ledger.calls_to("risk")
        if (email := _email_of(call.body)) in own
        and (sent := call.headers.get("x-request-id", "")) in ids - {own[email]}
    ]


def _email_of(body: JsonValue) -> str:
    return str(body.get("buyer_email")) if isinstance(body, dict) else ""
