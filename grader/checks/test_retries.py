"""What a service makes of upstreams that fail: attempts, pauses, answers and charges."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from email.utils import parsedate_to_datetime

from devstack.artifacts import Artifact, Charge, Exchange, Ledger, Upstream, UpstreamCall, quantile
from grader.answers import PLACED, UNAVAILABLE
from grader.checks.attempts import (
    CALL_ATTEMPTS,
    Attempts,
    assessed_before,
    attempts_of,
    charge_keys,
    pauses,
    phase_exchanges,
    rate_known_before,
)
from grader.checks.limits import (
    LIVE_P95_S,
    LIVE_SOURCE,
    LIVE_WORST_S,
    MARGIN,
    ORDER_DEADLINE_S,
    READ_DEADLINE_S,
)
from grader.checks.purchases import Purchase, judge_money, purchases
from grader.checks.reading import field
from grader.judge import Judge, check

FAILING = ("500", "503")
"""Statuses that the scenario lets upstreams answer to every call for a while."""

REJECTING, SHEDDING = "400", "429"
KINDS = ("refuse", *FAILING, REJECTING, SHEDDING)
UPSTREAMS: tuple[Upstream, ...] = ("payments", "risk", "rates")
PHASES = 10
"""Faults of payments and risk that the scenario drives; it stops after one under which no order is answered."""

ENOUGH_ATTEMPTS = 3
BACKING_OFF_S = 0.1
"""All pauses of a call of three or four attempts. Attempts without a pause leave it to the machine: a few milliseconds."""

BACKGROUND_GAP_S = 1.0 / MARGIN
NAMED_S = 3.0 * 0.9
"""The upstream names 3 s; clocks and rounding may take a tenth."""

RETRIES = "contract: ≤ 4 attempts per upstream call, backing off; no 4xx is retried but 408, 425 and 429"
ANSWERS = "contract: an upstream cannot serve: 503 (429, 502, 504); outcome unknown: 202"
NEVER = "contract: without a risk decision never a charge; not confirmed ⇔ no unrefunded charge"

_ACCEPTED = frozenset({202})
_WHEN_FAILING = UNAVAILABLE | _ACCEPTED
_WAITED = _WHEN_FAILING | PLACED
_ALLOWED: dict[str, frozenset[int]] = {
    # Payments refused this charge as such: to tell the buyer so is no lie.
    "payments-400": _WHEN_FAILING | {402},
    "payments-429": _WAITED,
    "risk-429": _WAITED,
}


@check(
    id="event-loop-retry-pause",
    category="async-fundamentals",
    level="mid",
    title="The pause before another attempt stops nobody else",
    failure_title="While an upstream fails, the pauses between attempts freeze the process",
    why="Retries are written for the bad minute of an upstream. If the pause blocks the event loop, that minute stops everybody: "
    "also those who only want to look at a page, and the health check that decides on a restart.",
    remediation="Pause with await asyncio.sleep (or a retry library's async variant), keep blocking clients and their pauses in "
    "threads, or do not retry while answering and leave the rest to a background worker.",
    question="A retry decorator works in every test. Under what circumstances does it stop the whole service, and why not in tests?",
)
def test_event_loop_retry_pause(upstream_errors: Artifact, judge: Judge) -> None:
    _judge_good_day(judge, upstream_errors)
    series = [upstream_errors.heartbeats_of(f"{upstream}-503") for upstream in ("payments", "risk")]
    latencies = [beat.latency_s for beats in series for beat in beats.beats]
    # Other scenarios share the machine: of right designs every twentieth beat was late by up to 0.6 s there. Who stands
    # still in the pauses is late most of the time.
    for quantile_of_beats, limit_s in ((0.75, LIVE_P95_S), (0.95, LIVE_WORST_S)):
        judge.at_most(
            f"p{quantile_of_beats * 100:.0f} of /health/live while payments, then risk answer 503",
            quantile(latencies, quantile_of_beats), limit_s, unit="s", source=LIVE_SOURCE,
        )  # fmt: skip
    for beats, upstream in zip(series, ("payments", "risk"), strict=True):
        judge.evidence(beats, name=f"latency of /health/live while {upstream} answers 503")


@check(
    id="denied-orders-charged",
    category="async-fundamentals",
    level="senior",
    title="Who is denied, or was not assessed, is not charged",
    failure_title="Orders without the consent of risk are charged",
    why="Asking risk and charging side by side saves a tenth of a second, and takes money from everybody whom risk refuses: the "
    "charge is under way when the refusal comes, and cancelling the task does not call it back.",
    remediation="Await the decision before anything that costs money (gather only what may be thrown away: risk and rate); if a "
    "charge was made too early all the same, refund it before the order counts as failed.",
    question="One of two awaits in a gather fails. What becomes of the other one, and what of the request that it has sent?",
)
def test_denied_orders_charged(upstream_errors: Artifact, judge: Judge) -> None:
    _judge_good_day(judge, upstream_errors)
    ledger = upstream_errors.ledger()
    denied = [
        charge for order in upstream_errors.exchanges_of("denied") for charge in _captured(ledger, order)
    ]
    judge.equal("charges of denied orders", len(denied), 0, source=NEVER)
    unassessed = [
        charge
        for order in phase_exchanges(upstream_errors, "risk", KINDS)
        for charge in _captured(ledger, order)
        if not assessed_before(ledger, order, charge.captured_s)
    ]
    judge.equal("charges of orders that risk had not decided on", len(unassessed), 0, source=NEVER)
    found = (*denied, *unassessed)
    judge.evidence(Ledger(taken_s=ledger.taken_s, charges=found), name="charges without consent")


@check(
    id="error-mapping",
    category="system-design",
    level="junior",
    title="An upstream that fails leads to an answer that says so",
    failure_title="An upstream that fails leads to answers that say something else",
    why="A bare 500 tells the buyer nothing, the client not to try again, and the operator that our code is at fault. And what does "
    "not need the upstream that fails should not fail with it.",
    remediation="Turn the client's errors (connection, time-out, 5xx, 429, unexpected 4xx, nonsense) into one exception where they "
    "arise, answer it with 503, and catch it where the upstream is a nicety, like the price in another currency.",
    question="Rates are down. Which of your endpoints should fail, which should not, and where in the code is that decided?",
)
def test_error_mapping(upstream_errors: Artifact, judge: Judge) -> None:
    _judge_good_day(judge, upstream_errors)
    ledger = upstream_errors.ledger()
    for upstream in UPSTREAMS:
        wrong = [
            order
            for kind in KINDS
            for order in upstream_errors.exchanges.get(f"{upstream}-{kind}", ())
            if not _says_so(ledger, upstream, kind, order)
        ]
        _judge_right(judge, f"orders while {upstream} fails are answered 503, or 202", wrong, ANSWERS)
    for outcome, status in (("denied", 403), ("declined", 402)):
        orders = upstream_errors.exchanges_of(outcome)
        wrong = [order for order in orders if order.status not in (status, 202)]
        _judge_right(
            judge, f"{outcome} orders are answered {status}", wrong, "contract: outcomes of POST /orders"
        )
    _judge_without_rates(judge, upstream_errors, ledger)
    sent = _sent(upstream_errors)
    bare = [found for found in sent if found.status == 500]
    judge.equal("bare 500s", len(bare), 0, source="contract: a bare 500 is a defect")
    judge.equal(
        "faults under which some order was answered", _answered_phases(upstream_errors), PHASES,
        source="contract: an order answers ≤ 10 s",
    )  # fmt: skip
    if "settled" in upstream_errors.exchanges:
        denied = {
            _key(order) for order in upstream_errors.exchanges_of("denied")
        }  # they have a check of their own
        others = [order for order in _orders(upstream_errors) if order.key not in denied]
        judge_money(judge, others, ledger, strays=False)


@check(
    id="retry-discipline",
    category="system-design",
    level="mid",
    title="Retries are few, spaced, and only where they can help",
    failure_title="Retries multiply the load on an upstream that fails",
    why="When an upstream fails, every caller's retries come on top of the normal load, at the worst moment. Five attempts without a "
    "pause make one outage out of a hiccup, and a rejected request is not accepted the fifth time either.",
    remediation="At most 4 attempts per call, pauses that double, with jitter; only after connection errors, 5xx, 408, 425 and 429; "
    "wait as long as Retry-After says or give up; charges under one key per order. No retry at all is right, too.",
    question="Payments answers every call with 503 for a minute. How many calls does one order cause, and how many do 1,000?",
)
def test_retry_discipline(upstream_errors: Artifact, judge: Judge) -> None:
    _judge_good_day(judge, upstream_errors)
    ledger = upstream_errors.ledger()
    tried = _tried(upstream_errors, ledger, KINDS)
    answering = [len(found.answering) for found in tried]
    judge.at_most(
        "most attempts at one call while answering", max(answering, default=0), CALL_ATTEMPTS, source=RETRIES
    )
    rejected = _tried(upstream_errors, ledger, (REJECTING,))
    again = [sum(call.status == int(REJECTING) for call in found.answering) for found in rejected]
    judge.at_most("most attempts at a call that was answered 400", max(again, default=0), 1, source=RETRIES)
    paused = [
        found.paused_s
        for found in _tried(upstream_errors, ledger, FAILING)
        if len(found.first) >= ENOUGH_ATTEMPTS
    ]
    if paused:
        judge.at_least(
            "pauses of a call of three or four attempts, together, median", quantile(paused, 0.5), BACKING_OFF_S,
            unit="s", source="contract: backing off; without a pause it is some milliseconds",
        )  # fmt: skip
    _judge_named_pause(judge, _tried(upstream_errors, ledger, (SHEDDING,)))
    hasty = [
        gap
        for found in tried
        if found.upstream != "rates"
        for gap in found.background_gaps_s
        if gap < BACKGROUND_GAP_S
    ]
    judge.equal(
        "attempts in the background less than 1 s after the one before", len(hasty), 0,
        source="contract: background work per item ≥ 1 s apart, - 20 %",
    )  # fmt: skip
    keys = max(map(len, charge_keys(ledger).values()), default=0)
    judge.at_most(
        "most keys under which one order was charged", keys, 1, source="contract: only with the same key"
    )
    worst = max(tried, key=lambda found: len(found.answering), default=None)
    if worst is not None:
        judge.evidence(Ledger(taken_s=ledger.taken_s, calls=worst.calls), name="calls made for one order")


@check(
    id="retry-after",
    category="monitoring-reliability",
    level="mid",
    title="Who is turned away is told when to come back",
    failure_title="503 and 429 do not say when to come back",
    why="Without Retry-After every client decides for itself when to ask again, most of them at once: the crowd comes back before "
    "the upstream does.",
    remediation="Put Retry-After, in whole seconds or as a date, on every 503 and 429, best where the error is turned into an "
    "answer; pass the upstream's own figure on where it gave one.",
    question="Which number do you put into Retry-After, and what happens if it is the same for a thousand buyers?",
)
def test_retry_after(upstream_errors: Artifact, judge: Judge) -> None:
    sells = _judge_good_day(judge, upstream_errors)
    sent = _sent(upstream_errors)
    turned_away = [found for found in sent if found.status in (429, 503)]
    if not turned_away:
        broken = [found for found in sent if found.status in (None, 500)]
        judge.equal("answers that should have been a 503", len(broken), 0, source=ANSWERS)
        if sells and not broken:
            judge.not_applicable("nobody was turned away: every order was accepted, and settled later")
        return
    without = [found for found in turned_away if not _says_when(found.headers.get("retry-after", ""))]
    judge.equal(
        "of the answers 503 and 429, without Retry-After", len(without), 0,
        source="contract: 503 and 429 carry Retry-After: whole seconds, or an HTTP date",
    )  # fmt: skip
    judge.evidence(*(without or turned_away)[:3])


@check(
    id="circuit-breaker",
    category="system-design",
    level="senior",
    title="What a longer outage of risk does to orders",
    failure_title="What a longer outage of risk does to orders",
    why="An upstream that has failed twenty times will fail the next time, too. Asking it on behalf of every buyer costs each of "
    "them seconds, and the upstream the calm that it needs to recover.",
    remediation="A breaker that opens after a few failures and probes once in a while; short time limits and few retries are the "
    "same to a buyer.",
    question="What opens your breaker, what closes it, and what does it do when only one of several processes sees failures?",
)
def test_circuit_breaker(upstream_errors: Artifact, judge: Judge) -> None:
    orders = sorted(upstream_errors.exchanges_of("risk-503"), key=lambda order: order.started_s)
    third = max(1, len(orders) // 3)
    ledger = upstream_errors.ledger()
    told = []
    for wave in (orders[:third], orders[-third:]):
        latency_s = quantile([order.elapsed_s for order in wave], 0.5)
        calls = sum(len(attempts_of(ledger, "risk", order).answering) for order in wave) / len(wave)
        told.append(f"{latency_s:.2f} s and {calls:.1f} calls")
    judge.summary(f"an order took {told[0]} at the beginning of the outage, {told[1]} at its end")
    last_s = quantile([order.elapsed_s for order in orders[-third:]], 0.5)
    judge.at_most(
        "median of the last orders", last_s, ORDER_DEADLINE_S, unit="s", source="contract: ≤ 10 s, + 20 %"
    )


def _judge_good_day(judge: Judge, artifact: Artifact) -> bool:
    """Who sells nothing whether or not upstreams work has not dealt with their failures. Returns whether it sells."""
    posts = [found for found in _sent(artifact) if found.method == "POST"]
    return judge.at_least(
        "orders placed where payments and risk worked", sum(order.status in PLACED for order in posts), 1,
        source="contract: confirmed is 201, 202 while the outcome is unknown",
    )  # fmt: skip


def _judge_right(judge: Judge, name: str, wrong: Sequence[Exchange], source: str) -> None:
    judge.true(name, not wrong, "; ".join(found.describe() for found in wrong[:3]), source=source)
    judge.evidence(*wrong[:2])


def _judge_without_rates(judge: Judge, artifact: Artifact, ledger: Ledger) -> None:
    """What needs no rate works without one; what shows one leaves it out."""
    base = {_key(order) for order in artifact.exchanges_of("base-currency")}
    placed = [order for order in _orders(artifact) if order.key in base]
    judge.equal(
        "orders in EUR confirmed while rates are down", sum(order.status == "confirmed" for order in placed), len(base),
        source="contract: a rate is needed with `currency` only",
    )  # fmt: skip
    pages = phase_exchanges(artifact, "rates", [f"{kind}-page" for kind in KINDS])
    wrong = [page for page in pages if not _shows_no_rate(ledger, page)]
    source = "contract: display_price is null when no rate is to be had; reads ≤ 3 s, + 20 %"
    _judge_right(judge, "event pages are shown without a price that is not to be had", wrong, source)
    lists = artifact.exchanges_of("list")
    wrong = [found for found in lists if found.status != 200 or found.elapsed_s > READ_DEADLINE_S]
    _judge_right(judge, "the list is shown while rates are down", wrong, "contract: 200; reads ≤ 3 s, + 20 %")


def _judge_named_pause(judge: Judge, tried: Iterable[Attempts]) -> None:
    """After 429 with Retry-After nobody asks again before that time, or at all."""
    waited = [
        begun - ended
        for found in tried
        for first, (ended, begun) in zip(found.calls, pauses(found.calls), strict=False)
        if first.status == int(SHEDDING) and _while_answering(first, found)
    ]
    judge.equal(
        "attempts within the 3 s of a Retry-After", sum(seconds < NAMED_S for seconds in waited), 0,
        source="contract: a Retry-After is kept to, or the call is given up; - 10 %",
    )  # fmt: skip


def _while_answering(call: UpstreamCall, found: Attempts) -> bool:
    return call.started_s < found.exchange.ended_s


def _tried(artifact: Artifact, ledger: Ledger, kinds: Sequence[str]) -> list[Attempts]:
    """The attempts under these faults, for orders and event pages, before clients asked again."""
    over = artifact.facts.get("faults-over-s")
    until_s = float(over) if isinstance(over, int | float) else float("inf")
    return [
        attempts_of(ledger, upstream, exchange, until_s=until_s)
        for upstream in UPSTREAMS
        for exchange in phase_exchanges(artifact, upstream, [*kinds, *(f"{kind}-page" for kind in kinds)])
    ]


def _says_so(ledger: Ledger, upstream: Upstream, kind: str, order: Exchange) -> bool:
    """Whether an order that met this fault was answered by a status that the contract has for it."""
    if upstream == "rates" and order.status in PLACED:
        return rate_known_before(ledger, order, order.ended_s) or order.status in _ACCEPTED
    return order.status in _ALLOWED.get(f"{upstream}-{kind}", _WHEN_FAILING)


def _shows_no_rate(ledger: Ledger, page: Exchange) -> bool:
    if page.status != 200 or page.elapsed_s > READ_DEADLINE_S:
        return False
    return field(page, "display_price") is None or rate_known_before(ledger, page, page.ended_s)


def _says_when(value: str) -> bool:
    text = value.strip()
    if text.isascii() and text.isdigit():
        return True
    try:
        parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return False
    return True


def _captured(ledger: Ledger, order: Exchange) -> list[Charge]:
    found = purchases([order], ())
    return [charge for one in found for charge in one.charges_in(ledger) if charge.status == "captured"]


def _orders(artifact: Artifact) -> list[Purchase]:
    placed = [found for found in _sent(artifact) if found.method == "POST"]
    return purchases(placed, artifact.exchanges.get("settled", ()))


def _answered_phases(artifact: Artifact) -> int:
    phases = [f"{upstream}-{kind}" for upstream in ("payments", "risk") for kind in KINDS]
    return sum(any(order.status is not None for order in artifact.exchanges.get(name, ())) for name in phases)


def _sent(artifact: Artifact) -> list[Exchange]:
    return [found for exchanges in artifact.exchanges.values() for found in exchanges]


def _key(order: Exchange) -> str:
    return order.request_headers.get("Idempotency-Key", "")
