"""The command line: ``grader run | regrade | doctor | validate``."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from devstack import stopping
from devstack.errors import DevstackError
from grader import doctor as doctor_module
from grader.errors import ExitCode, GraderError, UsageError
from grader.intake import look_at
from grader.judging import regrade as regrade_run
from grader.model import Scorecard
from grader.pipeline import RunRequest, default_out, grade, prepare
from grader.reports import diagnostics
from grader.reports.terminal import RunView, print_report
from grader.sandbox.levels import Wanted, choose, entered
from grader.scoring import exit_code
from grader.text import one_line
from grader.validate.cli import register as register_validate

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Grade box-office submissions: drive them, judge the record, say why.",
)
T = TypeVar("T")

DETAIL_CHARACTERS = 600
"""Of an error or a finding: paths are long, and the next step comes last."""

STOP_AGAIN_S = 1.0
"""After so long it is looked whether a cancellation arrived."""

NO_SANDBOX = "No sandbox: the submission runs with your rights. Grade only code that you trust."


class Isolation(StrEnum):
    """What ``--sandbox`` takes."""

    AUTO = "auto"
    STRONG = "strong"
    CONTAINER = "container"


@app.command("run")
def run_command(
    path: Annotated[
        str,
        typer.Argument(
            metavar="SUBMISSION",
            help="Its root folder, a .zip or .tar.gz of it, or the https:// address of its repository.",
        ),
    ],
    commit: Annotated[
        str | None, typer.Option(metavar="SHA", help="Of a repository: this commit [default: its newest].")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Run directory, empty or new [default: runs/<time>-<name>].")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="ID|CATEGORY", help="Only these checks; repeatable.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out the load and whatever waits long: no total.")
    ] = False,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Seed of data and identities [default: a fresh one].")
    ] = None,
    rubric: Annotated[Path | None, typer.Option(help="Another rubric.toml.")] = None,
    fail_under: Annotated[float, typer.Option(min=0, max=100, help="Exit 1 below this score.")] = 0.0,
    postgres_bin: Annotated[
        Path | None, typer.Option(help="Folder with another PostgreSQL's programs.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Permit this package too, and what it depends on; repeatable."),
    ] = None,
    sandbox: Annotated[
        Isolation, typer.Option(help="Level of isolation; auto is the strongest that works here.")
    ] = Isolation.AUTO,
    unsafe_no_sandbox: Annotated[
        bool, typer.Option("--unsafe-no-sandbox", help="Run the submission with your rights, unprotected.")
    ] = False,
) -> None:
    """Grade a submission."""
    request = RunRequest(
        submission=path,
        out=out or default_out(look_at(path, commit).name),
        commit=commit,
        only=tuple(only or ()),
        quick=quick,
        seed=seed,
        rubric=rubric,
        postgres_bin=postgres_bin,
        allow=tuple(allow or ()),
    )
    if unsafe_no_sandbox and sandbox is not Isolation.AUTO:
        raise UsageError("--sandbox and --unsafe-no-sandbox exclude each other", hint="choose one")
    wanted: Wanted = "none" if unsafe_no_sandbox else sandbox.value
    if unsafe_no_sandbox:
        Console(stderr=True, highlight=False).print(NO_SANDBOX, style="bold white on red", soft_wrap=True)
    with RunView() as view:
        prepared = _interruptible(
            prepare(request, view, lambda: choose(wanted)), lambda: view.phase("stopping everything")
        )
    with entered(prepared.sandbox) as placement, RunView() as view:
        scorecard = _interruptible(
            grade(prepared, view, placement), lambda: view.phase("stopping everything")
        )
    _finish(scorecard, request.out, fail_under)


@app.command("regrade")
def regrade_command(
    path: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")],
    fail_under: Annotated[float, typer.Option(min=0, max=100, help="Exit 1 below this score.")] = 0.0,
) -> None:
    """Judge the record of a run again, without starting anything."""
    _finish(regrade_run(path), path, fail_under)


@app.command("doctor")
def doctor_command(
    postgres_bin: Annotated[
        Path | None, typer.Option(help="Folder with another PostgreSQL's programs.")
    ] = None,
) -> None:
    """Say whether this machine can grade, and what to do where it cannot."""
    findings = _interruptible(doctor_module.examine(postgres_bin))
    console = Console(highlight=False)
    for finding in findings:
        mark, style = ("ok", "green") if finding.ok else ("no", "red")
        told = one_line(f"{finding.name}: {finding.detail}", DETAIL_CHARACTERS)
        console.print(Text.assemble((mark, style), " ", told), soft_wrap=True)
    raise typer.Exit(ExitCode.GRADED if all(finding.ok for finding in findings) else ExitCode.UNDECIDED)


def _finish(scorecard: Scorecard, out: Path, fail_under: float) -> None:
    print_report(scorecard)
    Console(highlight=False).print(
        f"\nRun directory: {one_line(str(out), DETAIL_CHARACTERS)}", markup=False, soft_wrap=True
    )
    raise typer.Exit(exit_code(scorecard, fail_under))


def _interruptible(work: Coroutine[Any, Any, T], told_to_stop: Callable[[], None] = lambda: None) -> T:
    """Run ``work``; Ctrl-C and SIGTERM cancel it, so that everything it started is torn down before we leave.

    ``told_to_stop`` is called at the first of them; further ones change nothing, because tearing down takes seconds
    only, and what is left half torn down would go on. Raises KeyboardInterrupt then, whatever else went wrong.
    """
    stopped = False
    # nohup: the run goes on without its terminal
    before = {
        number: found
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if (found := signal.getsignal(number)) is not signal.SIG_IGN or number != signal.SIGHUP
    }

    async def guarded() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop() -> None:
            nonlocal stopped
            if not stopped:
                stopped = True
                stopping.request()
                told_to_stop()
            if not task.done():
                if not task.cancelling():
                    task.cancel()
                loop.call_later(STOP_AGAIN_S, stop)

        def told(number: int, frame: FrameType | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: we are about to leave
                loop.call_soon_threadsafe(stop)

        # Not the loop's own handlers: they end with it, and a signal right after that would be our death.
        for number in before:
            signal.signal(number, told)
        return await work

    try:
        result = asyncio.run(guarded())
    except BaseException as error:
        if stopped:
            raise KeyboardInterrupt from error
        if isinstance(error, BaseExceptionGroup):
            # Several scenarios failed together: the first says why.
            raise error.exceptions[0] from None
        raise
    else:
        if stopped:  # just when the work was done: too late to cancel it, not too late to be heeded
            raise KeyboardInterrupt
        return result
    finally:
        stopping.reset()
        if not stopped:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)


register_validate(app, _interruptible)


def main() -> None:
    """Entry point of the console script: errors are one line, with the exit code of their kind."""
    with diagnostics.escaped():
        code = _exit_code(sys.argv[1:] or ["--help"])
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    # Threads of a library must not keep a finished run alive.
    os._exit(code) if code == ExitCode.INTERRUPTED else sys.exit(code)


def _exit_code(arguments: list[str]) -> int:
    try:
        code: int = app(arguments, standalone_mode=False) or ExitCode.GRADED
    except typer.TyperException as error:
        return _fail(f"{error.format_message()} (see grader --help)", ExitCode.USAGE)
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    except GraderError as error:
        return _fail(str(error), error.exit_code)
    except DevstackError as error:
        return _fail(str(error), ExitCode.UNDECIDED)
    except OSError as error:
        return _fail(_told(error), ExitCode.UNDECIDED)
    except Exception as error:
        diagnostics.tell_defect(error)
        reason = f"{type(error).__name__}: {error}"
        return _fail(f"a defect of the grader, please report it: {reason}", ExitCode.UNDECIDED)
    if code == ExitCode.INTERRUPTED:
        return _fail("interrupted; everything that ran has been stopped", ExitCode.INTERRUPTED)
    return code


def _told(error: OSError) -> str:
    """What the machine refused, where, and what to do."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    step = "make room there" if full else "see whether it can be read and written (grader doctor helps)"
    return f"{error.strerror or error}: {error.filename or 'this machine'}; {step}"


def _fail(message: str, code: ExitCode) -> ExitCode:
    Console(stderr=True, highlight=False).print(
        f"grader: {one_line(message, DETAIL_CHARACTERS)}", style="red", markup=False, soft_wrap=True
    )
    return code


if __name__ == "__main__":
    main()
