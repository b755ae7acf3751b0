"""Two starts into trouble: every upstream refuses connections; then the database does, for six seconds."""

from __future__ import annotations

import asyncio

from devstack.errors import ServiceDied, ServiceError
from devstack.faults import Fault
from devstack.faults.model import UPSTREAMS
from devstack.service import Service
from grader.scenarios.stage import Scenario, Stage

READY_S = 36.0
"""Contract: ready ≤ 30 s after the start, + 20 %."""

DATABASE_AWAY_S = 6.0
READ_TIMEOUT_S = 5.0
GONE_TIMEOUT_S = 24.0


async def drive(stage: Stage) -> None:
    """Start without upstreams and read; start without a database and wait until it serves all the same."""
    await stage.world.faults.set_faults(*(Fault(upstream=name, kind="refuse") for name in UPSTREAMS))
    service = await _start(stage)
    if service is not None:
        ready = await _ready(stage, "without-upstreams", service, since_s=stage.now())
        if ready:
            await stage.adopt(service)
            await _read(stage)
        await _end(service, ready=ready)
    else:
        stage.fact("without-upstreams-ready", False)
    await stage.world.faults.clear_faults()
    await _without_database(stage)
    await stage.ledger()


async def _start(stage: Stage) -> Service | None:
    """The service, just started; nothing if even that was impossible."""
    try:
        return await stage.world.start_service(processes=stage.scenario.processes, wait=False)
    except ServiceError as error:
        stage.text("start", str(error))
        return None


async def _ready(stage: Stage, name: str, service: Service, *, since_s: float) -> bool:
    """Record whether ``service`` becomes ready, and how long after ``since_s``."""
    ready = True
    try:
        await service.wait_ready(READY_S)
    except ServiceError as error:
        ready = False
        stage.text(name, str(error))
        stage.fact(f"{name}-died", isinstance(error, ServiceDied))
    stage.fact(f"{name}-ready", ready)
    stage.fact(f"{name}-ready-after-s", stage.now() - since_s)
    return ready


async def _read(stage: Stage) -> None:
    """What needs no upstream: the list and an event."""
    event = stage.world.live.open_events(minimum_seats=100)[0]
    for path in ("/events?limit=5", f"/events/{event.id}"):
        await stage.get("reads", path, fresh=True, timeout_s=READ_TIMEOUT_S)


async def _without_database(stage: Stage) -> None:
    """What leaves while the database is away is started once more when it is back, as a supervisor would."""
    await stage.world.faults.set_proxy(refuse=True)
    service = await _start(stage)
    await asyncio.sleep(DATABASE_AWAY_S)
    await stage.world.faults.set_proxy()
    returned_s = stage.now()
    for restarts in (0, 1):
        stage.fact("without-database-restarts", restarts)
        ready = service is not None and await _ready(stage, "without-database", service, since_s=returned_s)
        left = service is None or service.returncode is not None
        if service is not None and (ready or restarts or not left):
            await _end(service, ready=ready)
        if ready or not left:
            break
        service = await _start(stage)


async def _end(service: Service, *, ready: bool) -> None:
    """Stop a service; one that never came up is not asked first."""
    if ready:
        service.terminate()
        await service.wait_gone(GONE_TIMEOUT_S)
    await service.close()


SCENARIO = Scenario(name="starts", drive=drive, budget_s=150, processes=1, quiet=False)
