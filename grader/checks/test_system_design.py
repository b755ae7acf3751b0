"""System Design: what must stay true when requests meet, answers are lost and upstreams hang."""

from __future__ import annotations

from collections import Counter

from devstack.artifacts import Artifact, Exchange
from grader.answers import (
    FINAL_STATUSES,
    PLACED,
    UNAVAILABLE,
    order_id_of,
    order_status_of,
    seats_available_of,
)
from grader.checks.limits import MARGIN, ORDER_DEADLINE_S
from grader.checks.purchases import MONEY, judge_money, purchases, recorded
from grader.checks.reading import field, judge_serving_processes, slowest
from grader.judge import Judge, check

SETTLE_S = 15 * MARGIN
LOST_ANSWER_PHASES = ("answer-lost", "charge-refused", "answer-late")
"""Faults of the scenario in its order; it stops after one under which no order is answered."""

ONE_KEY = "contract: one key is one order and one charge, across processes and restarts"

_SALE = PLACED | UNAVAILABLE | {402, 403, 409, 425}
_DUPLICATE = PLACED | UNAVAILABLE | {409, 425}


@check(
    id="seats-oversold",
    category="system-design",
    level="mid",
    title="No seat is sold twice, by any number of processes",
    failure_title="Seats are sold more than once",
    why="When a popular show goes on sale, hundreds of orders look at the same last seats in the same instant. A service that "
    "looks first and books later sells them all several times, and people stand in front of a full hall.",
    remediation="Let the database decide: one conditional UPDATE (… WHERE seats_taken + :n <= seats_total), a row lock on the "
    "event, or a constraint; locks inside one process do not hold for two.",
    question="Why does an asyncio.Lock around the check pass all tests on a laptop and fail in production?",
)
def test_seats_oversold(two_processes: Artifact, judge: Judge) -> None:
    judge_serving_processes(judge, two_processes)
    sent = [*two_processes.exchanges_of("storm"), *two_processes.exchanges_of("second-wave")]
    sent += [found for found in recorded(two_processes, "settled") if found.method == "POST"]
    readings = [found for found in recorded(two_processes, "settled") if found.method == "GET"]
    orders = purchases(sent, readings)
    for event_id, seats_total in _events(two_processes):
        sold = sum(order.quantity_of(event_id) for order in orders if order.status == "confirmed")
        judge.equal(
            f"confirmed seats of event {event_id}", sold, seats_total,
            source="contract: confirmed seats ≤ seats_total; more than twice as many were asked for",
        )  # fmt: skip
    pages = two_processes.exchanges_of("availability")
    judge.equal(
        "events that show as sold out", sum(seats_available_of(page) == 0 for page in pages), len(pages),
        source="contract: availability ≤ 2 s stale",
    )  # fmt: skip
    judge_money(judge, orders, two_processes.ledger("sold-out"), strays=False)
    _judge_answers(judge, sent, _SALE)
    judge.evidence(*pages)


@check(
    id="idempotent-replay",
    category="system-design",
    level="mid",
    title="A repeated request is the same order",
    failure_title="A repeated request is a second order",
    why="Phones lose answers and people press twice. Each repetition that is taken for a new order charges the card again.",
    remediation="Store the key with the order in PostgreSQL under a unique constraint, together with a digest of the parsed body; "
    "answer a known key from what is stored. Memory of the process neither survives a restart nor is shared.",
    question="What exactly do you store under an idempotency key, and when do you write it?",
)
def test_idempotent_replay(two_processes: Artifact, judge: Judge) -> None:
    replays = two_processes.exchanges_of("replays")
    after = two_processes.exchange("replay-after-restart")
    answers = [*replays, after]
    judge.equal(
        "of four equal requests, answered with an order", sum(answer.status in PLACED for answer in answers), len(answers),
        source="contract: a replay of the same key and body is the same order",
    )  # fmt: skip
    judge.equal("orders they made", len({order_id_of(answer) for answer in answers}), 1, source=ONE_KEY)
    order = purchases([*replays, after], two_processes.exchanges_of("replays-settled"))[0]
    judge.equal("charges they made", len(order.charges_in(two_processes.ledger())), 1, source=ONE_KEY)
    judge.equal("status of the order", order.status, "confirmed", source=ONE_KEY)
    others = two_processes.exchanges_of("other-body")
    accepted = [other for other in others if other.status not in (409, 422)]
    judge.true(
        "the same key with another body is 409 or 422", not accepted, "; ".join(map(Exchange.describe, accepted)),
        source="contract: same key, other body; keys are global",
    )  # fmt: skip
    bought, again = two_processes.exchanges_of("last-seats")
    judge.true(
        "who bought the last seats and asks again gets the same order",
        bought.status not in PLACED or (again.status in PLACED and order_id_of(again) == order_id_of(bought)),
        again.describe(), source="contract: a replay of the same key and body is the same order",
    )  # fmt: skip
    for status in (404, 413, 422):
        _judge_key_of_a_refusal(judge, two_processes, status)
    judge.evidence(*answers, *others, bought, again)


