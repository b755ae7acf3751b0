"""The tools of a scenario: drive the service, write down what was seen, judge nothing."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue

from devstack.artifacts import (
    DatabaseCounters,
    Exchange,
    Heartbeat,
    Heartbeats,
    Ledger,
    quantile,
)
from devstack.asking import BODY_LIMIT_BYTES, SMALL_BODY_LIMIT_BYTES, Answer, Client
from devstack.errors import ServiceError, StoppedAnswering
from devstack.seed import LiveData
from devstack.service import Service
from devstack.world import World, WorldSettings
from grader.answers import FINAL_STATUSES, order_id_of, order_status_of
from grader.scenarios.exchanges import TEXT_CAP, Room, exchange_with
from grader.scenarios.recorder import Recorder

CLIENT_TIMEOUT_S = 15.0
"""The client's patience: above every deadline of the contract (10 s), so that a late answer is still seen."""

PATH_THAT_NEEDS_NOTHING = "/no-such-page"
"""Its 404 needs neither database nor upstream, whatever the health endpoints look at."""

UNANSWERED_LIMIT = 3
UNANSWERED_S = 25.0
"""A service that answered none of its last requests for so long is given up: waiting on proves nothing more."""


class FloodedUpstreams(ServiceError):
    """The service called its upstreams more often than they have room for: what it did after that is not known."""


@dataclass(frozen=True)
class Scenario:
    """What the pipeline needs to know of a scenario.

    ``budget_s``: when driving is cut short. ``quiet``: judges latency, so it has the CPU for itself;
    others mostly wait and run side by side. ``processes``: ``WEB_CONCURRENCY`` of the service. ``data``: the
    live data of a scenario that needs other events than the rest, from the run's and the instant of its start.
    """

    name: str
    drive: Callable[[Stage], Awaitable[None]]
    budget_s: float
    processes: int = 1
    quiet: bool = True
    data: Callable[[LiveData, dt.datetime], LiveData] | None = None


