"""A submission's text in each format of a report: always text there, never markup, a link, a formula or a command.

One function for each place where text can stand; what is not listed (scripts, styles, comments, URLs, names of elements
or of attributes) is no place for it. All take any string and are total. Where a format has escapes of its own the text
stays the same for the reader; where it has none, :data:`grader.text.BREAK` stands where something was taken apart.
Hidden characters are written out (``\\u202e``), so that a reviewer sees that they were there; on a terminal, where text
is short and much of it is coloured logs, they are dropped.
"""

from __future__ import annotations

import html as standard_html
import re
import unicodedata

from grader.text import BREAK, COMMANDS, excerpt, revealed, workflow

_LINE_ENDS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")

# What a renderer, or the site that shows the page, makes a link or an image of without being asked, by what it sees after
# escapes are gone (cmark-gfm's extended autolinks; GitHub's mentions, references and emoji): escapes do not help.
_AUTOLINKS = re.compile(
    r"""
      (?<=:)(?=//)                  # https://…
    | (?<=\bwww)(?=\.)              # www.…
    | (?<=@)(?=[\w.-])              # @somebody, some@body
    | (?<=\#)(?=\d)                 # #1, owner/name#1
    | (?<=\bGH)(?=-\d)              # GH-1
    | (?<=:)(?!\d+:)(?=[\w+-]+:)    # :emoji:, but no time of day
    | (?<=\bmailto)(?=:) | (?<=\bxmpp)(?=:)
    """,
    re.IGNORECASE | re.VERBOSE,
)
_MARKDOWN = re.compile(r"[\\`*_\[\]#|~!$]")
_LIST_ITEM = re.compile(r"^(\d{1,9})([.)])")
_BACKTICKS = re.compile(r"`+")

# Full-width forms begin a formula as well in spreadsheets for East Asia.
_FORMULA = frozenset("=+-@＝＋－＠")


def terminal(text: str) -> str:
    """Lines for a terminal or a log, all of them; :func:`grader.text.one_line` is for a single one."""
    return workflow(excerpt(text, limit=len(text) + 1))


def html(text: str) -> str:
    """Between tags. Line ends and tabs stay: give the element ``white-space: pre-wrap``, and ``dir="auto"``."""
    return _entities(standard_html.escape(_lines(text), quote=True))


def html_attribute(text: str) -> str:
    """Between the quotes of an attribute that is plain text (``title``, ``alt``, ``data-…``, ``value``).

    Never in ``href``, ``src``, ``style``, ``srcdoc`` or ``on…``: there the text itself would act.
    """
    escaped = html(text).replace("`", "&#96;").replace("=", "&#61;")
    return escaped.replace("\n", "&#10;").replace("\t", "&#9;")


def script_json(json_text: str) -> str:
    """JSON inside ``<script type="application/json">``: nothing in it ends the element or begins a comment."""
    escaped = json_text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return escaped.replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def markdown(text: str) -> str:
    """On one line of GitHub's Markdown: in a paragraph, a heading, an item or a cell of a table, at its start or later.

    Not in a code span, where escapes are text: :func:`markdown_code`.
    """
    apart = _AUTOLINKS.sub(BREAK, workflow(" ".join(revealed(_flat(text)).split())))
    # Entities for what HTML reads, so that nothing is left of it if a renderer knows no backslashes.
    escaped = _MARKDOWN.sub(r"\\\g<0>", standard_html.escape(apart, quote=False))
    escaped = _LIST_ITEM.sub(r"\1\\\2", escaped)
    return f"\\{escaped}" if escaped.startswith(("-", "+", "=", ":")) else escaped


def markdown_code(text: str) -> str:
    """A whole code span, with its backticks. ``|`` becomes ``¦``, so that it can stand in a table.

    No mention, link or emoji is made inside of code.
    """
    inner = workflow(" ".join(revealed(_flat(text)).split())).replace("|", "¦") or " "
    fence = "`" * (1 + max((len(run) for run in _BACKTICKS.findall(inner)), default=0))
    # One space on either side is taken off by the renderer; without it a backtick at the edge would join the fence.
    return f"{fence} {inner} {fence}"


def markdown_block(text: str) -> str:
    """A whole fenced block of code, with its line ends; it must begin a line."""
    inner = workflow(_lines(text))
    fence = "`" * max(3, 1 + max((len(run) for run in _BACKTICKS.findall(inner)), default=0))
    return f"{fence}text\n{inner}\n{fence}\n"


def xml(text: str) -> str:
    """In an element or between the quotes of an attribute, XML 1.0; line ends and tabs survive in both.

    GitLab and Jenkins take ``[[ATTACHMENT|…]]`` in output of tests for a file to publish: it is taken apart.
    """
    escaped = standard_html.escape(workflow(_lines(text)), quote=True)
    return escaped.replace("\n", "&#10;").replace("\t", "&#9;")


def csv_cell(text: str) -> str:
    """A whole cell with its quotes: no formula, on one line. Join cells by commas; numbers of ours need no cell.

    A text that a spreadsheet would take for a formula has an apostrophe before it, which says that it is text.
    """
    flat = workflow(revealed(_flat(text)))
    first = next((character for character in flat if not _passed_over(character)), "")
    mark = "'" if first in _FORMULA else ""
    return '"' + mark + flat.replace('"', '""') + '"'


def _passed_over(character: str) -> bool:
    """Whether a spreadsheet might look for a formula behind it: white space and quotes, whatever their form."""
    return character.isspace() or character in "'\"" or unicodedata.category(character) in ("Pi", "Pf")


def _flat(text: str) -> str:
    """``text`` with a space for every line end and tab."""
    return _LINE_ENDS.sub(" ", text).replace("\t", " ")


def _lines(text: str) -> str:
    """``text`` with line ends as ``\\n``, and nothing hidden but these and tabs."""
    return revealed(_LINE_ENDS.sub("\n", text), keep="\n\t")


def _entities(escaped: str) -> str:
    """Commands for continuous integration as numeric entities: the page reads the same, and its source can be printed."""
    return COMMANDS.sub(lambda found: f"&#{ord(found[0])};", escaped)