def _judge_key_of_a_refusal(judge: Judge, artifact: Artifact, status: int) -> None:
    """Whether the order that was meant gets through; what was not refused this way is other checks' business."""
    refused, meant = artifact.exchange(f"refused-{status}"), artifact.exchange(f"meant-{status}")
    if not judge.true(
        f"a key that got {status} is free", refused.status not in (status, None) or meant.status in PLACED,
        f"{refused.status or refused.error}, then the right order: {meant.describe()}",
        source="contract: 404, 413 and 422 do not bind a key",
    ):  # fmt: skip
        judge.evidence(meant)


@check(
    id="idempotent-concurrency",
    category="system-design",
    level="senior",
    title="Equal requests in the same instant are one order",
    failure_title="Equal requests in the same instant become several orders",
    why="Retrying proxies and impatient clients send the second request while the first still waits for payments. Looking the key "
    "up before writing it lets both through.",
    remediation="Write the key first (INSERT … ON CONFLICT DO NOTHING), commit, then charge; whoever loses the race waits for the "
    "order or answers 409.",
    question="Two processes receive the same key at once. Walk through what each of them does, statement by statement.",
)
def test_idempotent_concurrency(two_processes: Artifact, judge: Judge) -> None:
    duplicates = two_processes.exchanges_of("duplicates")
    after = two_processes.exchanges_of("duplicates-after")
    judge_serving_processes(judge, two_processes)
    order = purchases([*duplicates, *after], two_processes.exchanges_of("duplicates-settled"))[0]
    told = {found for answer in (*duplicates, *after) if (found := order_id_of(answer))}
    judge.equal("orders made by 20 equal requests", len(told), 1, source=ONE_KEY)
    judge.equal(
        "charges they made", len(order.charges_in(two_processes.ledger("duplicates"))), 1, source=ONE_KEY
    )
    judge.true(
        "a replay returns the order", bool(after) and after[-1].status in PLACED, after[-1].describe() if after else "",
        source="contract: a replay of the same key and body is the same order",
    )  # fmt: skip
    judge.equal("status of the order", order.status, "confirmed", source=ONE_KEY)
    _judge_answers(judge, duplicates, _DUPLICATE)


@check(
    id="waitlist-concurrency",
    category="system-design",
    level="mid",
    title="Waitlist positions have neither gaps nor twins when many join at once",
    failure_title="Waitlist positions are wrong when many join at once",
    why="A position is a promise. Two people with the same number, or one person with two entries, is an argument at the counter.",
    remediation="Take the next position under a lock on the event's row (or from a counter in it) in the transaction that inserts "
    "the entry, with unique indexes on (event, lower(email)) and (event, position).",
    question="Why does `SELECT max(position) + 1` fail at READ COMMITTED, and what are two ways to make it right?",
)
def test_waitlist_concurrency(two_processes: Artifact, judge: Judge) -> None:
    joins = two_processes.exchanges_of("waitlist-joins")
    emails = two_processes.fact("waitlist-emails")
    expected = len(emails) if isinstance(emails, list) else 0
    joined: dict[str, set[str]] = {}
    for answer in joins:
        if answer.status in (200, 201) and isinstance(answer.request_json, dict):
            email = str(answer.request_json.get("email")).lower()
            joined.setdefault(email, set()).add(str(field(answer, "id")))
    judge.equal("people on the list", len(joined), expected, source="40 joined a sold-out event at once")
    judge.equal(
        "people with one entry", sum(len(entries) == 1 for entries in joined.values()), expected,
        source="contract: one entry per e-mail (case-insensitive) and event",
    )  # fmt: skip
    entries = two_processes.exchanges_of("waitlist-entries")
    positions = sorted(found for entry in entries if isinstance(found := field(entry, "position"), int))
    judge.true(
        "positions are 1, 2, 3 … without gaps or twins", positions == list(range(1, expected + 1)),
        f"{len(positions)} positions: {', '.join(map(str, positions))}", source="contract: waitlist",
    )  # fmt: skip
    judge.evidence(*[answer for answer in joins if answer.status not in (200, 201)][:3])


