"""Two serving processes on one database: seats, keys and waitlist positions when requests meet between them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from itertools import count

from pydantic import JsonValue

from devstack.artifacts import Exchange
from grader.answers import PLACED, UNAVAILABLE, order_id_of, seats_available_of
from grader.scenarios.clients import Order, insist, new_order, require_an_answer, send_order, settle_all
from grader.scenarios.processes import watch_processes
from grader.scenarios.stage import Scenario, Stage
from grader.scenarios.turns import taking_turns

SEATS = 20
HOT_EVENTS = 3
ORDERS_PER_EVENT = 50
"""Two seats each on average: five times what there is, and the first thirty in flight already want three times it."""

IN_FLIGHT = 30
"""Contract: up to 30 orders in flight, none is shed."""

RACE_LATENCY_S = 0.2
LAST_SEAT_EVENTS = 2
LAST_SEAT_SEATS = 4
LAST_SEAT_GAP_S = 0.002
"""Between thirty orders for one seat: of what comes in one instant, the process that wakes first may take all."""

FREEZE_AFTER_S = 0.15
FREEZE_S = 0.4
"""Around the moment when the risk assessments are answered: what then goes to the database arrives there together."""

TURNS_S = 0.5
"""For so long the database's processes take turns, so that one that looks is not done before the next one looks, be it
within one statement."""

STORM_S = 20.0
SECOND_WAVE_ORDERS = 24
DUPLICATES = 20
DUPLICATE_GAP_S = 0.012
"""Between those of the second half, the last of which still comes before the first one's risk is assessed."""

DUPLICATE_PAYMENT_S = 1.0
STOP_TIMEOUT_S = 24.0
WAITLIST_EMAILS = 40
WAITLIST_TWINS = 10
WAITLIST_ROUND_TRIP_S = 0.01
"""As over a network: it widens the time between two statements, and makes those of many requests go in step."""

TOO_LARGE = 1_500_000
"""Contract: a body over 1 MB is refused."""


async def drive(stage: Stage) -> None:
    """Sell small events out, join the waitlist of one, then send duplicates of single orders."""
    await stage.start()
    live = stage.world.live
    hot = live.open_events(minimum_seats=SEATS, maximum_seats=SEATS)[:HOT_EVENTS]
    tiny = live.open_events(minimum_seats=LAST_SEAT_SEATS, maximum_seats=LAST_SEAT_SEATS)
    nearly_full = tiny[:LAST_SEAT_EVENTS]
    events: list[JsonValue] = [
        {"id": event.id, "seats_total": event.seats_total} for event in (*hot, *nearly_full)
    ]
    stage.fact("events", events)
    quiet = live.open_events(minimum_seats=300)
    require_an_answer([await send_order(stage, "warm", new_order(stage, quiet[0].id))], "warming up")
    sold_out = await _sell_out(stage, [event.id for event in hot], [event.id for event in nearly_full])
    await _waitlist(stage, sold_out)
    await _duplicates_at_once(stage, quiet[1].id)
    await _last_seats_again(stage, tiny[LAST_SEAT_EVENTS].id)
    await _replays(stage, quiet[2].id)
    await stage.ledger()


# -- seats -------------------------------------------------------------------------------------------------


async def _sell_out(stage: Stage, stormed: Sequence[int], nearly_full: Sequence[int]) -> int:
    """Storm each event, then the last seats of others; sell what is left one by one.

    Returns an event that shows no seat any more.
    """
    event_ids = [*stormed, *nearly_full]
    await stage.world.faults.set_latency(risk=RACE_LATENCY_S, payments=RACE_LATENCY_S)
    orders: list[Order] = []
    answers: list[Exchange] = []
    async with watch_processes(stage.service) as seen:
        until_s = stage.now() + STORM_S
        for event_id in stormed:
            wave = [new_order(stage, event_id, stage.random.randint(1, 3)) for _ in range(ORDERS_PER_EVENT)]
            sent = await _storm(stage, wave, until_s)
            require_an_answer(sent, "30 orders were in flight")
            orders += wave
            answers += sent
        last, sent = await _last_seats(stage, nearly_full, until_s)
        orders += last
        answers += sent
    stage.fact("serving-processes", seen.count())
    await stage.world.faults.set_latency(risk=0.02, payments=0.05)
    # What was sent first is over before the rest is sold: an order that fails now gives its seats back.
    sent_keys = {answer.request_headers.get("Idempotency-Key") for answer in answers}
    orders = [order for order in orders if order.key in sent_keys]
    await settle_all(stage, "settled", orders, answers, within_s=15)
    for event_id in event_ids:
        await _second_wave(stage, event_id)
    for event_id in event_ids:
        await _final_availability(stage, event_id)
    await stage.ledger("sold-out")
    shown = stage.record.exchanges["availability"]
    return next(
        (event_id for event_id, page in zip(event_ids, shown, strict=True) if seats_available_of(page) == 0),
        event_ids[0],
    )