class Stage:
    """One scenario on stage: its world, its service, an HTTP client and the recorder."""

    def __init__(
        self,
        scenario: Scenario,
        world: World,
        recorder: Recorder,
        *,
        seed: int,
        reference: WorldSettings | None = None,
    ) -> None:
        self.scenario = scenario
        self.world = world
        self.reference = reference
        self.record = recorder
        self.random = random.Random(f"{seed}:{scenario.name}")
        self._service: Service | None = None
        self._fresh: Client | None = None
        self._kept: Client | None = None
        self._room = Room()
        self._buyers = 0
        self._unanswered = 0
        self._last_answer_s = 0.0

    @property
    def started(self) -> bool:
        """Whether the service has been ready at least once."""
        return self._service is not None

    @property
    def service(self) -> Service:
        """The running service. :meth:`start` starts it."""
        assert self._service is not None, "the scenario has not started the service"
        return self._service

    def now(self) -> float:
        """Seconds on the artifact's time axis."""
        return self.world.now()

    async def start(
        self, *, processes: int | None = None, environment: Mapping[str, str] | None = None
    ) -> Service:
        """Start the service (again) and wait until it is ready. Raises ServiceDied, NeverReady."""
        service = await self.world.start_service(
            processes=self.scenario.processes if processes is None else processes, environment=environment
        )
        await self.adopt(service)
        return service

    async def adopt(self, service: Service) -> None:
        """Send what follows to ``service``, which the world has started."""
        self._service = service
        await self.close()
        self._unanswered, self._last_answer_s = 0, self.now()
        self._kept = Client(service.base_url, keep_alive=True)
        self._fresh = Client(service.base_url)

    async def close(self) -> None:
        """Close the HTTP clients."""
        for client in (self._kept, self._fresh):
            if client is not None:
                await client.aclose()

    # -- requests ------------------------------------------------------------------------------------------

    async def send(
        self,
        name: str,
        method: str,
        path: str,
        *,
        json_body: JsonValue = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = CLIENT_TIMEOUT_S,
        fresh: bool = False,
    ) -> Exchange:
        """Send one request, record the exchange under ``name`` and return it.

        Raises StoppedAnswering when the service has not answered anything for a long time; nothing else that it does raises.
        ``fresh`` opens a connection of its own (and closes it after), so that any of several processes may answer.
        """
        client = self._fresh if fresh else self._kept
        assert client is not None, "the scenario has not started the service"
        exchange = await exchange_with(
            client, name, method, path,
            json_body=json_body, content=content, headers=headers, timeout_s=timeout_s, now=self.now,
            room=self._room,
        )  # fmt: skip
        self.record.exchanges.setdefault(name, []).append(exchange)
        self._notice(exchange)
        return exchange

    async def ask(
        self, method: str, path: str, *, timeout_s: float, limit_bytes: int = BODY_LIMIT_BYTES
    ) -> Answer:
        """Send one request on a connection of its own that is not recorded. Raises nothing that the service does."""
        assert self._fresh is not None, "the scenario has not started the service"
        return await self._fresh.ask(method, path, timeout_s=timeout_s, limit_bytes=limit_bytes)

    def _notice(self, exchange: Exchange) -> None:
        if exchange.error != "timeout":
            self._unanswered = 0
            self._last_answer_s = self.now()
            return
        self._unanswered += 1
        silent_s = self.now() - self._last_answer_s
        if self._unanswered >= UNANSWERED_LIMIT and silent_s > UNANSWERED_S:
            raise StoppedAnswering(
                f"the service stopped answering: {self._unanswered} requests in a row timed out"
            )

    async def get(self, name: str, path: str, **options: Any) -> Exchange:
        """``send`` with GET."""
        return await self.send(name, "GET", path, **options)

    def order_body(
        self,
        items: Sequence[tuple[int, int]],
        *,
        currency: str | None = None,
        email: str | None = None,
        token: str | None = None,
    ) -> dict[str, JsonValue]:
        """A valid order body with an own buyer and an own card token; ``items`` are (event id, quantity)."""
        self._buyers += 1
        body: dict[str, JsonValue] = {
            "buyer_email": email or self.world.live.buyer(self._buyers),
            "card_token": token or f"tok_{self.random.getrandbits(64):016x}",
            "items": [{"event_id": event_id, "quantity": quantity} for event_id, quantity in items],
        }
        if currency is not None:
            body["currency"] = currency
        return body

    def key(self) -> str:
        """A fresh idempotency key, reproducible by the run's seed."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    async def order(
        self,
        name: str,
        items: Sequence[tuple[int, int]],
        *,
        currency: str | None = None,
        email: str | None = None,
        token: str | None = None,
        key: str | None = None,
        timeout_s: float = CLIENT_TIMEOUT_S,
        fresh: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Exchange:
        """Place one order, recorded under ``name``."""
        body = self.order_body(items, currency=currency, email=email, token=token)
        return await self.send(
            name, "POST", "/orders", json_body=body,
            headers={"Idempotency-Key": key or self.key(), **(headers or {})}, timeout_s=timeout_s, fresh=fresh,
        )  # fmt: skip

    # -- observation ---------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def heartbeats(
        self, name: str, *, interval_s: float = 0.05, path: str = "/health/live", timeout_s: float = 12.0
    ) -> AsyncIterator[Sequence[Heartbeat]]:
        """Probe ``path`` at a fixed beat on fresh connections while the block runs (open model).

        Yields the beats answered so far, which grows meanwhile.
        """
        assert self._fresh is not None, "the scenario has not started the service"
        client = self._fresh
        beats: list[Heartbeat] = []
        lags: list[float] = []
        sent: set[asyncio.Task[None]] = set()

        async def beat(intended_s: float) -> None:
            status = None
            try:
                answer = await client.ask(
                    "GET", path, timeout_s=timeout_s, limit_bytes=SMALL_BODY_LIMIT_BYTES
                )
                status = answer.status
            finally:
                latency_s = self.now() - intended_s
                beats.append(Heartbeat(intended_s=intended_s, latency_s=latency_s, status=status))

        async def prober() -> None:
            due = self.now()
            while True:
                lags.append(max(0.0, self.now() - due))
                task = asyncio.create_task(beat(due))
                sent.add(task)
                task.add_done_callback(sent.discard)
                due += interval_s
                await asyncio.sleep(max(0.0, due - self.now()))

        running = asyncio.create_task(prober())
        try:
            yield beats
            # A block that was over at once has beats to be judged by, too.
            await asyncio.sleep(min(0.5, 5 * interval_s))
        except BaseException:
            for task in sent:
                task.cancel()  # recorded as unanswered so far: an interruption waits for nobody
            raise
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            if sent:
                await asyncio.wait(sent, timeout=timeout_s)
            beats.sort(key=lambda found: found.intended_s)
            self.record.heartbeats[name] = Heartbeats(
                interval_s=interval_s,
                beats=tuple(beats),
                prober_lag_p99_s=quantile(lags, 0.99) if lags else 0.0,
            )

    @contextlib.asynccontextmanager
    async def connection_samples(self, name: str, *, interval_s: float = 0.1) -> AsyncIterator[None]:
        """Sample the service's database sessions while the block runs."""
        samples = self.record.connections.setdefault(name, [])

        async def sampler() -> None:
            while True:
                sample = await self.world.cluster.sessions(self.world.database)
                samples.append(sample.model_copy(update={"at_s": self.now()}))
                await asyncio.sleep(interval_s)

        running = asyncio.create_task(sampler())
        try:
            yield
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def counters(self, name: str) -> DatabaseCounters:
        """Record the wire proxy's counters under ``name``."""
        found = await self.world.faults.counters()
        self.record.counters[name] = found
        return found

    async def ledger(self, name: str = "final") -> Ledger:
        """Record a snapshot of the upstream ledgers under ``name``. Raises FloodedUpstreams."""
        faults = self.world.faults
        found = await faults.ledger()
        self.record.ledgers[name] = found
        if faults.calls_dropped:
            raise FloodedUpstreams(
                f"the service called its upstreams {len(found.calls) + faults.calls_dropped} times; "
                f"after {len(found.calls)} calls they answered no more"
            )
        return found

    def fact(self, name: str, value: JsonValue) -> None:
        """Record a fact that later judgement needs (a seat count, a threshold's parameter)."""
        self.record.facts[name] = value

    def text(self, name: str, value: str, cap: int = TEXT_CAP * 4) -> None:
        """Record a text, cut at ``cap`` characters."""
        self.record.texts[name] = value[:cap]

    async def settle(self, name: str, orders: Sequence[Exchange], *, within_s: float) -> list[Exchange]:
        """Read each placed order until it is in a final status; record the last reading of each under ``name``.

        Orders without an id in their answer are left out: there is nothing to read. Readings stop after ``within_s``.
        """
        waiting = {order_id for order in orders if (order_id := order_id_of(order)) is not None}
        last: dict[str, Exchange] = {}
        deadline = self.now() + within_s
        while waiting:
            for order_id in sorted(waiting):
                reading = await self.send("_settling", "GET", f"/orders/{order_id}", timeout_s=5)
                last[order_id] = reading.model_copy(update={"label": name})
                if order_status_of(reading) in FINAL_STATUSES:
                    waiting.discard(order_id)
                if self.now() > deadline:
                    waiting.clear()
                    break
            if waiting:
                await asyncio.sleep(0.5)
        self.record.exchanges.pop("_settling", None)
        readings = [last[order_id] for order_id in sorted(last)]
        self.record.exchanges[name] = readings
        return readings
