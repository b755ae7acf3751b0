"""``docs/validation.md``: the evidence as a table. The same evidence gives the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata

from grader.model import CheckMeta
from grader.rubric import Rubric
from grader.validate.bounds import CONFIDENCE, clopper_pearson
from grader.validate.confusion import Counts, confusion, settled, total
from grader.validate.findings import Finding, findings
from grader.validate.rows import Row, before_repetition
from grader.validate.subjects import Subject
from grader.validate.units import Digests

HEAD = """\
# How well the grader sees

Written by `grader validate`; edits are lost. Every subject is a tree of which it is known what must come of it: the
solution with one flaw put back (mutant), with two (pair), the exercise with one flaw repaired (repair), complete
right and wrong services (baseline). The numbers below come from `fixtures/submissions/evidence.jsonl`, in which each
line names the digests of what was driven, of what drove it and of what judged it. A line of other bytes than today's
is not counted.

```
.venv/bin/grader validate --mutants --pairs --repairs --baselines --exhaustive --report docs/validation.md
```

drives what has no valid line yet, and repeats, twice, whatever is not as expected; the median decides. What was
as expected is not repeated, which favours the grader: how much there was to repeat is told below. `--no-drive` writes
this page from what there is.
"""

HOW_TO_READ = f"""\
A check that *must fall* on a subject is **seen** or **missed**; one that *must hold* is **clean** or a **false
alarm**. Only checks of which every scenario was really driven on that subject are counted. A check whose scenario was
not driven there would have to be taken over from the solution (*reused*), which proves nothing. *Explained* are falls
with a stated cause (`[also]`, `[masked]`, notes): neither seen nor false. Bounds are Clopper–Pearson's, two-sided
{100 * CONFIDENCE:.0f} %, each subject counted once, whatever the number of seeds; they take subjects for independent, which
variants of one solution are only in part.
"""


def render(
    subjects: Sequence[Subject],
    metas: Mapping[str, CheckMeta],
    rubric: Rubric,
    rows: Sequence[Row],
    digests: Digests,
) -> str:
    """The page. ``rows`` are the valid ones."""
    notes = frozenset(name for name in rubric.check_ids if rubric.check(name).tag == "note")
    found = settled(findings(subjects, metas, rows, notes))
    first = settled(findings(subjects, metas, before_repetition(rows), notes))
    order = {name: place for place, name in enumerate(rubric.check_ids)}
    checks = sorted(metas, key=lambda name: order.get(name, len(order)))
    counts = confusion(checks, subjects, found)
    parts = [
        HEAD,
        "\n".join(_circumstances(rows, digests)),
        "## In one line\n\n" + _summary(found, first, total(counts.values())),
        "## By check\n\n" + HOW_TO_READ + "\n" + "\n".join(_table(counts)),
        "## Not as expected\n\n" + "\n".join(_unexpected(found)),
        "## By subject\n\n" + "\n".join(_matrix(subjects, found, rows, digests)),
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _circumstances(rows: Sequence[Row], digests: Digests) -> Iterator[str]:
    dates = sorted({row.date for row in rows})
    machines = sorted({f"{row.machine.cpus} × {row.machine.processor}, {row.machine.system}" for row in rows})
    lanes = sorted({str(row.lanes) for row in rows}, key=int)
    yield "| | |"
    yield "|---|---|"
    yield f"| driven | {' to '.join(dict.fromkeys((dates[0], dates[-1]))) if dates else 'nothing yet'} |"
    yield f"| machine | {'; '.join(machines) or '—'} |"
    yield f"| seeds | {', '.join(map(str, sorted({row.seed for row in rows}))) or '—'} |"
    yield f"| sandbox | {', '.join(sorted({row.sandbox for row in rows})) or '—'} |"
    yield f"| units side by side | {', '.join(lanes) or '—'} |"
    yield f"| time spent driving | {sum(row.duration_s for row in rows) / 3600:.1f} h |"
    yield f"| kit | {metadata.version('boxoffice-assessment-kit')} |"
    yield f"| driving code | `{_digest(digests.scenarios)}` |"
    yield f"| judging code | `{_digest(digests.checks)}` |"


def _summary(found: Sequence[Finding], first: Sequence[Finding], counts: Counts) -> str:
    unrepeated = sum(finding.unexpected for finding in first)
    subjects = len({finding.subject for finding in found})
    return (
        f"{subjects} subjects. Of {counts.must_fall} times that a check had to fall, {counts.seen} were seen "
        f"and {counts.missed} missed{_share(counts.missed, counts.must_fall)}. Of {counts.must_hold} times that one "
        f"had to hold, {counts.clean} were clean and {counts.false_alarms} false alarms"
        f"{_share(counts.false_alarms, counts.must_hold)}. {counts.explained} falls are explained, "
        f"{counts.errored} verdicts undecided{_share(counts.errored, counts.decidable)}. Before anything was repeated, "
        f"{unrepeated} verdicts were not as expected."
    )


def _share(count: int, of: int) -> str:
    if not of:
        return ""
    low, high = clopper_pearson(count, of)
    return f" ({_percent(count / of)}; {_percent(low)} to {_percent(high)})"


def _table(counts: Mapping[str, Counts]) -> Iterator[str]:
    yield (
        "| check | must fall | seen | missed | seen at least | must hold | clean | false alarms | false at most "
        "| explained | undecided | reused |"
    )
    yield "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for check, count in counts.items():
        yield _line(check, count)
    yield _line("**all**", total(counts.values()))


def _line(name: str, count: Counts) -> str:
    at_least = _percent(clopper_pearson(count.seen, count.must_fall)[0]) if count.must_fall else "—"
    at_most = _percent(clopper_pearson(count.false_alarms, count.must_hold)[1]) if count.must_hold else "—"
    cells = (
        name, count.must_fall, count.seen, count.missed, at_least,
        count.must_hold, count.clean, count.false_alarms, at_most,
        count.explained, count.errored, count.reused,
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _unexpected(found: Sequence[Finding]) -> Iterator[str]:
    listed = [one for one in found if one.unexpected or one.undecided]
    if not listed:
        yield "Nothing."
    for one in listed:
        kind = "missed" if one.missed else "false alarm" if one.false_alarm else "undecided"
        told = f": {_plain(one.told)}" if one.told else ""
        yield f"- {kind}: `{one.check}` on {one.subject} (seed {one.seed}, {one.observations} observations){told}"


def _matrix(
    subjects: Sequence[Subject], found: Sequence[Finding], rows: Sequence[Row], digests: Digests
) -> Iterator[str]:
    yield "| subject | kind | scenarios driven | fell, as it had to | fell, explained | not as expected |"
    yield "|---|---|--:|---|---|---|"
    for subject in subjects:
        mine = [finding for finding in found if finding.subject == subject.name]
        driven = {row.scenario for row in rows if row.subject == subject.name}
        if not driven:
            continue
        seen = [one.check for one in mine if one.result == "falls" and one.expected == "falls"]
        explained = [one.check for one in mine if one.explained]
        bad = [f"**{one.check}**" for one in mine if one.unexpected]
        yield (
            f"| {subject.name} | {subject.kind} | {len(driven)} of {len(digests.scenarios)} "
            f"| {_listed(seen)} | {_listed(explained)} | {_listed(bad)} |"
        )
    waiting = [subject.name for subject in subjects if not any(row.subject == subject.name for row in rows)]
    if waiting:
        yield ""
        yield f"Not driven yet: {', '.join(waiting)}."


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "—"


def _plain(text: str) -> str:
    """What a check told, fit for a line of Markdown."""
    return text.replace("|", "/").replace("<", "‹").replace(">", "›").replace("`", "'")


def _digest(digests: Mapping[str, str]) -> str:
    text = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
