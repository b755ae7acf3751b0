"""Hundreds of requests that fail; then good ones, the seats of the failed orders, large bodies, no database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import urlsplit

from devstack.artifacts import Exchange
from devstack.faults.model import UPSTREAMS
from grader.answers import PLACED, seats_available_of
from grader.scenarios.clients import require_an_answer
from grader.scenarios.failing_requests import (
    ORDER_TIMEOUT_S,
    READ_TIMEOUT_S,
    SEATS,
    Shop,
    failing_orders,
    failing_payments,
    failing_requests,
)
from grader.scenarios.large_bodies import LargeBody, send_large
from grader.scenarios.metrics_page import scrape
from grader.scenarios.stage import Scenario, Stage

GOOD_ORDERS = 12
GOOD_READS = 20
READS_AFTER, ORDERS_AFTER, REPORTS_AFTER = 18, 5, 2

BUSY_READS = 8
BUSY_DELAY_S = 0.8
"""Longer than the metrics page takes; shorter than any read's deadline, also with two round trips."""

DECLARED_BYTES, CHUNKED_BYTES = 2_000_000, 32_000_000
RSS_INTERVAL_S = 0.15

SEATS_BACK_S = 38.5
"""Contract: 30 s after the last request or fault, shown at most 2 s later, + 20 %."""

ROUNDS_IN_VAIN = 3
"""Readings of all events in a row without one answer: then nobody shows seats any more."""

SETTLE_S = 18.0
LARGEST_ORDER = 6
DISTINCT_READS = 2000
DISTINCT_READS_S = 4.0
READS_AT_ONCE = 10
LEFT_OPEN_S = 6.5
"""A transaction is left open when nobody has used it for more than 5 s."""

LOG_LIMIT_BYTES = 20_000_000
LOG_DELAY_S = 0.5

_OPEN_TRANSACTION = """
    SELECT coalesce(max(extract(epoch FROM now() - state_change)), 0)::float8
    FROM pg_stat_activity WHERE usename = %s AND state LIKE 'idle in transaction%%'
"""


async def drive(stage: Stage) -> None:
    """What fails comes before what must work afterwards; what waits for the seats is used for the rest."""
    await stage.start()
    shop = Shop.on(stage)
    stage.fact("card-token-marker", shop.marker)
    stage.fact("payments-port", urlsplit(stage.world.faults.urls["payments"]).port)
    await _good_requests(shop)
    await failing_payments(shop)
    await _read_metrics(stage, "metrics-failed")
    await _reads_and_failures(shop)
    failed_s = stage.now()
    await _good_requests_after(shop)
    await _busy_pool(stage)
    await _large_bodies(shop)
    await _seats_come_back(shop, failed_s)
    await _distinct_reads(stage)
    await _transactions_left_open(stage, failed_s)
    await stage.ledger()
    await _without_database(shop)
    await _secrets(stage)


