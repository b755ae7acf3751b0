"""The load generator for real: its own process against servers that answer right, never, or not at all."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
from collections import Counter
from decimal import Decimal
from pathlib import Path

import psutil
import pytest

from devstack.seed import LiveData
from grader.load import arithmetic
from grader.load.generator import LoadTrouble, generator
from grader.load.plan import CURRENCIES, Arm, Arrival, Catalogue, ExpectedDay, LoadPlan, catalogue, schedule
from tests.grader.load_shop import RightShop, serving

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


async def test_a_generator_that_breaks_is_trouble_and_not_a_verdict(tmp_path: Path) -> None:
    plan = LoadPlan(
        arms=(), arrivals=(), catalogue=Catalogue(events=(), sales=()), end_s=0, warm_up_s=0, drain_s=0
    )
    async with generator(plan, tmp_path) as running:
        await running.started()
        with pytest.raises(LoadTrouble, match="ended with status 1"):
            await running.result()
