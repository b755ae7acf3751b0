"""What the busy minute shows: right answers, latency and CPU per request, beside the reference solution.

Both services met the same seeded requests at 25 per second for 24 s, over a database 2 ms away, in the same
seconds on the same machine. The figures were computed when the load was driven; here they are judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from pydantic import BaseModel, TypeAdapter

from devstack.artifacts import Artifact, Charge, Exchange
from grader.answers import order_status_of, seats_available_of
from grader.checks.reading import field
from grader.judge import Judge, check

WRONG_SHARE_FULL = 0.01
WRONG_SHARE_ZERO = 0.05
"""Of 600 requests a right service has none wrong, also while the machine does other work: six are chance, thirty
are a fault. The exercise has none right: its event loop is blocked for longer than its clients wait."""

READS_FLOOR_S = 0.36
"""Contract: reads p95 ≤ 300 ms beside tickets and a sales report, both of which are in the mix; plus 20 %."""

ORDERS_FLOOR_S = 1.0
"""Risk and payments take 0.2 s, a rate 0.05 s, ten database round trips 0.02 s, and at 3 orders a second none has
to wait for another: more than three times that is waiting of the service's own making."""

SLOWDOWN_LIMIT = 3.0
"""p95 of two equal services side by side was seen to differ by up to a fifth; a queue makes it tens of times."""

NO_POINTS_AT = 3.0
"""Partial credit runs out at this many times the limit."""

COST_FULL = 1.5
COST_ZERO = 4.0
"""Seen beside the reference: the reference itself 0.98 to 1.04 ×; with two queries more per list, each page validated
by a model and encoded twice 1.4 ×; with one query more per listed event 2.7 ×."""

LOST_AT_LEAST = 2
LOST_SHARE = 0.25
"""A kind of request that is answered wrongly this often in the load, and never before it, has another answer then."""

JUDGED_SHARE = 0.5
"""A service that answers fewer requests right than this is not cheap, it is absent."""

DONE_SHARE = 0.9
"""Of the accepted orders that were looked up: so many must be settled, and their charges be as the contract has it.
Answers to orders that were never carried out are no work, however fast and cheap. A right service has all of them;
one order in forty that went wrong costs points in load-errors, and not here."""


class Latency(BaseModel):
    """Latency of a group of endpoints, seconds; a failed request counts as its client's timeout."""

    count: int
    failed: int
    p50_s: float | None
    p95_s: float | None
    p99_s: float | None


class Figures(BaseModel):
    """What the load came to for one service."""

    offered: int
    correct: int
    failed_by_kind: dict[str, int]
    by_group: dict[str, Latency]
    cpu_s: float
    cpu_per_correct_request_s: float | None

    @property
    def correct_share(self) -> float:
        """Right answers among the requests that were due."""
        return self.correct / self.offered if self.offered else 0.0

    def p95(self, group: str) -> float:
        """p95 latency of ``reads`` or ``orders``, in seconds."""
        found = self.by_group[group].p95_s
        assert found is not None, f"the load has no {group}"
        return found


class AcceptedOrder(BaseModel):
    """An order of the load that the service accepted, and what it was to come to.

    ``confirmed``: the service said so at once; ``read``: it was read back, a sample of them is.
    """

    id: str
    card_token: str
    total: str
    currency: str
    confirmed: bool = False
    read: bool = True


class Seats(BaseModel):
    """What an event must have left after the load."""

    event_id: int
    least: int
    most: int


class Habit(BaseModel):
    """Requests of a kind that was answered right before the load, and how many were answered wrongly in it."""

    asked: int
    wrong: int

    @property
    def is_lost(self) -> bool:
        """One wrong answer may be chance."""
        return self.wrong >= LOST_AT_LEAST and self.wrong >= LOST_SHARE * self.asked


_ACCEPTED = TypeAdapter(tuple[AcceptedOrder, ...])
_SEATS = TypeAdapter(tuple[Seats, ...])
_HABITS = TypeAdapter(dict[str, Habit])
_CARDS = TypeAdapter(frozenset[str])


def figures(load: Artifact, name: str) -> Figures:
    """The figures of ``submission`` or ``solution``. Raises NotObserved."""
    return Figures.model_validate(load.fact(name))


