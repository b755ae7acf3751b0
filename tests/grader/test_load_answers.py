"""What counts as a right answer, one rule at a time: each test breaks one thing of a right one."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from typing import Any

import pytest

from devstack.seed import LiveData
from grader.load.answers import Shop, Wrong
from grader.load.plan import CURRENCIES, PAGE_SIZE, PROBES, Arrival, ExpectedDay, catalogue, schedule
from grader.load.requests import INVALID_ORDERS
from tests.grader.load_shop import RightShop, echoed

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
        call = self.shop.call(arrival, at_s)
        assert call is not None
        sent = {name.lower(): value for name, value in call.headers.items()}
        found, _, body = self.service.answer(call.path, call.body or b"", sent)
        if changed:
            body = json.dumps({**json.loads(body), **changed}).encode()
        try:
            self.shop.verify(
                arrival, call, code or found, {**echoed(sent), **(headers or {})}, body, at_s, at_s
            )
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
        "list", "detail", "order", "order-read", "ticket", "sales", *PROBES,
    }  # fmt: skip


def test_a_cursor_leads_to_the_events_that_follow(visit: Visit) -> None:
    assert visit.ask(first("list", city=None, follow=False, limit=PAGE_SIZE)) is None
    follow = first("list", follow=True)
    call = visit.shop.call(follow)
    assert call is not None
    assert "cursor=20" in call.path
    assert visit.ask(follow, items=visit.service.listed({})["items"]) == "wrong-events"


def test_a_list_without_a_cursor_or_out_of_order_is_wrong(visit: Visit) -> None:
    whole = first("list", city=None, follow=False, limit=PAGE_SIZE)
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


def test_an_order_is_read_back_right_after_it_was_accepted(visit: Visit) -> None:
    orders = [arrival for arrival in ARRIVALS if arrival.endpoint == "order"][:3]
    assert [visit.ask(order) for order in orders] == [None] * 3
    for endpoint in ("order-read", "replay"):
        call = visit.shop.call(first(endpoint, recent=True))
        assert call is not None
        assert call.order is visit.shop.orders[orders[-1].number]
    assert visit.ask(first("order-read", recent=True), code=404) == "status-404"


def test_an_event_is_asked_for_as_soon_as_it_must_show_what_was_sold(visit: Visit) -> None:
    order, detail = first("order"), first("detail", recent=True)
    assert visit.ask(order, at_s=1.0) is None
    assert order.order is not None
    sold = {f"/events/{event_id}" for event_id, _ in order.order.items}
    early, late = (visit.shop.call(detail, at_s) for at_s in (3.0, 3.5))
    assert early is not None
    assert late is not None
    assert early.path == f"/events/{detail.event_id}"
    assert late.path in sold
    assert visit.ask(detail, at_s=3.5) is None
    total = next(event.seats_total for event in EXPECTED.events if f"/events/{event.id}" == late.path)
    assert visit.ask(detail, at_s=3.5, seats_available=total) == "stale-availability"


def test_a_repeated_order_is_the_same_order(visit: Visit) -> None:
    replay = first("replay")
    assert visit.shop.call(replay) is None
    assert visit.ask(first("order")) is None
    assert visit.ask(replay) is None
    assert visit.ask(replay, id="another") == "another-order"
    assert visit.ask(replay, total={"amount": "0.01", "currency": "EUR"}) == "wrong-total"
    assert visit.ask(replay, code=409) == "status-409"


def test_a_repeated_order_that_is_still_open_may_be_told_to_wait(visit: Visit) -> None:
    assert visit.ask(first("order"), code=202, status="pending") is None
    assert visit.ask(first("replay"), code=409) is None
    assert visit.ask(first("replay"), code=200, id="another") == "another-order"


@pytest.mark.parametrize(("endpoint", "wrong"), [("invalid", 201), ("unknown", 200), ("waitlist", 201)])
def test_what_must_be_refused_is_refused_under_load_too(visit: Visit, endpoint: str, wrong: int) -> None:
    probe = first(endpoint, request_id=None)
    assert visit.ask(probe) is None
    assert visit.ask(probe, code=wrong) == f"status-{wrong}"


def test_an_id_that_is_none_of_the_service_s_kind_may_be_malformed_to_it(visit: Visit) -> None:
    unknown = first("unknown")
    order, event = (unknown.model_copy(update={"pick": pick}) for pick in (0.75, 0.25))
    assert visit.ask(order, code=422) is None
    assert visit.ask(event, code=422) == "status-422"


@pytest.mark.parametrize("variant", range(INVALID_ORDERS))
def test_each_invalid_order_has_one_thing_wrong(visit: Visit, variant: int) -> None:
    invalid = first("invalid").model_copy(update={"pick": (variant + 0.5) / INVALID_ORDERS})
    assert invalid.order is not None
    call = visit.shop.call(invalid)
    assert call is not None
    same_body = call.json_body == invalid.order.body()
    assert same_body == ("Idempotency-Key" not in call.headers)
    assert visit.ask(invalid) is None


def test_an_invalid_order_that_is_sold_all_the_same_is_no_stale_page(visit: Visit) -> None:
    seven = first("invalid").model_copy(update={"pick": 1.5 / INVALID_ORDERS})
    call = visit.shop.call(seven)
    assert call is not None
    assert seven.order is not None
    event_id = seven.order.items[0][0]
    total = next(event.seats_total for event in EXPECTED.events if event.id == event_id)
    detail = first("detail", recent=False).model_copy(update={"event_id": event_id})
    assert visit.ask(detail, at_s=9, seats_available=total - 7) is None


def test_the_id_of_a_request_is_echoed_unless_the_service_never_did(visit: Visit) -> None:
    named = next(
        arrival for arrival in ARRIVALS if arrival.endpoint == "detail" and arrival.request_id is not None
    )
    assert visit.ask(named) is None
    assert visit.ask(named, headers={"x-request-id": "mine"}) == "wrong-request-id"
    visit.shop = Shop(EXPECTED, habits=("limit",))
    assert visit.ask(named, headers={"x-request-id": "mine"}) is None
    assert visit.ask(named, code=500) == "status-500"


def test_a_habit_that_the_service_never_had_is_not_judged(visit: Visit) -> None:
    visit.shop = Shop(EXPECTED, habits=())
    for probe in (first("invalid"), first("unknown"), first("waitlist"), first("list", limit=7)):
        assert visit.ask(probe, code=200) is None


def test_seats_that_were_asked_for_before_the_load_may_be_gone(visit: Visit) -> None:
    detail = first("detail", recent=False)
    event = next(event for event in EXPECTED.events if event.id == detail.event_id)
    assert visit.ask(detail, seats_available=event.seats_total - 2) == "stale-availability"
    visit.shop = Shop(EXPECTED, asked_before=((event.id, 2),))
    assert visit.ask(detail, seats_available=event.seats_total - 2) is None


@pytest.mark.parametrize("total", ["9" * 100_000, "1e999999999", "NaN", True, None])
def test_an_amount_that_is_no_amount_is_wrong_at_once(visit: Visit, total: object) -> None:
    assert visit.ask(first("order"), total={"amount": total, "currency": "EUR"}) in (
        "malformed",
        "wrong-total",
    )