@check(
    id="charge-exactly-once",
    category="system-design",
    level="senior",
    title="A charge happens exactly once, whatever becomes of its answer",
    failure_title="Lost or late answers of payments lose or double money",
    why="A dropped connection does not say whether the card was charged. Charging again under a fresh key takes the money twice; "
    "giving up takes it for nothing.",
    remediation="Send the same Idempotency-Key (derived from the order) on every attempt, keep the order pending while the outcome "
    "is unknown, and let a reconciler look the charge up and confirm, refund or fail the order.",
    question="Payments closed the connection without an answer. What do you know, what do you tell the buyer, what happens next?",
)
def test_charge_exactly_once(lost_answers: Artifact, judge: Judge) -> None:
    captured = Counter(
        charge.card_token for charge in lost_answers.ledger().charges if charge.status == "captured"
    )
    judge.at_most("most unrefunded charges of one order", max(captured.values(), default=0), 1, source=MONEY)
    driven = int(lost_answers.number("phases-driven"))
    names = ("control", *LOST_ANSWER_PHASES[:driven])
    sent = [exchange for name in names for exchange in lost_answers.exchanges_of(name)]
    sent += lost_answers.exchanges_of("settled-replays")
    orders = purchases(sent, lost_answers.exchanges_of("settled"))
    control = [order for order in orders if order.key == _key(lost_answers.exchange("control"))]
    judge.equal(
        "orders confirmed on a good day",
        sum(order.status == "confirmed" for order in control),
        1,
        source=MONEY,
    )
    judge_money(judge, orders, lost_answers.ledger(), strays=True)
    judge.equal(
        "faults under which some order was answered", driven - _unanswered(lost_answers, names[-1]), len(LOST_ANSWER_PHASES),
        source="contract: an order answers ≤ 10 s",
    )  # fmt: skip
    judge.equal(
        "bare 500s",
        sum(exchange.status == 500 for exchange in sent),
        0,
        source="contract: a bare 500 is a defect",
    )


@check(
    id="upstream-deadline",
    category="system-design",
    level="junior",
    title="An order answers in time, whatever an upstream does",
    failure_title="A hanging upstream holds orders for ever",
    why="Without a deadline every order that meets a hanging upstream keeps its connection, its memory and its buyer waiting, until "
    "nothing is left for anybody.",
    remediation="Give every call a timeout and the whole order one deadline (asyncio.timeout or the client's total timeout); answer "
    "503, or 202 when the charge's outcome is unknown.",
    question="Each of three calls may take 5 s and is tried three times. How long can an order take, and how do you bound it?",
)
def test_upstream_deadline(upstream_hang: Artifact, judge: Judge) -> None:
    sent: list[Exchange] = []
    for upstream, allowed in (
        ("payments", UNAVAILABLE | {202}),
        ("risk", UNAVAILABLE | {202}),
        ("rates", UNAVAILABLE | PLACED),
    ):
        orders = upstream_hang.exchanges.get(f"{upstream}-hang", ())
        if not orders and sent:
            break
        orders = upstream_hang.exchanges_of(f"{upstream}-hang")
        sent += orders
        worst = slowest(orders)
        judge.at_most(
            f"slowest order while {upstream} hangs", worst.elapsed_s if worst else 0.0, ORDER_DEADLINE_S, unit="s",
            source="contract: ≤ 10 s whatever an upstream does, + 20 %",
        )  # fmt: skip
        judge.equal(
            f"right answers while {upstream} hangs", sum(order.status in allowed for order in orders), len(orders),
            source="contract: 503, or 202 when the outcome is unknown",
        )  # fmt: skip
        judge.evidence(*([worst] if worst else []))
    _judge_settling(judge, upstream_hang)
    settled = recorded(upstream_hang, "settled")
    replays = [found for found in settled if found.method == "POST"]
    readings = [found for found in settled if found.method == "GET"]
    judge_money(judge, purchases([*sent, *replays], readings), upstream_hang.ledger(), strays=False)


def _judge_settling(judge: Judge, artifact: Artifact) -> None:
    back_s = artifact.number("payments-back-s")
    readings = artifact.exchanges_of("settled")
    late = [
        reading
        for reading in readings
        if order_status_of(reading) not in FINAL_STATUSES or reading.started_s - back_s > SETTLE_S
    ]
    judge.equal(
        "orders still open 15 s after payments answers again", len(late), 0,
        source="contract: settles ≤ 15 s after payments answers again, + 20 %",
    )  # fmt: skip
    judge.evidence(*late[:2])


def _judge_answers(
    judge: Judge, sent: list[Exchange] | tuple[Exchange, ...], allowed: frozenset[int]
) -> None:
    wrong = [exchange for exchange in sent if exchange.status not in allowed]
    judge.equal(
        "requests without a proper answer",
        len(wrong),
        0,
        source="contract: outcomes of POST /orders; no bare 500",
    )
    judge.evidence(*wrong[:3])


def _unanswered(artifact: Artifact, name: str) -> int:
    return int(all(exchange.status is None for exchange in artifact.exchanges_of(name)))


def _events(artifact: Artifact) -> list[tuple[int, int]]:
    events = artifact.fact("events")
    found = []
    for event in events if isinstance(events, list) else ():
        if isinstance(event, dict):
            event_id, seats = event.get("id"), event.get("seats_total")
            if isinstance(event_id, int) and isinstance(seats, int):
                found.append((event_id, seats))
    return found


def _key(exchange: Exchange) -> str:
    return exchange.request_headers.get("Idempotency-Key", "")
