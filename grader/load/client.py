"""The generator's HTTP client: geventhttpclient's parser and pool, the kit's client shape, and limits on all that comes.

A service may answer without end, with a flood of headers or in crumbs: reading stops at the limits and the request has
failed, so that neither memory nor CPU of the generator are the service's to use up. No cookie is kept, no redirect
followed, nothing decoded. gevent patches the interpreter: only the generator's process imports this.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import gevent
import gevent.socket
from geventhttpclient.connectionpool import ConnectionPool
from geventhttpclient.response import (
    HTTPConnectionClosed,
    HTTPParseError,
    HTTPResponse,
    HTTPSocketPoolResponse,
)

from devstack.asking import HEAD_LIMIT_BYTES
from grader.client_shape import request_head

BODY_LIMIT_BYTES = 512_000
"""On the wire, framing included. The load's largest honest answer is a ticket or a report of some 40 KB; a client that
read megabytes 25 times a second would itself need a core."""

READS_LIMIT = 1_000
"""Reads of one answer: each takes some 20 µs, however few bytes it brings."""

PIECES_LIMIT = 4_000
"""Chunks of one body, each of which is a call from the parser."""

HEADERS_LIMIT = 100
"""Header lines of one answer; an honest one has ten."""

HEADER_VALUE_CHARACTERS = 4_000

IDLE_LIMIT_S = 1.5
"""A connection that was idle for longer is not used again: servers close theirs after 2 s and more, and a request that
meets such a close is nobody's fault."""

_READ_BYTES = 65_536


class NoAnswer(Exception):
    """No complete answer came; the message is the kind of failure."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; names of ``headers`` are lower case, of lines with the same name the last one stands."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Client:
    """Requests to one service, from any number of greenlets."""

    def __init__(self, base_url: str, *, connections: int, timeout_s: float) -> None:
        """``base_url``: ``http://host:port``. ``connections`` at once, of either kind; ``timeout_s`` for each step."""
        address = urlsplit(base_url)
        assert address.hostname is not None, "a service has an address"
        assert address.port is not None, "a service has a port"
        self._host = address.netloc
        at = (address.hostname, address.port)
        self._kept = _Pool(
            *at, *at, size=connections, connection_timeout=timeout_s, network_timeout=timeout_s
        )
        self._fresh = _FreshPool(
            *at, *at, size=connections, connection_timeout=timeout_s, network_timeout=timeout_s
        )

    def ask(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        fresh: bool = False,
    ) -> Answer:
        """Send one request and read its answer. ``fresh``: on a connection of its own, closed after it.

        Raises NoAnswer (``timeout``, ``refused``, ``reset``, ``protocol`` or ``too-large``), and gevent.Timeout if the
        caller set one.
        """
        length = None if body is None else len(body)
        head = request_head(method, target, host=self._host, headers=headers or {}, body_bytes=length)
        pool = self._fresh if fresh else self._kept
        try:
            return _exchange(pool, method, head, body)
        except _TooMuch:
            raise NoAnswer("too-large") from None
        except TimeoutError:
            raise NoAnswer("timeout") from None
        except ConnectionRefusedError:
            raise NoAnswer("refused") from None
        except (HTTPConnectionClosed, OSError):
            raise NoAnswer("reset") from None
        except (HTTPParseError, ValueError):
            raise NoAnswer("protocol") from None


def _exchange(pool: ConnectionPool, method: str, head: bytes, body: bytes | None) -> Answer:
    connection = pool.get_socket()
    assert isinstance(connection, _Connection)
    try:
        connection.allow(HEAD_LIMIT_BYTES)
        connection.sendall(head)
        if body:
            # apart from the head, as the other client does it
            connection.sendall(body)
    except BaseException:
        pool.release_socket(connection)
        raise
    with _Response(connection, pool, block_size=_READ_BYTES, method=method) as response:
        if not response.message_complete:
            connection.left_bytes = BODY_LIMIT_BYTES
        content = response.read()
        return Answer(response.get_code(), response.received(), content)


class _TooMuch(Exception):
    """A limit is met."""


class _Connection(gevent.socket.socket):  # type: ignore[misc]  # gevent has no types
    """Reads no more than it is allowed to."""

    left_bytes = 0
    left_reads = 0
    idle_since_s = 0.0

    def allow(self, head_bytes: int) -> None:
        """A request is about to be sent: its answer may have a head of so many bytes."""
        self.left_bytes, self.left_reads = head_bytes, READS_LIMIT

    def recv(self, size: int, *flags: Any) -> bytes:
        """See socket. Raises _TooMuch."""
        if self.left_bytes <= 0 or self.left_reads <= 0:
            raise _TooMuch
        found: bytes = super().recv(min(size, self.left_bytes), *flags)
        self.left_bytes -= len(found)
        self.left_reads -= 1
        return found


class _Response(HTTPSocketPoolResponse):
    """One answer: no other may follow it, and its body may come in so many pieces."""

    _pieces = 0
    _is_final = False

    def received(self) -> dict[str, str]:
        """The headers. Raises _TooMuch."""
        return {name.lower(): str(value)[:HEADER_VALUE_CHARACTERS] for name, value in self.headers}

    def _on_headers_complete(self) -> int | bool | None:
        if self._header_position > HEADERS_LIMIT:
            raise _TooMuch
        return super()._on_headers_complete()

    def _on_message_begin(self) -> None:
        if self._is_final:
            self._trailing_data_dropped = True  # the connection is not used again
            raise HTTPParseError("an answer that nobody asked for")
        super()._on_message_begin()

    def _on_message_complete(self) -> None:
        # Not the socket's own method: it gives the connection back before the rest of what came is looked at.
        HTTPResponse._on_message_complete(self)
        self._is_final = self.get_code() >= 200

    def _on_body(self, buf: bytearray) -> None:
        self._pieces += 1
        if self._pieces > PIECES_LIMIT:
            raise _TooMuch
        super()._on_body(buf)


class _Pool(ConnectionPool):
    """Connections that are used again."""

    def _create_tcp_socket(self, family: int, socktype: int, protocol: int) -> _Connection:
        return _Connection(family, socktype, protocol)

    def after_connect(self, sock: gevent.socket.socket) -> None:
        """The body follows its head at once, without waiting for what the other side says to that."""
        sock.setsockopt(gevent.socket.IPPROTO_TCP, gevent.socket.TCP_NODELAY, 1)

    def return_socket(self, sock: gevent.socket.socket) -> None:
        """See ConnectionPool."""
        sock.idle_since_s = time.monotonic()
        super().return_socket(sock)

    def _is_socket_alive(self, sock: gevent.socket.socket | None) -> bool:
        idle = isinstance(sock, _Connection) and time.monotonic() - sock.idle_since_s > IDLE_LIMIT_S
        return not idle and super()._is_socket_alive(sock)


class _FreshPool(_Pool):
    """Connections for one request each."""

    def return_socket(self, sock: gevent.socket.socket) -> None:
        """Close it."""
        self.release_socket(sock)
