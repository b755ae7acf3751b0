"""How the clients of several scenarios behave: they keep their key, and ask again while the outcome is open."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from devstack.artifacts import Exchange
from devstack.errors import StoppedAnswering
from grader.answers import PLACED, UNAVAILABLE
from grader.scenarios.stage import Stage

PATIENCE_S = 13.0
"""Above the contract's 10 s + 20 %: a late answer is still told from none."""

_IN_PROGRESS = frozenset({409, 425})


@dataclass(frozen=True)
class Order:
    """An order as its client means it: one body under one key, however often it is sent."""

    body: dict[str, JsonValue]
    key: str


def new_order(stage: Stage, event_id: int, quantity: int = 1, *, currency: str | None = None) -> Order:
    """An order with a buyer, a card and a key of its own."""
    return Order(stage.order_body([(event_id, quantity)], currency=currency), stage.key())


async def send_order(stage: Stage, name: str, order: Order, *, timeout_s: float = PATIENCE_S) -> Exchange:
    """Send ``order`` once, on a connection of its own."""
    return await stage.send(
        name, "POST", "/orders", json_body=order.body,
        headers={"Idempotency-Key": order.key}, timeout_s=timeout_s, fresh=True,
    )  # fmt: skip


async def insist(
    stage: Stage, name: str, order: Order, *, again: int, pause_s: float, until_s: float
) -> Exchange:
    """Send ``order``, and up to ``again`` times more with the same key while its outcome is open.

    Open is: no answer, 429, 502, 503, 504; on a repetition also 409 and 425, as the first may be in progress.
    Nothing is sent again after ``until_s`` on the artifact's time axis. Returns the last exchange.
    """
    answer = await send_order(stage, name, order)
    open_statuses: frozenset[int | None] = UNAVAILABLE | {None}
    for _ in range(again):
        if answer.status not in open_statuses or stage.now() + pause_s > until_s:
            break
        await asyncio.sleep(pause_s)
        answer = await send_order(stage, name, order)
        open_statuses = UNAVAILABLE | _IN_PROGRESS | {None}
    return answer


async def settle_all(
    stage: Stage, name: str, orders: Sequence[Order], sent: Sequence[Exchange], *, within_s: float
) -> None:
    """Bring every order to its end: replay those whose client knows no order yet, then read all until final.

    Replays are recorded as ``<name>-replays``, the last readings as ``name``.
    """
    until_s = stage.now() + within_s
    known = {
        exchange.request_headers.get("Idempotency-Key")
        for exchange in sent
        if exchange.status is not None and exchange.status not in UNAVAILABLE
    }
    replays = f"{name}-replays"
    stage.record.exchanges.setdefault(replays, [])
    unknown = [order for order in orders if order.key not in known]
    await asyncio.gather(
        *(insist(stage, replays, order, again=10, pause_s=2.0, until_s=until_s) for order in unknown)
    )
    everything = [*sent, *stage.record.exchanges[replays]]
    placed = [exchange for exchange in everything if exchange.status in PLACED | UNAVAILABLE]
    await stage.settle(name, placed, within_s=max(1.0, until_s - stage.now()))


def require_an_answer(exchanges: Sequence[Exchange], doing: str) -> None:
    """Stop the scenario when the service answers nobody any more. Raises StoppedAnswering."""
    if exchanges and all(exchange.status is None for exchange in exchanges):
        errors = ", ".join(sorted({exchange.error or "unknown" for exchange in exchanges}))
        raise StoppedAnswering(f"none of {len(exchanges)} requests was answered while {doing} ({errors})")
