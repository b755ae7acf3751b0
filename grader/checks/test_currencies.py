"""Foreign currencies: what is charged to the cent, and how often the rate is asked for."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from pydantic import JsonValue

from devstack.artifacts import Artifact, Exchange, Ledger
from grader.answers import PLACED
from grader.checks.limits import MARGIN
from grader.checks.purchases import Purchase, purchases
from grader.checks.reading import field
from grader.checks.values import amount, converted, is_money, lines_of, member, total
from grader.judge import Judge, check

RATE_CALLS = 10 * MARGIN

ROUNDING = "contract: unit price × rate, half-even to 2 places, × quantity, charged in that currency"
ORDERS = 7
"""So many are placed at least; a service that stopped answering before the last has got the fewer right."""


@check(
    id="money-rounding",
    category="system-design",
    level="junior",
    title="Amounts are right to the cent in every currency",
    failure_title="Amounts are wrong by cents",
    why="A cent that differs between the page, the order and the charge is a complaint, and thousands of them are an audit. "
    "Binary floating point has no 0.01, and every place that rounds in its own way makes its own total.",
    remediation="Decimals from the JSON text to the database (never through float), one function that converts a unit price with "
    "`quantize(Decimal('0.01'), ROUND_HALF_EVEN)`, and multiplication by the quantity after it.",
    question="Where do amounts come in and go out of your service, and where is each of them rounded, how and how often?",
)
def test_money_rounding(currencies: Artifact, judge: Judge) -> None:
    orders = purchases(currencies.exchanges_of("orders"), currencies.exchanges_of("orders-read"))
    ledger = currencies.ledger()
    judge.at_least("orders confirmed", sum(order.status == "confirmed" for order in orders), ORDERS)
    wrong: dict[str, list[str]] = {"total": [], "charge": [], "assessment": []}
    for order in orders:
        _compare(currencies, order, ledger, wrong)
    for name, found in wrong.items():
        judge.equal(f"orders with a wrong {name}", len(found), 0, source=ROUNDING)
    # Whether a price is shown at all where one is to be had is rate-calls' question.
    displays = [
        shown for shown in currencies.exchanges_of("displays") if field(shown, "display_price") is not None
    ]
    off = [shown for shown in displays if not _display_is_right(currencies, shown)]
    judge.equal(
        "wrong display prices", len(off), 0, source="contract: display_price is converted as an order's price"
    )
    if told := [sentence for found in wrong.values() for sentence in found]:
        judge.evidence("\n".join(told), name="amounts")
    judge.evidence(*off[:2])


def _compare(artifact: Artifact, order: Purchase, ledger: Ledger, wrong: dict[str, list[str]]) -> None:
    """Note what is wrong about an order's total, its charge and the amount that was assessed for it."""
    body = order.attempts[0].request_json
    currency = str(member(body, "currency") or "EUR")
    prices = [(_price(artifact, event_id), quantity) for event_id, quantity in lines_of(body)]
    rate = _rate(artifact, currency)
    expected = total((converted(price, rate), quantity) for price, quantity in prices)
    name = " + ".join(f"{quantity} × {price} EUR" for price, quantity in prices) + f" in {currency} at {rate}"
    shown = field(order.reading, "total") if order.reading else None
    if not is_money(shown, expected, currency):
        wrong["total"].append(f"{name}: total {shown}, expected {expected}")
    charged = {(amount(charge.amount), charge.currency) for charge in order.charges_in(ledger)}
    if charged != {(expected, currency)}:
        wrong["charge"].append(f"{name}: charged {charged or 'nothing'}, expected {expected}")
    assessed = _assessed(ledger, member(body, "buyer_email"))
    if assessed != {total(prices)}:
        wrong["assessment"].append(f"{name}: assessed {assessed or 'nothing'}, expected {total(prices)}")


def _assessed(ledger: Ledger, email: JsonValue) -> set[Decimal | None]:
    return {
        amount(member(call.body, "amount"))
        for call in ledger.calls_to("risk", "assess")
        if member(call.body, "buyer_email") == email
    }


def _display_is_right(artifact: Artifact, shown: Exchange) -> bool:
    path, _, currency = shown.path.partition("?currency=")
    expected = converted(_price(artifact, int(path.rpartition("/")[2])), _rate(artifact, currency))
    return shown.status == 200 and is_money(field(shown, "display_price"), expected, currency)


def _price(artifact: Artifact, event_id: int) -> Decimal:
    return Decimal(str(member(artifact.fact("prices"), str(event_id))))


def _rate(artifact: Artifact, currency: str) -> Decimal:
    return Decimal(1) if currency == "EUR" else Decimal(str(member(artifact.fact("rates"), currency)))


@check(
    id="rate-calls",
    category="performance",
    level="mid",
    title="A crowd asks for a rate once",
    failure_title="Every request asks for the rate",
    why="A rate that holds for a minute and is fetched for every page and every order adds its latency to each of them, and "
    "the provider's limit is reached in the minute that counts. With a cache that nobody guards it happens at each expiry.",
    remediation="Keep the rate for at most 60 s, for pages and orders alike, and let one request fetch it for all who wait (a "
    "future or a lock per currency), or refresh it in the background.",
    question="A thousand requests find the cache empty in the same instant. What does each of them do?",
)
def test_rate_calls(currencies: Artifact, judge: Judge) -> None:
    currency = str(currencies.fact("crowd-currency"))
    calls = Counter(call.path for call in currencies.ledger().calls_to("rates"))
    crowd = sum(count for path, count in calls.items() if currency in path)
    judge.at_most(
        "calls for one pair: 38 requests on a cold cache, 16 more one by one", crowd, RATE_CALLS,
        source="contract: ≤ 10 calls per currency pair and process in a minute, + 20 %",
    )  # fmt: skip
    judge.at_most(
        "most calls for another pair", max([0, *(n for path, n in calls.items() if currency not in path)]), RATE_CALLS,
        source="contract: ≤ 10 calls per currency pair and process in a minute, + 20 %",
    )  # fmt: skip
    # Who asks for nothing calls nobody.
    reads = currencies.exchanges_of("trickle-reads")
    judge.equal(
        "pages that show the converted price after the crowd",
        sum(_display_is_right(currencies, read) for read in reads), max(1, len(reads)),
        source="contract: null only when no rate is to be had",
    )  # fmt: skip
    orders = (*currencies.exchanges_of("crowd-orders"), *currencies.exchanges_of("trickle-orders"))
    refused = [order for order in orders if order.status not in PLACED]
    judge.equal(
        "orders in that currency that were refused",
        len(refused),
        0,
        source="contract: ≤ 30 in flight, none is shed",
    )
    judge.evidence(*refused[:2])
    judge.summary(f"{len(orders) + len(reads) + 30} requests took {crowd} calls for the rate of {currency}")
