"""What counts as a right answer, one rule at a time: each test breaks one thing of a right one."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest

from devstack.seed import LiveData
from grader.load.answers import Shop, Wrong
from grader.load.plan import CURRENCIES, Arrival, ExpectedDay, catalogue, schedule
from tests.grader.load_shop import RightShop

LIVE = LiveData.from_seed(5, dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC))
EXPECTED = catalogue(LIVE, [ExpectedDay(day="2025-03-01", tickets=3, gross="36.30", orders=2)])
ARRIVALS = schedule(LIVE, {currency: Decimal("1.0937") for currency in CURRENCIES}, seed=5)


class Visit:
    """A client's visit to a right service, whose answers may be tampered with before they are verified."""

    def __init__(self) -> None:
        self.shop = Shop(EXPECTED)
        self.service = RightShop(EXPECTED)
        for arrival in ARRIVALS:
            if arrival.order is not None:
                total = {"amount": arrival.order.total, "currency": arrival.order.currency}
                self.service.totals[arrival.order.card_token] = total

    def ask(
        self,
        arrival: Arrival,
        *,
        code: int | None = None,
        headers: dict[str, str] | None = None,
        at_s: float = 0.0,
        **changed: Any,
    ) -> str | None:
        """The kind of failure, ``None`` for a right answer. ``changed``: fields of the JSON answer."""
        call = self.shop.call(arrival)
        assert call is not None
        sent = json.dumps(arrival.order.body()).encode() if arrival.order else b""
        found, _, body = self.service.answer(call.path, sent)
        if changed:
            body = json.dumps({**json.loads(body), **changed}).encode()
        try:
            self.shop.verify(arrival, call, code or found, headers or {}, body, at_s, at_s)
        except Wrong as wrong:
            return str(wrong)
        return None


@pytest.fixture
def visit() -> Visit:
    return Visit()


def first(endpoint: str, **wanted: Any) -> Arrival:
    return next(
        arrival
        for arrival in ARRIVALS
        if arrival.endpoint == endpoint and all(getattr(arrival, name) == wanted[name] for name in wanted)
    )


def test_everything_that_a_right_service_answers_is_right(visit: Visit) -> None:
    failures = [visit.ask(arrival, at_s=arrival.due_s) for arrival in ARRIVALS]
    assert set(failures) == {None}
    assert {arrival.endpoint for arrival in ARRIVALS} == {
        "list", "detail", "order", "order-read", "ticket", "sales",
    }  # fmt: skip


def test_a_cursor_leads_to_the_events_that_follow(visit: Visit) -> None:
    assert visit.ask(first("list", city=None, follow=False)) is None
    follow = first("list", follow=True)
    call = visit.shop.call(follow)
    assert call is not None
    assert "cursor=20" in call.path
    assert visit.ask(follow, items=visit.service.listed({})["items"]) == "wrong-events"


def test_a_list_without_a_cursor_or_out_of_order_is_wrong(visit: Visit) -> None:
    whole = first("list", city=None, follow=False)
    items = visit.service.listed({})["items"]
    assert visit.ask(whole, next_cursor=None) == "wrong-cursor"
    assert visit.ask(whole, items=items[::-1]) == "wrong-events"
    assert visit.ask(whole, items=[{**items[0], "title": "x"}, *items[1:]]) == "wrong-event"


def test_availability_may_be_a_little_stale_but_not_for_long(visit: Visit) -> None:
    order = first("order")
    assert visit.ask(order, at_s=1.0) is None
    assert order.order is not None
    event_id, quantity = order.order.items[0]
    detail = first("detail").model_copy(update={"event_id": event_id})
    event = next(event for event in EXPECTED.events if event.id == event_id)
    assert visit.ask(detail, at_s=3.0, seats_available=event.seats_total) is None
    assert visit.ask(detail, at_s=4.0, seats_available=event.seats_total) == "stale-availability"
    assert (
        visit.ask(detail, at_s=4.0, seats_available=event.seats_total - quantity - 1) == "stale-availability"
    )


def test_an_order_must_come_to_its_total(visit: Visit) -> None:
    order = first("order")
    assert visit.ask(order, total={"amount": "0.01", "currency": "EUR"}) == "wrong-total"
    assert visit.ask(order, status="pending") == "not-confirmed"
    assert visit.ask(order) is None


def test_an_order_that_is_accepted_for_later_is_right_and_its_ticket_may_wait(visit: Visit) -> None:
    order, ticket = first("order"), first("ticket")
    assert visit.shop.call(ticket) is None
    assert visit.ask(order, code=202) is None
    assert visit.ask(ticket, code=409) is None
    assert visit.ask(first("order-read")) is None
    assert visit.ask(ticket, code=409) == "status-409"


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (503, {"retry-after": "1"}, "shed"),
        (429, {"retry-after": "1"}, "shed"),
        (503, {}, "status-503"),
        (500, {"retry-after": "1"}, "status-500"),
        (404, {}, "status-404"),
    ],
)
def test_other_answers_are_told_by_their_status(
    visit: Visit, status: int, headers: dict[str, str], kind: str
) -> None:
    assert visit.ask(first("detail"), code=status, headers=headers) == kind
    assert visit.ask(first("order"), code=status, headers=headers) == kind


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"NaN", b"\xff", b"[" * 100_000, b'{"items": 3}'])
def test_whatever_is_not_of_the_contract_s_shape_is_malformed(visit: Visit, body: bytes) -> None:
    for arrival in (first("list", follow=False), first("detail"), first("order"), first("sales")):
        call = visit.shop.call(arrival)
        assert call is not None
        with pytest.raises(Wrong, match="malformed"):
            visit.shop.verify(arrival, call, 201 if arrival.order else 200, {}, body, 0, 0)


def test_a_report_with_a_wrong_figure_is_wrong(visit: Visit) -> None:
    day = {"day": "2025-03-01", "tickets": 3, "gross": 36.3, "orders": 2}
    assert (
        visit.ask(first("sales"), items=[day, {"day": "2025-03-02", "tickets": 0, "gross": 0, "orders": 0}])
        is None
    )
    assert visit.ask(first("sales"), items=[{**day, "gross": "36.31"}]) == "wrong-report"
