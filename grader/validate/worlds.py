"""Driving units for real: one PostgreSQL for all subjects, a database template for each set of migrations."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import secrets
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from devstack.artifacts import Artifact, Outcome
from devstack.errors import MigrationFailed
from devstack.placement import LocalPlacement, Placement
from devstack.postgres import Cluster, Database, find_binaries
from devstack.seed import LiveData
from devstack.world import Submission, WorldSettings
from grader import environment, intake
from grader.driving import drive
from grader.scenarios import SCENARIOS
from grader.validate.digests import LOAD, TESTS
from grader.validate.subjects import SOLUTION, Subject, materialise
from grader.validate.units import Unit

IDLE_TEMPLATES = 3
"""Templates that stay though nobody uses them: subjects come one after the other, and most have the solution's."""

TEMPLATE_AGE_S = 3_600.0
"""Sales that are not open yet open two hours after the data's own now, at the earliest."""


class Trees:
    """The subjects' trees, each written once below ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests: dict[str, str] = {}

    def prepare(self, subject: Subject) -> str:
        """Write the subject's tree, without its own tests; its digest.

        Raises UsageError if it cannot be made, or is no box office.
        """
        if subject.name not in self._digests:
            raw = self._folder / f"{subject.name}.raw"
            materialise(subject, raw)
            shutil.rmtree(raw / TESTS, ignore_errors=True)
            self._digests[subject.name] = intake.take_in(raw, self.of(subject.name)).digest
            shutil.rmtree(raw)
        return self._digests[subject.name]

    def of(self, name: str) -> Path:
        """Where the tree of a prepared subject is."""
        return self._folder / name


@dataclass
class _Template:
    name: str
    live: LiveData
    made_s: float
    used_s: float
    users: int = 0


class Templates:
    """Database templates by migrations and seed; a failed migration is told to everybody who asks."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._lock = asyncio.Lock()
        self._made: dict[tuple[str, int], _Template] = {}
        self._count = 0

    @asynccontextmanager
    async def of(self, migrations: Path, seed: int) -> AsyncIterator[tuple[str, LiveData]]:
        """A template with these migrations for as long as the block runs. Raises MigrationFailed."""
        key = (migrations_digest(migrations), seed)
        async with self._lock:
            template = self._made.get(key)
            if template is None or time.monotonic() - template.made_s > TEMPLATE_AGE_S:
                template = await self._make(migrations, seed)
                self._made[key] = template
            template.users += 1
        try:
            yield template.name, template.live
        finally:
            template.users -= 1
            template.used_s = time.monotonic()
            async with self._lock:
                await self._drop_idle()

    async def _make(self, migrations: Path, seed: int) -> _Template:
        self._count += 1
        now = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
        live = LiveData.from_seed(seed, now)
        name = f"template_{self._count}"
        await self._cluster.make_template(name, live=live, migrations=migrations)
        return _Template(name=name, live=live, made_s=time.monotonic(), used_s=time.monotonic())

    async def _drop_idle(self) -> None:
        idle = sorted((template.used_s, key) for key, template in self._made.items() if template.users == 0)
        for _, key in idle[: max(0, len(idle) - IDLE_TEMPLATES)]:
            name = self._made.pop(key).name
            await self._cluster.drop(Database(name, f"{name}_owner", "", 0))


class Worlds:
    """Drives units. An async context manager: leaving it ends everything that it started."""

    def __init__(
        self,
        trees: Trees,
        scratch: Path,
        *,
        keep: Path | None = None,
        progress: Callable[[str], None] = lambda _: None,
        postgres_bin: Path | None = None,
        placement: Placement | None = None,
    ) -> None:
        self._placement = placement or LocalPlacement()
        self._trees = trees
        self._scratch = scratch
        self._keep = keep
        self._progress = progress
        self._postgres_bin = postgres_bin
        self._stack = AsyncExitStack()
        self._starting = asyncio.Lock()
        self._cluster: Cluster | None = None
        self._templates: Templates | None = None
        self._secret = secrets.token_hex(16)

    async def __aenter__(self) -> Worlds:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def drive(self, unit: Unit, attempt: int) -> Artifact:
        """Drive a unit once. Raises what prevents driving anything at all (no PostgreSQL, no packages)."""
        scenario = next(found for found in SCENARIOS if found.name == unit.scenario)
        directory = self._directory(unit, attempt)
        async with AsyncExitStack() as stack:
            try:
                settings = await self._settings(stack, unit.subject, unit.seed)
                reference = (
                    await self._settings(stack, SOLUTION, unit.seed) if unit.scenario == LOAD else None
                )
            except MigrationFailed as error:
                return Artifact(
                    scenario=unit.scenario,
                    attempt=attempt,
                    outcome=Outcome(kind="blocked", reason=str(error)),
                )
            try:
                return await drive(scenario, settings, directory, attempt=attempt, reference=reference)
            finally:
                if self._keep is None:
                    shutil.rmtree(directory, ignore_errors=True)  # three thousand of them would fill the disk

    async def _settings(self, stack: AsyncExitStack, subject: str, seed: int) -> WorldSettings:
        source = self._trees.of(subject)
        templates = await self._started()
        prepared = await environment.prepare(source, self._progress)
        template, live = await stack.enter_async_context(templates.of(source / "migrations", seed))
        assert self._cluster is not None, "templates belong to a cluster"
        return WorldSettings(
            cluster=self._cluster,
            template=template,
            live=live,
            placement=self._placement,
            submission=Submission(source, prepared.python),
            seed=seed,
            ticket_secret=self._secret,
        )

    async def _started(self) -> Templates:
        """Start PostgreSQL when the first unit needs it."""
        async with self._starting:
            if self._templates is None:
                self._progress("starting PostgreSQL")
                self._cluster = await Cluster.start(
                    self._scratch / "postgres",
                    binaries=find_binaries(self._postgres_bin),
                    bind_address=self._placement.control_address,
                    progress=self._progress,
                )
                self._stack.push_async_callback(self._cluster.stop)
                self._templates = Templates(self._cluster)
            return self._templates

    def _directory(self, unit: Unit, attempt: int) -> Path:
        root = self._keep or self._scratch / "logs"
        directory = root / unit.subject / f"{unit.scenario}-seed{unit.seed}" / str(attempt)
        if directory.exists():
            shutil.rmtree(directory)
        return directory


def migrations_digest(folder: Path) -> str:
    """The same for the same files."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.sql")):
        content = path.read_bytes()
        digest.update(f"{path.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()
