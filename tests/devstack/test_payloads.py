"""JSON of strangers: what is taken, and that the rest is refused with its reason, whatever the bytes are."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from devstack.artifacts import Exchange
from devstack.payloads import MAX_BYTES, MAX_DEPTH, MAX_INTEGER, MAX_VALUES, decode

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "100"))

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=30,
)  # fmt: skip
TOKENS = (
    "{", "}", "[", "]", ",", ":", '"', '"a"', '"a":', "\\", '"\\ud800"', '"\\u0000"', "NaN", "Infinity", "-", "-0", "1e400",
    "1e-400", "0.1", "9" * 30, "9" * 5000, "true", "null", " ", "\n", "\x00", "\ufeff", "é", "[" * 200, '{"a":' * 200,
)  # fmt: skip


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": [1, 2.5, "\xc3\xa9", null, true]}', b"\xef\xbb\xbf{}", b'"\\ud83d\\ude00"', b'"\\u0000"', b"-0.0",
        b"18446744073709551615", b"0.1000000000000000055511151231257827021181583404541015625",
        b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
    ],
)  # fmt: skip
def test_json_that_every_reader_understands_alike_is_taken(raw: bytes) -> None:
    decoded = decode(raw)
    assert decoded.problem is None
    assert decoded.value == json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "a syntax error"),
        (b"{", "a syntax error"),
        (b'{"a": 1} {"a": 2}', "a syntax error"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b"1e400", "a number out of range"),
        (b"18446744073709551616", "a number out of range"),
        (b"9" * 1_000_000, "a number out of range"),
        (b'{"id": "a", "id": "b"}', "a name twice in one object"),
        (b'"\\ud800"', "half a character (a lone surrogate)"),
        (b'{"\\ud800": 1}', "half a character (a lone surrogate)"),
        (b"\xff", "not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        (b"[" * 100_000, f"more than {MAX_VALUES} values"),
        (b"[" * 40_000, f"nested more than {MAX_DEPTH} deep"),
        (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), f"nested more than {MAX_DEPTH} deep"),
        (b"[" + b"{}," * MAX_VALUES + b"{}]", f"more than {MAX_VALUES} values"),
        (b'"' + b"x" * MAX_BYTES + b'"', f"more than {MAX_BYTES} bytes"),
    ],
)
def test_what_readers_may_differ_about_is_refused_with_its_reason(raw: bytes, problem: str) -> None:
    decoded = decode(raw)
    assert (decoded.value, decoded.problem) == (None, problem)


@settings(max_examples=EXAMPLES, deadline=None)
@given(plain)
def test_what_was_written_plainly_is_read_back(value: object) -> None:
    assert decode(json.dumps(value).encode()).value == value
    assert decode(json.dumps(value, ensure_ascii=False).encode()).value == value


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=300) | st.lists(st.sampled_from(TOKENS), max_size=20).map("".join).map(str.encode))
def test_no_bytes_break_the_decoder_or_the_record_of_what_it_took(raw: bytes) -> None:
    decoded = decode(raw)
    assert decoded.problem is None or decoded.value is None
    exchange = Exchange(label="a", method="GET", path="/", started_s=0, elapsed_s=0, payload=decoded.value)
    written = exchange.model_dump_json()
    assert TypeAdapter(Exchange).validate_json(written).payload == decoded.value
