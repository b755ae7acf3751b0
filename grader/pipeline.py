"""A run: take the submission in, prepare its world, drive the scenarios, judge the record."""

from __future__ import annotations

import asyncio
import platform
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryFile

import psutil

from devstack.paths import CACHE_VARIABLE, cache_directory, kit_root
from devstack.placement import LocalPlacement, Placement
from devstack.world import Submission
from grader import environment, intake, sources
from grader.canaries import Canaries, planted
from grader.checks import collect_checks
from grader.environment import ServiceEnvironment
from grader.environment.declared import allowed_names
from grader.errors import KitChanged, NoRoom, RunDirectoryError, UsageError
from grader.judging import judge_record
from grader.model import Machine, RunLock, Scorecard
from grader.paths import RunPaths, write_json, write_text
from grader.repeats import MAXIMUM_REPEATS, ROUNDS, repeats
from grader.reports.terminal import RunView
from grader.rubric import Rubric, default_rubric, load_rubric, validate_rubric
from grader.run_world import LOAD, RunWorld, Timing
from grader.sandbox.levels import Sandbox
from grader.scenarios import SCENARIOS
from grader.scenarios.stage import Scenario
from grader.signs import signs_in
from grader.watch import NOT_WATCHED, not_watched

QUICK_LEAVES_OUT = frozenset(
    scenario.name for scenario in SCENARIOS if not scenario.quiet or scenario.name == LOAD
)
"""Scenarios that mostly wait, and the load: what ``--quick`` does without."""

NOT_WATCHED_WARNING = (
    f"{NOT_WATCHED} was set: what other programs disturbed counts as the submission's doing, and the kit "
    "may have changed meanwhile"
)

MINIMUM_FREE_BYTES = 1_500_000_000
"""In the cache: the database copies of one run take 0.3–0.8 GB."""

RECORD_BYTES = 200_000_000
"""In the run directory: artifacts and logs take some 10 MB; a submission that floods its log 20 MB per scenario."""


@dataclass(frozen=True)
class RunRequest:
    """What was asked for on the command line.

    ``submission``: a folder, an archive or an address (see :func:`grader.intake.look_at`); ``commit``: of the latter.
    ``seed`` ``None``: a fresh one. ``allow``: further packages.
    """

    submission: Path | str
    out: Path
    only: tuple[str, ...] = ()
    quick: bool = False
    seed: int | None = None
    rubric: Path | None = None
    postgres_bin: Path | None = None
    allow: tuple[str, ...] = ()
    commit: str | None = None


@dataclass(frozen=True)
class Prepared:
    """A submission that was taken in, with all that needs the network or other people's programs already done."""

    request: RunRequest
    rubric: Rubric
    selection: tuple[str, ...]
    checks: tuple[str, ...]
    scenarios: tuple[Scenario, ...]
    kit: str
    paths: RunPaths
    name: str
    taken: intake.Intake
    environment: ServiceEnvironment
    reference: ServiceEnvironment | None
    sandbox: Sandbox
    timing: Timing


def no_sandbox() -> Sandbox:
    """None: for submissions of the kit's own."""
    return Sandbox("none")


async def prepare(request: RunRequest, view: RunView, choose: Callable[[], Sandbox] = no_sandbox) -> Prepared:
    """Take the submission in and install what it needs. Raises GraderError and DevstackError, each with one line.

    ``choose`` says which sandbox it will run in; it is asked when everything that costs nothing has been looked at.
    Starts no thread that outlives the event loop: the next step may be to enter namespaces.
    """
    timing = Timing()
    allowed_names(request.allow)
    rubric = load_rubric(request.rubric)
    validate_rubric(rubric, collect_checks())
    selection = _selection(rubric, request)
    checks = selection or rubric.check_ids
    scenarios = _scenarios_for(checks)
    kit = sources.digest(scenarios, checks)
    reference = intake.look_at(str(request.submission), request.commit)
    _require_room(cache_directory(), MINIMUM_FREE_BYTES)
    paths = _make_run_directory(request.out)
    with timing.phase("preparation"):
        view.phase("trying the sandbox")
        sandbox = await asyncio.to_thread(choose)
        view.phase("taking the submission in")
        taken = await intake.take_in_reference(reference, paths.submission, paths.root / ".repository")
        service_environment = await environment.prepare(taken.source, view.phase, allowed=request.allow)
        loaded = any(scenario.name == LOAD for scenario in scenarios)
        solution = await environment.prepare(kit_root() / "solution", view.phase) if loaded else None
    return Prepared(
        request=request,
        rubric=rubric,
        selection=selection,
        checks=checks,
        scenarios=scenarios,
        kit=kit,
        paths=paths,
        name=reference.name,
        taken=taken,
        environment=service_environment,
        reference=solution,
        sandbox=sandbox,
        timing=timing,
    )


