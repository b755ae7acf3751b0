"""Async Fundamentals: is the event loop free, is concurrency used, is every coroutine awaited?"""

from __future__ import annotations

import hashlib

from devstack.artifacts import Artifact, Exchange, Ledger, UpstreamCall
from grader.checks.limits import ORDER_DEADLINE_S, READ_DEADLINE_S, TICKET_ITERATIONS
from grader.checks.reading import field, in_window, judge_liveness, judge_reads_beside, slowest
from grader.judge import Judge, check

BESIDE = "a request that needs nothing"
"""Not /health/live: what that looks at has a check of its own."""

MINIMUM_OVERLAP = 0.5
"""Sequential calls do not overlap at all, concurrent ones almost wholly: half is far from both."""

OVERLAPPING_ORDERS = 4
"""Of five: one pair may be torn apart by a scheduling hiccup."""


@check(
    id="event-loop-slow-database",
    category="async-fundamentals",
    level="junior",
    title="The process stays responsive while the database is slow",
    failure_title="A slow database freezes every request",
    why="A synchronous driver call inside `async def` stops the event loop: while one query waits, health checks fail "
    "and all other buyers wait with it.",
    remediation="Await an async driver (asyncpg, psycopg 3 async, SQLAlchemy asyncio), or make the endpoint a plain "
    "`def` over a pooled sync driver, so that waiting happens off the loop.",
    question="One query takes 400 ms. What do the other requests of the same process do meanwhile, and why?",
)
def test_event_loop_slow_database(slow_database: Artifact, judge: Judge) -> None:
    judge_liveness(judge, in_window(slow_database, "probe", "from-s", "until-s"), BESIDE)
    reads = slow_database.exchanges_of("reads")
    worst = slowest(reads)
    if worst is not None:
        judge.at_most(
            "slowest of the parallel reads",
            worst.elapsed_s,
            READ_DEADLINE_S,
            unit="s",
            source="contract: reads ≤ 3 s, + 20 %",
        )
        judge.evidence(worst)
    judge.at_least(
        "reads answered 200, or 503 within their deadline",
        sum(read.status in (200, 429, 502, 503, 504) for read in reads),
        len(reads),
        source="contract: a read answers ≤ 3 s whatever the database does",
    )
    judge.at_least(
        "reads answered 200",
        sum(read.ok for read in reads),
        len(reads) // 2,
        source="0.4 s per round trip is slow, not dead",
    )


@check(
    id="event-loop-slow-payments",
    category="async-fundamentals",
    level="junior",
    title="The process stays responsive while payments is slow",
    failure_title="A slow payment freezes every request",
    why="A blocking HTTP call inside `async def` stops the event loop: one slow charge and the whole process stands still.",
    remediation="Use one async client (httpx, aiohttp), a plain `def` endpoint with a sync client, or `asyncio.to_thread`.",
    question="`requests.post` in an `async def` endpoint works in every test. When does it hurt, and how would you notice?",
)
def test_event_loop_slow_payments(slow_upstreams: Artifact, judge: Judge) -> None:
    judge_liveness(judge, in_window(slow_upstreams, "probe", "parallel-from-s", "parallel-until-s"), BESIDE)
    orders = slow_upstreams.exchanges_of("parallel-orders")
    worst = slowest(orders)
    assert worst is not None
    # Six charges of 1.5 s: one after the other 9 s, together 1.5 s.
    judge.at_most(
        "slowest of 6 parallel orders",
        worst.elapsed_s,
        4.5,
        unit="s",
        source="6 × 1.5 s in turn would be 9 s",
    )
    judge.at_least(
        "orders accepted",
        sum(order.ok for order in orders),
        len(orders),
        source="≤ 30 in flight are not shed",
    )
    judge.evidence(worst)


@check(
    id="event-loop-tickets",
    category="async-fundamentals",
    level="mid",
    title="Twelve tickets at once slow nobody else down",
    failure_title="Signing tickets blocks the event loop",
    why="Key stretching is CPU work. On the loop it delays every other request by its whole duration, times the queue.",
    remediation="Move it off the loop: `asyncio.to_thread`, an executor or process pool of bounded size, a `def` endpoint, "
    "or sign once and store the result.",
    question="Why does a thread help with PBKDF2 although Python has a GIL, and when would it not help?",
)
def test_event_loop_tickets(tickets_and_reports: Artifact, judge: Judge) -> None:
    tickets = tickets_and_reports.exchanges_of("tickets")
    served = [ticket for ticket in tickets if ticket.status == 200 and "<svg" in ticket.body]
    judge.at_least("tickets served", len(served), 12, source="contract: 200 and an SVG")
    if not served:
        return
    secret = str(tickets_and_reports.fact("ticket-secret"))
    sample = served[:1] + served[-1:]
    right = sum(_is_signed(ticket, secret) for ticket in sample)
    judge.equal(
        "tickets signed as agreed, of two", right, len(sample), source="contract: iterations unchanged"
    )
    judge_liveness(judge, in_window(tickets_and_reports, "tickets-live", "tickets-from-s", "tickets-until-s"))
    judge_reads_beside(judge, tickets_and_reports.exchanges_of("tickets-reads"), "the tickets")


