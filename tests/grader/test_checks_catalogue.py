"""What the catalogue shows: what the checks pass, and each flaw that they must see."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from shop_records import Spoil, failures, ledger, outcome_of, read, with_exchanges, with_facts

from devstack.artifacts import Artifact, Charge, Exchange
from devstack.seed import LiveData
from grader.checks import test_catalogue as checks
from grader.model import Verdict
from grader.scenarios.catalogue import PASSING, ZONES, CatalogueData, catalogue_data, far_zone

CLOCK_S = 1_770_000_000.0
"""Seconds since the epoch at the beginning of the time axis."""

DAY = "2026-02-02"
ORDER_IDS = [f"00000000-0000-4000-8000-00000000000{number}" for number in range(3)]
UNKNOWN, MALFORMED = "11111111-0000-4000-8000-000000000000", "not-an-order"


def signature(order_id: str, secret: str) -> str:
    """Stands in for the contract's, which takes its time."""
    return f"{order_id} signed with {secret}"


@pytest.fixture(autouse=True)
def quick_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "signature", signature)


def iso(at_s: float) -> str:
    return dt.datetime.fromtimestamp(at_s, dt.UTC).isoformat()


# Events 1…25 begin an hour apart from tomorrow on, 30…33 at one instant, 40…49 within the minute of the walk.
BEGINS = {number: CLOCK_S + 90_000 + 3_600 * number for number in range(1, 26)}
BEGINS |= dict.fromkeys(range(30, 34), CLOCK_S + 200_000)
BEGINS |= {number: CLOCK_S + 4 * (number - 39) for number in range(40, 50)}
CITIES = {number: "Graz" if number < 30 else "Linz" if number < 40 else "Cork" for number in BEGINS}


def truth(number: int) -> dict[str, Any]:
    return {
        "title": f"Event {number}",
        "starts_at": BEGINS[number],
        "sales_open_at": CLOCK_S - 86_400,
        "sales_close_at": BEGINS[number],
        "venue": {"id": 7, "name": "Hall", "city": CITIES[number]},
        "price": "12.50",
        "seats_total": 20,
    }


def event(number: int, **changed: Any) -> dict[str, Any]:
    times = {name: iso(truth(number)[name]) for name in ("starts_at", "sales_open_at", "sales_close_at")}
    price = {"amount": "12.50", "currency": "EUR"}
    return {**truth(number), **times, "id": number, "price": price, "seats_available": 20, **changed}


def page(
    name: str, numbers: Sequence[int], cursor: Any = None, *, at_s: float = 1.0, **changed: Any
) -> Exchange:
    payload = {"items": [event(number, **changed) for number in numbers], "next_cursor": cursor}
    return read(name, "/events", at_s=at_s, payload=payload)


def body(number: int) -> dict[str, Any]:
    return {"card_token": f"tok_{number}", "items": [{"event_id": number + 1, "quantity": 2}]}


def shown(number: int, **changed: Any) -> dict[str, Any]:
    return {
        "id": ORDER_IDS[number],
        "status": "confirmed",
        "items": [
            {"event_id": number + 1, "quantity": 2, "unit_price": {"amount": "12.50", "currency": "EUR"}}
        ],
        "total": {"amount": "25.00", "currency": "EUR"},
        "charge_id": f"ch_{number}",
        "created_at": iso(CLOCK_S + 1),
        **changed,
    }


def order(number: int, *, status: int | None = 201, label: str = "orders", **changed: Any) -> Exchange:
    location = {"location": f"/orders/{ORDER_IDS[number]}"} if status == 202 else {}
    return Exchange(
        label=label, method="POST", path="/orders", started_s=1, elapsed_s=0.1, status=status, request_json=body(number),
        request_headers={"Idempotency-Key": f"key-{number}"}, headers=location,
        payload=shown(number, **changed) if status in (200, 201) else None,
    )  # fmt: skip


def reading(number: int, label: str = "orders-read", **changed: Any) -> Exchange:
    return read(label, f"/orders/{ORDER_IDS[number]}", payload=shown(number, **changed))