async def _storm(
    stage: Stage, orders: Sequence[Order], until_s: float, *, gap_s: float = 0.0
) -> list[Exchange]:
    room = asyncio.Semaphore(IN_FLIGHT)

    async def buy(number: int, order: Order) -> Exchange | None:
        await asyncio.sleep(number * gap_s)
        async with room:
            if stage.now() > until_s:
                return None
            return await insist(stage, "storm", order, again=3, pause_s=0.5, until_s=until_s)

    return [answer for answer in await asyncio.gather(*map(buy, count(), orders)) if answer is not None]


async def _last_seats(
    stage: Stage, event_ids: Sequence[int], until_s: float
) -> tuple[list[Order], list[Exchange]]:
    """Leave one seat of each event, then thirty ask for it."""
    orders: list[Order] = []
    answers: list[Exchange] = []
    for event_id in event_ids:
        first = new_order(stage, event_id, LAST_SEAT_SEATS - 1)
        crowd = [new_order(stage, event_id) for _ in range(IN_FLIGHT)]
        orders += [first, *crowd]
        answers += await _storm(stage, [first], until_s)
        asking = asyncio.create_task(_storm(stage, crowd, until_s, gap_s=LAST_SEAT_GAP_S))
        try:
            await _still_then_in_turns(stage)
        finally:
            answers += await asking
    return orders, answers


async def _still_then_in_turns(stage: Stage) -> None:
    """The database stands still for a moment, then its processes take turns.

    So the next statements of all requests, of both processes, reach it in one instant: whoever looks before booking
    looks at the same last seat, however short the time between the two is, be it within one statement.
    """
    try:
        await asyncio.sleep(FREEZE_AFTER_S)
        await stage.world.faults.set_proxy(frozen=True)
        await asyncio.sleep(FREEZE_S)
        async with taking_turns(stage.world.cluster, stage.world.database.role, stage.random):
            await stage.world.faults.set_proxy()
            await asyncio.sleep(TURNS_S)
    finally:
        await stage.world.faults.set_proxy()


async def _turns(stage: Stage) -> None:
    """For a while the database's processes take turns."""
    async with taking_turns(stage.world.cluster, stage.world.database.role, stage.random):
        await asyncio.sleep(TURNS_S)


async def _second_wave(stage: Stage, event_id: int) -> None:
    """Buy single tickets until the event is sold out, or the service does not sell."""
    orders: list[Order] = []
    answers: list[Exchange] = []
    for _ in range(SECOND_WAVE_ORDERS):
        orders.append(new_order(stage, event_id))
        answers.append(
            await insist(stage, "second-wave", orders[-1], again=2, pause_s=0.5, until_s=stage.now() + 5)
        )
        if answers[-1].status not in PLACED:
            break
    await settle_all(stage, f"settled-{event_id}", orders, answers, within_s=10)


async def _final_availability(stage: Stage, event_id: int) -> None:
    """Read the event until it shows no seat, at most as long as it may be stale."""
    until_s = stage.now() + 2.5
    while True:
        page = await stage.get("_availability", f"/events/{event_id}", fresh=True, timeout_s=5)
        if seats_available_of(page) == 0 or stage.now() > until_s:
            break
        await asyncio.sleep(0.3)
    stage.record.exchanges.pop("_availability", None)
    final = stage.record.exchanges.setdefault("availability", [])
    final.append(page.model_copy(update={"label": "availability"}))


# -- waitlist ----------------------------------------------------------------------------------------------


async def _waitlist(stage: Stage, event_id: int) -> None:
    """Forty people join at once, ten of them twice with their address in capitals."""
    stage.fact("waitlist-event", event_id)
    emails = [f"waiting.{number}@example.com" for number in range(WAITLIST_EMAILS)]
    stage.fact("waitlist-emails", list[JsonValue](emails))
    first = await _join(stage, event_id, emails[0])
    if first.status == 501 or first.error == "timeout":
        stage.record.exchanges["waitlist-entries"] = []
        return
    twins = [email.upper() for email in emails[:WAITLIST_TWINS]]
    room = asyncio.Semaphore(IN_FLIGHT)

    async def join(email: str) -> None:
        async with room:
            for _ in range(3):
                if (await _join(stage, event_id, email)).status not in UNAVAILABLE:
                    return
                await asyncio.sleep(0.5)

    crowd = emails[1:] + twins
    stage.random.shuffle(crowd)
    await stage.world.faults.set_proxy(delay_s=WAITLIST_ROUND_TRIP_S)
    await asyncio.gather(_turns(stage), *map(join, crowd))
    await stage.world.faults.set_proxy()
    found = {entry for joined in stage.record.exchanges["waitlist-joins"] if (entry := _entry_id(joined))}
    stage.record.exchanges["waitlist-entries"] = []
    for entry in sorted(found):
        page = await stage.get("waitlist-entries", f"/events/{event_id}/waitlist/{entry}", timeout_s=5)
        if page.error == "timeout":
            break


