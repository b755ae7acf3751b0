"""Crowds before one process: locks in one order, one event that everybody wants, sixty orders that wait."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from devstack.artifacts import Artifact, Exchange, Ledger, UpstreamCall, quantile
from grader.answers import PLACED, UNAVAILABLE, order_status_of
from grader.checks.limits import MARGIN, ORDER_DEADLINE_S, READ_BESIDE_PARKED_ORDERS_S
from grader.checks.purchases import purchases
from grader.checks.reading import in_window, judge_liveness, judge_slowest, slowest
from grader.checks.values import member
from grader.judge import Judge, check

NEVER_SHED = 30
HOT_ORDERS = 40
HOT_EVENT_S = 6 * MARGIN

NONE_SHED = "contract: ≤ 30 orders in flight, none is shed; a bare 500 is a defect"


@check(
    id="reads-beside-sixty-orders",
    category="async-fundamentals",
    level="mid",
    title="Pages stay quick while sixty orders wait for payments",
    failure_title="Waiting orders use up what pages need",
    why="A slow provider keeps every order for seconds. When orders and pages share forty threads, a fixed number of slots or one "
    "queue, the forty-first waiting order stops the pages, and soon the health checks.",
    remediation="Wait without occupying anything that is limited: await an async client, or give orders threads (or slots) of their "
    "own, fewer than there are in all, and answer 503 above that before charging.",
    question="Endpoints are plain `def`, payments takes 3 s. How many orders can wait before a page does, and where is that number set?",
)
def test_reads_beside_sixty_orders(bursts: Artifact, judge: Judge) -> None:
    judge_liveness(judge, in_window(bursts, "crowd-live", "crowd-from-s", "crowd-until-s"))
    reads, orders = bursts.exchanges_of("crowd-reads"), bursts.exchanges_of("crowd")
    judge.equal("event reads answered 200", sum(read.ok for read in reads), len(reads))
    _judge_slowest(judge, "event read", reads, READ_BESIDE_PARKED_ORDERS_S, "contract: ≤ 1.5 s, + 20 %")
    judge.at_least(
        "of 60 orders at once, accepted", sum(order.status in PLACED for order in orders), NEVER_SHED,
        source="contract: ≤ 30 in flight, none is shed",
    )  # fmt: skip
    improper = [order for order in orders if order.status not in PLACED | UNAVAILABLE]
    judge.equal(
        "orders neither accepted nor shed", len(improper), 0,
        source="contract: above 30 in flight 429 or 503",
    )  # fmt: skip
    _judge_slowest(judge, "order", orders, ORDER_DEADLINE_S, "contract: ≤ 10 s, + 20 %")
    charged = [order for order in orders if order.status in UNAVAILABLE and _has_paid(order, bursts.ledger())]
    judge.equal("refused orders that were charged", len(charged), 0, source="contract: shed before charging")
    judge.evidence(*improper[:3], *charged[:3])


@check(
    id="lock-order",
    category="database-connections",
    level="senior",
    title="Orders for the same events in either order do not lock each other out",
    failure_title="Crossing orders for two hot events deadlock",
    why="One buyer takes event A and then B, the next B and then A. Rows locked in the buyer's order end in a deadlock: PostgreSQL "
    "waits a second and throws one of the two out, again and again while both events are hot.",
    remediation="Lock in one order everywhere (sort by id, or one statement that locks with ORDER BY), take one connection per "
    "request, and repeat a transaction that the database rolled back (40001, 40P01).",
    question="Two orders want the same two events. Which statements take which locks, in which order, and who decides that order?",
)
def test_lock_order(bursts: Artifact, judge: Judge) -> None:
    orders = bursts.exchanges_of("crossing")
    refused = [order for order in orders if order.status not in PLACED]
    judge.equal("crossing orders that were not placed", len(refused), 0, source=NONE_SHED)
    _judge_slowest(judge, "crossing order", orders, ORDER_DEADLINE_S, "contract: ≤ 10 s, + 20 %")
    _judge_confirmed(judge, bursts.exchanges_of("crossing-settled"))
    if refused:
        broken = bursts.facts.get("deadlocks", "an unknown number of")
        judge.summary(
            f"{len(refused)} of {len(orders)} crossing orders were not placed ({_statuses(refused)}); "
            f"PostgreSQL broke {broken} deadlocks"
        )
    judge.evidence(*refused[:4])


@check(
    id="hot-event-throughput",
    category="performance",
    level="senior",
    title="The event that everybody wants sells as fast as any other",
    failure_title="A hot event sells one order per payment",
    why="A lock on the event that is held until the card is charged turns the busiest minute into a queue: two orders per second "
    "when a payment takes half a second, for the one event that everybody wants.",
    remediation="Reserve and commit, charge without a lock, then confirm. A conditional UPDATE or a short row lock is over in "
    "a millisecond.",
    question="Payments takes 500 ms and one event is hot. How many of its orders per second can you sell, and what limits it?",
)
def test_hot_event_throughput(bursts: Artifact, judge: Judge) -> None:
    orders = bursts.exchanges_of("hot")
    took_s = bursts.number("hot-until-s") - bursts.number("hot-from-s")
    judge.at_most(
        "40 orders of one event, from the first request to the last outcome", took_s, HOT_EVENT_S, unit="s",
        source="contract: all ≤ 6 s while payments takes 500 ms, + 20 %; in turn 20 s",
    )  # fmt: skip
    placed = sum(order.status in PLACED for order in orders)
    judge.equal("orders placed, never more than 30 in flight", placed, HOT_ORDERS, source=NONE_SHED)
    _judge_confirmed(judge, bursts.exchanges_of("hot-settled"))
    tokens = {order.card_token for order in purchases(orders, ())}
    calls = [
        call
        for call in bursts.ledger("hot").calls_to("payments", "charge")
        if member(call.body, "card_token") in tokens
    ]
    judge.summary(
        f"{placed} of {HOT_ORDERS} orders were placed in {took_s:.1f} s, at most {_overlap(calls)} charges at a time"
    )
    worst = slowest(orders)
    judge.evidence(
        *([worst] if worst else []), *[order for order in orders if order.status not in PLACED][:3]
    )


@check(
    id="backpressure",
    category="performance",
    level="senior",
    title="What the service does with more orders than it must take",
    failure_title="What the service does with more orders than it must take",
    why="Above what it can carry a service either sheds at once or slows everybody down. Shedding early and coping are both right; "
    "what matters is that it is over when the crowd has gone.",
    remediation="Decide where the limit is, answer 503 with Retry-After above it, before anything was charged, and measure it.",
    question="At which load does your service begin to refuse, who decided that number, and what does the buyer see?",
)
def test_backpressure(bursts: Artifact, judge: Judge) -> None:
    orders, after = bursts.exchanges_of("crowd"), bursts.exchanges_of("reads-after")
    shed = sum(order.status in UNAVAILABLE for order in orders)
    times = [read.elapsed_s for read in after]
    told = (
        f"of {len(orders)} orders at once {shed} were refused; reads right after took "
        f"{quantile(times, 0.5) * 1000:.0f} ms (median), {max(times) * 1000:.0f} ms at most"
    )
    judge.true("what was seen", True, told, source="shown, not scored")
    judge.summary(told)
    judge.evidence(*[order for order in orders if order.status in UNAVAILABLE][:2])


def _judge_slowest(judge: Judge, what: str, found: Sequence[Exchange], limit_s: float, source: str) -> None:
    worst = judge_slowest(judge, what, found, limit_s, source)
    judge.evidence(*([worst] if worst else []))


def _judge_confirmed(judge: Judge, readings: Sequence[Exchange]) -> None:
    """Orders that were accepted first and settled later."""
    lost = [reading for reading in readings if order_status_of(reading) != "confirmed"]
    judge.equal(
        "accepted orders that were not confirmed later", len(lost), 0,
        source="contract: an order that was answered 202 settles",
    )  # fmt: skip
    judge.evidence(*lost[:2])


def _statuses(exchanges: Iterable[Exchange]) -> str:
    return ", ".join(sorted({str(found.status or found.error) for found in exchanges}))


def _has_paid(order: Exchange, ledger: Ledger) -> bool:
    charges = [charge for bought in purchases([order], ()) for charge in bought.charges_in(ledger)]
    return any(charge.status == "captured" for charge in charges)


def _overlap(calls: Iterable[UpstreamCall]) -> int:
    """How many calls were under way at once, at most."""
    edges = [
        edge
        for call in calls
        if call.ended_s is not None
        for edge in ((call.started_s, 1), (call.ended_s, -1))
    ]
    under_way = most = 0
    for _, step in sorted(edges):
        under_way += step
        most = max(most, under_way)
    return most
