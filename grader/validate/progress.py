"""How a validation goes: a live view on a terminal, plain lines otherwise."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.text import Text

from grader.text import one_line
from grader.validate.rows import FALLEN, Row
from grader.validate.units import Unit

_STYLES = {"completed": "green", "trouble": "magenta"}


class Progress:
    """A context manager; leaving it, by an exception too, gives the terminal back as it was."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False)
        self._started = time.monotonic()
        self._title = ""
        self._done = self._total = 0
        self._ends = self._started
        self._running: dict[Unit, float] = {}
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self._console.is_terminal:
            self._live = Live(self, console=self._console, refresh_per_second=1, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def note(self, text: str) -> None:
        """Something worth a line."""
        self._say(Text.assemble(self._clock(), (one_line(text), "bold")))

    def phase(self, title: str, units: int, remaining_s: float) -> None:
        """So many units come next."""
        self._title, self._done, self._total = title, 0, units
        self._ends = time.monotonic() + remaining_s
        self.note(f"{title}: {units} to drive, all of it done in about {told_duration(remaining_s)}")

    def started(self, unit: Unit, attempt: int) -> None:
        """A unit begins."""
        self._running[unit] = time.monotonic()

    def ended(self, unit: Unit, row: Row, remaining_s: float) -> None:
        """A unit ended; ``remaining_s``: for all that is left."""
        self._running.pop(unit, None)
        self._done += 1
        self._ends = time.monotonic() + remaining_s
        fallen = sorted(name for name, seen in row.verdicts.items() if seen.verdict in FALLEN)
        told = f": {one_line(row.reason)}" if row.reason else f" fell: {', '.join(fallen)}" if fallen else ""
        self._say(
            Text.assemble(
                self._clock(),
                f"{self._done}/{self._total} {unit.subject} {unit.scenario} ",
                (row.outcome, _STYLES.get(row.outcome, "red")),
                f" ({row.duration_s:.0f} s, {told_duration(remaining_s)} left){told}",
            )
        )

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        now = time.monotonic()
        left = told_duration(max(0.0, self._ends - now))
        head = f"{self._title} {self._done}/{self._total}, {left} left" if self._total else self._title
        running = [
            Text(f"        {unit.subject} {unit.scenario} {now - since:.0f} s")
            for unit, since in self._running.items()
        ]
        yield Group(Text.assemble(self._clock(), (head, "bold cyan")), *running)

    def _clock(self) -> tuple[str, str]:
        return (f"{time.monotonic() - self._started:6.0f} s ", "dim")

    def _say(self, text: Text) -> None:
        self._console.print(text, highlight=False, soft_wrap=not self._console.is_terminal)


def told_duration(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3 h 05 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