async def _join(stage: Stage, event_id: int, email: str) -> Exchange:
    body: JsonValue = {"email": email, "quantity": 2}
    path = f"/events/{event_id}/waitlist"
    return await stage.send("waitlist-joins", "POST", path, json_body=body, fresh=True, timeout_s=10)


def _entry_id(joined: Exchange) -> str | None:
    found = joined.payload.get("id") if isinstance(joined.payload, dict) and joined.ok else None
    plain = isinstance(found, str | int) and not isinstance(found, bool)
    # It becomes part of a path: only what an identifier is made of.
    return text if plain and (text := str(found)).replace("-", "").isalnum() and text.isascii() else None


# -- keys --------------------------------------------------------------------------------------------------


async def _duplicates_at_once(stage: Stage, event_id: int) -> None:
    """Twenty times the same request: half of them in one instant, half shortly after; all answered, once more.

    Whatever wakes first accepts all connections that wait at that instant. Those that come one by one are taken by
    both processes.
    """
    # Risk takes its time too: whoever looks the key up first and writes it later is slow in between.
    await stage.world.faults.set_latency(risk=RACE_LATENCY_S, payments=DUPLICATE_PAYMENT_S)
    order = new_order(stage, event_id, 2)

    async def send(number: int) -> Exchange:
        await asyncio.sleep(max(0, number - DUPLICATES // 2) * DUPLICATE_GAP_S)
        return await send_order(stage, "duplicates", order)

    asking = asyncio.gather(*map(send, range(DUPLICATES)))
    try:
        await _still_then_in_turns(stage)
    finally:
        answers = await asking
    await stage.world.faults.set_latency(risk=0.02, payments=0.05)
    require_an_answer(answers, "20 equal orders were in flight")
    after = await insist(stage, "duplicates-after", order, again=4, pause_s=1.5, until_s=stage.now() + 8)
    await stage.settle("duplicates-settled", [*answers, after], within_s=15)
    await stage.ledger("duplicates")


async def _last_seats_again(stage: Stage, event_id: int) -> None:
    """Buy all seats of an event, and ask again: the event is sold out then, the order is not."""
    order = new_order(stage, event_id, LAST_SEAT_SEATS)
    answers = [await send_order(stage, "last-seats", order) for _ in range(2)]
    require_an_answer(answers, "all seats of an event were bought")


async def _replays(stage: Stage, event_id: int) -> None:
    """The same request again: at once, in other words, with other bodies, after a restart."""
    order = new_order(stage, event_id, 2)
    answers = [await send_order(stage, "replays", order), await send_order(stage, "replays", order)]
    require_an_answer(answers, "one order was placed")
    answers.append(await _same_json_other_text(stage, order))
    changes: tuple[dict[str, JsonValue], ...] = (
        {"items": [{"event_id": event_id, "quantity": 3}]},
        {"buyer_email": stage.world.live.buyer(960)},
    )
    for change in changes:
        await send_order(stage, "other-body", Order({**order.body, **change}, order.key))
    await _keys_of_refusals(stage, event_id)
    stage.service.terminate()
    if not await stage.service.wait_gone(STOP_TIMEOUT_S):
        await stage.service.close()
    await stage.start()
    answers.append(await send_order(stage, "replay-after-restart", order))
    await stage.settle("replays-settled", [answer for answer in answers if order_id_of(answer)], within_s=15)


async def _keys_of_refusals(stage: Stage, event_id: int) -> None:
    """Under three keys first a request that is refused, then the order that was meant."""
    nowhere: JsonValue = [{"event_id": 999_999_999, "quantity": 1}]
    nothing: JsonValue = [{"event_id": event_id, "quantity": 0}]
    for status, change in (
        (404, {"items": nowhere}),
        (413, {"note": "x" * TOO_LARGE}),
        (422, {"items": nothing}),
    ):
        order = new_order(stage, event_id)
        # As bytes: a megabyte of nothing is not worth a place in the record.
        body = json.dumps({**order.body, **change}).encode()
        headers = {"Idempotency-Key": order.key, "Content-Type": "application/json"}
        await stage.send(f"refused-{status}", "POST", "/orders", content=body, headers=headers, fresh=True)
        await send_order(stage, f"meant-{status}", order)


async def _same_json_other_text(stage: Stage, order: Order) -> Exchange:
    """Contract: bodies are compared as parsed JSON."""
    reordered = json.dumps(dict(reversed(order.body.items())), indent=1).encode()
    headers = {"Idempotency-Key": order.key, "Content-Type": "application/json"}
    return await stage.send("replays", "POST", "/orders", content=reordered, headers=headers, fresh=True)


SCENARIO = Scenario(name="two-processes", drive=drive, budget_s=60, processes=2)
