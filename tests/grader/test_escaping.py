from __future__ import annotations

import csv
import html as standard_html
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from hostile_text import acting, hostile
from hypothesis import given
from markdown_it import MarkdownIt
from markdown_it.token import Token

from grader.paths import canonical_json
from grader.reports import escaping
from grader.text import is_hidden


@given(hostile)
def test_lines_for_a_terminal_hold_nothing_that_acts(text: str) -> None:
    assert acting(escaping.terminal(text)) == []


class Page(HTMLParser):
    """What a browser makes of a page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.others: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_decl(self, decl: str) -> None:
        self.others.append(decl)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)


def page(source: str) -> Page:
    read = Page()
    read.feed(source)
    read.close()
    return read


@given(hostile)
def test_html_is_text_and_nothing_else(text: str) -> None:
    escaped = escaping.html(text)
    read = page(f"<p>{escaped}</p>")
    assert [tag for tag, _ in read.tags] == ["p"]
    assert not read.others
    assert not any(is_hidden(each) for each in read.text if each not in "\n\t")
    assert acting(escaped, allowed="\n\t") == []


@given(hostile)
def test_an_attribute_ends_where_we_end_it(text: str) -> None:
    escaped = escaping.html_attribute(text)
    for quote in "\"'":
        read = page(f"<p title={quote}{escaped}{quote} id=x>")
        assert [(tag, set(found)) for tag, found in read.tags] == [("p", {"title", "id"})]
        assert read.tags[0][1]["title"] == standard_html.unescape(escaping.html(text))
    assert not set(escaped) & set("\"'`=<>\n\t ") - {" "}


def test_html_shows_text_as_it_was() -> None:
    assert (
        page(escaping.html("a::b ##[x] <i>&amp;</i> \"'\r\n\tc")).text == "a::b ##[x] <i>&amp;</i> \"'\n\tc"
    )
    assert page(escaping.html("\x1b[2J\u202e\x00")).text == "\\x1b[2J\\u202e\\x00"


@given(hostile)
def test_json_within_a_page_neither_ends_its_element_nor_changes(text: str) -> None:
    document = canonical_json({"text": text, "html": "</script><!--<script>"})
    embedded = escaping.script_json(document)
    assert not set(embedded) & set("<>&")
    assert json.loads(embedded) == json.loads(document)


MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])
TEXT_ONLY = {"text", "text_special", "inline", "softbreak"}

PLACES: dict[str, tuple[str, list[str]]] = {
    "a paragraph": ("{}\n", ["paragraph"]),
    "the line after a paragraph's first": ("before\n{}\n", ["paragraph"]),
    "between our words": ("a {} b\n", ["paragraph"]),
    "a heading": ("## {}\n", ["heading"]),
    "an item": ("- {}\n", ["bullet_list", "list_item", "paragraph"]),
    "a cell": ("| a | b |\n|---|---|\n| {} | x |\n", ["table", "thead", "tr", "th", "th", "tbody", "tr", "td", "td"]),
}  # fmt: skip


def blocks(tokens: list[Token]) -> list[str]:
    return [token.type.removesuffix("_open") for token in tokens if token.nesting == 1]


@pytest.mark.parametrize("place", PLACES)
@given(hostile)
def test_markdown_is_text_wherever_it_stands(place: str, text: str) -> None:
    frame, expected = PLACES[place]
    # An item or a heading that is empty has no paragraph: not the text's doing.
    escaped = escaping.markdown(text) or "x"
    tokens = MARKDOWN.parse(frame.format(escaped))
    assert blocks(tokens) == expected
    inner = [child for token in tokens for child in token.children or ()]
    assert {token.type for token in tokens if token.nesting == 0} <= TEXT_ONLY
    assert {child.type for child in inner} <= TEXT_ONLY
    shown = "".join(child.content for child in inner)
    # Made links, mentions, references and emoji from what is shown, whatever was escaped.
    assert not re.search(r"://|\bwww\.|@[\w.-]|#\d|\bGH-\d|:(?!\d+:)[\w+-]+:|mailto:", shown, re.IGNORECASE)
    assert acting(escaped, allowed="") == []


@pytest.mark.parametrize("place", ["a paragraph", "between our words", "an item", "a cell"])
@given(hostile)
def test_a_code_span_holds_all_of_its_text(place: str, text: str) -> None:
    frame, expected = PLACES[place]
    span = escaping.markdown_code(text)
    tokens = MARKDOWN.parse(frame.format(span))
    assert blocks(tokens) == expected
    inner = [child for token in tokens for child in token.children or ()]
    assert [child.type for child in inner if child.type != "text"] == ["code_inline"]
    assert acting(span, allowed="") == []


@given(hostile)
def test_a_block_of_code_ends_where_we_end_it(text: str) -> None:
    block = escaping.markdown_block(text)
    assert [token.type for token in MARKDOWN.parse(f"{block}\nafter\n")] == [
        "fence", "paragraph_open", "inline", "paragraph_close",
    ]  # fmt: skip
    assert acting(block, allowed="\n\t") == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("p95 of /health/live: 2.125 s", "p95 of /health/live: 2.125 s"),
        ("-1 < 2 & 3 > 2", "\\-1 &lt; 2 &amp; 3 &gt; 2"),
        ("a_b|c", "a\\_b\\|c"),
        ("1. first", "1\\. first"),
        ("at 12:30:45, 3. second", "at 12:30:45, 3. second"),
        ("@hr see #12 at https://x", "@·hr see \\#·12 at https:·//x"),
    ],
)
def test_markdown_stays_readable_in_its_source(text: str, shown: str) -> None:
    assert escaping.markdown(text) == shown


@given(hostile)
def test_xml_is_well_formed_and_text(text: str) -> None:
    escaped = escaping.xml(text)
    root = ElementTree.fromstring(f'<a b="{escaped}">{escaped}</a>')
    assert len(root) == 0
    assert (root.text or "") == root.attrib["b"]
    assert "[[ATTACHMENT|" not in (root.text or "").upper()
    assert acting(escaped, allowed="") == []


def test_characters_that_xml_does_not_have_are_written_out() -> None:
    text = "\x00\x08\x0c\x1b\x7f\x85\ud800\ufffe\uffff\U0001ffff"
    read = ElementTree.fromstring(f"<a>{escaping.xml(text)}</a>").text
    assert read == "\\x00\\x08\n\\x1b\\x7f\n\\ud800\\ufffe\\uffff\\U0001ffff"


def test_line_ends_and_tabs_survive_in_xml() -> None:
    escaped = escaping.xml("a<b>&c ]]>\r\nd\te")
    assert ElementTree.fromstring(f"<a>{escaped}</a>").text == "a<b>&c ]]>\nd\te"
    assert ElementTree.fromstring(f'<a b="{escaped}"/>').attrib["b"] == "a<b>&c ]]>\nd\te"


@given(hostile, hostile)
def test_cells_stay_in_their_row_and_are_no_formulas(first: str, second: str) -> None:
    row = ",".join(escaping.csv_cell(text) for text in (first, second))
    rows = list(csv.reader(io.StringIO(f"{row}\r\n"), strict=True))
    assert len(rows) == 1
    assert len(rows[0]) == 2
    for cell in rows[0]:
        assert not cell.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    assert acting(row, allowed="") == []


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", " =1", "\t=1", "\r=1", "\u200b=1", "＝1", "'=1", '"=1', "“=1", "\u3000=1"])  # fmt: skip
def test_a_formula_has_an_apostrophe_before_it_or_begins_with_what_is_no_formula(text: str) -> None:
    (cell,) = next(csv.reader([escaping.csv_cell(text)]))
    assert cell.startswith("'") or cell.startswith("\\u200b")


@pytest.mark.parametrize(
    ("escape", "shown"),
    [
        (escaping.html, "plain ✓ text"),
        (escaping.html_attribute, "plain ✓ text"),
        (escaping.markdown, "plain ✓ text"),
        (escaping.markdown_code, "` plain ✓ text `"),
        (escaping.xml, "plain ✓ text"),
        (escaping.csv_cell, '"plain ✓ text"'),
        (escaping.terminal, "plain ✓ text"),
    ],
)
def test_plain_text_stays_plain(escape: Callable[[str], str], shown: str) -> None:
    assert escape("plain ✓ text") == shown
