"""What the log tells of a request, besides the one line with its id that the contract asks for."""

from __future__ import annotations

from devstack.artifacts import Artifact, Exchange
from grader.judge import Judge, check


@check(
    id="log-context",
    category="monitoring-reliability",
    level="senior",
    title="What the log tells about one request",
    failure_title="What the log tells about one request",
    why="In an incident one searches for an id and reads what comes. With the id on every line of a request the story is there; with "
    "it on the access line only, the lines between are somebody's.",
    remediation="Bind the id (and the order's id, once there is one) to a context variable in pure ASGI middleware and let the log's "
    "formatter add it; BaseHTTPMiddleware does not see what an endpoint binds.",
    question="Which lines would you find by the id of one failed order, and which lines of that order would you miss?",
)
def test_log_context(contract: Artifact, judge: Judge) -> None:
    lines = contract.text("request-id-log").splitlines()
    at_once = contract.exchanges_of("request-ids-at-once")
    reads = [read for read in at_once if read.method == "GET"]
    naming = [(read, line) for read in reads for line in lines if read.path in line]
    own = sum(_id_of(read) in line for read, line in naming)
    asked = [*contract.exchanges_of("request-ids"), *at_once]
    with_id = sum(any(_id_of(exchange) in line for exchange in asked) for line in lines)
    orders = [order for order in asked if order.method == "POST"]
    of_orders = sum(_id_of(order) in line for order in orders for line in lines)
    judge.summary(
        f"{own} of {len(naming)} lines that name the path of a request carry its id; "
        f"{of_orders / max(1, len(orders)):.1f} lines per order carry its id; "
        f"{with_id} of {len(lines)} lines carry any id that was sent"
    )
    judge.true("the log was read", True, f"{len(lines)} lines")


def _id_of(exchange: Exchange) -> str:
    return exchange.request_headers.get("X-Request-ID", "no id was sent")
