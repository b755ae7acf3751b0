"""A mailer that is slow, hangs or fails: who waits for it, and which mails are lost."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping

from devstack.artifacts import Artifact, Ledger, UpstreamCall, quantile
from grader.answers import order_id_of, order_status_of
from grader.checks.exposition import samples_of
from grader.checks.growth import text_of
from grader.checks.limits import LIVE_WORST_S, MARGIN, READ_DEADLINE_S
from grader.checks.reading import in_window, slowest
from grader.judge import Judge, check

ORDER_S = 2 * MARGIN
MAIL_AFTER_OUTAGE_S = 60 * MARGIN
LIVE_SHARE = 0.9
"""Beside other scenarios a beat may be late; a loop that is blocked for the four seconds of a mail loses half of them."""

OWN = "and what the grader itself was late"
"""On a machine with too much to do the grader's own lag is in everything that it times, so the limits grow by it."""

PHASES = {"slow": "takes 4 s", "hang": "hangs", "error": "answers 500"}
"""What the mailer does in each phase of the scenario."""

QUICK_S = 0.8
QUICK_ATTEMPTS = 4
TIGHT_LOOP = 16
"""Quick repetitions of one mail: three within one call and one across the restart are let pass; a loop makes dozens."""

_TROUBLE = re.compile(
    r"warn|error|fail|exception|critical|retry|tried again|not (?:sent|delivered)|unavailable", re.I
)
_MAIL = re.compile(r"mail|message|outbox|notif|confirmation", re.I)


@check(
    id="order-beside-slow-mailer",
    category="async-fundamentals",
    level="junior",
    title="A slow mailer keeps nobody waiting",
    failure_title="Buyers wait for the mailer",
    why="A mail that is sent before the answer makes the checkout as slow as the mail provider, and lets it fail when the provider "
    "does. One that is sent after it, by a blocking call on the event loop, stops every other request instead.",
    remediation="Answer first. Send from a task, a thread of its own or a worker, with a deadline, by a client that does not block "
    "the loop; and not from the threads that requests need.",
    question="Where does your code run that sends the mail, and what else cannot run there meanwhile?",
)
def test_order_beside_slow_mailer(mailer_outage: Artifact, judge: Judge) -> None:
    if not all(_judge_phase(judge, mailer_outage, phase) for phase in PHASES):
        return  # what else is wrong then, follows
    reads = mailer_outage.exchanges_of("hang-reads")
    limit_s = READ_DEADLINE_S + _own_lag_s(mailer_outage)
    good = sum(read.status == 200 and read.elapsed_s <= limit_s for read in reads)
    judge.at_least(
        "event reads within 3 s while many mails hang", good, len(reads) - 1,
        source=f"contract: event reads ≤ 3 s whatever an upstream does, + 20 % {OWN}; one is left to noise",
    )  # fmt: skip
    placed = [order for phase in PHASES for order in mailer_outage.exchanges_of(phase)]
    confirmed = _confirmed(mailer_outage)
    judge.equal(
        "orders that are confirmed", len(confirmed), len(placed),
        source="contract: mail after the answer; payments is well, and ≤ 30 orders are in flight",
    )  # fmt: skip
    tried = confirmed & set(_attempts(mailer_outage.ledger()))
    judge.at_least(
        "orders whose mail was tried", len(tried), 1, source="contract: mail for every confirmed order"
    )


def _judge_phase(judge: Judge, artifact: Artifact, phase: str) -> bool:
    """Orders and heartbeats while the mailer does one thing. Returns whether the orders were in time."""
    what, lag_s = PHASES[phase], _own_lag_s(artifact)
    if phase != "error":  # heartbeats end before the service does
        beats = in_window(artifact, "live", f"{phase}-from-s", f"{phase}-until-s")
        good = sum(beat.status == 200 and beat.latency_s <= LIVE_WORST_S + lag_s for beat in beats.beats)
        judge.at_least(
            f"share of /health/live within 1 s while the mailer {what}",
            good / len(beats.beats) if beats.beats else 0.0, LIVE_SHARE,
            source=f"contract: never > 1 s (+ 20 % {OWN}); 10 % for noise",
        )  # fmt: skip
        judge.evidence(beats, name=f"latency of /health/live while the mailer {what}")
    orders = artifact.exchanges_of(phase)
    if (longest := slowest(orders)) is not None:
        judge.evidence(longest)
    return judge.at_most(
        f"p90 of {len(orders)} orders while the mailer {what}",
        quantile([order.elapsed_s for order in orders], 0.9), ORDER_S + lag_s, unit="s",
        source=f"contract: never delays an order beyond 2 s, + 20 % {OWN}; one in ten is left to noise",
    )  # fmt: skip


def _own_lag_s(artifact: Artifact) -> float:
    return artifact.heartbeats_of("live").prober_lag_p99_s


