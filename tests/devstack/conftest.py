"""One PostgreSQL for all tests of this folder, with a template and a database per test.

The cluster lives on the session's event loop: tests that use it run there too, by
``pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]``.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from devstack.paths import first_migration
from devstack.postgres import Binaries, Cluster, Database, find_binaries
from devstack.seed import LiveData

SEED = 20_260_101


@pytest.fixture(scope="session")
def binaries() -> Binaries:
    return find_binaries()


@pytest.fixture(scope="session")
def live() -> LiveData:
    return LiveData.from_seed(SEED, dt.datetime.now(dt.UTC))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Cluster]:
    directory: Path = tmp_path_factory.mktemp("a run")
    async with await Cluster.start(directory, binaries=binaries, bind_address="127.0.0.1") as started:
        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def template(cluster: Cluster, live: LiveData) -> str:
    """The history and the live data, no migrations of a submission."""
    return await cluster.make_template("plain", live=live, migrations=first_migration().parent)


@pytest_asyncio.fixture(loop_scope="session")
async def database(cluster: Cluster, template: str) -> AsyncIterator[Database]:
    clone = await cluster.clone(template, connection_limit=3)
    yield clone
    await cluster.drop(clone)
