"""PostgreSQL, the wire proxy and the upstream stubs from the kit's devstack; the application in this process."""

from __future__ import annotations

import datetime as dt
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from hypothesis.configuration import set_hypothesis_home_dir
from starlette.types import Receive, Scope, Send

from boxoffice.app import create_app
from boxoffice.settings import Settings
from devstack.placement import LocalPlacement
from devstack.postgres import Cluster
from devstack.postgres_binaries import find_binaries
from devstack.seed import LiveData
from devstack.world import Submission, World, WorldSettings

ROOT = Path(__file__).parents[1]
set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "boxoffice-hypothesis")  # the source tree stays clean
SEED = 20
SECRET = "a-secret-of-the-tests"


@pytest.fixture(scope="session")
def live() -> LiveData:
    return LiveData.from_seed(SEED, dt.datetime.now(dt.UTC))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world_settings(
    tmp_path_factory: pytest.TempPathFactory, live: LiveData
) -> AsyncIterator[WorldSettings]:
    placement = LocalPlacement()
    cluster = await Cluster.start(
        tmp_path_factory.mktemp("cluster"), binaries=find_binaries(), bind_address=placement.bind_address
    )
    async with cluster:
        yield WorldSettings(
            cluster=cluster,
            template=await cluster.make_template(
                "template_solution", live=live, migrations=ROOT / "migrations"
            ),
            live=live,
            placement=placement,
            submission=Submission(ROOT, Path(sys.executable)),
            seed=SEED,
            ticket_secret=SECRET,
        )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(
    world_settings: WorldSettings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """One world for all tests of the application in this process; each test uses events of its own."""
    async with World(world_settings, tmp_path_factory.mktemp("world")) as opened:
        yield opened


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def running_app(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with serve(settings_for(world)) as client:
        yield client


@pytest_asyncio.fixture(loop_scope="session")
async def client(running_app: httpx.AsyncClient, world: World) -> AsyncIterator[httpx.AsyncClient]:
    """The application, with upstreams and database as on a quiet day before and after."""
    yield running_app
    await world.faults.clear_faults()
    await world.faults.set_latency(payments=0.05, risk=0.02, rates=0.02, mailer=0.05)
    await world.faults.set_proxy()


@pytest.fixture(scope="session")
def event_ids(live: LiveData) -> Iterator[int]:
    """Ids of events on sale with hundreds of seats, each given out once."""
    return iter([event.id for event in live.open_events(minimum_seats=300)])


@pytest.fixture
def event_id(event_ids: Iterator[int]) -> int:
    return next(event_ids)


@pytest.fixture(scope="session")
def small_event_ids(live: LiveData) -> Iterator[int]:
    """Ids of events on sale with 20 seats, each given out once."""
    return iter([event.id for event in live.open_events() if event.seats_total == 20])


def settings_for(world: World) -> Settings:
    urls = {f"{name}_url": url for name, url in world.faults.urls.items()}
    dsn = world.database.dsn(world.room.bind_address, world.faults.proxy_port)
    return Settings.model_validate(
        {"database_url": dsn, "ticket_secret": SECRET, "log_level": "WARNING", **urls}
    )


@asynccontextmanager
async def serve(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """The application with its lifespan, without a server."""
    app = create_app(settings)
    async with app.router.lifespan_context(app) as state:

        async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport = httpx.ASGITransport(with_state)
        async with httpx.AsyncClient(transport=transport, base_url="http://boxoffice", timeout=30) as client:
            yield client