def ticket(
    text: str | None = None, kind: str = "image/svg+xml; charset=utf-8", status: int = 200
) -> Exchange:
    payload = f"boxoffice:{ORDER_IDS[0]}:{signature(ORDER_IDS[0], 'secret')}"
    return read("ticket", f"/orders/{ORDER_IDS[0]}/ticket", status=status).model_copy(
        update={"headers": {"content-type": kind}, "body": text or f"<svg><desc>{payload}</desc></svg>"}
    )


def refused(path: str, status: int | None = 404) -> Exchange:
    return read("refused", path, status=status)


NO_ORDER = [f"/orders/{name}{end}" for name in (UNKNOWN, MALFORMED) for end in ("", "/ticket")]


@pytest.fixture
def catalogue() -> Artifact:
    sales = {"items": [{"day": DAY, "tickets": 6, "gross": "75.00", "orders": 1}]}
    charges = [
        Charge(
            charge_id=f"ch_{number}", order_ref=ORDER_IDS[number], amount="25.00", currency="EUR", status="captured",
            idempotency_key=f"k{number}", captured_s=1, card_token=f"tok_{number}",
        )
        for number in range(3)
    ]  # fmt: skip
    later = sorted(number for number in BEGINS if number < 40)
    later.sort(key=lambda number: BEGINS[number])
    return Artifact(
        scenario="catalogue",
        facts={
            "events": {str(number): truth(number) for number in BEGINS},
            "clock-s": CLOCK_S,
            "ticket-secret": "secret",
            "zone": "Pacific/Niue",
            "cities": {"tied": "Linz", "passing": "Cork"},
            "utc-days": [DAY, DAY],
            "confirmed-s": 3.0,
            "sold": {"some": {"id": 5, "left": 14, "bought": 6}, "all": {"id": 6, "left": 0, "bought": 4}},
        },
        exchanges={
            "event": (read("event", "/events/4", payload=event(4)),),
            "default-page": (page("default-page", range(1, 21), "c"),),
            "orders": tuple(order(number) for number in range(3)),
            "orders-at-once": tuple(reading(number, "orders-at-once") for number in range(3)),
            "orders-read": tuple(reading(number) for number in range(3)),
            "replay": (order(0, status=200, label="replay"),),
            "ticket": (ticket(),),
            "no-order": tuple(map(refused, NO_ORDER)),
            "no-event": (refused("/events/9"), refused("/events/9/sales")),
            "open": (order(1, status=202, label="open"),),
            "open-ticket": (refused(f"/orders/{ORDER_IDS[1]}/ticket", 409),),
            "on-sale": (order(0, label="on-sale"), order(1, label="on-sale", status=202)),
            "not-on-sale": (order(2, label="not-on-sale", status=409),) * 6,
            "sales": (read("sales", "/events/5/sales", at_s=30, payload=sales),),
            "sold-some": (order(0, label="sold-some"),),
            "sold-all": (order(1, label="sold-all", status=202),),
            "sold-some-page": (read("p", "/events/5", at_s=3.0, payload={"seats_available": 14}),),
            "sold-some-list": (page("l", [4, 5], at_s=6.0, seats_available=14),),
            "sold-all-page": (read("p", "/events/6", at_s=1.2, payload={"seats_available": 0}),),
            "sold-all-list": (page("l", [6], at_s=1.2, seats_available=0),),
            # 40 begins 4 s after the clock, 43 after 16 s; the second page comes at 17 s.
            "pages-passing": (page("p", [40, 41, 42], "a", at_s=1), page("p", range(43, 46), "b", at_s=17), page("p", range(46, 50), at_s=17)),
            "pages-tied": (page("t", [31, 30], "a"), page("t", [33, 32])),
            "pages-whole": (page("w", range(40, 50), "a"), page("w", later[:20], 7), page("w", later[20:])),
            "other-city": (page("o", []),) * 4,
        },
        ledgers={"final": ledger(charges)},
    )  # fmt: skip


CHECKS: list[Callable[..., None]] = [
    checks.test_order_contract,
    checks.test_sales_window,
    checks.test_answer_freshness,
    checks.test_list_pages,
]


