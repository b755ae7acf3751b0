"""Counting: how often each check was right, over all subjects on which it was really driven."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from devstack.paths import kit_root
from grader.validate.findings import Finding
from grader.validate.subjects import SOLUTION, Subject


@dataclass(frozen=True)
class Counts:
    """Of one check: subjects on which it had to fall and did or did not, had to hold and did or did not.

    ``explained``: fell with a stated cause. ``reused``: subjects made from the solution on which its scenarios were
    not driven; the verdict there would be the solution's own, so it counts nowhere.
    """

    seen: int = 0
    missed: int = 0
    clean: int = 0
    false_alarms: int = 0
    explained: int = 0
    errored: int = 0
    reused: int = 0

    @property
    def must_fall(self) -> int:
        """Decided cases in which it had to fall."""
        return self.seen + self.missed

    @property
    def must_hold(self) -> int:
        """Decided cases in which it had to hold."""
        return self.clean + self.false_alarms

    @property
    def decidable(self) -> int:
        """Cases with an expectation that were driven."""
        return self.must_fall + self.must_hold + self.errored


def settled(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """One finding per check and subject: of several seeds the worst, so that no luck of another one hides it."""
    worst: dict[tuple[str, str], Finding] = {}
    for finding in found:
        key = (finding.subject, finding.check)
        if key not in worst or _badness(finding) > _badness(worst[key]):
            worst[key] = finding
    return tuple(worst.values())


def confusion(
    checks: Sequence[str], subjects: Sequence[Subject], found: Sequence[Finding]
) -> dict[str, Counts]:
    """Counts by check. ``found`` has one finding per check and subject."""
    of_check: dict[str, list[Finding]] = {check: [] for check in checks}
    for finding in found:
        of_check[finding.check].append(finding)
    driven = {finding.subject for finding in found}
    variants = {
        subject.name for subject in subjects if subject.patches and subject.base == kit_root() / SOLUTION
    }
    return {
        check: Counts(
            seen=sum(one.expected == "falls" and one.result == "falls" for one in mine),
            missed=sum(one.missed for one in mine),
            clean=sum(one.expected == "holds" and one.result == "holds" for one in mine),
            false_alarms=sum(one.false_alarm for one in mine),
            explained=sum(one.explained for one in mine),
            errored=sum(one.undecided for one in mine),
            reused=len((driven & variants) - {one.subject for one in mine}),
        )
        for check, mine in of_check.items()
    }


def total(counts: Iterable[Counts]) -> Counts:
    """The sum of counts."""
    listed = list(counts)
    return Counts(**{field.name: sum(getattr(one, field.name) for one in listed) for field in fields(Counts)})


def _badness(finding: Finding) -> int:
    if finding.unexpected:
        return 3
    if finding.result == "errored":
        return 2
    return 1 if finding.result == "falls" else 0