@check(
    id="load-errors",
    category="performance",
    level="mid",
    title="Nearly every request of a busy minute is answered right",
    failure_title="Under load requests fail or are answered wrongly",
    why="A buyer who meets an error on the day of the sale tries again, which doubles the load, or goes away.",
    remediation="Find what the failing requests wait for (a blocked event loop, a connection pool that is too small, "
    "a lock held during a call to payments) and take it out of the way of the others; `failed` lists examples.",
    question="Requests fail at 25 per second but not at 5. Which three numbers do you look at first, and why?",
)
def test_load_errors(load: Artifact, judge: Judge) -> None:
    submission = figures(load, "submission")
    wrong = 1 - submission.correct_share
    judge.graded(
        "share of requests not answered right",
        round(wrong, 4),
        full=WRONG_SHARE_FULL,
        zero=WRONG_SHARE_ZERO,
        source="none should fail: 25 requests/s keep fewer than 30 orders in flight, so shedding is not called for",
    )
    judge.equal(
        "accepted orders without exactly their charge",
        len(unmatched_orders(load)),
        0,
        source="contract: confirmed ⇔ exactly one unrefunded charge of exactly the total",
    )
    judge.equal(
        "refused orders that were charged",
        charged_refusals(load),
        0,
        source="contract: any other final status ⇔ no charge",
    )
    judge.equal(
        "events whose seats do not add up after the load",
        len(wrong_seats(load)),
        0,
        source="contract: seats_available = seats_total − seats of confirmed orders − seats held",
    )
    judge.equal(
        "confirmed orders that a restart lost",
        len(lost_orders(load)),
        0,
        source="contract: success is answered only after its effect is committed",
    )
    lost = lost_habits(load)
    judge.equal(
        "kinds of request that are answered right at leisure and wrongly under load",
        len(lost),
        0,
        source="the same requests, sent one by one before the load and among its others",
    )
    judge.summary(_told(submission, lost))
    judge.evidence(*load.exchanges_of("failed"))


@check(
    id="load-latency",
    category="performance",
    level="senior",
    title="Reads and orders stay fast in a busy minute",
    failure_title="Under load reads or orders become slow",
    why="Latency under load decides how many requests are in flight at once, and with them how much of everything "
    "else is needed: connections, memory, patience.",
    remediation="Keep the event loop free, run what is independent at the same time, spend few database round trips "
    "per request, and let nobody wait for a connection that somebody holds during a slow call.",
    question="p50 is fine and p95 is ten times higher. What kinds of cause are left, and how do you tell them apart?",
)
def test_load_latency(load: Artifact, judge: Judge) -> None:
    submission, solution = figures(load, "submission"), figures(load, "solution")
    if not _did_the_work(load, judge):
        return
    for group, floor_s, what in (
        ("reads", READS_FLOOR_S, "contract 300 ms + 20 %"),
        ("orders", ORDERS_FLOOR_S, "the upstreams take 0.2 s; the rest is the service"),
    ):
        limit_s = max(floor_s, SLOWDOWN_LIMIT * solution.p95(group))
        judge.graded(
            f"p95 of {group}",
            submission.p95(group),
            full=round(limit_s, 4),
            zero=round(NO_POINTS_AT * limit_s, 4),
            unit="s",
            source=f"{what}, or {SLOWDOWN_LIMIT:g} × the reference's {solution.p95(group):.3f} s if that is more",
        )


@check(
    id="request-cost",
    category="performance",
    level="senior",
    title="A request costs about as much CPU as it has to",
    failure_title="Requests cost several times the CPU that they need",
    why="CPU per request is the number of machines that the day of the sale needs, and the bill of all other days.",
    remediation="Look for work done again for every request: N+1 queries, connections and clients opened anew, "
    "models validated twice, JSON re-encoded, middleware that wraps each body, aggregation in Python.",
    question="How would you find out where the CPU time of one request goes, service and database taken together?",
)
def test_request_cost(load: Artifact, judge: Judge) -> None:
    submission, solution = figures(load, "submission"), figures(load, "solution")
    enough = judge.at_least(
        "share of requests answered right",
        round(submission.correct_share, 4),
        JUDGED_SHARE,
        source="below this the cost of a request says nothing",
    )
    if not enough or submission.cpu_per_correct_request_s is None:
        judge.summary(f"only {submission.correct} of {submission.offered} requests were answered right")
        return
    if not _did_the_work(load, judge):
        return
    assert solution.cpu_per_correct_request_s is not None, "the load is refused when its reference fails"
    ratio = submission.cpu_per_correct_request_s / solution.cpu_per_correct_request_s
    judge.graded(
        "CPU per right answer, times the reference's",
        round(ratio, 3),
        full=COST_FULL,
        zero=COST_ZERO,
        source="service and database, measured in the same run beside the reference solution",
    )
    judge.summary(
        f"{submission.cpu_per_correct_request_s * 1000:.1f} ms of CPU per right answer, "
        f"the reference {solution.cpu_per_correct_request_s * 1000:.1f} ms ({ratio:.2f} ×)"
    )