@check(
    id="mail-after-outage",
    category="system-design",
    level="senior",
    title="No mail is lost in an outage of the mailer",
    failure_title="Mails are lost in an outage of the mailer",
    why="The ticket is in the mail. What only a task or a queue in memory knows is gone with the third failure or with the next "
    "deployment, and nobody can say which buyers got none.",
    remediation="Store the mail in the same transaction that confirms the order (an outbox), mark it when the mailer has taken it, and "
    "let a worker try again with growing pauses, for as long as it takes.",
    question="The process dies between the commit of the order and the mail. Who sends it, and can the buyer get two?",
)
def test_mail_after_outage(mailer_outage: Artifact, judge: Judge) -> None:
    confirmed = _confirmed(mailer_outage)
    judge.at_least("confirmed orders", len(confirmed), 1, source="contract: payments is well")
    ledger = mailer_outage.ledger()
    until_s = mailer_outage.number("outage-until-s") + MAIL_AFTER_OUTAGE_S
    mailed = confirmed & {found.order_id for found in ledger.messages if found.accepted_s <= until_s}
    judge.equal(
        "confirmed orders with a mail", len(mailed), len(confirmed),
        source="contract: at least once, ≤ 60 s after a mailer outage (+ 20 %), a SIGTERM during it included",
    )  # fmt: skip
    attempts = {
        order_id: [call for call in calls if call.started_s < mailer_outage.number("outage-until-s")]
        for order_id, calls in _attempts(ledger).items()
    }
    hastiest = max(attempts.values(), key=_quick, default=[])
    judge.graded(
        "attempts at one mail within 0.8 s after the one before", _quick(hastiest), full=QUICK_ATTEMPTS, zero=TIGHT_LOOP,
        source="contract: background work per item ≥ 1 s apart; up to four in quick succession are let pass",
    )  # fmt: skip
    shown = sorted(confirmed - mailed)[:2]
    calls = tuple(call for order_id in shown for call in attempts.get(order_id, ()))
    judge.evidence(Ledger(taken_s=ledger.taken_s, calls=calls or tuple(hastiest)), name="attempts at a mail")
    judge.evidence(mailer_outage.log_tail, name="end of the service's log")


@check(
    id="silent-failures",
    category="monitoring-reliability",
    level="mid",
    title="A mailer that fails leaves a trace",
    failure_title="A mailer that fails leaves no trace",
    why="Work that nobody waits for fails without anybody seeing it: no answer is wrong, no request is slow. Without a line in the "
    "log or a figure that moves, the first to know are the buyers.",
    remediation="Log or count each failure where it is caught; give tasks a callback that looks at their exception; never "
    "`except Exception: pass`.",
    question="How would you know tomorrow morning that no mail has left since midnight?",
)
def test_silent_failures(mailer_outage: Artifact, judge: Judge) -> None:
    lines = [line for line in mailer_outage.text("log-of-outage").splitlines() if _TROUBLE.search(line)]
    pages = mailer_outage.exchanges_of("metrics")
    moved = _moved(pages[0].body, pages[-1].body)
    traces = [name for name, found in (("the log", lines), ("the metrics", moved)) if found]
    told = "in " + " and ".join(traces) if traces else "neither in the log nor in the metrics"
    judge.summary(f"failures of the mailer show {told}")
    judge.true("a failing mailer shows in the log or in the metrics", bool(traces), told, source="note")
    judge.evidence("\n".join([*lines[:5], *moved[:5]]), name="traces")


def _confirmed(artifact: Artifact) -> set[str]:
    """Orders that were confirmed when they were read."""
    return {
        order_id
        for reading in artifact.exchanges_of("settled")
        if order_status_of(reading) == "confirmed" and (order_id := order_id_of(reading))
    }


def _attempts(ledger: Ledger) -> Mapping[str, list[UpstreamCall]]:
    """Calls to the mailer by order, in the order of time."""
    found: dict[str, list[UpstreamCall]] = {}
    for call in sorted(ledger.calls_to("mailer", "message"), key=lambda call: call.started_s):
        order_id = call.body.get("order_id") if isinstance(call.body, dict) else None
        if isinstance(order_id, str):
            found.setdefault(order_id, []).append(call)
    return found


def _quick(calls: list[UpstreamCall]) -> int:
    """How many of the calls began shortly after the one before."""
    return sum(later.started_s - call.started_s < QUICK_S for call, later in itertools.pairwise(calls))


def _moved(before: str, after: str) -> list[str]:
    """Series that speak of mails and of trouble, and moved."""
    old = samples_of(before)
    moved = [
        (text_of(series), value) for series, value in samples_of(after).items() if old.get(series) != value
    ]
    return [f"{text} {value:g}" for text, value in moved if _MAIL.search(text) and _speaks_of_trouble(text)]


def _speaks_of_trouble(series: str) -> bool:
    return (
        re.search(r"err|fail|5\d\d|5xx|unavailable|timeout|retr|pending|backlog|dropped|lost", series, re.I)
        is not None
    )
