"""Text that came from a submission is data: shown shortened, on one line, without control characters."""

from __future__ import annotations

import unicodedata

SUMMARY_CHARACTERS = 300
EXCERPT_CHARACTERS = 2_000

# Controls, format characters (bidirectional overrides, zero widths), surrogates, private use and unassigned:
# none of them may reach a terminal or a report.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def one_line(text: str, limit: int = SUMMARY_CHARACTERS) -> str:
    """``text`` on one line of at most ``limit`` characters, hidden characters dropped."""
    visible = " ".join(_visible(text[: 4 * limit]).split())
    return _shortened(visible, limit)


def excerpt(text: str, limit: int = EXCERPT_CHARACTERS) -> str:
    """``text`` with its line breaks, at most ``limit`` characters, hidden characters dropped."""
    lines = text[: 4 * limit].splitlines()
    return _shortened("\n".join(_visible(line) for line in lines), limit)


def _visible(text: str) -> str:
    spaced = text.replace("\t", " ").replace("\n", " ").replace("\r", " ")
    return "".join(character for character in spaced if not _hidden(character))


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN_CATEGORIES


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