def _is_signed(ticket: Exchange, secret: str) -> bool:
    """Whether the SVG carries the payload that the contract defines for its order."""
    order_id = ticket.path.split("/")[2]
    return f"boxoffice:{order_id}:{signature(order_id, secret)}" in ticket.body


def signature(order_id: str, secret: str) -> str:
    """The ticket's signature, by the contract's algorithm."""
    return hashlib.pbkdf2_hmac(
        "sha256", order_id.encode(), secret.encode(), TICKET_ITERATIONS, dklen=32
    ).hex()


@check(
    id="event-loop-deadlock",
    category="async-fundamentals",
    level="mid",
    title="No endpoint freezes the process on its first call",
    failure_title="A call waits for the loop that it blocks",
    why="`.result()` or `.wait()` on the loop's own thread waits for work that only this thread could do: nothing moves "
    "until a timeout, or ever.",
    remediation="Await the coroutine. If the caller must stay synchronous, run the caller in a thread, not the coroutine "
    "on the loop that waits.",
    question="What does `asyncio.run_coroutine_threadsafe(work(), loop).result()` do when it is called from `loop`?",
)
def test_event_loop_deadlock(cold_endpoints: Artifact, judge: Judge) -> None:
    beats = cold_endpoints.heartbeats_of("live")
    judge.at_most(
        "slowest /health/live", beats.worst_s, 1.2, unit="s", source="contract: never > 1 s, + 20 %"
    )
    calls = cold_endpoints.exchanges_of("calls")
    judge.true(
        "every endpoint answered its first call",
        all(call.status is not None for call in calls),
        "; ".join(call.describe() for call in calls if call.status is None),
    )
    judge.evidence(beats, name="latency of /health/live during the first calls")
    judge.evidence(*[call for call in calls if call.elapsed_s > 1.0])


@check(
    id="confirmation-mail-sent",
    category="async-fundamentals",
    level="junior",
    title="Every confirmed order gets its mail",
    failure_title="Confirmation mails are lost",
    why="A coroutine that nobody awaits never runs: the order is confirmed, and the buyer never hears of it.",
    remediation="Await it in a background task, a tracked task, a queue or an outbox; treat 'was never awaited' as an error.",
    question="Where would you see that a coroutine was never awaited, and how would you keep it from reaching production?",
)
def test_confirmation_mail_sent(contract: Artifact, judge: Judge) -> None:
    confirmed = {
        str(field(order, "id"))
        for order in contract.exchanges_of("orders-read")
        if field(order, "status") == "confirmed"
    }
    judge.at_least("confirmed orders", len(confirmed), 10, source="ten plain orders on a quiet day")
    mailed = {message.order_id for message in contract.ledger().messages}
    judge.equal(
        "confirmed orders with a mail",
        len(confirmed & mailed),
        len(confirmed),
        source="contract: ≤ 15 s normally, + 20 %",
    )
    never = [line for line in contract.log_tail.splitlines() if "was never awaited" in line]
    if never:
        judge.evidence("\n".join(never[:5]), name="log")


@check(
    id="concurrent-upstream-reads",
    category="async-fundamentals",
    level="junior",
    title="Risk and rate are asked for at the same time",
    failure_title="Independent upstream reads run one after the other",
    why="Latency adds up where it could overlap: every order with a foreign currency pays for both upstreams in turn.",
    remediation="`asyncio.gather` or a `TaskGroup` for independent reads (never for the charge), or a prefetched rate.",
    question="Which calls of an order may run concurrently, which must not, and why?",
)
def test_concurrent_upstream_reads(slow_upstreams: Artifact, judge: Judge) -> None:
    orders = slow_upstreams.exchanges_of("currency-orders")
    ledger = slow_upstreams.ledger("independent-reads")
    accepted = [order for order in orders if order.ok]
    judge.at_least("orders in a foreign currency accepted", len(accepted), 5, source="five on a quiet day")
    judge.at_most(
        "slowest of them",
        max(order.elapsed_s for order in orders),
        ORDER_DEADLINE_S,
        unit="s",
        source="deadline",
    )
    overlaps = [_overlap(order, ledger) for order in accepted]
    judge.at_least(
        "orders whose two reads overlapped, or needed no rate",
        sum(overlap >= MINIMUM_OVERLAP for overlap in overlaps),
        OVERLAPPING_ORDERS,
        source="contract: independent reads that overlap; overlap ≥ half of the shorter",
    )
    judge.evidence(ledger)


def _overlap(order: Exchange, ledger: Ledger) -> float:
    """Share of the shorter of the two reads that ran beside the other, 1 where no rate was fetched."""
    risk = _during(ledger.calls_to("risk"), order)
    rates = _during(ledger.calls_to("rates"), order)
    if not rates or not risk:
        return 1.0
    best = 0.0
    for one in risk:
        for other in rates:
            together = min(_end(one), _end(other)) - max(one.started_s, other.started_s)
            shorter = min(_end(one) - one.started_s, _end(other) - other.started_s)
            best = max(best, together / shorter if shorter > 0 else 0.0)
    return best


def _during(calls: tuple[UpstreamCall, ...], order: Exchange) -> list[UpstreamCall]:
    return [call for call in calls if order.started_s <= call.started_s <= order.ended_s]


def _end(call: UpstreamCall) -> float:
    return call.ended_s if call.ended_s is not None else call.started_s
