"""Remember what an Idempotency-Key was answered with.

The shop's checkout sends the same key again when a buyer clicks twice or reloads the page.
"""

from boxoffice.orders.schemas import OrderRead

_answers: dict[str, OrderRead] = {}


def find(key: str) -> OrderRead | None:
    """The order that was placed with a key, if there is one."""
    return _answers.get(key)


def remember(key: str, order: OrderRead) -> None:
    """Keep the order of a key."""
    _answers[key] = order