async def run(request: RunRequest, view: RunView) -> Scorecard:
    """Prepare and grade in one go, without a sandbox: for submissions of the kit's own. Raises what these two raise."""
    return await grade(await prepare(request, view), view)


async def grade(prepared: Prepared, view: RunView, placement: Placement | None = None) -> Scorecard:
    """Grade what was prepared. Raises GraderError and DevstackError, each with one line.

    ``placement`` is where its sandbox is; without it the submission runs without one. Whatever happens, every process
    that was started has ended when this returns or raises; the run directory stays.
    """
    request, paths, timing = prepared.request, prepared.paths, prepared.timing
    seed = secrets.randbelow(2**31) if request.seed is None else request.seed
    async with AsyncExitStack() as stack:
        canaries = stack.enter_context(planted())
        run_world = RunWorld(
            paths,
            view,
            seed,
            stack,
            timing,
            placement=placement or LocalPlacement(),
            reference=prepared.reference,
        )
        with timing.phase("preparation"):
            submission = Submission(prepared.taken.source, prepared.environment.python)
            await run_world.prepare(submission, request.postgres_bin)
            lock = RunLock(
                kit_version=metadata.version("boxoffice-assessment-kit"),
                submission_name=prepared.name,
                submission_digest=prepared.taken.digest,
                dependencies_digest=prepared.environment.digest,
                rubric_digest=prepared.rubric.digest,
                postgres_version=run_world.cluster.version,
                python_version=platform.python_version(),
                machine=_machine(),
                sandbox_level=prepared.sandbox.level,
                sandbox_details=prepared.sandbox.details,
                seed=seed,
                quick=request.quick,
                selection=prepared.selection,
                warnings=(NOT_WATCHED_WARNING,) if not_watched() else (),
            )
            rubric_text = (request.rubric or default_rubric()).read_text(encoding="utf-8")
            write_text(paths.rubric, rubric_text)
            write_json(paths.lock, lock)
        with timing.phase("driving"):
            await run_world.drive_all(prepared.scenarios)
        scorecard = await _judge_and_repeat(run_world, prepared, lock, canaries)
    timing.write(paths.timing)
    if not not_watched() and sources.digest(prepared.scenarios, prepared.checks) != prepared.kit:
        paths.scorecard.unlink(missing_ok=True)
        raise KitChanged("the kit changed while it ran: this run judges nothing", hint="grade again")
    return scorecard


async def _judge_and_repeat(
    run_world: RunWorld, prepared: Prepared, lock: RunLock, canaries: Canaries
) -> Scorecard:
    """Judge the record; drive again what was disturbed or close to its limit, and judge it anew."""
    paths, rubric, scenarios, timing = (
        prepared.paths,
        prepared.rubric,
        prepared.scenarios,
        prepared.timing,
    )
    points = {name: rubric.check(name).points for name in rubric.check_ids}
    room = MAXIMUM_REPEATS
    for turn in range(ROUNDS + 1):
        run_world.view.phase("judging")
        with timing.phase("judging"):
            flags = [
                flag
                for folder in (paths.artifacts, paths.logs)
                for flag in await asyncio.to_thread(canaries.found_in, folder)
            ]
            flags += await asyncio.to_thread(signs_in, paths.submission, paths.logs)
            write_json(paths.lock, lock.model_copy(update={"red_flags": tuple(flags)}))
            scorecard, outcomes = await asyncio.to_thread(judge_record, paths.root)
        driven = {scenario.name: len(paths.attempts(scenario.name)) for scenario in scenarios}
        again = repeats(outcomes, points, driven, room)
        if turn == ROUNDS or not again or not run_world.drivable:
            break
        room -= sum(again.values())
        with timing.phase("repeating"):
            await run_world.repeat([scenario for scenario in scenarios if scenario.name in again], again)
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


def default_out(name: str) -> Path:
    """``runs/<time>-<name>`` below the current folder; ``name``: the submission's."""
    return Path("runs") / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}"
