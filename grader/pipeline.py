"""A run: take the submission in, prepare its world, drive the scenarios, judge the record."""

from __future__ import annotations

import asyncio
import datetime as dt
import platform
import secrets
import shutil
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryFile

import psutil

from devstack.artifacts import Artifact, Outcome
from devstack.errors import MigrationFailed
from devstack.paths import CACHE_VARIABLE, cache_directory, kit_root
from devstack.placement import LocalPlacement, Placement
from devstack.postgres import Cluster
from devstack.postgres_binaries import find_binaries
from devstack.seed import LiveData
from devstack.world import Submission, WorldSettings
from grader import environment, intake
from grader.checks import collect_checks
from grader.driving import drive
from grader.errors import NoRoom, RunDirectoryError, UsageError
from grader.judging import regrade
from grader.model import Machine, RunLock, Scorecard
from grader.paths import RunPaths, write_json, write_text
from grader.reports.terminal import RunView
from grader.rubric import Rubric, default_rubric, load_rubric, validate_rubric
from grader.scenarios import SCENARIOS
from grader.scenarios.stage import Scenario

QUICK_LEAVES_OUT = frozenset(
    {"load", "database-outage", "upstream-outage", "upstream-hang", "lost-answers", "shutdown"}
)
"""Scenarios that mostly wait, and the load: what ``--quick`` does without."""

MINIMUM_FREE_BYTES = 1_500_000_000
"""In the cache: the database copies of one run take 0.3–0.8 GB."""

RECORD_BYTES = 200_000_000
"""In the run directory: artifacts and logs take some 10 MB; a submission that floods its log 20 MB per scenario."""

SIDE_BY_SIDE = 5
"""Waiting scenarios driven at the same time; each uses a few per cent of a core."""


@dataclass(frozen=True)
class RunRequest:
    """What was asked for on the command line. ``seed`` ``None``: a fresh one."""

    submission: Path
    out: Path
    only: tuple[str, ...] = ()
    quick: bool = False
    seed: int | None = None
    rubric: Path | None = None
    postgres_bin: Path | None = None


@dataclass
class Timing:
    """Durations in seconds; kept apart from everything that is judged."""

    phases: dict[str, float] = field(default_factory=dict)
    scenarios: dict[str, float] = field(default_factory=dict)


async def run(request: RunRequest, view: RunView) -> Scorecard:
    """Grade a submission into ``request.out``. Raises GraderError and DevstackError, each with one line.

    Whatever happens, every process that was started has ended when this returns or raises; the run
    directory stays.
    """
    started = time.monotonic()
    timing = Timing()
    rubric = load_rubric(request.rubric)
    validate_rubric(rubric, collect_checks())
    selection = _selection(rubric, request)
    intake.require_box_office(request.submission)
    _require_room(cache_directory(), MINIMUM_FREE_BYTES)
    paths = _make_run_directory(request.out)
    seed = secrets.randbelow(2**31) if request.seed is None else request.seed
    async with AsyncExitStack() as stack:
        run_world = _RunWorld(request, paths, view, seed, stack)
        view.phase("taking the submission in")
        taken = intake.take_in(request.submission, paths.submission)
        service_environment = await environment.prepare(taken.source, view.phase)
        settings, migration_error = await run_world.prepare(
            Submission(taken.source, service_environment.python)
        )
        lock = RunLock(
            kit_version=metadata.version("boxoffice-assessment-kit"),
            submission_name=request.submission.resolve().name,
            submission_digest=taken.digest,
            dependencies_digest=service_environment.digest,
            rubric_digest=rubric.digest,
            postgres_version=run_world.cluster.version,
            python_version=platform.python_version(),
            machine=_machine(),
            sandbox_level="none",
            seed=seed,
            quick=request.quick,
            selection=selection,
        )
        write_text(paths.rubric, (request.rubric or default_rubric()).read_text(encoding="utf-8"))
        write_json(paths.lock, lock)
        timing.phases["preparation"] = time.monotonic() - started
        scenarios = _scenarios_for(selection or rubric.check_ids)
        if settings is None:
            _block(paths, scenarios, migration_error)
        else:
            await run_world.drive_all(scenarios, settings, timing)
    view.phase("judging")
    begun = time.monotonic()
    scorecard = await asyncio.to_thread(regrade, paths.root)
    timing.phases["judging"] = time.monotonic() - begun
    timing.phases["total"] = time.monotonic() - started
    write_json(paths.timing, {"phases": timing.phases, "scenarios": timing.scenarios})
    return scorecard


def _selection(rubric: Rubric, request: RunRequest) -> tuple[str, ...]:
    """Ids of the chosen checks; empty when all were asked for. Raises UnknownCheck, UsageError if none is left."""
    chosen = rubric.select(request.only)
    if request.quick:
        metas = collect_checks()
        chosen = tuple(name for name in chosen if not QUICK_LEAVES_OUT & set(metas[name].requires))
        if not chosen:
            raise UsageError("--quick leaves out every chosen check", hint="choose others, or drop --quick")
    return () if chosen == rubric.check_ids else chosen


def _scenarios_for(checks: Sequence[str]) -> tuple[Scenario, ...]:
    metas = collect_checks()
    needed = {scenario for name in checks for scenario in metas[name].requires}
    return tuple(scenario for scenario in SCENARIOS if scenario.name in needed)


