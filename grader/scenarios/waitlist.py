"""Part of the contract scenario: every answer of the waitlist."""

from __future__ import annotations

import asyncio

from pydantic import JsonValue

from grader.answers import seats_available_of
from grader.scenarios.stage import Stage

SEATS = 4
HELD_S = 2.0
"""How long payments takes to decline the order that holds the last seat."""

SHOWN_AS_HELD_S = 1.2
SHOWN_AS_FREE_S = 2.5
"""Contract: availability of an event is at most 2 s old."""


async def drive_waitlist(stage: Stage) -> None:
    """The answers in the order of precedence that the contract gives."""
    live = stage.world.live
    small, other = live.open_events(minimum_seats=SEATS, maximum_seats=SEATS)[:2]
    selling = live.open_events(minimum_seats=300)[1]
    path = f"/events/{small.id}/waitlist"
    await stage.order("waitlist-sell-out", [(small.id, SEATS)])
    email = _with_capitals(live.buyer(950))
    await stage.send("waitlist-join", "POST", path, json_body={"email": email, "quantity": 2})
    await stage.send("waitlist-again", "POST", path, json_body={"email": email.upper(), "quantity": 1})
    await stage.send("waitlist-second", "POST", path, json_body={"email": live.buyer(951), "quantity": 1})
    joined = stage.record.exchanges["waitlist-join"][0].payload
    found = joined.get("id") if isinstance(joined, dict) else None
    entry = found if found is not None else 1
    await stage.get("waitlist-read", f"{path}/{entry}")
    await stage.get("waitlist-read-elsewhere", f"/events/{selling.id}/waitlist/{entry}")
    await stage.get("waitlist-read-unknown", f"{path}/999999999")
    body: JsonValue = {"email": live.buyer(952), "quantity": 1}
    await stage.send("waitlist-seats-left", "POST", f"/events/{selling.id}/waitlist", json_body=body)
    await stage.send("waitlist-unknown-event", "POST", "/events/999999999/waitlist", json_body=body)
    await _invalid_entries(stage, path, email, live.buyer(953))
    await _seat_comes_back(stage, other.id)


def _with_capitals(email: str) -> str:
    """The same address with capitals before the @, where nothing normalises them."""
    local, _, domain = email.partition("@")
    return f"{local.title()}@{domain}"


async def _invalid_entries(stage: Stage, path: str, known: str, email: str) -> None:
    bodies: list[JsonValue] = [
        {"email": "nobody", "quantity": 1},
        {"email": "somebody@example", "quantity": 1},
        {"email": known, "quantity": 0},
        {"email": known, "quantity": 7},
        {"quantity": 1},
        {"email": email},
        {"email": email, "quantity": "many"},
    ]
    for body in bodies:
        await stage.send("waitlist-invalid", "POST", path, json_body=body)
    # 422 comes before 404: an invalid body for an event that does not exist.
    nowhere = "/events/999999999/waitlist"
    await stage.send("waitlist-invalid", "POST", nowhere, json_body={"email": "nobody", "quantity": 0})


async def _seat_comes_back(stage: Stage, event_id: int) -> None:
    """Join while an order holds the last seat; join again when it was declined and the seat is free."""
    path = f"/events/{event_id}/waitlist"
    body: JsonValue = {"email": stage.world.live.buyer(954), "quantity": 1}
    await stage.order("waitlist-sell-out", [(event_id, SEATS - 1)])
    await stage.world.faults.set_latency(payments=HELD_S)
    token = f"tok_decline_{stage.random.getrandbits(32):08x}"
    async with asyncio.TaskGroup() as group:
        group.create_task(stage.order("waitlist-held", [(event_id, 1)], token=token))
        await _until_available(stage, event_id, 0, within_s=SHOWN_AS_HELD_S)
        await stage.send("waitlist-while-held", "POST", path, json_body=body)
    await stage.world.faults.set_latency(payments=0.05)
    await stage.settle("waitlist-held-read", stage.record.exchanges["waitlist-held"], within_s=5)
    await _until_available(stage, event_id, 1, within_s=SHOWN_AS_FREE_S)
    await stage.send("waitlist-seat-is-back", "POST", path, json_body=body)


async def _until_available(stage: Stage, event_id: int, seats: int, *, within_s: float) -> None:
    until_s = stage.now() + within_s
    while stage.now() < until_s:
        if seats_available_of(await stage.get("_availability", f"/events/{event_id}", timeout_s=5)) == seats:
            break
        await asyncio.sleep(0.1)
    stage.record.exchanges.pop("_availability", None)