def _did_the_work(load: Artifact, judge: Judge) -> bool:
    """Whether what was accepted was also done; without that, speed and cost say nothing."""
    accepted = len(_ACCEPTED.validate_python(load.fact("accepted-orders")))
    if not accepted:
        return True
    unmatched = len(unmatched_orders(load))
    done = judge.at_least(
        "share of accepted orders that were carried out",
        round(1 - unmatched / accepted, 3),
        DONE_SHARE,
        source="contract: confirmed ⇔ exactly one unrefunded charge of exactly the total",
    )
    if not done:
        judge.summary(f"{unmatched} of {accepted} accepted orders do not have exactly their charge")
    return done


def unmatched_orders(load: Artifact) -> list[AcceptedOrder]:
    """Accepted orders that were not settled, or whose outcome and charges do not go together."""
    accepted = _ACCEPTED.validate_python(load.fact("accepted-orders"))
    readings = {str(field(reading, "id")): reading for reading in load.exchanges_of("settled")}
    charges = load.ledger("load").charges
    captured: dict[str, list[Charge]] = {}
    for charge in charges:
        if charge.status == "captured":
            captured.setdefault(charge.card_token, []).append(charge)
    return [
        order
        for order in accepted
        if not _matches(order, readings.get(order.id), captured.get(order.card_token, []))
    ]


def charged_refusals(load: Artifact) -> int:
    """Orders that were refused for good, and charged."""
    refused = _CARDS.validate_python(load.facts.get("refused-cards", []))
    charged = {charge.card_token for charge in load.ledger("load").charges if charge.status == "captured"}
    return len(refused & charged)


def wrong_seats(load: Artifact) -> list[Seats]:
    """Events that show more seats than are left, or fewer."""
    shown = {reading.path: seats_available_of(reading) for reading in load.exchanges.get("seats", ())}
    wrong = []
    for event in _SEATS.validate_python(load.facts.get("seats", [])):
        left = shown.get(f"/events/{event.event_id}")
        if left is None or not event.least <= left <= event.most:
            wrong.append(event)
    return wrong


def lost_orders(load: Artifact) -> list[Exchange]:
    """Readings of confirmed orders, after the service was killed and started, that say something else."""
    if "seats" not in load.facts:
        return []  # most answers were wrong: the service was not started again
    return [
        reading for reading in load.exchanges_of("after-restart") if order_status_of(reading) != "confirmed"
    ]


def lost_habits(load: Artifact) -> list[str]:
    """Kinds of request that the service answers right only when it is not busy."""
    habits = _HABITS.validate_python(load.facts.get("habits", {}))
    return [name for name, habit in habits.items() if habit.is_lost]


def _matches(order: AcceptedOrder, reading: Exchange | None, captured: Sequence[Charge]) -> bool:
    charged = len(captured) == 1 and _is_total(captured[0], order)
    if not order.read:
        # not asked for again: what was said at once must hold, what was left open may have become either
        return charged or (not order.confirmed and not captured)
    if reading is None:
        return False
    match field(reading, "status"):
        case "confirmed":
            return charged
        case "declined" | "failed":
            return not captured and not order.confirmed
    return False


def _is_total(charge: Charge, order: AcceptedOrder) -> bool:
    try:
        return charge.currency == order.currency and Decimal(charge.amount) == Decimal(order.total)
    except InvalidOperation:
        return False


def _told(submission: Figures, lost: Sequence[str]) -> str:
    """One line: how many were right, and what became of the others."""
    told = f"{submission.correct} of {submission.offered} requests were answered right"
    kinds = sorted(submission.failed_by_kind.items(), key=lambda kind: (-kind[1], kind[0]))
    if kinds:
        told += "; the others: " + ", ".join(f"{count} {kind}" for kind, count in kinds[:5])
    if "shed" in submission.failed_by_kind:
        told += " (shed: 429 or 503 with Retry-After, polite but not called for at this rate)"
    if lost:
        told += f"; right at leisure only: {', '.join(lost)}"
    return told
