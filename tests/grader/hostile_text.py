"""Texts that a submission might send to whoever reads its report, and what must not come out of it."""

from __future__ import annotations

import re
import unicodedata

from hypothesis import strategies as st

FRAGMENTS = (
    "::error::pwn", "::set-output name=x::y", "::stop-commands::t", "::add-mask::a", ":", "::", ":::", "\n::debug::x",
    "##[command]", "##[", "##vso[task.setvariable variable=a]b", "##teamcity[testFailed]", "#", "##", "[", "|",
    "section_start:1700000000:x[collapsed=true]\r\x1b[0K", "section_end:1:x\r\x1b[0K", "[[ATTACHMENT|/etc/passwd]]",
    "\x1b[2J", "\x1b]8;;http://evil.example\x07click\x1b]8;;\x07", "\x1b]0;title\x07", "\x9b31m", "\x9d", "\x85", "\x7f",
    "\u202e", "\u2066", "\u2069", "\u200b", "\u200d", "\ufeff", "\u2028", "\u2029", "\ufe0f", "\U000e0101",
    "\U000e0041\U000e007f", "\u3164", "\u034f", "\u2800", "\u00ad", "\ud800", "\udc00", "\ue000", "\U0010ffff", "\ufffe",
    "e" + "\u0301" * 40, "\u0338", "\u20e0", "\ufdfd", "\U0001242b", "漢字", "👩‍👩‍👧", "🇩🇪", "שלום",
    "<script>alert(1)</script>", "<img src=x onerror=y>", "&amp;", "&#58;&#58;", "]]>", "<!--", "-->", "</script>", "'", '"',
    "[bold red]x[/]", "[link=http://x]y", ":boom:", "[a](javascript:b)", "![a](http://b)", "[^1]: x", "[r]: http://x",
    "http://evil.example/a?b", "www.evil.example", "<https://evil.example>", "a@evil.example", "@somebody", "o/r#1", "GH-1",
    "**b**", "_i_", "~~s~~", "`", "``", "```", "~~~", "$x$", "$$", "\\", "---", "===", "- x", "+ x", "1. x", "2) x", "> q",
    "# h", "|a|b|", "|-|-|", "\t", "    x", "\n", "\r\n", "\n\n", "=1+1", "+1", "-1", "@SUM(A1)", "＝1", "=cmd|' /C calc'!A0",
    " ", "x", "word ", "x" * 130,
)  # fmt: skip

hostile = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6)), max_size=12).map("".join)
"""Mostly fragments that have an effect somewhere, beside any text at all."""

# As the runners read a log: GitHub trims a line and looks for "::" at its start, and for "##[" anywhere; Azure and
# TeamCity look anywhere; GitLab looks for its sections anywhere.
_COMMANDS = (
    re.compile(r"^\s*::", re.MULTILINE),
    re.compile(r"##\w*\["),
    re.compile(r"section_(start|end):"),
)


def acting(text: str, *, allowed: str = "\n") -> list[str]:
    """What in a printed text acts on a terminal or a runner: hidden characters but ``allowed``, and commands."""
    unseen = {
        each for each in text if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    }
    found = [f"U+{ord(each):04X}" for each in sorted(unseen - set(allowed))]
    return found + [pattern.pattern for pattern in _COMMANDS if pattern.search(text)]
