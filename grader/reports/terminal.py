"""The report and the progress of a run on a terminal.

All text goes through :func:`grader.text.one_line` into :class:`rich.text.Text`, so nothing that a submission
wrote is taken as markup, as a control sequence or, however it is wrapped, as a command for what reads the log. Colours follow ``NO_COLOR`` and vanish without a terminal.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from types import TracebackType

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from devstack.artifacts import Outcome
from grader.judge import shown
from grader.model import CategoryScore, CheckResult, Judgement, Scorecard, Verdict
from grader.text import one_line

# Wider lines are hard to read; a bar needs this much, and the columns beside it the rest.
MAXIMUM_WIDTH = 110
_BAR_WIDTHS = (8, 24)
_COLUMNS_BESIDE_BAR = 50
# From these scores on a bar is green or yellow; below it is red.
_GOOD, _FAIR = 80.0, 50.0

_UNJUDGED = (Verdict.ERRORED, Verdict.NOT_APPLICABLE)


def print_report(scorecard: Scorecard, console: Console | None = None) -> None:
    """Print the scorecard: categories, lost points by weight, what could not be judged, what passed."""
    console = console or Console(highlight=False)
    width = min(console.width, MAXIMUM_WIDTH)
    for part in _parts(scorecard, width):
        console.print(part, width=width, highlight=False)


def _parts(scorecard: Scorecard, width: int) -> Iterator[RenderableType]:
    if scorecard.lock.sandbox_level == "none":
        warning = (
            "NO SANDBOX: the submission ran with the rights of this user. Grade only code that you trust."
        )
        yield Text(warning, style="bold white on red")
    yield from _headed("Red flags", [_plain(flag, "red") for flag in scorecard.red_flags])
    yield _categories(scorecard, width)
    yield from _headed("Lost points, of 100", _losses(scorecard))
    yield from _headed("Blocked: the submission could not be driven", _blocked(scorecard))
    yield from _headed("Not judged", _unjudged(scorecard))
    passed = [result.id for result in _graded(scorecard) if result.verdict is Verdict.PASSED]
    if passed:
        yield from _headed(f"Passed ({len(passed)})", [Text(", ".join(passed), style="green")])
    yield from _headed("Notes, without points", _notes(scorecard))
    yield from _headed("Warnings", [_plain(warning, "yellow") for warning in scorecard.warnings])
    if scorecard.lock.sandbox_level != "none":
        made_of = ": ".join((scorecard.lock.sandbox_level, ", ".join(scorecard.lock.sandbox_details)))
        yield from _headed("Sandbox", [_plain(made_of, "dim")])


def _graded(scorecard: Scorecard) -> list[CheckResult]:
    return [result for result in scorecard.results if result.tag != "note"]


def _notes(scorecard: Scorecard) -> list[RenderableType]:
    """What was seen and decides nothing; a note that could not be taken is left out."""
    return [
        Text.assemble(
            one_line(result.title if result.verdict is Verdict.PASSED else result.failure_title),
            (f"  {result.id}: {one_line(result.judgement.summary)}", "dim"),
        )
        for result in scorecard.results
        if result.tag == "note" and result.judgement
    ]


def _headed(heading: str, lines: list[RenderableType]) -> Iterator[RenderableType]:
    if lines:
        yield Text(f"\n{heading}", style="bold")
        yield from lines


def _categories(scorecard: Scorecard, width: int) -> Table:
    low, high = _BAR_WIDTHS
    bar_width = max(low, min(high, width - _COLUMNS_BESIDE_BAR))
    table = Table.grid(padding=(0, 1))
    table.title = Text(f"\n{one_line(scorecard.lock.submission_name, 60)}", style="bold")
    table.title_justify = "left"
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for category in scorecard.categories:
        table.add_row(
            Text(one_line(category.title)),
            Text(f"{category.weight:g} %", style="dim"),
            _bar(category, bar_width),
            _score(category.score, scorecard),
        )
    table.add_row(Text("Total", style="bold"), "", "", _score(scorecard.score, scorecard, style="bold"))
    return table


def _bar(category: CategoryScore, width: int) -> Text:
    if category.score is None:
        return Text("·" * width, style="dim")
    filled = round(category.score / 100 * width)
    colour = "green" if category.score >= _GOOD else "yellow" if category.score >= _FAIR else "red"
    return Text.assemble(("█" * filled, colour), ("░" * (width - filled), "dim"))


def _score(score: float | None, scorecard: Scorecard, style: str = "") -> Text:
    """A score; without one, whether it was not asked for or could not be told."""
    if score is not None:
        return Text(f"{score:.1f}", style=style)
    errored = any(result.verdict is Verdict.ERRORED for result in _graded(scorecard))
    not_asked_for = bool(scorecard.lock.selection) and not errored
    return Text("not all run", style="dim") if not_asked_for else Text("undecided", style="magenta")


def _losses(scorecard: Scorecard) -> list[RenderableType]:
    lost = lost_points(scorecard)
    lines: list[RenderableType] = []
    for result in sorted(_graded(scorecard), key=lambda result: -lost.get(result.id, 0.0)):
        if result.verdict in (Verdict.FAILED, Verdict.PARTIAL):
            lines.append(_entry(lost.get(result.id, 0.0), result))
    return lines


def _entry(lost: float, result: CheckResult) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(width=5, justify="right", no_wrap=True)
    table.add_column(ratio=1)
    partly = " (partly)" if result.verdict is Verdict.PARTIAL else ""
    heading = Text.assemble(
        (one_line(result.failure_title), "bold"), partly, (f"  {result.id} · {result.tag}", "dim")
    )
    table.add_row(Text(f"−{lost:.1f}", style="red"), heading)
    if result.judgement:
        table.add_row("", Text(_told(result.judgement)))
    return table


def _told(judgement: Judgement) -> str:
    """The worst measurement with what was expected; the summary where the check could not measure."""
    short = sorted((m for m in judgement.measurements if m.score < 1), key=lambda m: m.score)
    if not short:
        return one_line(judgement.summary)
    worst = short[0]
    unit = f" {worst.unit}" if worst.unit else ""
    others = f" (and {len(short) - 1} more)" if len(short) > 1 else ""
    return one_line(f"{worst.name}: {shown(worst.measured)}{unit}, expected {worst.expected}{unit}{others}")


def lost_points(scorecard: Scorecard) -> dict[str, float]:
    """What each check took from the total of 100; checks without a score are left out."""
    categories = {category.id: category for category in scorecard.categories}
    lost: dict[str, float] = {}
    for result in scorecard.results:
        category = categories[result.category]
        if result.score is not None and category.points:
            lost[result.id] = category.weight * result.points * (1 - result.score) / category.points
    return lost


def _blocked(scorecard: Scorecard) -> list[RenderableType]:
    """One entry per reason: a service that does not start blocks many checks at once."""
    lost = lost_points(scorecard)
    by_reason: defaultdict[str, list[CheckResult]] = defaultdict(list)
    for result in _graded(scorecard):
        if result.verdict is Verdict.BLOCKED:
            scenario, _, reason = (result.blocked_by or "").partition(": ")
            by_reason[reason or scenario].append(result)
    lines: list[RenderableType] = []
    for reason, results in by_reason.items():
        points = sum(lost.get(result.id, 0.0) for result in results)
        lines.append(Text.assemble((f"−{points:.1f} ", "red"), one_line(reason)))
        lines.append(Text(", ".join(result.id for result in results), style="dim"))
    return lines


def _unjudged(scorecard: Scorecard) -> list[RenderableType]:
    return [
        Text.assemble(
            (f"{result.id}: ", "magenta"), one_line(result.error or result.not_applicable or result.verdict)
        )
        for result in _graded(scorecard)
        if result.verdict in _UNJUDGED
    ]


def _plain(text: str, style: str) -> Text:
    return Text(one_line(text), style=style)


class RunView:
    """What a run is doing: a live line per running scenario on a terminal, plain lines otherwise.

    A context manager; leaving it, by an exception too, gives the terminal back as it was.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._started = time.monotonic()
        self._phase = ""
        self._scenarios = self._ended = 0
        self._running: dict[str, float] = {}
        self._live: Live | None = None

    def __enter__(self) -> RunView:
        if self._console.is_terminal:
            # Twice a second: the view must not take CPU from what is being measured.
            self._live = Live(self, console=self._console, refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def phase(self, name: str, *, scenarios: int = 0) -> None:
        """A new phase begins; ``scenarios``: how many it will drive."""
        self._phase, self._scenarios, self._ended = name, scenarios, 0
        self._say(Text.assemble(self._clock(), (one_line(name), "bold")))

    def scenario_started(self, name: str) -> None:
        """A scenario begins; several may run side by side."""
        self._running[name] = time.monotonic()
        if self._live is None:
            self._say(Text.assemble(self._clock(), f"  {one_line(name)} …"))

    def scenario_ended(self, name: str, outcome: Outcome) -> None:
        """A scenario ended with ``outcome``; unless it completed, the reason is told."""
        seconds = time.monotonic() - self._running.pop(name, time.monotonic())
        self._ended += 1
        style = {"completed": "green", "trouble": "magenta"}.get(outcome.kind, "red")
        reason = f": {one_line(outcome.reason)}" if outcome.reason and outcome.kind != "completed" else ""
        told = (f"  {one_line(name)} ", (outcome.kind, style), f"{reason} ({seconds:.0f} s)")
        self._say(Text.assemble(self._clock(), *told))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        count = f" {self._ended}/{self._scenarios}" if self._scenarios else ""
        now = time.monotonic()
        running = [
            Text(f"        {one_line(name)} {now - since:.0f} s") for name, since in self._running.items()
        ]
        yield Group(Text.assemble(self._clock(), (one_line(self._phase) + count, "bold cyan")), *running)

    def _clock(self) -> tuple[str, str]:
        return (f"{time.monotonic() - self._started:5.0f} s ", "dim")

    def _say(self, text: Text) -> None:
        self._console.print(text, highlight=False, soft_wrap=not self._console.is_terminal)