@pytest.mark.parametrize("check", CHECKS)
def test_a_catalogue_as_agreed_passes(check: Callable[..., None], catalogue: Artifact) -> None:
    outcome = outcome_of(check, catalogue)
    assert outcome.verdict is Verdict.PASSED, failures(outcome)


def changed(**exchanges: list[Exchange]) -> Spoil:
    return lambda artifact: with_exchanges(artifact, **exchanges)


def orders_with(**fields: Any) -> Spoil:
    return changed(orders_read=[reading(number, **fields) for number in range(3)])


# -- orders and tickets -------------------------------------------------------------------------------------

QUEUED: Spoil = changed(
    orders=[order(number, status=202) for number in range(3)],
    orders_at_once=[reading(number, status="pending") for number in range(3)],
)
NUMBERED: Spoil = changed(
    no_order=[refused(path, 422) if MALFORMED in path else refused(path) for path in NO_ORDER]
)
NEVER_OPEN: Spoil = changed(open=[order(1, status=503)], open_ticket=[])
AS_NUMBERS: Spoil = orders_with(
    total={"amount": 25, "currency": "EUR"}, created_at=iso(CLOCK_S + 1).replace("+00:00", "Z")
)


@pytest.mark.parametrize("variant", [QUEUED, NUMBERED, NEVER_OPEN, AS_NUMBERS])
def test_other_designs_of_orders_pass(catalogue: Artifact, variant: Spoil) -> None:
    outcome = outcome_of(checks.test_order_contract, variant(catalogue))
    assert outcome.verdict is Verdict.PASSED, failures(outcome)


AT_ONCE, FIELDS = (
    "orders that could be read as they had just been answered",
    "what is wrong about their fields",
)
EVENTS, TICKET = "what is wrong about the fields of events", "a ticket is an SVG with its payload"


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (changed(orders_at_once=[reading(0), reading(1), refused("/orders/x")]), {AT_ONCE}),
        (changed(orders_at_once=[reading(n, status="pending") for n in range(3)]), {AT_ONCE}),
        (changed(orders_at_once=[]), {AT_ONCE}),
        (orders_with(created_at="2026-02-02T04:00:01"), {FIELDS}),
        (orders_with(created_at=iso(CLOCK_S - 11 * 3600)), {FIELDS}),
        (orders_with(created_at=17), {FIELDS}),
        (orders_with(id=7), {FIELDS}),
        (orders_with(status=["confirmed"]), {FIELDS, "orders confirmed"}),
        (orders_with(items=[]), {FIELDS}),
        (orders_with(items=[{"event_id": 1, "quantity": "2"}]), {FIELDS}),
        (orders_with(total="25.00"), {FIELDS}),
        (orders_with(charge_id=None), {FIELDS}),
        (orders_with(charge_id=[{}]), {FIELDS}),
        (changed(event=[read("event", "/events/4", payload=event(4, starts_at=iso(BEGINS[4])[:19]))]), {EVENTS}),
        (changed(event=[read("event", "/events/4", payload=event(4, price="12.50"))]), {EVENTS}),
        (changed(event=[read("event", "/events/4", payload=event(4, seats_total="20"))]), {EVENTS}),
        (changed(event=[read("event", "/events/4", payload=event(4, venue={"id": 7}))]), {EVENTS}),
        (changed(event=[read("event", "/events/4", payload=event(4, display_price={}))]), {EVENTS}),
        (changed(event=[read("event", "/events/4", payload=None)]), {EVENTS}),
        (changed(default_page=[page("d", range(1, 21), seats_available=-1)]), {EVENTS}),
        (changed(ticket=[ticket("<svg><desc>boxoffice</desc></svg>")]), {TICKET}),
        (changed(ticket=[ticket(kind="text/html")]), {TICKET}),
        (changed(ticket=[ticket(status=500)]), {TICKET}),
        (changed(ticket=[]), {"there is an order to print a ticket of"}),
        (changed(open_ticket=[ticket()]), {"status of the ticket of an order that is not confirmed"}),
        (changed(open=[order(1, status=202).model_copy(update={"headers": {}})]), {"answers 202 without a Location"}),
        (changed(no_order=[refused(NO_ORDER[0], 422)]), {"an unknown order is not found"}),
        (changed(no_order=[refused(NO_ORDER[1], 500)]), {"the ticket of an unknown order is not found"}),
        (changed(no_order=[refused(NO_ORDER[2], 500)]), {"a malformed id is not found"}),
        (changed(no_event=[refused("/events/9"), refused("/events/9/sales", 200)]), {"statuses of an unknown event and its report"}),
        (changed(replay=[order(0, status=200, id="another")]), {"a replay is the same order"}),
        (changed(replay=[order(0, status=409)]), {"a replay is the same order"}),
    ],
)  # fmt: skip
def test_what_is_not_as_agreed_is_seen(catalogue: Artifact, spoil: Spoil, seen: set[str]) -> None:
    outcome = outcome_of(checks.test_order_contract, spoil(catalogue))
    assert outcome.verdict is Verdict.FAILED
    assert failures(outcome) == seen


