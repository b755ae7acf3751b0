"""What the evidence says of each check on each subject, held against what was expected."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Literal

from devstack.artifacts import Frozen
from grader.model import CheckMeta, Identifier, Verdict
from grader.validate.rows import BLOCKED, FALLEN, TROUBLE, Row, Seen
from grader.validate.subjects import Expected, Kind, Subject
from grader.validate.units import Question

Result = Literal["falls", "holds", "absent", "errored"]
"""``absent``: the check does not apply to this design. It proves nothing, but a flaw that had to be seen is missed."""


class Finding(Frozen):
    """One check on one subject with one seed. ``observations``: attempts that had a verdict; their median decides.

    ``excused``: undecided, because something outside the submission disturbed it.
    """

    subject: Identifier
    kind: Kind
    check: Identifier
    seed: int
    expected: Expected
    result: Result
    observations: int
    told: str = ""
    excused: bool = False

    @property
    def undecided(self) -> bool:
        """A verdict is missing where one was expected."""
        return self.result == "errored" and self.expected != "either"

    @property
    def missed(self) -> bool:
        """It should have fallen."""
        return self.expected == "falls" and self.result in ("holds", "absent")

    @property
    def false_alarm(self) -> bool:
        """It fell without a stated reason."""
        return self.expected == "holds" and self.result == "falls"

    @property
    def explained(self) -> bool:
        """It fell for a stated reason: neither seen nor a false alarm."""
        return self.expected == "either" and self.result == "falls"

    @property
    def unexpected(self) -> bool:
        """Missed, or a false alarm."""
        return self.missed or self.false_alarm


def findings_of(question: Question, rows: Iterable[Row], notes: Collection[str] = ()) -> tuple[Finding, ...]:
    """Every check that can be judged, on each subject of the question with its seed."""
    mine = [row for row in rows if row.seed == question.seed]
    return tuple(findings(question.subjects, question.metas, mine, notes))


def findings(
    subjects: Sequence[Subject],
    metas: Mapping[str, CheckMeta],
    rows: Iterable[Row],
    notes: Collection[str] = (),
) -> list[Finding]:
    """Every check that can be judged, on each of ``subjects`` with each seed. ``notes``: checks without points."""
    driven: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        driven.setdefault((row.subject, row.seed), []).append(row)
    found: list[Finding] = []
    for subject in subjects:
        for (name, seed), mine in sorted(driven.items()):
            if name == subject.name:
                found.extend(_of_subject(subject, seed, mine, metas, notes))
    return found


def _of_subject(
    subject: Subject,
    seed: int,
    rows: Sequence[Row],
    metas: Mapping[str, CheckMeta],
    notes: Collection[str],
) -> Iterable[Finding]:
    there = {row.scenario for row in rows}
    for check, meta in metas.items():
        if not set(meta.requires) <= there:
            continue
        seen = _attempts(check, rows)
        result, told = decide(seen)
        yield Finding(
            subject=subject.name,
            kind=subject.kind,
            check=check,
            seed=seed,
            expected=subject.expected(check, notes),
            result=result,
            observations=sum(one.verdict is not Verdict.ERRORED for one in seen),
            told=told,
            excused=result == "errored" and any(one.excused for one in seen),
        )


def _attempts(check: str, rows: Sequence[Row]) -> list[Seen]:
    """What the check came to on each attempt: of drivable ones if there are any, else of blocked ones.

    A check of several scenarios is in the rows of more than one of them: the later row had all the records.
    """
    deciding = [row for row in rows if check in row.verdicts]
    for usable in (
        [row for row in deciding if row.drivable],
        [row for row in deciding if row.outcome == BLOCKED],
        [row for row in deciding if row.outcome == TROUBLE],
    ):
        if usable:
            return list({row.attempt: row.verdicts[check] for row in usable}.values())
    return []


def decide(seen: Sequence[Seen]) -> tuple[Result, str]:
    """The median of the attempts that had a verdict, and what was told then; a draw is undecided."""
    decided = [one for one in seen if one.verdict is not Verdict.ERRORED]
    fallen = [one for one in decided if one.verdict in FALLEN]
    if not decided or 2 * len(fallen) == len(decided):
        told = next((one.told for one in seen if one.told), "no verdict")
        return "errored", told
    if 2 * len(fallen) > len(decided):
        return "falls", sorted(fallen, key=lambda one: one.score or 0.0)[len(fallen) // 2].told
    if all(one.verdict is Verdict.NOT_APPLICABLE for one in decided):
        return "absent", decided[-1].told
    return "holds", ""
