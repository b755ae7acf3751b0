"""What tests of both packages use: one PostgreSQL for all of them, and a tiny submission that behaves as it is told.

The cluster lives on the session's event loop: tests that use it run there too, by
``pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="session")]``.
"""

from __future__ import annotations

import datetime as dt
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from devstack.paths import first_migration
from devstack.placement import LocalPlacement
from devstack.postgres import Binaries, Cluster, find_binaries
from devstack.seed import LiveData
from devstack.world import Submission, WorldSettings

SEED = 20_260_101
TINY = Path(__file__).parent / "grader" / "tiny"

# A background job ignores Ctrl-C, and one under nohup the loss of its terminal; tests of both, and what they start, do not.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


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


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Path]:
    """Make a submission that behaves as named (see ``tiny/src/boxoffice/__main__.py``); its root folder."""

    def make(behaviour: str = "ok", *, name: str = "a submission") -> Path:
        root = tmp_path / name
        shutil.copytree(TINY, root, ignore=shutil.ignore_patterns("__pycache__"))
        (root / "src" / "boxoffice" / "behaviour.txt").write_text(behaviour)
        (root / "migrations").mkdir()
        shutil.copy(first_migration(), root / "migrations")
        return root

    return make


@pytest.fixture
def world_settings(
    cluster: Cluster, template: str, live: LiveData, tiny: Callable[..., Path]
) -> Callable[..., WorldSettings]:
    """Settings of worlds in which a tiny submission runs, by its behaviour."""

    def make(behaviour: str = "ok") -> WorldSettings:
        return WorldSettings(
            cluster=cluster,
            template=template,
            live=live,
            placement=LocalPlacement(),
            submission=Submission(tiny(behaviour), Path(sys.executable)),
            seed=7,
            ticket_secret="s",
            connection_budget=3,
            environment={"KIT": "1"},
        )

    return make
