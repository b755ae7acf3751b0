"""The parts of a run that are alive: its PostgreSQL, its templates, the scenarios being driven, their times."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

from devstack.artifacts import Artifact, Disturbance, Outcome
from devstack.errors import MigrationFailed
from devstack.paths import kit_root
from devstack.placement import Placement
from devstack.postgres import Cluster
from devstack.postgres_binaries import find_binaries
from devstack.seed import LiveData
from devstack.world import Submission, WorldSettings
from grader.disturbance import excuse
from grader.driving import drive
from grader.environment import ServiceEnvironment
from grader.errors import VERDICT_POLICY, Cause
from grader.paths import RunPaths, write_json
from grader.reports.terminal import RunView
from grader.scenarios.stage import Scenario
from grader.watch import Watch

LOAD = "load"
"""The scenario beside which the solution runs."""

SIDE_BY_SIDE = 6
"""Waiting scenarios driven at the same time; each uses a few per cent of a core."""


@dataclass
class Timing:
    """Seconds, kept apart from everything that is judged.

    ``phases`` and ``scenarios`` are durations, ``attempts`` when each drive began and ended after the run's begin.
    """

    phases: dict[str, float] = field(default_factory=dict)
    scenarios: dict[str, float] = field(default_factory=dict)
    attempts: list[dict[str, JsonValue]] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block's time to phase ``name``."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] = self.phases.get(name, 0.0) + time.monotonic() - started

    def driven(self, scenario: Scenario, attempt: int, started: float) -> None:
        """A drive that began at the monotonic instant ``started`` has ended."""
        now = time.monotonic()
        self.scenarios[scenario.name] = self.scenarios.get(scenario.name, 0.0) + now - started
        self.attempts.append(
            {
                "scenario": scenario.name,
                "attempt": attempt,
                "quiet": scenario.quiet,
                "start_s": round(started - self.begun, 2),
                "end_s": round(now - self.begun, 2),
            }
        )

    def write(self, path: Path) -> None:
        """Write everything to ``path``."""
        self.phases["total"] = time.monotonic() - self.begun
        write_json(path, {"phases": self.phases, "scenarios": self.scenarios, "attempts": self.attempts})


class RunWorld:
    """The parts of a run that are alive: the cluster, the templates, the scenarios being driven."""

    def __init__(
        self,
        paths: RunPaths,
        view: RunView,
        seed: int,
        stack: AsyncExitStack,
        timing: Timing,
        *,
        placement: Placement,
        reference: ServiceEnvironment | None,
    ) -> None:
        self.view = view
        self._paths = paths
        self._seed = seed
        self._stack = stack
        self._timing = timing
        self._placement = placement
        self._reference_environment = reference
        self._secret = secrets.token_hex(16)
        self._now = dt.datetime.now(dt.UTC).replace(minute=0, second=0, microsecond=0)
        self._live = LiveData.from_seed(seed, self._now)
        self._settings: WorldSettings | None = None
        self._reference: WorldSettings | None = None
        self._unfit = Outcome()
        self._met: Disturbance | None = None
        self._watch: Watch
        self.cluster: Cluster

    @property
    def drivable(self) -> bool:
        """Whether the submission's migrations ran, and its service started when it was first driven."""
        return self._unfit.kind != "blocked"

    async def prepare(self, submission: Submission, postgres_bin: Path | None) -> None:
        """Start PostgreSQL and build the submission's template. What its migrations do wrong blocks everything."""
        self.view.phase("starting PostgreSQL")
        binaries = find_binaries(postgres_bin)
        self._paths.logs.mkdir(parents=True, exist_ok=True)
        self.cluster = await Cluster.start(
            self._paths.logs,
            binaries=binaries,
            bind_address=self._placement.control_address,
            progress=self.view.phase,
        )
        self._stack.push_async_callback(self.cluster.stop)
        self._watch = await self._stack.enter_async_context(Watch(submission.source))
        self.view.phase("loading data and running the submission's migrations")
        for _ in range(VERDICT_POLICY[Cause.DISTURBED].attempts):
            async with self._watch.window(quiet=False) as window:
                try:
                    self._settings = await self._template("submission", submission)
                    return
                except MigrationFailed as error:
                    self._unfit = Outcome(kind="blocked", reason=str(error))
            self._met = window.found
            if not excuse(self._met):
                return

    async def _template(self, name: str, submission: Submission) -> WorldSettings:
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
            assert self._reference_environment is not None, "a run with a load prepares the solution"
            solution = Submission(kit_root() / "solution", self._reference_environment.python)
            self._reference = await self._template("solution", solution)
        return self._reference

    async def drive_all(self, scenarios: Sequence[Scenario]) -> None:
        """Quiet scenarios one after the other, then the waiting ones side by side, the load last.

        A submission that cannot be driven at all leaves a record of that for each.
        """
        if self._settings is None:
            self._block(scenarios)
            return
        quiet, waiting, load = _by_kind(scenarios)
        remaining = list(scenarios)
        self.view.phase("driving", scenarios=len(quiet))
        for scenario in quiet:
            artifact = await self._drive_until_it_starts(scenario)
            remaining.remove(scenario)
            if artifact.outcome.kind == "blocked":
                # A service that does not start twice in a row will not start for the others either.
                self._unfit, self._met = artifact.outcome, artifact.disturbance
                self._block(remaining)
                return
        if waiting:
            self.view.phase("driving what mostly waits, side by side", scenarios=len(waiting))
        await self._side_by_side(waiting, self._drive_until_it_starts)
        for scenario in load:
            self.view.phase("load, the solution beside it", scenarios=1)
            await self._drive_until_it_starts(scenario)

    async def repeat(self, scenarios: Sequence[Scenario], times: Mapping[str, int]) -> None:
        """Drive ``scenarios`` again, each as often as ``times`` says."""

        async def again(scenario: Scenario) -> None:
            for _ in range(times[scenario.name]):
                await self._drive(scenario)

        quiet, waiting, load = _by_kind(scenarios)
        self.view.phase("driving again what was disturbed or close", scenarios=sum(times.values()))
        for scenario in quiet:
            await again(scenario)
        await self._side_by_side(waiting, again)
        for scenario in load:
            await again(scenario)

    async def _side_by_side(
        self, scenarios: Sequence[Scenario], work: Callable[[Scenario], Awaitable[object]]
    ) -> None:
        gate = asyncio.Semaphore(SIDE_BY_SIDE)

        async def work_on(scenario: Scenario) -> None:
            async with gate:
                await work(scenario)

        async with asyncio.TaskGroup() as group:
            for scenario in scenarios:
                group.create_task(work_on(scenario))

    async def _drive_until_it_starts(self, scenario: Scenario) -> Artifact:
        """Drive a scenario, once more if it was blocked or troubled."""
        for _ in range(VERDICT_POLICY[Cause.TROUBLE].attempts):
            artifact = await self._drive(scenario)
            if artifact.outcome.kind not in ("blocked", "trouble"):
                break
        return artifact

    async def _drive(self, scenario: Scenario) -> Artifact:
        """Drive a scenario once and write the attempt."""
        assert self._settings is not None
        attempt = len(self._paths.attempts(scenario.name)) + 1
        self.view.scenario_started(scenario.name)
        reference = await self._reference_settings() if scenario.name == LOAD else None
        begun = time.monotonic()
        artifact = await drive(
            scenario,
            self._settings,
            self._paths.logs / scenario.name / str(attempt),
            attempt=attempt,
            reference=reference,
            watch=self._watch,
        )
        self._timing.driven(scenario, attempt, begun)
        # In a thread: a large record would hold up the scenarios beside this one.
        await asyncio.to_thread(write_json, self._paths.artifact(scenario.name, attempt), artifact)
        self.view.scenario_ended(scenario.name, artifact.outcome)
        return artifact

    def _block(self, scenarios: Sequence[Scenario]) -> None:
        for scenario in scenarios:
            artifact = Artifact(scenario=scenario.name, outcome=self._unfit, disturbance=self._met)
            write_json(self._paths.artifact(scenario.name, 1), artifact)


def _by_kind(
    scenarios: Sequence[Scenario],
) -> tuple[list[Scenario], list[Scenario], list[Scenario]]:
    """The quiet scenarios, the waiting ones (longest first, so that they end together), the load."""
    load = [scenario for scenario in scenarios if scenario.name == LOAD]
    quiet = [scenario for scenario in scenarios if scenario.quiet and scenario not in load]
    waiting = [scenario for scenario in scenarios if not scenario.quiet and scenario not in load]
    return quiet, sorted(waiting, key=lambda scenario: -scenario.budget_s), load