# -- windows and freshness ----------------------------------------------------------------------------------


def report(day: Any, tickets: Any = 6, at_s: float = 30) -> list[Exchange]:
    return [
        read("sales", "/events/5/sales", at_s=at_s, payload={"items": [{"day": day, "tickets": tickets}]})
    ]


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (changed(on_sale=[order(0, status=409)]), {"orders refused within the hours of sale"}),
        (changed(not_on_sale=[order(0), order(1, status=202)]), {"orders not refused (409) outside them"}),
        (changed(not_on_sale=[order(0, status=None)]), {"orders not refused (409) outside them"}),
        (changed(sales=report("2026-02-03")), {"sales of now are reported under the UTC day"}),
        (changed(sales=report({"day": 1})), {"sales of now are reported under the UTC day"}),
        (changed(sales=[refused("/events/5/sales", 500)]), {"sales of now are reported under the UTC day"}),
    ],
)
def test_hours_and_days_of_another_zone_are_seen(catalogue: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert failures(outcome_of(checks.test_sales_window, spoil(catalogue))) == seen


SOME, ALL = "seats sold: age of the", "the last seats sold: age of the"


def stale_page(seats: Any, at_s: float) -> list[Exchange]:
    return [read("p", "/events/5", at_s=at_s, payload={"seats_available": seats})]


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        (changed(sold_some_page=stale_page(20, 3.6)), {f"{SOME} event's page is at most 2.4 s"}),
        (changed(sold_some_page=stale_page(14, 3.6)), {f"{SOME} event's page is at most 2.4 s"}),
        (changed(sold_all_page=stale_page(None, 3.6)), {f"{ALL} event's page is at most 2.4 s"}),
        (
            changed(sold_all_list=[page("l", [6], at_s=8.0, seats_available=4)]),
            {f"{ALL} list is at most 6 s"},
        ),
        (changed(sold_some_list=[page("l", [4], at_s=1.5)]), {f"{SOME} list is at most 6 s"}),
        (changed(sales=report(DAY, 0, at_s=80)), {"age of the sales report is at most 72 s"}),
        (changed(sales=report(DAY, 6, at_s=76)), {"age of the sales report is at most 72 s"}),
        (changed(sales=report(DAY, "6")), {"age of the sales report is at most 72 s"}),
        (changed(sold_all=[order(1, status=503)]), {"the last seats sold: the order is accepted"}),
    ],
)
def test_what_is_shown_for_too_long_is_seen(catalogue: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert failures(outcome_of(checks.test_answer_freshness, spoil(catalogue))) == seen


# -- pages --------------------------------------------------------------------------------------------------


def test_a_list_that_is_a_little_old_passes(catalogue: Artifact) -> None:
    first, *others = catalogue.exchanges_of("pages-passing")
    at_20_s = [found.model_copy(update={"started_s": 20.0}) for found in others]
    late = with_exchanges(catalogue, pages_passing=[first.model_copy(update={"started_s": 10.0}), *at_20_s])
    assert outcome_of(checks.test_list_pages, late).verdict is Verdict.PASSED


PASSED, TIED, WHOLE = "a list whose events pass", "events at one instant", "the whole list"
SKIPPED, REPEATED, STRAY, ORDERED = (
    "events skipped",
    "events repeated",
    "events that do not belong there",
    "soonest first",
)


@pytest.mark.parametrize(
    ("spoil", "seen"),
    [
        # an offset of 3 when two have passed: 45 and 46 are skipped
        (changed(pages_passing=[page("p", [40, 41, 42], "a"), page("p", [47, 48, 49], at_s=17)]), {f"{PASSED}: {SKIPPED}"}),
        (changed(pages_tied=[page("t", [30, 31], "a"), page("t", [])]), {f"{TIED}: {SKIPPED}"}),
        (changed(pages_tied=[page("t", [30, 31], "a"), page("t", [30, 31, 32, 33])]), {f"{TIED}: {REPEATED}"}),
        (changed(pages_tied=[page("t", range(30, 34), "a"), page("t", [1])]), {f"{TIED}: {STRAY}"}),
        (changed(pages_tied=[page("t", range(30, 34), "more")]), {f"{TIED}: the last page says so"}),
        (changed(pages_tied=[refused("/events", 500)]), {f"{TIED}: {SKIPPED}", f"{TIED}: the last page says so"}),
        (changed(pages_whole=[page("w", sorted(BEGINS))]), {f"{WHOLE}: {ORDERED}"}),
        (changed(default_page=[page("d", range(1, 26))]), {"events on a page without a limit"}),
        (changed(other_city=[page("o", [30])]), {"cities that are not there and have events"}),
        (changed(other_city=[refused("/events", 500)]), {"cities that are not there and have events"}),
    ],
)  # fmt: skip
def test_pages_that_skip_repeat_or_stray_are_seen(catalogue: Artifact, spoil: Spoil, seen: set[str]) -> None:
    assert failures(outcome_of(checks.test_list_pages, spoil(catalogue))) == seen


def test_an_event_that_had_begun_before_the_first_page_does_not_belong(catalogue: Artifact) -> None:
    clock = with_facts(catalogue, clock_s=CLOCK_S + 3600)
    assert f"{PASSED}: {STRAY}" in failures(outcome_of(checks.test_list_pages, clock))


# -- the scenario's own data --------------------------------------------------------------------------------


@pytest.fixture
def data() -> CatalogueData:
    start = dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC)
    return catalogue_data(LiveData.from_seed(3, start), start + dt.timedelta(minutes=50, seconds=1.5))


