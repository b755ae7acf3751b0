"""What Python prints by itself: records of logging, warnings, exceptions that nobody caught, tracebacks of defects.

Their texts quote values, and values are a submission's: they go through the same escapes as everything else.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator

from grader.reports.escaping import terminal

LONGEST_CHARACTERS = 20_000
"""Of one record or traceback; its end is kept, where the reason is."""


class _Handler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            tell(self.format(record))
        except Exception:
            self.handleError(record)


def tell(text: str) -> None:
    """Print ``text``, line ends and all, on standard error, with nothing in it that acts. A lost stream loses it."""
    lost = "…\n" if len(text) > LONGEST_CHARACTERS else ""
    with contextlib.suppress(OSError, ValueError):
        print(lost + terminal(text[-LONGEST_CHARACTERS:]), file=sys.stderr, flush=True)


def tell_defect(error: BaseException) -> None:
    """Print the traceback of ``error``."""
    tell(_traced(error))


@contextlib.contextmanager
def escaped() -> Iterator[None]:
    """While the block runs, all that Python would print by itself is printed by :func:`tell`."""
    handler = _Handler(logging.WARNING)
    root = logging.getLogger()
    before = sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning
    root.addHandler(handler)
    sys.excepthook = lambda kind, error, trace: tell_defect(error)
    sys.unraisablehook = _unraisable
    threading.excepthook = _of_thread
    warnings.showwarning = _warning
    try:
        yield
    finally:
        sys.excepthook, sys.unraisablehook, threading.excepthook, warnings.showwarning = before
        root.removeHandler(handler)


def _unraisable(found: sys.UnraisableHookArgs) -> None:
    what = f"{found.err_msg or 'Exception ignored in'}: {found.object!r}"
    tell(what if found.exc_value is None else f"{what}\n{_traced(found.exc_value)}")


def _of_thread(found: threading.ExceptHookArgs) -> None:
    if found.exc_value is not None and not isinstance(found.exc_value, SystemExit):
        tell(f"in a thread:\n{_traced(found.exc_value)}")


def _warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    tell(f"{filename}:{lineno}: {category.__name__}: {message}")


def _traced(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()
