"""Two serving processes on one database: seats, keys and waitlist positions when requests meet between them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from pydantic import JsonValue

from devstack.artifacts import Exchange
from grader.answers import PLACED, UNAVAILABLE, order_id_of, seats_available_of
from grader.scenarios.clients import Order, insist, new_order, require_an_answer, send_order, settle_all
from grader.scenarios.processes import watch_processes
from grader.scenarios.stage import Scenario, Stage

SEATS = 20
HOT_EVENTS = 3
ORDERS_PER_EVENT = 50
"""Two seats each on average: five times what there is, and the first thirty in flight already want three times it."""

IN_FLIGHT = 30
"""Contract: up to 30 orders in flight, none is shed."""

RACE_LATENCY_S = 0.2
STORM_S = 20.0
SECOND_WAVE_ORDERS = 24
DUPLICATES = 20
DUPLICATE_PAYMENT_S = 1.0
STOP_TIMEOUT_S = 24.0
WAITLIST_EMAILS = 40
WAITLIST_TWINS = 10


async def drive(stage: Stage) -> None:
    """Sell three small events out, join the waitlist of one, then send duplicates of single orders."""
    await stage.start()
    live = stage.world.live
    hot = live.open_events(minimum_seats=SEATS, maximum_seats=SEATS)[:HOT_EVENTS]
    stage.fact("events", [{"id": event.id, "seats_total": event.seats_total} for event in hot])
    quiet = live.open_events(minimum_seats=300)
    require_an_answer([await send_order(stage, "warm", new_order(stage, quiet[0].id))], "warming up")
    sold_out = await _sell_out(stage, [event.id for event in hot])
    await _waitlist(stage, sold_out)
    await _duplicates_at_once(stage, quiet[1].id)
    await _replays(stage, quiet[2].id)
    await stage.ledger()


# -- seats -------------------------------------------------------------------------------------------------


async def _sell_out(stage: Stage, event_ids: Sequence[int]) -> int:
    """Storm each event, sell what is left one by one, and return an event that shows no seat any more."""
    await stage.world.faults.set_latency(risk=RACE_LATENCY_S, payments=RACE_LATENCY_S)
    orders: list[Order] = []
    answers: list[Exchange] = []
    async with watch_processes(stage.service) as seen:
        until_s = stage.now() + STORM_S
        for event_id in event_ids:
            wave = [new_order(stage, event_id, stage.random.randint(1, 3)) for _ in range(ORDERS_PER_EVENT)]
            sent = await _storm(stage, wave, until_s)
            require_an_answer(sent, "30 orders were in flight")
            orders += wave
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


async def _storm(stage: Stage, orders: Sequence[Order], until_s: float) -> list[Exchange]:
    room = asyncio.Semaphore(IN_FLIGHT)

    async def buy(order: Order) -> Exchange | None:
        async with room:
            if stage.now() > until_s:
                return None
            return await insist(stage, "storm", order, again=3, pause_s=0.5, until_s=until_s)

    return [answer for answer in await asyncio.gather(*map(buy, orders)) if answer is not None]


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
    await asyncio.gather(*map(join, crowd))
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
    """Twenty times the same request in one instant; when all are answered, once more."""
    await stage.world.faults.set_latency(payments=DUPLICATE_PAYMENT_S)
    order = new_order(stage, event_id, 2)
    answers = await asyncio.gather(*(send_order(stage, "duplicates", order) for _ in range(DUPLICATES)))
    await stage.world.faults.set_latency(payments=0.05)
    require_an_answer(answers, "20 equal orders were in flight")
    after = await insist(stage, "duplicates-after", order, again=4, pause_s=1.5, until_s=stage.now() + 8)
    await stage.settle("duplicates-settled", [*answers, after], within_s=15)
    await stage.ledger("duplicates")


async def _replays(stage: Stage, event_id: int) -> None:
    """The same request again: at once, in other words, with another body, after a restart."""
    order = new_order(stage, event_id, 2)
    answers = [await send_order(stage, "replays", order), await send_order(stage, "replays", order)]
    require_an_answer(answers, "one order was placed")
    answers.append(await _same_json_other_text(stage, order))
    other = Order({**order.body, "items": [{"event_id": event_id, "quantity": 3}]}, order.key)
    await send_order(stage, "other-body", other)
    stage.service.terminate()
    if not await stage.service.wait_gone(STOP_TIMEOUT_S):
        await stage.service.close()
    await stage.start()
    answers.append(await send_order(stage, "replay-after-restart", order))
    await stage.settle("replays-settled", [answer for answer in answers if order_id_of(answer)], within_s=15)


async def _same_json_other_text(stage: Stage, order: Order) -> Exchange:
    """Contract: bodies are compared as parsed JSON."""
    reordered = json.dumps(dict(reversed(order.body.items())), indent=1).encode()
    headers = {"Idempotency-Key": order.key, "Content-Type": "application/json"}
    return await stage.send("replays", "POST", "/orders", content=reordered, headers=headers, fresh=True)


SCENARIO = Scenario(name="two-processes", drive=drive, budget_s=60, processes=2)
