"""Text that came from a submission is data: shown shortened, without what acts on whoever shows it.

Three things act: characters that are not seen (control sequences, bidirectional overrides, zero widths), characters that
take more room than they are counted as (towers of combining marks, very wide signs), and commands that continuous
integration reads out of logs. :func:`one_line` and :func:`excerpt` take the first two away; :func:`one_line`, which is
what is printed, breaks the third as well. Formats of reports: :mod:`grader.reports.escaping`.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

SUMMARY_CHARACTERS = 300
EXCERPT_CHARACTERS = 2_000

BREAK = "·"
"""Stands where we have taken something apart that would have been a command or a link."""

MAXIMUM_MARKS = 4
"""Combining marks on one character: as many as living scripts need; more grow over the neighbouring lines."""

_LOOKED_AT = 4
"""How many times the wanted length is looked at: much of a text may be white space or hidden."""

# Controls, format characters (bidirectional overrides, zero widths, tags), surrogates, private use and unassigned,
# separators of lines and paragraphs: none of them may reach a terminal or a report.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})

# Seen by nobody though their category is one of visible characters: Default_Ignorable_Code_Point of Unicode's
# DerivedCoreProperties.txt (joiner of graphemes, Hangul fillers, Khmer vowels, variation selectors).
_IGNORABLE = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xE0100, 0xE01EF),
)

# Counted as one cell by terminals' tables, drawn much wider: long dashes, the Myanmar AU, whole phrases in one Arabic
# sign, cuneiform.
_WIDE = ((0x102A, 0x102A), (0x2E3A, 0x2E3B), (0xFDF0, 0xFDFD), (0x12000, 0x1254F))

_BLANK = "\u2800"  # the Braille pattern without dots
_CARRIER = "◌"  # what a combining mark stands on when it has no letter: otherwise it would join our text

# The character before which a command is taken apart, wherever in a line it stands: GitHub's older and Azure's
# commands (##[command], ##vso[…]), TeamCity's (##teamcity[…]), GitLab's sections, GitLab's and Jenkins' attachments.
# Each alternative begins with what it takes, and looks behind afterwards: that is 20 times as fast.
_COMMANDS_ANYWHERE = r"#(?<=##)(?=\w*\[)|:(?<=section_start:)|:(?<=section_end:)|\[(?<=\[\[)(?=ATTACHMENT\|)"
COMMANDS_IN_STRINGS = re.compile(_COMMANDS_ANYWHERE, re.IGNORECASE)
"""In text of which no line can begin with a submission's text, as in indented JSON."""

COMMANDS = re.compile(f":(?<=::)|{_COMMANDS_ANYWHERE}", re.IGNORECASE)
"""Everywhere else: GitHub's ``::command::`` counts at the start of a line, and wrapping makes a start of any place."""


def one_line(text: str, limit: int = SUMMARY_CHARACTERS) -> str:
    """``text`` on one line of at most ``limit`` characters: hidden characters dropped, commands broken."""
    visible = " ".join(_visible(text[: _LOOKED_AT * limit]).split())
    return _shortened(workflow(visible), limit, cut=len(text) > _LOOKED_AT * limit)


def excerpt(text: str, limit: int = EXCERPT_CHARACTERS) -> str:
    """``text`` with its line breaks, at most ``limit`` characters, hidden characters dropped.

    For evidence, which is kept as it was seen: who prints it takes :func:`workflow` as well.
    """
    lines = text[: _LOOKED_AT * limit].splitlines()
    joined = "\n".join(_visible(line) for line in lines)
    return _shortened(joined, limit, cut=len(text) > _LOOKED_AT * limit)


def workflow(text: str) -> str:
    """``text`` with every command for continuous integration taken apart by :data:`BREAK`, so that it is read as text."""
    return COMMANDS.sub(lambda found: BREAK + found[0], text)


def revealed(text: str, keep: str = "") -> str:
    """``text`` with hidden characters written out (``\\x1b``, ``\\u202e``), but for those in ``keep``; marks are bounded."""
    if text.isascii() and text.isprintable():
        return text
    return _shown(text, keep, _written)


@functools.lru_cache(maxsize=4096)
def is_hidden(character: str) -> bool:
    """Whether nobody sees ``character``, or only its effect. Of white space only the space counts as seen."""
    if unicodedata.category(character) in _HIDDEN_CATEGORIES:
        return True
    return _within(_IGNORABLE, character)


def _written(character: str) -> str:
    number = ord(character)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _visible(text: str) -> str:
    """``text`` as it can be shown: white space as spaces, nothing hidden, marks and wide characters within bounds."""
    if text.isascii() and text.isprintable():
        return text
    spaced = "".join(" " if each.isspace() or each == _BLANK else each for each in text)
    shown = _shown(spaced, " ", lambda _: "")
    return "".join("\ufffd" if _within(_WIDE, each) else each for each in shown)


def _shown(text: str, keep: str, hidden: Callable[[str], str]) -> str:
    """``text`` with ``hidden(…)`` in place of hidden characters, and combining marks that stay on their own letter."""
    kept: list[str] = []
    marks = 0
    for character in text:
        if unicodedata.category(character).startswith("M") and not is_hidden(character):
            if not kept or kept[-1].isspace():
                kept.append(_CARRIER)
            marks += 1
            if marks <= MAXIMUM_MARKS:
                kept.append(character)
        elif character in keep or not is_hidden(character):
            kept.append(character)
            marks = 0
        elif written := hidden(character):
            kept.append(written)
            marks = 0
    return "".join(kept)


def _within(ranges: tuple[tuple[int, int], ...], character: str) -> bool:
    number = ord(character)
    return any(first <= number <= last for first, last in ranges)


def _shortened(text: str, limit: int, *, cut: bool) -> str:
    """``cut``: something was left out before."""
    if len(text) > limit or (cut and len(text) == limit):
        return text[: limit - 1] + "…"
    return text + "…" if cut else text