def _make_run_directory(out: Path) -> RunPaths:
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise RunDirectoryError(
                f"{out} is not empty: choose another folder for --out, or remove it first"
            )
        with TemporaryFile(dir=out):  # what cannot be written is told now, not after the driving
            pass
    except OSError as error:
        raise RunDirectoryError(
            f"cannot use {out} for the run: {error.strerror}; choose another --out"
        ) from error
    _require_room(out, RECORD_BYTES)
    return RunPaths(out.resolve())


def _require_room(folder: Path, needed: int) -> None:
    """Raises NoRoom when less than ``needed`` bytes are free where ``folder`` is."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NoRoom(
            f"only {free // 10**6} MB are free at {folder}, and a run needs {needed // 10**6} MB there",
            hint=f"make room, or use another place with --out or {CACHE_VARIABLE}",
        )


def _machine() -> Machine:
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        processor=platform.machine(),
        cpus=psutil.cpu_count() or 1,
        memory_mib=psutil.virtual_memory().total // 2**20,
    )


def _block(paths: RunPaths, scenarios: Sequence[Scenario], reason: str) -> None:
    for scenario in scenarios:
        artifact = Artifact(scenario=scenario.name, outcome=Outcome(kind="blocked", reason=reason))
        write_json(paths.artifact(scenario.name, 1), artifact)


class _RunWorld:
    """The parts of a run that are alive: the cluster, the templates, the scenarios being driven."""

    def __init__(
        self, request: RunRequest, paths: RunPaths, view: RunView, seed: int, stack: AsyncExitStack
    ) -> None:
        self._request = request
        self._paths = paths
        self._view = view
        self._seed = seed
        self._stack = stack
        self._placement: Placement = LocalPlacement()
        self._secret = secrets.token_hex(16)
        self._now = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
        self._live = LiveData.from_seed(seed, self._now)
        self._reference: WorldSettings | None = None
        self.cluster: Cluster

    async def prepare(self, submission: Submission) -> tuple[WorldSettings | None, str]:
        """Start PostgreSQL and build the submission's template; a failed migration is told, not raised."""
        self._view.phase("starting PostgreSQL")
        binaries = find_binaries(self._request.postgres_bin)
        self._paths.logs.mkdir(parents=True, exist_ok=True)
        self.cluster = await Cluster.start(
            self._paths.logs,
            binaries=binaries,
            bind_address=self._placement.bind_address,
            progress=self._view.phase,
        )
        self._stack.push_async_callback(self.cluster.stop)
        self._view.phase("loading data and running the submission's migrations")
        try:
            return await self._settings("submission", submission), ""
        except MigrationFailed as error:
            return None, str(error)

    async def _settings(self, name: str, submission: Submission) -> WorldSettings:
        template = await self.cluster.make_template(
            f"template_{name}", live=self._live, migrations=submission.source / "migrations"
        )
        return WorldSettings(
            cluster=self.cluster,
            template=template,
            live=self._live,
            placement=self._placement,
            submission=submission,
            seed=self._seed,
            ticket_secret=self._secret,
        )

    async def _reference_settings(self) -> WorldSettings:
        """The solution, beside which the load is measured; prepared when the load needs it."""
        if self._reference is None:
            source = kit_root() / "solution"
            prepared = await environment.prepare(source, self._view.phase)
            self._reference = await self._settings("solution", Submission(source, prepared.python))
        return self._reference

    async def drive_all(self, scenarios: Sequence[Scenario], settings: WorldSettings, timing: Timing) -> None:
        """Quiet scenarios one after the other, then the waiting ones side by side, the load last."""
        quiet = [scenario for scenario in scenarios if scenario.quiet and scenario.name != "load"]
        waiting = [scenario for scenario in scenarios if not scenario.quiet]
        load = [scenario for scenario in scenarios if scenario.name == "load"]
        remaining = list(scenarios)
        self._view.phase("driving", scenarios=len(quiet))
        for scenario in quiet:
            artifact = await self._drive_and_write(scenario, settings, timing)
            remaining.remove(scenario)
            if artifact.outcome.kind == "blocked":
                # A service that does not start twice in a row will not start for the others either.
                _block(self._paths, remaining, artifact.outcome.reason)
                return
        if waiting:
            self._view.phase("driving what mostly waits, side by side", scenarios=len(waiting))
        gate = asyncio.Semaphore(SIDE_BY_SIDE)

        async def drive_waiting(scenario: Scenario) -> None:
            async with gate:
                await self._drive_and_write(scenario, settings, timing)

        async with asyncio.TaskGroup() as group:
            for scenario in waiting:
                group.create_task(drive_waiting(scenario))
        for scenario in load:
            self._view.phase("load, the solution beside it", scenarios=1)
            await self._drive_and_write(scenario, settings, timing)

    async def _drive_and_write(self, scenario: Scenario, settings: WorldSettings, timing: Timing) -> Artifact:
        """Drive a scenario, once more if it was blocked or troubled, and write each attempt."""
        begun = time.monotonic()
        self._view.scenario_started(scenario.name)
        reference = await self._reference_settings() if scenario.name == "load" else None
        for attempt in (1, 2):
            directory = self._paths.logs / scenario.name / str(attempt)
            artifact = await drive(scenario, settings, directory, attempt=attempt, reference=reference)
            write_json(self._paths.artifact(scenario.name, attempt), artifact)
            if artifact.outcome.kind not in ("blocked", "trouble"):
                break
        timing.scenarios[scenario.name] = time.monotonic() - begun
        self._view.scenario_ended(scenario.name, artifact.outcome)
        return artifact


def default_out(submission: Path) -> Path:
    """``runs/<time>-<name>`` below the current folder."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{stamp}-{submission.resolve().name}"
