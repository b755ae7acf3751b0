"""The busy minute: one fixed offered rate of mixed traffic, on the submission and on the reference side by side.

Both services meet the same requests at the same rate and the same injected latency, in worlds of their own, on
the same machine in the same seconds: what disturbs one disturbs the other, and their ratio stays.

A submission gains nothing by being another service when it is busy: requests look like those of the checks, orders are
read back amid the load, and what it said is held against payments, its own answers afterwards, and a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from decimal import Decimal

import psutil

from devstack.artifacts import Exchange
from devstack.errors import ServiceDied, ServiceError
from devstack.seed import flagship_sales
from devstack.service import Service
from devstack.world import World
from grader.answers import order_status_of
from grader.load import arithmetic, books
from grader.load.answers import DETAIL_STALENESS_S, Shop
from grader.load.generator import Generator, LoadTrouble, generator
from grader.load.plan import (
    CURRENCIES,
    RATE_PER_S,
    Catalogue,
    ExpectedDay,
    Habit,
    LoadPlan,
    catalogue,
    schedule,
    side_by_side,
)
from grader.load.rehearsal import habits_of, rehearsal
from grader.load.requests import Call
from grader.load.result import LoadResult, Outcome
from grader.paths import write_text
from grader.scenarios.stage import Scenario, Stage

SUBMISSION = "submission"
SOLUTION = "solution"

DATABASE_DELAY_S = 0.002
"""Per round trip: a database in the same zone but not on the same machine. It is what makes N+1 queries cost."""

LATENCY_S = {"payments": 0.15, "risk": 0.05, "rates": 0.05, "mailer": 0.1}
"""Within the contract's normal ranges, below their middle so that a good service's p95 rests on its own work."""

CPU_SETTLE_S = 1.0
"""Between the last due request and the reading of CPU time, for what is still being answered."""

GENERATOR_CPU_SHARE = 0.5
"""Cores; a generator that needs more measures itself."""

GENERATOR_LAG_S = 0.1
"""p99 of how late requests went out; what a latency limit of 0.36 s can bear."""

SUBMISSION_SHARE_CORES = 0.8
"""A submission that uses more than this may well be what makes the generator late; then it is no excuse."""

REFERENCE_CORRECT_MINIMUM = 0.9
"""Without a reference that works there is nothing to compare with."""

REHEARSAL_S = 10.0
"""All of it; a good service needs half a second."""

READING_TIMEOUT_S = 5.0
RECONCILED_ORDERS = 40
READ_AFTER_RESTART = 10
EVENTS_COUNTED = 10
SETTLED_SALES_S = DETAIL_STALENESS_S + 1.0
"""After the last order was due: it took up to a second, and shows in its event 2 s later."""

SETTLE_S = 20.0
HOPELESS_SHARE = 0.5
"""A service that answers fewer requests right than this fails by far more than any disturbance explains."""

HOPELESS_SETTLE_S = 3.0
"""For such a service: the time is better spent elsewhere."""

FAILURES_KEPT_PER_KIND = 3
_POSTED = ("order", "replay", "invalid", "waitlist")
_PATHS = {"order-read": "/orders/{id}", "ticket": "/orders/{id}/ticket"}
"""What could not be sent has no path of its own."""


@dataclass(frozen=True)
class Cpu:
    """CPU seconds used so far: of the service's process tree, and of each of its database backends by pid."""

    tree_s: float
    backends_s: dict[int, float]

    def since(self, before: Cpu) -> float:
        """CPU seconds used after ``before`` was read.

        A backend that came and went between the two readings is not seen: a service that opens a connection
        per request hides what those backends cost, to its advantage.
        """
        backends = (used - before.backends_s.get(pid, 0.0) for pid, used in self.backends_s.items())
        return max(0.0, self.tree_s - before.tree_s) + sum(backends)


async def drive(stage: Stage) -> None:
    """Offer the load to both services, record the figures, then account for the submission's orders."""
    service = await stage.start()
    async with AsyncExitStack() as stack:
        other, reference = await _start_reference(stage, stack)
        worlds = {SUBMISSION: stage.world, SOLUTION: other}
        services = {SUBMISSION: service, SOLUTION: reference}
        for world in worlds.values():
            await world.faults.set_proxy(delay_s=DATABASE_DELAY_S)
            await world.faults.set_latency(**LATENCY_S)
        plan = await _plan(stage, services)
        account = stage.world.settings.placement.account
        running = await stack.enter_async_context(
            generator(plan, stage.world.directory / "load", account=account)
        )
        result, cpu_s = await _observe(running, plan, worlds, services)
    _record(stage, plan, result, cpu_s)
    await _reconcile(stage, plan, result)
    _refuse_trouble(stage, plan, result, cpu_s[SUBMISSION])


