"""The fault server's process, called over real sockets."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from devstack.artifacts import Upstream, UpstreamCall
from devstack.faults import Fault, FaultServer
from devstack.faults.client import FaultServerError

pytestmark = pytest.mark.integration

LOOPBACK = "127.0.0.1"
CHARGE = {"amount": "20.00", "currency": "EUR", "card_token": "tok_1", "order_ref": "order-1"}
MAIL = {"to": "ann@example.com", "template": "tickets", "order_id": "order-1"}


@pytest.fixture
async def faults(tmp_path: Path) -> AsyncIterator[FaultServer]:
    started = await FaultServer.start(
        tmp_path / "world", bind_address=LOOPBACK, database=(LOOPBACK, 1), epoch=time.monotonic(), seed=7
    )
    async with started:
        await started.set_latency(payments=0.01, risk=0.01, rates=0.01, mailer=0.01)
        yield started
    assert (tmp_path / "world" / "faults.log").read_text() == ""


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client:
        yield client


class Upstreams:
    """Short ways to call the stubs."""

    def __init__(self, faults: FaultServer, http: httpx.AsyncClient) -> None:
        self.faults, self.http = faults, http

    async def charge(self, key: str | None = "key-1", **changes: Any) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        url = self.faults.urls["payments"] + "/charges"
        return await self.http.post(url, json={**CHARGE, **changes}, headers=headers)

    async def mail(self, key: str = "mail-1") -> httpx.Response:
        url = self.faults.urls["mailer"] + "/messages"
        return await self.http.post(url, json=MAIL, headers={"Idempotency-Key": key})

    async def assess(self, email: str) -> httpx.Response:
        body = {"buyer_email": email, "amount": "20.00"}
        return await self.http.post(self.faults.urls["risk"] + "/assessments", json=body)

    async def get(self, upstream: Upstream, path: str, **parameters: str) -> httpx.Response:
        return await self.http.get(self.faults.urls[upstream] + path, params=parameters)

    async def last_call(self) -> UpstreamCall:
        return (await self.faults.ledger()).calls[-1]


@pytest.fixture
def upstreams(faults: FaultServer, http: httpx.AsyncClient) -> Upstreams:
    return Upstreams(faults, http)


async def until_ended(faults: FaultServer, number: int) -> UpstreamCall:
    for _ in range(200):
        calls = (await faults.ledger()).calls
        if len(calls) > number and calls[number].ended_s is not None:
            return calls[number]
        await asyncio.sleep(0.01)
    raise AssertionError("the call never ended")


# Payments


async def test_a_charge_is_captured_once_per_key(upstreams: Upstreams) -> None:
    first, again = await upstreams.charge(), await upstreams.charge()
    assert (first.status_code, first.json()["status"]) == (201, "captured")
    assert again.json() == first.json()
    ledger = await upstreams.faults.ledger()
    [charge] = ledger.charges
    assert (charge.amount, charge.order_ref, charge.idempotency_key) == ("20.00", "order-1", "key-1")
    assert [(call.took_effect, call.replayed) for call in ledger.calls] == [(True, False), (False, True)]
    assert ledger.calls[0].started_s < charge.captured_s < ledger.calls[0].ended_s  # type: ignore[operator]
    assert ledger.connections == {"payments": 1, "risk": 0, "rates": 0, "mailer": 0}


async def test_concurrent_charges_with_one_key_wait_for_the_first(upstreams: Upstreams) -> None:
    await upstreams.faults.set_latency(payments=0.2)
    answers = await asyncio.gather(*(upstreams.charge() for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["charge_id"] for answer in answers}) == 1
    assert len((await upstreams.faults.ledger()).charges) == 1


async def test_a_key_with_another_body_is_a_conflict(upstreams: Upstreams) -> None:
    await upstreams.charge()
    answer = await upstreams.charge(amount="21.00")
    assert answer.status_code == 409
    assert len((await upstreams.faults.ledger()).charges) == 1


async def test_without_a_key_every_charge_is_a_new_one(upstreams: Upstreams) -> None:
    await upstreams.charge(None)
    await upstreams.charge(None)
    charges = (await upstreams.faults.ledger()).charges
    assert [charge.idempotency_key for charge in charges] == ["", ""]
    assert len({charge.charge_id for charge in charges}) == 2


async def test_a_decline_is_an_outcome_that_the_key_remembers(upstreams: Upstreams) -> None:
    await upstreams.faults.set_decision(decline_tokens=["tok_1"])
    declined = await upstreams.charge()
    assert (declined.status_code, declined.json()) == (402, {"error": "card_declined"})
    await upstreams.faults.set_decision()
    assert (await upstreams.charge()).status_code == 402
    assert (await upstreams.charge("key-2")).status_code == 201
    assert (await upstreams.charge("key-3", card_token="tok_decline_me")).status_code == 402


async def test_a_refund_is_full_and_idempotent(upstreams: Upstreams) -> None:
    charge_id = (await upstreams.charge()).json()["charge_id"]
    url = f"{upstreams.faults.urls['payments']}/charges/{charge_id}/refunds"
    first, again = [await upstreams.http.post(url) for _ in range(2)]
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json()
    ledger = await upstreams.faults.ledger()
    assert [charge.status for charge in ledger.charges] == ["refunded"]
    assert [call.took_effect for call in ledger.calls_to("payments", "refund")] == [True, False]
    unknown = await upstreams.http.post(url.replace(charge_id, "ch_none"))
    assert unknown.status_code == 404


async def test_the_charges_of_an_order_can_be_looked_up(upstreams: Upstreams) -> None:
    charge_id = (await upstreams.charge()).json()["charge_id"]
    await upstreams.charge("key-2", order_ref="order-2")
    found = await upstreams.get("payments", "/charges", order_ref="order-1")
    expected = {"charge_id": charge_id, "order_ref": "order-1", "amount": "20.00", "currency": "EUR"}
    assert found.json() == {"items": [{**expected, "status": "captured"}]}
    assert (await upstreams.last_call()).item == "order-1"
    assert (await upstreams.get("payments", "/charges", order_ref="nobody")).json() == {"items": []}
    assert (await upstreams.get("payments", "/charges")).status_code == 422


async def test_an_invalid_charge_is_recorded_and_binds_no_key(upstreams: Upstreams) -> None:
    for field, value in [("amount", "0"), ("amount", "1.005"), ("currency", "EURO"), ("card_token", None)]:
        assert (await upstreams.charge(**{field: value})).status_code == 422, (field, value)
        assert (await upstreams.last_call()).operation == "charge"
    assert (await upstreams.charge()).status_code == 201


# The other upstreams


async def test_risk_denies_by_prefix_and_by_list(upstreams: Upstreams) -> None:
    await upstreams.faults.set_decision(deny_emails=["Bob@example.com"])
    decisions = {
        email: (await upstreams.assess(email)).json()["decision"]
        for email in ("ann@example.com", "bob@example.com", "Deny.me@example.com")
    }
    assert list(decisions.values()) == ["allow", "deny", "deny"]
    assert (await upstreams.last_call()).item == "Deny.me@example.com"
    invalid = await upstreams.http.post(upstreams.faults.urls["risk"] + "/assessments", json=[])
    assert invalid.status_code == 422


async def test_rates_are_those_that_the_handle_tells(upstreams: Upstreams) -> None:
    answer = (await upstreams.get("rates", "/rates/EUR/USD")).json()
    assert answer["rate"] == str(await upstreams.faults.rate("EUR", "USD"))
    assert answer["as_of"].endswith("+00:00")
    assert (await upstreams.get("rates", "/rates/EUR/XXX")).status_code == 404
    assert (await upstreams.get("rates", "/rates/EUR")).status_code == 404
    assert (await upstreams.last_call()).operation == "unknown"


async def test_a_message_is_accepted_once_per_key(upstreams: Upstreams) -> None:
    assert [(await upstreams.mail()).status_code for _ in range(2)] == [202, 202]
    [message] = (await upstreams.faults.ledger()).messages
    assert (message.to, message.order_id, message.idempotency_key) == ("ann@example.com", "order-1", "mail-1")
    invalid = await upstreams.http.post(upstreams.faults.urls["mailer"] + "/messages", json={"to": "x"})
    assert invalid.status_code == 422


# Faults


async def test_a_status_fault_has_no_effect_and_is_not_remembered(upstreams: Upstreams) -> None:
    fault = Fault(upstream="payments", kind="status", status=429, retry_after_s=3, first=1, per_item=True)
    await upstreams.faults.set_faults(fault)
    answer = await upstreams.charge()
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "3")
    assert not (await upstreams.faults.ledger()).charges
    call = await upstreams.last_call()
    assert (call.fault, call.status, call.item) == ("status", 429, "key-1")
    assert (await upstreams.charge()).status_code == 201


async def test_drop_before_has_no_effect_and_drop_after_has(upstreams: Upstreams) -> None:
    await upstreams.faults.set_faults(
        Fault(upstream="payments", kind="drop-before", first=1),
        Fault(upstream="payments", kind="drop-after", first=1),
    )
    with pytest.raises(httpx.RemoteProtocolError):
        await upstreams.charge()
    assert not (await upstreams.faults.ledger()).charges
    with pytest.raises(httpx.RemoteProtocolError):
        await upstreams.charge()
    ledger = await upstreams.faults.ledger()
    [charge] = ledger.charges
    assert (await upstreams.charge()).json()["charge_id"] == charge.charge_id
    assert [(c.status, c.took_effect) for c in ledger.calls] == [(None, False), (None, True)]


async def test_a_hung_call_is_on_record_at_once_and_closed_when_the_faults_end(upstreams: Upstreams) -> None:
    await upstreams.faults.set_faults(Fault(upstream="payments", kind="hang"))
    hung = asyncio.create_task(upstreams.charge())
    await asyncio.sleep(0.1)
    call = await upstreams.last_call()
    assert (call.status, call.ended_s, call.fault) == (None, None, "hang")
    await upstreams.faults.clear_faults()
    with pytest.raises(httpx.RemoteProtocolError):
        await hung
    assert (await until_ended(upstreams.faults, 0)).status is None
    assert not (await upstreams.faults.ledger()).charges


async def test_a_call_that_its_caller_gave_up_ends_then(upstreams: Upstreams) -> None:
    await upstreams.faults.set_faults(Fault(upstream="payments", kind="hang"))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(upstreams.charge(), 0.3)
    call = await until_ended(upstreams.faults, 0)
    assert call.ended_s is not None
    assert 0.2 < call.ended_s - call.started_s < 5


async def test_an_effect_happens_although_the_caller_has_gone(upstreams: Upstreams) -> None:
    await upstreams.faults.set_faults(Fault(upstream="payments", kind="latency", seconds=2))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(upstreams.charge(), 0.2)
    assert not (await upstreams.faults.ledger()).charges
    await asyncio.sleep(1.4)
    ledger = await upstreams.faults.ledger()
    assert 1 <= ledger.charges[0].captured_s - ledger.calls[0].started_s < 1.9
    assert ledger.calls[0].status is None
    assert ledger.calls[0].took_effect


async def test_a_drip_does_the_work_and_sends_a_byte_per_second(upstreams: Upstreams) -> None:
    await upstreams.faults.set_faults(Fault(upstream="mailer", kind="drip"))
    url = upstreams.faults.urls["mailer"] + "/messages"
    async with upstreams.http.stream("POST", url, json=MAIL) as answer:
        assert answer.status_code == 202
        started = time.monotonic()
        pieces = answer.aiter_raw()
        assert [await anext(pieces), await anext(pieces)] == [b"{", b'"']
        assert 1.9 < time.monotonic() - started < 5
        assert len((await upstreams.faults.ledger()).messages) == 1
        await upstreams.faults.clear_faults()
        with pytest.raises(httpx.RemoteProtocolError):
            await anext(pieces)
    assert (await upstreams.last_call()).status is None


async def test_a_refusing_port_resets_connections_and_comes_back(upstreams: Upstreams) -> None:
    await upstreams.charge()
    await upstreams.faults.set_faults(Fault(upstream="payments", kind="refuse", end_s=0.5))
    with pytest.raises(httpx.NetworkError):  # refused, or the kept connection's reset was not yet noticed
        await upstreams.charge()
    assert (await upstreams.assess("ann@example.com")).status_code == 200
    await asyncio.sleep(0.55)
    assert (await upstreams.charge()).status_code == 201
    assert (await upstreams.faults.ledger()).connections["payments"] == 2


async def test_a_refusal_can_begin_later_and_ends_with_the_plan(upstreams: Upstreams) -> None:
    await upstreams.faults.set_faults(Fault(upstream="mailer", kind="refuse", start_s=0.2))
    assert (await upstreams.mail()).status_code == 202
    await asyncio.sleep(0.3)
    with pytest.raises(httpx.ConnectError):
        await upstreams.mail()
    await upstreams.faults.clear_faults()
    assert (await upstreams.mail()).status_code == 202


# Recording


async def test_only_headers_that_are_judged_are_recorded(upstreams: Upstreams) -> None:
    headers = {"X-Request-ID": "r-1", "Authorization": "secret", "X-Retry-Attempt": "2"}
    await upstreams.http.get(upstreams.faults.urls["rates"] + "/rates/EUR/USD", headers=headers)
    recorded = (await upstreams.last_call()).headers
    assert recorded.keys() == {"x-request-id", "x-retry-attempt", "user-agent"}


async def test_a_body_that_a_record_could_not_hold_does_no_harm(upstreams: Upstreams) -> None:
    url = upstreams.faults.urls["mailer"] + "/messages"
    for body in (b'{"a":1e999}', b'"\\ud800"', b"[" * 900 + b"]" * 900, b"\xff", b""):
        assert (await upstreams.http.post(url, content=body)).status_code == 422, body
        assert (await upstreams.last_call()).body is None, body


async def test_the_ledger_is_complete_when_fetched_in_parts(upstreams: Upstreams) -> None:
    await upstreams.faults.set_faults(Fault(upstream="payments", kind="hang", first=1))
    hung = asyncio.create_task(upstreams.charge("hung"))
    await asyncio.sleep(0.1)
    for number in range(3):
        await upstreams.mail(f"mail-{number}")
        assert len((await upstreams.faults.ledger()).calls) == number + 2
    hung.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await hung
    assert (await until_ended(upstreams.faults, 0)).item == "hung"
    ledger = await upstreams.faults.ledger()
    assert [call.item for call in ledger.calls] == ["hung", "mail-0", "mail-1", "mail-2"]
    assert upstreams.faults.calls_dropped == 0


# HTTP


async def exchange(faults: FaultServer, raw: bytes, *, answers: int = 1) -> bytes:
    port = httpx.URL(faults.urls["rates"]).port
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    try:
        writer.write(raw)
        received = b""
        while received.count(b"HTTP/1.1") < answers or not received.endswith((b"}", b"\r\n\r\n")):
            more = await asyncio.wait_for(reader.read(4096), 2)
            assert more, "closed"
            received += more
        return received
    finally:
        writer.close()
        await writer.wait_closed()


GET = b"GET /rates/EUR/USD HTTP/1.1\r\nHost: stub\r\n"


async def test_http_is_spoken_properly(faults: FaultServer) -> None:
    post = b"POST / HTTP/1.1\r\nHost: stub\r\n"
    cases = [
        (GET + b"\r\n" + GET + b"\r\n", 2, b'"rate"'),
        (GET + b"Connection: close\r\n\r\n", 1, b"Connection: close"),
        (b"HEAD / HTTP/1.1\r\nHost: stub\r\n\r\n", 1, b"404 Not Found"),
        (b"nonsense\r\n\r\n", 1, b"400 Bad Request"),
        (post + b"Content-Length: 99999\r\n\r\n" + b"x" * 99999, 1, b"413 "),
        (post + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n", 1, b"100 "),
        (b"GET http://[ HTTP/1.1\r\nHost: stub\r\n\r\n", 1, b"404 "),
    ]
    for raw, answers, expected in cases:
        assert expected in await exchange(faults, raw, answers=answers), raw[:80]


async def test_pipelining_without_end_is_cut_off(faults: FaultServer) -> None:
    await faults.set_faults(Fault(upstream="rates", kind="hang"))
    with pytest.raises((ConnectionError, AssertionError)):
        await exchange(faults, (GET + b"\r\n") * 5000)


# The process


async def test_a_command_whose_caller_was_cancelled_does_not_disturb_the_next(faults: FaultServer) -> None:
    for delay in (0, 0.0001, 0.001):
        task = asyncio.create_task(faults.ledger())
        await asyncio.sleep(delay)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        assert (await faults.counters()).connections_opened == 0


async def test_a_process_that_was_killed_is_reported(tmp_path: Path) -> None:
    faults = await FaultServer.start(
        tmp_path, bind_address=LOOPBACK, database=(LOOPBACK, 1), epoch=time.monotonic(), seed=7
    )
    [process] = [
        child for child in psutil.Process().children() if "devstack.faults.process" in child.cmdline()
    ]
    process.kill()
    with pytest.raises(FaultServerError, match="ended by itself"):
        await faults.ledger()
    await faults.stop()
    await faults.stop()
    assert not process.is_running()


async def test_a_process_that_cannot_listen_is_reported(tmp_path: Path) -> None:
    with pytest.raises(FaultServerError, match="ended by itself"):
        await FaultServer.start(
            tmp_path, bind_address="192.0.2.1", database=(LOOPBACK, 1), epoch=time.monotonic(), seed=7
        )
    assert "Cannot assign" in (tmp_path / "faults.log").read_text()


async def test_stop_ends_the_process_even_when_cancelled_or_unresponsive(tmp_path: Path) -> None:
    faults = await FaultServer.start(
        tmp_path, bind_address=LOOPBACK, database=(LOOPBACK, 1), epoch=time.monotonic(), seed=7
    )
    [process] = [
        child for child in psutil.Process().children() if "devstack.faults.process" in child.cmdline()
    ]
    os.kill(process.pid, signal.SIGSTOP)
    task = asyncio.create_task(faults.stop())
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not process.is_running()


async def test_the_process_ends_with_the_one_that_started_it(tmp_path: Path) -> None:
    script = f"""
import asyncio, json, os, pathlib, sys, time
from devstack.faults import FaultServer
async def main():
    faults = await FaultServer.start(pathlib.Path({str(tmp_path)!r}), bind_address={LOOPBACK!r},
        database=({LOOPBACK!r}, 1), epoch=time.monotonic(), seed=7)
    print(json.dumps([faults._process.pid]), flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await parent.communicate()
    [pid] = json.loads(output)
    for _ in range(100):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return
        await asyncio.sleep(0.02)
    raise AssertionError("the fault server outlived its parent")
