"""Clients of the upstreams."""

from collections.abc import Callable
from decimal import Decimal

import pytest
import requests
import respx

from boxoffice.errors import BuyerDenied, CardDeclined
from boxoffice.settings import settings
from boxoffice.upstreams import mailer, payments, rates, risk


def answer(status: int, text: str) -> requests.Response:
    """An answer of the payments provider."""
    response = requests.Response()
    response.status_code = status
    response._content = text.encode()
    return response


def charge() -> str:
    """A charge of 39.80 EUR."""
    return payments.charge(order_ref="o1", amount=Decimal("39.8"), currency="EUR", card_token="tok_1")


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[object]]:
    """Have the provider give these answers, one after the other; gives the bodies it was sent."""

    def give(*outcomes: requests.Response | Exception) -> list[object]:
        bodies: list[object] = []
        waiting = list(outcomes)

        def post(url: str, json: object, headers: dict[str, str]) -> requests.Response:
            bodies.append(json)
            outcome = waiting.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        monkeypatch.setattr(requests, "post", post)
        monkeypatch.setattr(payments.time, "sleep", lambda seconds: None)
        return bodies

    return give


def test_a_charge_returns_its_id(provider: Callable[..., list[object]]) -> None:
    bodies = provider(answer(201, '{"charge_id": "ch_9", "status": "captured"}'))
    assert charge() == "ch_9"
    assert bodies == [{"amount": "39.80", "currency": "EUR", "card_token": "tok_1", "order_ref": "o1"}]


def test_a_declined_card_is_not_tried_again(provider: Callable[..., list[object]]) -> None:
    bodies = provider(answer(402, "{}"))
    with pytest.raises(CardDeclined):
        charge()
    assert len(bodies) == 1


def test_a_charge_is_tried_again_after_a_bad_moment(provider: Callable[..., list[object]]) -> None:
    provider(answer(503, "busy"), requests.ConnectionError(), answer(201, '{"charge_id": "ch_9"}'))
    assert charge() == "ch_9"


def test_payments_that_stay_away_are_reported(provider: Callable[..., list[object]]) -> None:
    provider(*[answer(503, "busy")] * payments.MAX_ATTEMPTS)
    with pytest.raises(payments.PaymentsUnavailable):
        charge()


@respx.mock
async def test_an_allowed_buyer_passes() -> None:
    route = respx.post(f"{settings.risk_url}/assessments").respond(json={"decision": "allow", "score": 3})
    await risk.assess(buyer_email="ana@example.com", amount=Decimal("39.8"))
    assert route.calls.last.request.content == b'{"buyer_email":"ana@example.com","amount":"39.80"}'


@respx.mock
async def test_a_denied_buyer_is_an_error() -> None:
    respx.post(f"{settings.risk_url}/assessments").respond(json={"decision": "deny", "score": 97})
    with pytest.raises(BuyerDenied):
        await risk.assess(buyer_email="deny@example.com", amount=Decimal(1))


@respx.mock
async def test_a_rate_is_kept_for_event_pages() -> None:
    route = respx.get(f"{settings.rates_url}/rates/EUR/NOK").respond(json={"rate": "11.62", "as_of": "now"})
    assert await rates.refresh_display_rate("NOK") == 11.62
    assert rates.display_rate("NOK") == 11.62
    assert route.call_count == 1


@respx.mock
async def test_a_confirmation_names_the_order() -> None:
    route = respx.post(f"{settings.mailer_url}/messages").respond(202)
    await mailer.send_confirmation(order_id="o1", to="ana@example.com")
    assert route.calls.last.request.headers["Idempotency-Key"] == "order-confirmation-o1"
