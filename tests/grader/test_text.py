from __future__ import annotations

import unicodedata

import pytest
from hostile_text import FRAGMENTS, acting, hostile
from hypothesis import given
from hypothesis import strategies as st

from grader.text import MAXIMUM_MARKS, excerpt, is_hidden, one_line, revealed, workflow


@given(hostile, st.integers(1, 400))
def test_one_line_is_one_line_within_its_limit_on_which_nothing_acts(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert acting(line, allowed="") == []
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
    assert line == line.strip()


@given(hostile)
def test_what_was_made_one_line_stays_as_it_is(text: str) -> None:
    line = one_line(text, 10_000)
    assert one_line(line, 10_000) == line


@given(hostile, st.integers(1, 400))
def test_an_excerpt_keeps_line_ends_and_nothing_else_that_is_hidden(text: str, limit: int) -> None:
    taken = excerpt(text, limit)
    assert not any(is_hidden(each) for each in taken if each != "\n")
    assert len(taken) <= limit
    assert acting(workflow(taken)) == []


@given(hostile)
def test_commands_are_broken_once_and_for_all(text: str) -> None:
    broken = workflow(text)
    assert workflow(broken) == broken
    assert broken.replace("·", "") == text.replace("·", "")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::set-output name=a::b", ":·:set-output name=a:·:b"),
        ("##[command]x", "#·#[command]x"),
        ("##vso[task.x]y", "#·#vso[task.x]y"),
        ("##teamcity[x]", "#·#teamcity[x]"),
        ("section_start:1:a", "section_start·:1:a"),
        ("## a heading, 12:30:45, a[0]", "## a heading, 12:30:45, a[0]"),
        (":\u200b:error:\x00:", ":·:error:·:"),
        ("#\x1b[0m#[x]", "#[0m#[x]"),
    ],
)
def test_a_broken_command_can_still_be_read(text: str, shown: str) -> None:
    assert one_line(text) == shown


@pytest.mark.parametrize(
    "hidden",
    [*"\x00\x07\x1b\x7f\x9b\u00ad\u034f\u115f\u180e\u200b\u202e\u2066\u3164\ufe0f\ufeff\uffa0",
     "\U000e0001", "\U000e0041", "\U000e0101", "\ud800", "\ue000", "\U0010ffff"],
    ids=lambda each: f"U+{ord(each):04X}",
)  # fmt: skip
def test_what_nobody_sees_is_dropped(hidden: str) -> None:
    assert one_line(f"a{hidden}b") == "ab"
    assert excerpt(f"a{hidden}b") == "ab"


def test_hidden_characters_can_be_written_out() -> None:
    assert revealed("a\x1b\u202e\U000e0041\ud800\n\t", keep="\n") == "a\\x1b\\u202e\\U000e0041\\ud800\n\\x09"


def test_marks_do_not_pile_up_and_do_not_join_our_own_text() -> None:
    tower = one_line("e" + "\u0301" * 500 + "\u200b" + "\u0301" * 500)
    assert tower == "e" + "\u0301" * MAXIMUM_MARKS
    assert one_line("\u0338x \u20e0y") == "◌\u0338x ◌\u20e0y"
    assert one_line("zażółć กำลัง हिन्दी") == "zażółć กำลัง हिन्दी"


def test_signs_that_are_drawn_wider_than_they_count_are_replaced() -> None:
    assert one_line("a\ufdfdb\U0001242bc⸻") == "a�b�c�"


def test_what_is_left_out_shows() -> None:
    assert one_line("x" * 400) == "x" * 299 + "…"
    assert one_line("\u200b" * 5_000 + "the reason") == "…"
    assert excerpt("a\n" + "\u200b" * 20_000) == "a\n…"


def test_ordinary_text_is_shown_as_it_was_written() -> None:
    text = "p95 of /health/live: 2.125 s, expected ≤ 0.36 s — naïve café, 東京, Ελλάδα, 🎫"
    assert one_line(text) == text
    assert excerpt(f"{text}\n  {text}") == f"{text}\n  {text}"


def test_the_fragments_do_act_unless_something_is_done() -> None:
    assert sum(bool(acting(fragment)) for fragment in FRAGMENTS) > 30
    assert {"Cc", "Cf", "Cs", "Co", "Cn", "Mn"} <= {unicodedata.category(e) for f in FRAGMENTS for e in f}
