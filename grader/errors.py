"""What can go wrong in the grader, and what it means for a verdict.

::

    GraderError                 exit 2: undecided; one line, with the next step in ``hint``
    ├── UsageError              exit 3: what was asked for cannot be done
    │   ├── SubmissionRefused   not a box office, or its frozen parts were changed
    │   ├── UnknownCheck        no check or category of that name
    │   ├── RubricError         the rubric is broken, or does not fit the checks
    │   └── RunDirectoryError   not a run directory, or it cannot be written
    ├── NoRoom                  the disk is too full for a run
    ├── EnvironmentFailed       the submission's dependencies could not be installed
    ├── LoadTrouble             the load could not be offered as planned (grader/load/generator.py)
    ├── SandboxUnavailable      no sandbox of the wanted level works on this machine
    ├── SandboxFailed           a sandbox did not start a service
    ├── JudgingFailed           checks could not be collected or run
    └── KitChanged              the kit's own sources changed during a run

    Interrupted                 exit 130: Ctrl-C or SIGTERM
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import ClassVar

from grader.model import Verdict


class ExitCode(IntEnum):
    """Exit codes of ``grader``."""

    GRADED = 0
    BELOW = 1
    UNDECIDED = 2
    USAGE = 3
    INTERRUPTED = 130


class GraderError(Exception):
    """A failure that is told in one line. ``hint`` says what to do next."""

    exit_code: ClassVar[ExitCode] = ExitCode.UNDECIDED

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.hint})" if self.hint else message


class UsageError(GraderError):
    """What was asked for cannot be done."""

    exit_code = ExitCode.USAGE


class SubmissionRefused(UsageError):
    """The submission is not a box office, or its frozen parts were changed."""


class UnknownCheck(UsageError):
    """There is no check and no category of that name."""


class RubricError(UsageError):
    """The rubric is broken, or does not fit the checks."""


class RunDirectoryError(UsageError):
    """Not a run directory, or it cannot be read or written."""


class NoRoom(GraderError):
    """The disk is too full for a run."""


class EnvironmentFailed(GraderError):
    """The submission's dependencies could not be installed."""


class SandboxUnavailable(GraderError):
    """No sandbox of the wanted level works on this machine."""


class SandboxFailed(GraderError):
    """A sandbox that works on this machine failed to start a service: our trouble."""


class JudgingFailed(GraderError):
    """Checks could not be collected or run."""


class KitChanged(GraderError):
    """The kit's own sources changed during a run: driving and judging may not fit each other."""


class Interrupted(Exception):
    """The user, or the machine, asked the grader to stop."""

    exit_code: ClassVar[ExitCode] = ExitCode.INTERRUPTED


class Cause(StrEnum):
    """What lies behind a check's verdict, other than its own measurements."""

    NOT_DRIVABLE = "the submission could not be driven"
    MISBEHAVED_MIDWAY = "the submission ended the scenario early"
    NOT_RECORDED = "the scenario ran to its end without recording what the check needs"
    TROUBLE = "something outside the submission stopped the scenario"
    DISTURBED = "something outside the submission disturbed the scenario each time"
    CONTRADICTION = "its attempts contradict each other"
    NO_ARTIFACT = "the scenario left no record"
    BROKEN_CHECK = "the check itself failed"
    NO_RESULT = "the check gave no result"
    CANNOT_ARISE = "the precondition cannot arise with this valid design"


class Doubt(StrEnum):
    """Why a verdict is not the last word yet."""

    DISTURBED = "it was not passed, and something outside the submission disturbed the scenario"
    BORDERLINE = "the measurement that decides is within 15 % of its limit"


@dataclass(frozen=True)
class Policy:
    """The verdict that a cause leads to. ``attempts``: how often the scenario is driven before that is the last word."""

    verdict: Verdict
    attempts: int = 1


# The one place where a cause becomes a verdict. Scores: failed and blocked are 0 with the denominator
# unchanged; errored makes its category undecided; not_applicable leaves the denominator.
VERDICT_POLICY: Mapping[Cause, Policy] = MappingProxyType(
    {
        Cause.NOT_DRIVABLE: Policy(Verdict.BLOCKED, attempts=2),
        Cause.MISBEHAVED_MIDWAY: Policy(Verdict.FAILED),
        Cause.NOT_RECORDED: Policy(Verdict.ERRORED),
        Cause.TROUBLE: Policy(Verdict.ERRORED, attempts=2),
        Cause.DISTURBED: Policy(Verdict.ERRORED, attempts=2),
        Cause.CONTRADICTION: Policy(Verdict.ERRORED),
        Cause.NO_ARTIFACT: Policy(Verdict.ERRORED),
        Cause.BROKEN_CHECK: Policy(Verdict.ERRORED),
        Cause.NO_RESULT: Policy(Verdict.ERRORED),
        Cause.CANNOT_ARISE: Policy(Verdict.NOT_APPLICABLE),
    }
)

JUDGED_ATTEMPTS: Mapping[Doubt, int] = MappingProxyType(
    {Doubt.DISTURBED: VERDICT_POLICY[Cause.DISTURBED].attempts, Doubt.BORDERLINE: 3}
)
"""How many attempts there are to be before a doubtful verdict stands; the median of those that count decides."""

MAXIMUM_ATTEMPTS = 4
"""Of one scenario in one run, whatever becomes of them."""
