"""Rules of the fault plan, amounts, rates and the frontend's messages: no process, no socket."""

import struct
from decimal import Decimal

import pytest
from pydantic import JsonValue, ValidationError

from devstack.faults import ledger
from devstack.faults.model import Fault
from devstack.faults.payments import parse_amount
from devstack.faults.plan import Plan
from devstack.faults.rates import CURRENCIES, rate
from devstack.faults.wire import (
    CANCEL_REQUEST,
    SSL_REQUEST,
    FrontendReader,
    MalformedStartup,
    Opening,
    read_opening,
)


def kinds(plan: Plan, items: str, *, operation: str = "charge", now_s: float = 0) -> list[str | None]:
    return [plan.decide("payments", operation, item, now_s).name for item in items]


def test_first_n_calls_are_counted_over_all_items() -> None:
    plan = Plan([Fault(upstream="payments", kind="status", first=2)])
    assert kinds(plan, "aba") == ["status", "status", None]


def test_first_n_calls_can_be_counted_per_item() -> None:
    plan = Plan([Fault(upstream="payments", kind="status", first=1, per_item=True)])
    assert kinds(plan, "abab") == ["status", "status", None, None]


def test_a_later_call_of_an_item_from_an_earlier_plan_is_no_first_call() -> None:
    earlier = Plan()
    kinds(earlier, "a")
    rule = Fault(upstream="payments", kind="status", first=1, per_item=True)
    assert kinds(Plan([rule], known=frozenset(earlier.items)), "ab") == [None, "status"]


def test_a_call_of_another_upstream_or_operation_is_neither_met_nor_counted() -> None:
    plan = Plan([Fault(upstream="payments", kind="hang", operation="charge", first=1)])
    assert plan.decide("risk", "charge", "a", 0).fault is None
    assert kinds(plan, "a", operation="refund") == [None]
    assert kinds(plan, "a") == ["hang"]


def test_a_window_begins_at_its_start_and_ends_before_its_end() -> None:
    plan = Plan([Fault(upstream="payments", kind="hang", start_s=1, end_s=3)], set_at_s=10)
    assert [kinds(plan, "a", now_s=now)[0] for now in (10.9, 11, 12.9, 13)] == [None, "hang", "hang", None]


def test_latencies_add_up_until_the_first_rule_that_decides() -> None:
    plan = Plan(
        [
            Fault(upstream="payments", kind="latency", seconds=1),
            Fault(upstream="payments", kind="latency", seconds=2),
            Fault(upstream="payments", kind="drop-after", first=1),
            Fault(upstream="payments", kind="latency", seconds=4),
        ]
    )
    first, second = (plan.decide("payments", "charge", "a", 0) for _ in range(2))
    assert (first.added_s, first.name) == (3, "drop-after")
    assert (second.added_s, second.name) == (7, "latency")


def test_refusals_have_windows_of_their_own() -> None:
    plan = Plan([Fault(upstream="mailer", kind="refuse", start_s=1, end_s=2)], set_at_s=5)
    assert plan.refusal_changes() == [6, 7]
    assert [plan.refuses("mailer", now) for now in (5.9, 6, 7)] == [False, True, False]
    assert not plan.refuses("risk", 6)


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "refuse", "operation": "charge"},
        {"kind": "refuse", "first": 1},
        {"kind": "hang", "per_item": True},
        {"kind": "status", "status": 200},
        {"kind": "latency", "seconds": -1},
    ],
)
def test_a_rule_that_cannot_be_carried_out_is_refused(rule: dict[str, JsonValue]) -> None:
    with pytest.raises(ValidationError):
        Fault.model_validate({"upstream": "payments", **rule})


@pytest.mark.parametrize(
    ("given", "amount"), [("10", "10.00"), ("0.5", "0.50"), (19.99, "19.99"), (7, "7.00"), (10.0, "10.00")]
)
def test_amounts_are_decimal_strings_or_numbers(given: JsonValue, amount: str) -> None:
    assert str(parse_amount(given)) == amount


@pytest.mark.parametrize("given", ["1.001", 0.001, "-1", -1, "1e3", "", "NaN", True, None, [], "12345678901"])
def test_what_is_no_amount_is_none(given: JsonValue) -> None:
    assert parse_amount(given) is None


def test_rates_are_the_same_for_the_same_seed_and_differ_between_seeds() -> None:
    table = {seed: [rate(seed, "EUR", quote) for quote in CURRENCIES] for seed in (1, 2)}
    assert table[1] == [rate(1, "EUR", quote) for quote in CURRENCIES]
    assert table[1] != table[2]
    assert len(CURRENCIES) == 13


@pytest.mark.parametrize("seed", range(20))
def test_an_odd_number_of_euros_lands_on_half_a_cent_in_pounds(seed: int) -> None:
    assert (rate(seed, "EUR", "GBP") * 45 * 1000) % 10 == 5
    assert all(rate(seed, "EUR", quote) * 10_000 % 10 for quote in CURRENCIES if quote not in ("EUR", "GBP"))


def test_other_pairs_are_crossed_over_the_euro() -> None:
    assert rate(1, "USD", "USD") == 1
    assert rate(1, "USD", "EUR") == (1 / rate(1, "EUR", "USD")).quantize(Decimal("0.000001"))
    with pytest.raises(KeyError):
        rate(1, "XXX", "XXX")


@pytest.mark.parametrize(("calls", "text_bytes"), [(2, 1_000), (100, 25)])
def test_a_full_ledger_counts_what_it_does_not_record(
    calls: int, text_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "MAX_CALLS", calls)
    monkeypatch.setattr(ledger, "MAX_CALL_BYTES", text_bytes)
    book = ledger.Book(epoch=0)
    for size_bytes in (10, 10, 10, 1):
        if book.admit(size_bytes):
            book.record(ledger.Call("risk", "assess", 1, 0.0, "POST", "/", {}, None, None, "a"))
    assert (len(book.calls), book.calls_dropped) == (2, 2)


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


STARTUP = struct.pack("!II", 20, 196608) + b"user\0probe\0\0"
STREAM = STARTUP + b"".join(
    [
        message(b"p", b"QBSHQBSH"),  # a password is not a query
        message(b"Q", b"SELECT 1\0"),
        message(b"P", b"x" * 300) + message(b"D") + message(b"H"),
        message(b"B", b"B" * 70) + message(b"E") + message(b"S"),
        message(b"d", b"Q" * 500) + message(b"c") + message(b"X"),
    ]
)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, len(STREAM)])
def test_messages_are_counted_however_the_bytes_are_cut(size: int) -> None:
    reader = FrontendReader(len(STARTUP))
    counted = [reader.feed(STREAM[start : start + size]) for start in range(0, len(STREAM), size)]
    assert (sum(c[0] for c in counted), sum(c[1] for c in counted)) == (2, 3)


def test_a_message_with_an_impossible_length_does_not_stall_the_reader() -> None:
    assert FrontendReader(0).feed(b"Q\0\0\0\0" + message(b"S")) == (1, 2)


def test_the_first_packet_tells_what_a_connection_is_for() -> None:
    assert read_opening(STARTUP[:-1]) is None
    assert read_opening(STARTUP[:7]) is None
    assert read_opening(STARTUP + b"more") == (Opening.STARTUP, len(STARTUP))
    assert read_opening(struct.pack("!II", 8, SSL_REQUEST)) == (Opening.ENCRYPTION, 8)
    assert read_opening(struct.pack("!IIII", 16, CANCEL_REQUEST, 1, 2)) == (Opening.CANCEL, 16)
    with pytest.raises(MalformedStartup):
        read_opening(b"GET / HTTP/1.1\r\n")
