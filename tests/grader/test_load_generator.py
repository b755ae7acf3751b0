"""The load generator for real: its own process against servers that answer right, never, or not at all."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import random
import socket
from collections import Counter
from decimal import Decimal
from pathlib import Path

import psutil
import pytest

from devstack.placement import Account
from devstack.seed import LiveData
from grader.load import arithmetic
from grader.load.generator import LoadTrouble, generator
from grader.load.plan import CURRENCIES, Arm, Arrival, Catalogue, ExpectedDay, LoadPlan, catalogue, schedule
from tests.grader.load_asking import talking
from tests.grader.load_shop import RightShop, serving
from tests.grader.test_load_client import ANSWERS

pytestmark = pytest.mark.integration


@pytest.fixture
def traffic() -> tuple[tuple[Arrival, ...], Catalogue]:
    live = LiveData.from_seed(3, dt.datetime(2026, 1, 5, 12, tzinfo=dt.UTC))
    rates = {currency: Decimal("1.1003") for currency in CURRENCIES}
    days = [ExpectedDay(day="2025-03-01", tickets=3, gross="36.30", orders=2)]
    return schedule(live, rates, seed=3)[:100], catalogue(live, days)


def right_shop(arrivals: tuple[Arrival, ...], expected: Catalogue) -> RightShop:
    shop = RightShop(expected)
    for arrival in arrivals:
        if arrival.order is not None:
            total = {"amount": arrival.order.total, "currency": arrival.order.currency}
            shop.totals[arrival.order.card_token] = total
    return shop


def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def test_a_right_service_is_right_beside_one_that_hangs_and_one_that_is_gone(
    tmp_path: Path, traffic: tuple[tuple[Arrival, ...], Catalogue], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCUST_HEADLESS", "nonsense")
    arrivals, expected = traffic
    # at 100 requests a second: the four seconds of traffic in one
    hurried = tuple(arrival.model_copy(update={"due_s": arrival.due_s / 4}) for arrival in arrivals)
    async with serving(right_shop(arrivals, expected)) as right, serving(None) as hanging:
        plan = LoadPlan(
            arms=(
                Arm(name="right", base_url=right),
                Arm(name="hanging", base_url=hanging),
                Arm(name="gone", base_url=f"http://127.0.0.1:{closed_port()}"),
            ),
            arrivals=hurried,
            catalogue=expected,
            warm_up_s=0.2,
            end_s=1,
            drain_s=2,
            timeout_s=0.5,
            users_per_arm=8,
        )
        async with generator(plan, tmp_path) as running:
            start_s = await running.started()
            result = await running.result()

    def failures(arm: str) -> Counter[str]:
        counted = arithmetic.due_from(result.outcomes[arm], hurried, plan.warm_up_s)
        return Counter(outcome.failure for outcome in counted if outcome.failure is not None)

    assert result.start_s == start_s
    assert all(len(result.outcomes[arm]) == 100 for arm in ("right", "hanging", "gone"))
    assert not failures("right")
    assert set(failures("hanging")) <= {"timeout", "not-sent", "no-order"}
    assert sum(failures("hanging").values()) == sum(arrival.due_s >= 0.2 for arrival in hurried)
    assert set(failures("gone")) == {"refused", "no-order"}
    assert len(result.orders["right"]) == sum(arrival.endpoint == "order" for arrival in arrivals)
    assert all(order.confirmed for order in result.orders["right"])
    latencies = arithmetic.percentiles(result.outcomes["right"], timeout_s=0.5)
    assert float(str(latencies["p50_s"])) < 0.2
    assert 0 < result.cpu_share < 1


async def test_a_generator_that_is_given_up_leaves_no_process(
    tmp_path: Path, traffic: tuple[tuple[Arrival, ...], Catalogue]
) -> None:
    arrivals, expected = traffic
    plan = LoadPlan(
        arms=(Arm(name="gone", base_url=f"http://127.0.0.1:{closed_port()}"),),
        arrivals=arrivals,
        catalogue=expected,
        users_per_arm=4,
    )

    async def offer() -> None:
        async with generator(plan, tmp_path) as running:
            await running.started()
            await running.result()

    before = set(psutil.Process().children(recursive=True))
    offering = asyncio.create_task(offer())
    await asyncio.sleep(0.5)
    children = set(psutil.Process().children(recursive=True)) - before
    assert children
    offering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await offering
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


async def test_a_hostile_service_fails_every_request_and_breaks_nothing(
    tmp_path: Path, traffic: tuple[tuple[Arrival, ...], Catalogue]
) -> None:
    arrivals, expected = traffic
    hurried = tuple(arrival.model_copy(update={"due_s": arrival.due_s / 4}) for arrival in arrivals)
    chance = random.Random(1)
    answers = [answer for answer, kind in ANSWERS.values() if kind != 200]
    deep = b"[" * 100_000 + b"]" * 100_000
    answers += [b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n" % len(deep) + deep]
    answers += [b"HTTP/1.1 999 \xff\r\nLocation: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}"]

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(chance.choice(answers))
        await writer.drain()

    async with talking(talk) as base_url:
        plan = LoadPlan(
            arms=(Arm(name="hostile", base_url=base_url),),
            arrivals=hurried, catalogue=expected, warm_up_s=0.2, end_s=1, drain_s=5, users_per_arm=8,
        )  # fmt: skip
        async with generator(plan, tmp_path) as running:
            await running.started()
            result = await running.result()
    outcomes = result.outcomes["hostile"]
    assert len(outcomes) == 100
    assert all(outcome.failure is not None for outcome in outcomes)
    assert {"too-large", "protocol", "reset"} <= {outcome.failure for outcome in outcomes}


async def test_no_link_is_followed_to_a_result(
    tmp_path: Path, traffic: tuple[tuple[Arrival, ...], Catalogue]
) -> None:
    arrivals, expected = traffic
    plan = LoadPlan(arms=(), arrivals=arrivals, catalogue=expected)
    secret = tmp_path / "secret"
    secret.write_text('{"start_s": 3}')
    async with generator(plan, tmp_path / "load") as running:
        (tmp_path / "load" / "cwd" / "started.json").symlink_to(secret)
        with pytest.raises(LoadTrouble, match="did not say when it started"):
            await running.started()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has rights to give up")
async def test_as_root_it_gives_its_rights_up_and_still_writes_its_result(
    tmp_path: Path, traffic: tuple[tuple[Arrival, ...], Catalogue]
) -> None:
    arrivals, expected = traffic
    tmp_path.chmod(0o700)
    hurried = tuple(arrival.model_copy(update={"due_s": arrival.due_s / 4}) for arrival in arrivals)
    async with serving(right_shop(arrivals, expected)) as right:
        plan = LoadPlan(
            arms=(Arm(name="right", base_url=right),),
            arrivals=hurried, catalogue=expected, warm_up_s=0.2, end_s=1, drain_s=2, users_per_arm=8,
        )  # fmt: skip
        before = set(psutil.Process().children())
        async with generator(plan, tmp_path, account=Account(65_534, 65_534)) as running:
            await running.started()
            (process,) = set(psutil.Process().children()) - before
            assert set(process.uids()) == set(process.gids()) == {65_534}
            result = await running.result()
    assert [outcome.failure for outcome in result.outcomes["right"] if outcome.failure] == []


async def test_a_generator_that_breaks_is_trouble_and_not_a_verdict(tmp_path: Path) -> None:
    plan = LoadPlan(
        arms=(), arrivals=(), catalogue=Catalogue(events=(), sales=()), end_s=0, warm_up_s=0, drain_s=0
    )
    async with generator(plan, tmp_path) as running:
        await running.started()
        with pytest.raises(LoadTrouble, match="ended with status 1"):
            await running.result()
