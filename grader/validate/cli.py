"""``grader validate``: measure the grader."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from rich.console import Console

from devstack.paths import cache_directory
from devstack.placement import Placement
from grader import environment
from grader.checks import collect_checks
from grader.errors import ExitCode, UsageError
from grader.paths import write_text
from grader.rubric import load_rubric
from grader.sandbox.levels import Wanted, choose, entered
from grader.scenarios import SCENARIOS
from grader.text import one_line
from grader.validate.attacks.campaign import AttacksRequest, validate_attacks
from grader.validate.attacks.table import AttackLevel
from grader.validate.campaign import Campaign, Outcome
from grader.validate.digests import checks_digests, scenario_digests
from grader.validate.findings import Finding
from grader.validate.judging import JudgingProcess
from grader.validate.progress import Progress
from grader.validate.report import render
from grader.validate.rows import EvidenceFile
from grader.validate.subjects import SOLUTION, Kind, Subject, load_subjects, select
from grader.validate.trees import submissions_folder
from grader.validate.units import ArtifactCache, Digests, ask
from grader.validate.worlds import Trees, Worlds


class Isolation(StrEnum):
    """What ``--sandbox`` takes."""

    AUTO = "auto"
    STRONG = "strong"
    CONTAINER = "container"
    NONE = "none"


Interruptible = Callable[[Coroutine[Any, Any, Any]], Any]
TOLD_CHARACTERS = 300


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    names: tuple[str, ...] = ()
    kinds: frozenset[Kind] = frozenset()
    seed: int = 1
    exhaustive: bool = False
    sample: int | None = None
    sample_seed: int = 0
    lanes: int = 1
    packed: bool = False
    evidence: Path | None = None
    report: Path | None = None
    keep: Path | None = None
    fresh: bool = False
    drive: bool = True
    prune: bool = False
    sandbox: Wanted = "auto"


def register(app: typer.Typer, interruptible: Interruptible) -> None:
    """Add the command to ``app``; ``interruptible`` runs it so that Ctrl-C tears everything down."""

    @app.command("validate")
    def validate_command(
        names: Annotated[
            list[str] | None,
            typer.Argument(metavar="[NAME]…", help="Subjects by name [default: all mutants]."),
        ] = None,
        mutants: Annotated[bool, typer.Option("--mutants", help="All mutants (the default).")] = False,
        pairs: Annotated[bool, typer.Option("--pairs", help="All pairs of mutants.")] = False,
        repairs: Annotated[bool, typer.Option("--repairs", help="All repairs of the exercise.")] = False,
        baselines: Annotated[
            bool, typer.Option("--baselines", help="Solution, exercise and alternatives.")
        ] = False,
        exhaustive: Annotated[
            bool,
            typer.Option("--exhaustive", help="Drive every scenario for each, not only the needed ones."),
        ] = False,
        seed: Annotated[int, typer.Option(min=0, help="Seed of data and identities.")] = 1,
        sample: Annotated[
            int | None, typer.Option(min=1, help="Only so many of the subjects, drawn at random.")
        ] = None,
        sample_seed: Annotated[int, typer.Option(min=0, help="Seed of that draw.")] = 0,
        lanes: Annotated[
            int, typer.Option(min=1, help="How many scenarios that judge latency run side by side.")
        ] = 1,
        packed: Annotated[
            bool,
            typer.Option(
                "--packed",
                help="Drive waiting scenarios beside those that judge latency: half the time, more repetitions.",
            ),
        ] = False,
        evidence: Annotated[
            Path | None, typer.Option(help="Evidence file [default: fixtures/submissions/evidence.jsonl].")
        ] = None,
        report: Annotated[
            Path | None, typer.Option(help="Write the table here (docs/validation.md).")
        ] = None,
        keep: Annotated[Path | None, typer.Option(help="Keep the services' logs below this folder.")] = None,
        fresh: Annotated[bool, typer.Option("--fresh", help="Drive again what was driven before.")] = False,
        no_drive: Annotated[
            bool, typer.Option("--no-drive", help="Drive nothing: judge and tell what there is.")
        ] = False,
        prune: Annotated[
            bool, typer.Option("--prune", help="Remove stale rows from the evidence first.")
        ] = False,
        attacks: Annotated[
            bool,
            typer.Option("--attacks", help="Hostile submissions instead: what they must not reach or gain."),
        ] = False,
        sandbox: Annotated[
            Isolation, typer.Option(help="Level of isolation; auto is the strongest that works here.")
        ] = Isolation.AUTO,
    ) -> None:
        """Measure the grader: put flaws back into the solution and see which checks fall."""
        if attacks:
            asked = AttacksRequest(
                names=tuple(names or ()),
                level=_level_of_attacks(sandbox),
                seed=seed,
                lanes=lanes,
                evidence=evidence,
                report=report,
                drive=not no_drive,
                keep=keep,
            )
            raise typer.Exit(validate_attacks(asked, Console(highlight=False)))
        flags = {
            Kind.MUTANT: mutants,
            Kind.PAIR: pairs,
            Kind.REPAIR: repairs,
            Kind.BASELINE: baselines,
        }
        if fresh and no_drive:
            raise UsageError("--fresh drives everything again and --no-drive nothing: choose one of them")
        request = Request(
            names=tuple(names or ()),
            kinds=frozenset(kind for kind, asked in flags.items() if asked),
            seed=seed,
            exhaustive=exhaustive,
            sample=sample,
            sample_seed=sample_seed,
            lanes=lanes,
            packed=packed,
            evidence=evidence,
            report=report,
            keep=keep,
            fresh=fresh,
            drive=not no_drive,
            prune=prune,
            sandbox=sandbox.value,
        )
        raise typer.Exit(validate(request, interruptible))


def validate(request: Request, interruptible: Interruptible) -> ExitCode:
    """Answer ``request`` and tell how it went. Raises UsageError for what cannot be asked."""
    everybody = request.prune or request.report is not None
    subjects = load_subjects(() if everybody else request.names)
    chosen = select(
        subjects, request.names, request.kinds, sample=request.sample, sample_seed=request.sample_seed
    )
    metas = collect_checks()
    rubric = load_rubric()
    notes = frozenset(name for name in rubric.check_ids if rubric.check(name).tag == "note")
    sandbox = choose(request.sandbox)
    question = ask(
        chosen, SCENARIOS, metas, seed=request.seed, exhaustive=request.exhaustive, sandbox=sandbox.level
    )
    evidence = EvidenceFile(request.evidence or submissions_folder() / "evidence.jsonl")
    console = Console(highlight=False)
    with TemporaryDirectory(prefix="validate-") as scratch:
        os.chmod(scratch, 0o755)  # the sandbox's account looks at the trees
        trees = Trees(Path(scratch) / "trees")
        prepared = [one for one in subjects if everybody or one in chosen or one.name == SOLUTION]
        with Progress() as progress:
            progress.note(f"writing the trees of {len(prepared)} subjects")
            digests = Digests(
                trees={subject.name: trees.prepare(subject) for subject in prepared},
                scenarios=scenario_digests(),
                checks=checks_digests(),
            )
            if request.drive:
                interruptible(_install([trees.of(subject.name) for subject in prepared], progress))
        if request.prune:
            console.print(
                f"{evidence.prune(digests)} rows removed from {one_line(str(evidence.path))}",
                markup=False,
                soft_wrap=True,
            )

        async def work(placement: Placement | None, progress: Progress) -> Outcome:
            async with AsyncExitStack() as stack:
                worlds = Worlds(
                    trees,
                    Path(scratch),
                    keep=request.keep.resolve() if request.keep else None,
                    progress=progress.note,
                    placement=placement,
                )
                campaign = Campaign(
                    question,
                    digests,
                    SCENARIOS,
                    cache=ArtifactCache(records_folder()),
                    evidence=evidence,
                    driver=await stack.enter_async_context(worlds) if request.drive else None,
                    judging=await stack.enter_async_context(JudgingProcess()),
                    view=progress,
                    lanes=request.lanes,
                    packed=request.packed,
                    notes=notes,
                )
                return await campaign.run(fresh=request.fresh)

        # Entered before anything draws on the terminal: that takes a thread, and threads cannot be moved.
        entering = entered(sandbox) if request.drive else nullcontext(None)
        with entering as placement, Progress() as progress:
            outcome: Outcome = interruptible(work(placement, progress))
    tell(console, chosen, outcome)
    if request.report is not None:
        write_text(request.report, render(subjects, metas, rubric, outcome.rows, digests))
        console.print(f"Written: {one_line(str(request.report))}", markup=False, soft_wrap=True)
    return exit_code(outcome)


async def _install(sources: Iterable[Path], progress: Progress) -> None:
    """Everything that needs the network; there is none in a sandbox."""
    for source in sources:
        await environment.prepare(source, progress.note)


def _level_of_attacks(wanted: Isolation) -> AttackLevel:
    """Raises UsageError for none."""
    match wanted:
        case Isolation.NONE:
            raise UsageError("attacks are never driven without a sandbox: choose strong or container")
        case Isolation.CONTAINER:
            return "container"
    return "strong"


def records_folder() -> Path:
    """Where records of driven units are kept; it may be emptied at any time."""
    return cache_directory() / "validation"


def tell(console: Console, chosen: Sequence[Subject], outcome: Outcome) -> None:
    """A line per subject, a line per finding that is not as expected, and what was driven."""
    for subject in chosen:
        mine = [finding for finding in outcome.findings if finding.subject == subject.name]
        bad = [finding for finding in mine if finding.unexpected or finding.undecided]
        mark = "NOT " if bad else "ok  " if mine else "—   "
        console.print(f"{mark}{subject.name}", markup=False, soft_wrap=True)
        for finding in bad:
            line = f"{_kind_of(finding)}: {finding.check}: {finding.told or 'it passed'}"
            console.print(f"      {one_line(line, TOLD_CHARACTERS)}", markup=False, soft_wrap=True)
    counts = f"{outcome.driven} units driven, {outcome.repeated} of them to repeat what was unexpected"
    left = f", {outcome.missing} not driven" if outcome.missing else ""
    old = f", {outcome.stale} stale rows left out (--prune removes them)" if outcome.stale else ""
    half = f", {outcome.unreadable} unreadable lines left out" if outcome.unreadable else ""
    console.print(f"{counts}{left}{old}{half}", markup=False, soft_wrap=True)


def exit_code(outcome: Outcome) -> ExitCode:
    """Below if anything was missed or a false alarm, undecided if something could not be told, else graded."""
    if any(finding.unexpected for finding in outcome.findings):
        return ExitCode.BELOW
    if outcome.missing or any(finding.undecided for finding in outcome.findings):
        return ExitCode.UNDECIDED
    return ExitCode.GRADED


def _kind_of(finding: Finding) -> str:
    if finding.missed:
        return "not seen"
    return "false alarm" if finding.false_alarm else "undecided"
