"""Cursors and the event endpoints."""

import httpx
import pytest

from boxoffice.events import availability
from boxoffice.events.service import InvalidCursor, decode_cursor, describe, encode_cursor
from boxoffice.models import Event


def test_a_cursor_can_be_read_back() -> None:
    assert decode_cursor(encode_cursor(40)) == 40


@pytest.mark.parametrize("cursor", ["nonsense", "eDo0MA==", "bzphYmM="])
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursor):
        decode_cursor(cursor)


def test_seats_available_is_what_is_not_taken(monkeypatch: pytest.MonkeyPatch, event: Event) -> None:
    monkeypatch.setattr(availability, "seats_taken", lambda event_id: 37)
    assert describe(event)["seats_available"] == 63


def test_seats_available_is_never_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "seats_taken", lambda event_id: 12)
    assert availability.seats_available(7, 10) == 0


async def test_an_event_has_all_fields(live_client: httpx.AsyncClient, live_event: int) -> None:
    answer = await live_client.get(f"/events/{live_event}")
    assert answer.status_code == 200
    assert answer.json()["price"] == {"amount": "19.90", "currency": "EUR"}
    assert answer.json()["seats_available"] == answer.json()["seats_total"] == 10
    assert answer.json()["venue"]["name"] == "Old Dock"


async def test_a_city_lists_its_events(live_client: httpx.AsyncClient, live_event: int) -> None:
    answer = await live_client.get("/events", params={"city": f"City {live_event}"})
    assert [item["id"] for item in answer.json()["items"]] == [live_event]
    assert answer.json()["next_cursor"] is None


async def test_an_unknown_event_is_not_found(live_client: httpx.AsyncClient, live_event: int) -> None:
    answer = await live_client.get(f"/events/{live_event + 1}")
    assert answer.status_code == 404