async def _good_requests(shop: Shop) -> None:
    """Orders that succeed, between two readings of the metrics."""
    stage = shop.stage
    warm = [await shop.order("warm", shop.event_id), await stage.get("warm", f"/events/{shop.event_id}")]
    require_an_answer(warm, "warming up")
    stage.fact("memory-before-bytes", stage.service.usage().rss_bytes)
    await _read_metrics(stage, "metrics-before")
    for _ in range(2):
        await asyncio.gather(*(shop.order("good:orders", shop.event_id) for _ in range(GOOD_ORDERS // 2)))
    await _read_metrics(stage, "metrics-good")


async def _read_metrics(stage: Stage, name: str) -> None:
    await asyncio.sleep(0.3)  # what was answered last is counted
    await scrape(stage, name)
    await stage.ledger(name)


async def _reads_and_failures(shop: Shop) -> None:
    """Between two readings of the metrics: as many answers of each class as nobody can overlook."""
    stage = shop.stage
    for _ in range(GOOD_READS):
        if (
            await stage.get("good:reads", f"/events/{shop.event_id}", timeout_s=READ_TIMEOUT_S)
        ).status is None:
            break
    await failing_requests(shop)
    await failing_orders(shop)
    await _read_metrics(stage, "metrics-after")


async def _good_requests_after(shop: Shop) -> None:
    """Nothing fails any more. Of each kind no more are sent when two in a row did not succeed."""
    stage, event = shop.stage, f"/events/{shop.event_id}"
    await _until_two_fail(READS_AFTER, lambda: stage.get("reads-after", event, timeout_s=READ_TIMEOUT_S))
    await _until_two_fail(
        REPORTS_AFTER, lambda: stage.get("reports-after", f"{event}/sales", timeout_s=ORDER_TIMEOUT_S)
    )
    await _until_two_fail(ORDERS_AFTER, lambda: shop.order("orders-after", shop.event_id))


async def _until_two_fail(count: int, send: Callable[[], Awaitable[Exchange]]) -> None:
    in_a_row = 0
    for _ in range(count):
        in_a_row = 0 if (await send()).ok else in_a_row + 1
        if in_a_row == 2:
            break


async def _busy_pool(stage: Stage) -> None:
    """Reads of orders wait for a slow database while the metrics are read; and once more when they have gone."""
    await stage.world.faults.set_proxy(delay_s=BUSY_DELAY_S)
    async with asyncio.TaskGroup() as group:
        for _ in range(BUSY_READS):
            group.create_task(stage.get("busy", f"/orders/{stage.key()}", timeout_s=READ_TIMEOUT_S))
        await asyncio.sleep(BUSY_DELAY_S / 2)
        await scrape(stage, "metrics-busy")
    await stage.world.faults.set_proxy()
    await _read_metrics(stage, "metrics-idle")


async def _large_bodies(shop: Shop) -> None:
    """A body of declared length, then a chunked one, beside heartbeats; and an order as always."""
    stage = shop.stage
    rss: list[int] = [stage.service.usage().rss_bytes]

    async def sample() -> None:
        while True:
            await asyncio.sleep(RSS_INTERVAL_S)
            rss.append(stage.service.usage().rss_bytes)

    sampling = asyncio.create_task(sample())
    try:
        async with stage.heartbeats("live-beside-bodies", interval_s=0.05, timeout_s=READ_TIMEOUT_S):
            for name, size, chunked in (
                ("body-declared", DECLARED_BYTES, False), ("body-chunked", CHUNKED_BYTES, True),
            ):  # fmt: skip
                body = LargeBody(shop.body(shop.event_id), size, chunked)
                await send_large(stage, name, body, stage.key())
    finally:
        sampling.cancel()
    stage.fact("memory-of-bodies-bytes", max(rss) - rss[0])
    await shop.order("order-after-bodies", shop.event_id)


async def _seats_come_back(shop: Shop, since_s: float) -> None:
    """Read the events until each has all seats on sale that nobody paid for; then buy these, and one more."""
    stage = shop.stage
    stage.fact("hold-events", dict(shop.hold_events))
    stage.fact("hold-seats", SEATS)
    stage.fact("seats-back-after-s", None)
    in_vain = 0
    while True:
        ledger = await stage.world.faults.ledger()
        events = list(shop.hold_events.values())
        readings = [
            await stage.get("_seats", f"/events/{event}", timeout_s=READ_TIMEOUT_S) for event in events
        ]
        free = [SEATS - shop.sold(ledger, event) for event in events]
        if [seats_available_of(reading) for reading in readings] == free:
            stage.fact("seats-back-after-s", stage.now() - since_s)
            break
        in_vain = 0 if any(reading.ok for reading in readings) else in_vain + 1
        if stage.now() - since_s > SEATS_BACK_S or in_vain == ROUNDS_IN_VAIN:
            break
        await asyncio.sleep(0.5)
    stage.record.exchanges.pop("_seats", None)
    stage.record.exchanges["seats-read"] = readings
    stage.fact("seats-expected", dict(zip(shop.hold_events, free, strict=True)))
    bought = await asyncio.gather(
        *(_buy_all(shop, kind, seats) for kind, seats in zip(shop.hold_events, free, strict=True))
    )
    await stage.settle(
        "bought-settled",
        [order for orders in bought for order in orders if order.status == 202],
        within_s=SETTLE_S,
    )


async def _buy_all(shop: Shop, kind: str, seats: int) -> Sequence[Exchange]:
    """Buy ``seats`` seats in a few orders, then one seat that is not there."""
    orders: list[Exchange] = []
    while seats > 0:
        quantity = min(seats, LARGEST_ORDER)
        orders.append(await shop.order(f"bought:{kind}", shop.hold_events[kind], quantity))
        if orders[-1].status not in PLACED:
            return orders
        seats -= quantity
    orders.append(await shop.order(f"beyond:{kind}", shop.hold_events[kind]))
    return orders


async def _distinct_reads(stage: Stage) -> None:
    """Many requests that have nothing in common, and what they cost in memory together with all before."""
    until_s = stage.now() + DISTINCT_READS_S
    sent = 0
    while sent < DISTINCT_READS and stage.now() < until_s:
        answers = await asyncio.gather(*(_distinct_read(stage) for _ in range(READS_AT_ONCE)))
        sent += READS_AT_ONCE
        if all(answer.status is None for answer in answers):
            break
    stage.record.exchanges.pop("_distinct", None)
    stage.fact("memory-after-bytes", stage.service.usage().rss_bytes)
    stage.fact("distinct-reads", sent)


def _distinct_read(stage: Stage) -> Awaitable[Exchange]:
    headers = {"X-Request-ID": stage.key()}
    return stage.get("_distinct", f"/orders/{stage.key()}", headers=headers, timeout_s=READ_TIMEOUT_S)


async def _transactions_left_open(stage: Stage, failed_s: float) -> None:
    """How long the oldest transaction that nobody works on has been open, well after the last failure."""
    await asyncio.sleep(max(0.0, failed_s + LEFT_OPEN_S - stage.now()))
    rows = await stage.world.cluster.fetch(_OPEN_TRANSACTION, stage.world.database.role)
    stage.fact("open-transaction-s", float(rows[0][0]))


async def _without_database(shop: Shop) -> None:
    """One request of each kind while the database refuses connections."""
    stage, event_id = shop.stage, shop.event_id
    entry: dict[str, str | int] = {"email": stage.world.live.buyer(6000), "quantity": 1}
    await stage.world.faults.set_proxy(refuse=True)
    await stage.world.faults.cut()
    name = "no-database"
    paths = ("/events?limit=3", f"/events/{event_id}", f"/events/{event_id}/sales", f"/orders/{stage.key()}")
    await asyncio.gather(
        *(stage.get(name, path, timeout_s=ORDER_TIMEOUT_S) for path in (*paths, f"/orders/{stage.key()}/ticket")),
        shop.order(name, event_id),
        stage.send(name, "POST", f"/events/{event_id}/waitlist", json_body={**entry}, timeout_s=ORDER_TIMEOUT_S),
    )  # fmt: skip
    await stage.world.faults.set_proxy()


async def _secrets(stage: Stage) -> None:
    """What must not be told, and the lines of the service's output that tell it."""
    world = stage.world
    marker = stage.record.facts["card-token-marker"]
    secrets = {
        "card token": str(marker),
        "TICKET_SECRET": world.settings.ticket_secret,
        "database password": world.database.password,
    }
    stage.fact("secrets", dict(secrets))
    addresses = [world.faults.urls[name].partition("//")[2] for name in UPSTREAMS]
    stage.fact("internal-addresses", [*addresses, f"{world.cluster.host}:{world.faults.proxy_port}"])
    await asyncio.sleep(LOG_DELAY_S)  # the log travels through a pipe
    log = await asyncio.to_thread(stage.service.log_text, limit=LOG_LIMIT_BYTES)
    stage.fact("log-characters", len(log))
    for name, secret in secrets.items():
        lines = [line[:2000] for line in log.splitlines() if secret in line]
        stage.fact(f"log-lines-with-{name}", len(lines))
        stage.text(f"log-with-{name}", "\n".join(lines[:20]))


SCENARIO = Scenario(name="failures", drive=drive, budget_s=150, processes=1, quiet=False)