async def _start_reference(stage: Stage, stack: AsyncExitStack) -> tuple[World, Service]:
    if stage.reference is None:
        raise LoadTrouble("the load scenario was given no reference solution")
    # the same seed gives both the same exchange rates, so that the same order has the same total
    settings = replace(stage.reference, seed=stage.world.settings.seed)
    world = await stack.enter_async_context(World(settings, stage.world.directory / "reference"))
    try:
        return world, await world.start_service(processes=stage.scenario.processes)
    except ServiceError as error:
        raise LoadTrouble(f"the reference solution did not start: {error}") from error


async def _plan(stage: Stage, services: dict[str, Service]) -> LoadPlan:
    rates: dict[str, Decimal] = {}
    for currency in CURRENCIES:
        rates[currency] = await stage.world.faults.rate("EUR", currency)
    sales = [
        ExpectedDay(day=sold.day.isoformat(), tickets=sold.tickets, gross=str(sold.gross), orders=sold.orders)
        for sold in await flagship_sales(stage.world.cluster)
    ]
    live, seed = stage.world.live, stage.world.settings.seed
    known = catalogue(live, sales)
    habits, asked = await _rehearse(stage, known, rates)
    arms = side_by_side(*((name, service.base_url) for name, service in services.items()))
    return LoadPlan(
        arms=tuple(
            arm.model_copy(update={"habits": habits, "asked_before": asked})
            if arm.name == SUBMISSION
            else arm
            for arm in arms
        ),
        arrivals=schedule(live, rates, seed=seed),
        catalogue=known,
    )


async def _rehearse(
    stage: Stage, known: Catalogue, rates: Mapping[str, Decimal]
) -> tuple[tuple[Habit, ...], tuple[tuple[int, int], ...]]:
    """Which habits the submission has when nobody is in a hurry, and the seats that it was asked for to find out."""
    shop = Shop(known)
    until_s = stage.now() + REHEARSAL_S

    async def send(call: Call) -> Exchange:
        return await stage.send(
            "rehearsal", call.method, call.path,
            json_body=call.json_body, headers=call.headers,
            timeout_s=max(0.1, min(READING_TIMEOUT_S, until_s - stage.now())),
        )  # fmt: skip

    arrivals = rehearsal(stage.world.live, rates, seed=stage.world.settings.seed)
    habits = await habits_of(shop, arrivals, send)
    return habits, shop.asked


async def _observe(
    running: Generator, plan: LoadPlan, worlds: dict[str, World], services: dict[str, Service]
) -> tuple[LoadResult, dict[str, float]]:
    """The result of the load, and the CPU seconds that each service used from ``costed_from_s`` on."""
    start_s = await running.started()
    await _until(start_s + plan.costed_from_s)
    before = {name: await _cpu(services[name], worlds[name]) for name in services}
    await _until(start_s + plan.end_s + CPU_SETTLE_S)
    after = {name: await _cpu(services[name], worlds[name]) for name in services}
    if services[SUBMISSION].returncode is not None:
        # its CPU time went with it, and what it answered before does not make a busy minute
        raise ServiceDied(f"{services[SUBMISSION].how_it_ended()} during the load")
    return await running.result(), {name: after[name].since(before[name]) for name in services}


async def _until(instant_s: float) -> None:
    await asyncio.sleep(max(0.0, instant_s - time.monotonic()))


async def _cpu(service: Service, world: World) -> Cpu:
    rows = await world.cluster.fetch(
        "SELECT pid FROM pg_stat_activity WHERE usename = %s", world.database.role
    )
    backends_s: dict[int, float] = {}
    for (pid,) in rows:
        with contextlib.suppress(psutil.Error):
            times = psutil.Process(pid).cpu_times()
            backends_s[pid] = times.user + times.system
    return Cpu(tree_s=service.usage().cpu_s, backends_s=backends_s)


def _record(stage: Stage, plan: LoadPlan, result: LoadResult, cpu_s: dict[str, float]) -> None:
    for name, outcomes in result.outcomes.items():
        measured = arithmetic.due_from(outcomes, plan.arrivals, plan.warm_up_s)
        costed = arithmetic.due_from(outcomes, plan.arrivals, plan.costed_from_s)
        figures = arithmetic.summary(measured, timeout_s=plan.timeout_s)
        stage.fact(name, {**figures, **arithmetic.cost(costed, cpu_s=cpu_s[name])})
        if name == SUBMISSION:
            kept = next(arm.habits for arm in plan.arms if arm.name == name)
            stage.fact("habits", arithmetic.habits(measured, plan.arrivals, kept))
            stage.record.exchanges["failed"] = _failures(stage, plan, measured)
    stage.fact(
        "generator", {"cpu_share": round(result.cpu_share, 3), "lag_p99_s": round(result.lag_p99_s, 4)}
    )
    stage.fact(
        "window",
        {"rate_per_s": RATE_PER_S, "measured_s": plan.end_s - plan.warm_up_s, "timeout_s": plan.timeout_s},
    )
    directory = stage.world.directory / "load"
    write_text(directory / "requests.csv", arithmetic.requests_csv(result.outcomes, start_s=result.start_s))
    write_text(
        directory / "seconds.csv",
        arithmetic.seconds_csv(result.outcomes, start_s=result.start_s, timeout_s=plan.timeout_s),
    )