def test_the_events_of_the_scenario_are_what_it_needs(data: CatalogueData) -> None:
    now = dt.datetime(2026, 1, 5, 12, 50, 1, tzinfo=dt.UTC)
    assert len({event.id for event in data.events}) == len(data.events)
    assert {event.venue_id for event in data.events} <= {venue.id for venue in data.venues}
    assert len({event.starts_at for event in data.passing}) == PASSING
    assert all(now < event.starts_at < now + dt.timedelta(minutes=6) for event in data.passing)
    assert len({event.starts_at for event in data.tied}) == 1
    assert len({event.city for event in (data.tied[0], data.passing[0], data.on_sale[0])}) == 3
    assert all(event.sales_open_at < now < event.sales_close_at for event in data.on_sale)
    assert not any(event.sales_open_at <= now < event.sales_close_at for event in data.not_on_sale)
    run = LiveData.from_seed(3, data.now)
    assert data.open_events(300) == run.open_events(300)
    assert data.open_events(20, 20) == run.open_events(20, 20)
    assert catalogue_data(run, now).passing == data.passing


@pytest.mark.parametrize("hour", range(24))
def test_at_any_hour_it_is_another_day_in_some_zone(hour: int) -> None:
    now = dt.datetime(2026, 1, 5, hour, 10, tzinfo=dt.UTC)
    zones: list[str] = []

    def choose(fitting: list[str]) -> str:
        zones.extend(fitting)
        return fitting[0]

    assert (now + dt.timedelta(hours=ZONES[far_zone(now, choose)])).date() != now.date()
    assert zones
