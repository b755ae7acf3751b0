"""A box office in a few lines, for the load generator to talk to: right in every answer, or broken on purpose."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import h11

from grader.load.plan import PAGE_SIZE, Catalogue, ExpectedEvent


class RightShop:
    """Answers (status, content type, body) of a service that does everything right, at once.

    ``headers`` have lower-case names. Their request id comes back, see :func:`echoed`.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.orders: dict[str, dict[str, Any]] = {}
        self.sold: dict[int, int] = {}
        self.totals: dict[str, dict[str, str]] = {}
        self.keys: dict[str, str] = {}

    def answer(
        self, target: str, body: bytes, headers: Mapping[str, str] | None = None
    ) -> tuple[int, str, bytes]:
        try:
            return self.known(target, body, headers or {})
        except (KeyError, StopIteration):
            return 404, "application/json", b"{}"

    def known(self, target: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, str, bytes]:
        url = urlsplit(target)
        match url.path.strip("/").split("/"):
            case ["events"]:
                payload = self.listed({name: found[0] for name, found in parse_qs(url.query).items()})
            case ["events", event_id]:
                payload = self.event(next(e for e in self.catalogue.events if e.id == int(event_id)))
            case ["events", _, "sales"]:
                payload = {"items": [day.model_dump() for day in self.catalogue.sales]}
            case ["events", _, "waitlist"]:
                return 409, "application/json", b"{}"
            case ["orders"]:
                status, payload = self.order(json.loads(body), headers.get("idempotency-key", ""))
                return status, "application/json", json.dumps(payload).encode()
            case ["orders", _, "ticket"]:
                return 200, "image/svg+xml", b"<svg/>"
            case ["orders", order_id]:
                payload = self.orders[unquote(order_id)]
            case _:
                return 404, "application/json", b"{}"
        return 200, "application/json", json.dumps(payload).encode()

    def listed(self, query: dict[str, str]) -> dict[str, Any]:
        events = [e for e in self.catalogue.events if query.get("city") in (None, e.city)]
        first = int(query.get("cursor", "0"))
        limit = int(query.get("limit", PAGE_SIZE))
        page = events[first : first + limit]
        more = len(events) > first + limit
        return {
            "items": [self.event(event) for event in page],
            "next_cursor": str(first + limit) if more else None,
        }

    def event(self, event: ExpectedEvent) -> dict[str, Any]:
        return {
            "id": event.id,
            "title": event.title,
            "venue": {"id": 1, "name": "Hall", "city": event.city},
            "price": {"amount": event.price, "currency": "EUR"},
            "seats_total": event.seats_total,
            "seats_available": event.seats_total - self.sold.get(event.id, 0),
        }

    def order(self, body: dict[str, Any], key: str) -> tuple[int, dict[str, Any]]:
        valid = (
            key
            and "@" in body.get("buyer_email", "")
            and body["items"]
            and all(1 <= item["quantity"] <= 6 for item in body["items"])
        )
        if not valid:
            return 422, {}
        if key not in self.keys:
            self.keys[key] = self.place(body)["id"]
        return 201, self.orders[self.keys[key]]

    def place(self, body: dict[str, Any]) -> dict[str, Any]:
        """An order; its total is the one that the plan expects, found by its card token."""
        order_id = f"o/{len(self.orders)}"
        for item in body["items"]:
            self.sold[item["event_id"]] = self.sold.get(item["event_id"], 0) + item["quantity"]
        self.orders[order_id] = {
            "id": order_id,
            "status": "confirmed",
            "items": body["items"],
            "total": self.totals[body["card_token"]],
        }
        return self.orders[order_id]


def echoed(headers: Mapping[str, str]) -> dict[str, str]:
    """The header of the answer that gives a request's id back."""
    return {name: value for name, value in headers.items() if name == "x-request-id"}


@contextlib.asynccontextmanager
async def serving(shop: RightShop | None) -> AsyncIterator[str]:
    """The base URL of ``shop``; ``None`` accepts connections and never answers."""
    connections: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await _talk(shop, reader, writer)
        except (ConnectionError, asyncio.CancelledError, h11.RemoteProtocolError):
            pass
        finally:
            connections.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.sleep(0)
        await asyncio.gather(*connections, return_exceptions=True)


async def _talk(shop: RightShop | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = h11.Connection(h11.SERVER)
    request, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await reader.read(65536))
        elif isinstance(event, h11.Request):
            request, body = event, b""
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            if shop is None:
                await asyncio.sleep(3600)
            assert shop is not None
            assert request is not None
            received = {name.decode().lower(): value.decode() for name, value in request.headers}
            status, kind, content = shop.answer(request.target.decode(), body, received)
            headers = [("Content-Type", kind), ("Content-Length", str(len(content)))]
            headers += echoed(received).items()
            for out in (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=content),
                h11.EndOfMessage(),
            ):
                writer.write(connection.send(out) or b"")
            await writer.drain()
            connection.start_next_cycle()
        else:
            return