def _failures(stage: Stage, plan: LoadPlan, outcomes: Sequence[Outcome]) -> list[Exchange]:
    """The first few failed requests of each kind; the kind is the label."""
    kept: dict[str, list[Exchange]] = {}
    for outcome in outcomes:
        if outcome.failure is None:
            continue
        examples = kept.setdefault(outcome.failure, [])
        if len(examples) < FAILURES_KEPT_PER_KIND:
            ended_s = outcome.ended_s if outcome.ended_s is not None else outcome.due_s + plan.timeout_s
            examples.append(
                Exchange(
                    label=outcome.failure,
                    method="POST" if outcome.endpoint in _POSTED else "GET",
                    path=outcome.path or _PATHS.get(outcome.endpoint, outcome.endpoint),
                    started_s=outcome.due_s - stage.world.epoch,
                    elapsed_s=ended_s - outcome.due_s,
                    status=outcome.status,
                    error=None if outcome.status is not None else outcome.failure,
                )
            )
    return [example for kind in sorted(kept) for example in kept[kind]]


async def _reconcile(stage: Stage, plan: LoadPlan, result: LoadResult) -> None:
    """Hold what the service said under load against what there is: orders, charges, seats, and all of it once more.

    Orders are read back until they are settled; the ledger has their charges; events show what was sold. Then the
    service is killed and started: what it had only in its memory is gone.
    """
    placed, outcomes = result.orders[SUBMISSION], result.outcomes[SUBMISSION]
    chosen = stage.random.sample(placed, min(RECONCILED_ORDERS, len(placed)))
    accepted = books.accepted_orders(plan, placed, {order.number for order in chosen})
    stage.fact("accepted-orders", [order.model_dump() for order in accepted])
    stage.fact("refused-cards", list(books.refused_cards(plan, outcomes)))
    answers = [
        Exchange(
            label="accepted", method="POST", path="/orders", started_s=stage.now(), elapsed_s=0,
            status=201, payload={"id": order.id},
        )
        for order in chosen
    ]  # fmt: skip
    hopeless = _correct_share(stage, SUBMISSION) < HOPELESS_SHARE
    await stage.settle("settled", answers, within_s=HOPELESS_SETTLE_S if hopeless else SETTLE_S)
    if hopeless:
        await stage.ledger("load")
        return
    arm = next(arm for arm in plan.arms if arm.name == SUBMISSION)
    await _until(result.start_s + plan.end_s + SETTLED_SALES_S)
    await stage.ledger("load")
    counted = books.seats(plan, arm, outcomes, placed, events=EVENTS_COUNTED)
    stage.fact("seats", [event.model_dump() for event in counted])
    for event in counted:
        await stage.get("seats", f"/events/{event.event_id}", timeout_s=READING_TIMEOUT_S)
    await _read_after_restart(stage)


async def _read_after_restart(stage: Stage) -> None:
    stage.service.kill()
    await stage.service.close()
    await stage.start()
    stage.record.exchanges["after-restart"] = []
    confirmed = [
        reading for reading in stage.record.exchanges["settled"] if order_status_of(reading) == "confirmed"
    ]
    for reading in confirmed[:READ_AFTER_RESTART]:
        await stage.get("after-restart", reading.path, timeout_s=READING_TIMEOUT_S)


def _refuse_trouble(stage: Stage, plan: LoadPlan, result: LoadResult, submission_cpu_s: float) -> None:
    """Raise LoadTrouble if the measurement itself was disturbed, and the submission is not what disturbed it."""
    if submission_cpu_s / (plan.end_s - plan.costed_from_s) > SUBMISSION_SHARE_CORES:
        return
    if _correct_share(stage, SUBMISSION) < HOPELESS_SHARE:
        return
    if result.cpu_share > GENERATOR_CPU_SHARE:
        raise LoadTrouble(f"the load generator used {result.cpu_share:.2f} cores")
    if result.lag_p99_s > GENERATOR_LAG_S:
        raise LoadTrouble(f"the load generator sent requests {result.lag_p99_s:.2f} s late (p99)")
    if _correct_share(stage, SOLUTION) < REFERENCE_CORRECT_MINIMUM:
        raise LoadTrouble("the reference solution failed beside a submission that did not")


def _correct_share(stage: Stage, name: str) -> float:
    figures = stage.record.facts[name]
    assert isinstance(figures, dict), "figures are an object"
    return float(figures["correct"]) / float(figures["offered"])  # type: ignore[arg-type]


SCENARIO = Scenario(name="load", drive=drive, budget_s=95, processes=1, quiet=True)
