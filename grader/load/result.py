"""What became of a load: the generator's result, as it crosses from its process to ours."""

from __future__ import annotations

from devstack.artifacts import Frozen, Seconds
from grader.load.plan import Endpoint

_NOT_SERVED = frozenset(
    {
        "not-sent", "no-order", "timeout", "refused", "reset", "protocol", "too-large", "shed",
        "status-408", "status-429",
    }
)  # fmt: skip


class Outcome(Frozen):
    """One request. Instants are of the machine's monotonic clock.

    ``failure`` is ``None`` for a right answer; else ``not-sent``, ``no-order`` (nothing to ask for: no order was
    ever accepted), ``timeout``, ``refused``, ``reset``, ``protocol``, ``too-large``, ``shed`` (429 or 503 with Retry-After),
    ``status-NNN``, or what is wrong with the answer (``malformed``, ``wrong-total``, ``stale-availability`` …).
    """

    number: int
    endpoint: Endpoint
    due_s: Seconds
    path: str = ""
    sent_s: Seconds | None = None
    ended_s: Seconds | None = None
    status: int | None = None
    failure: str | None = None

    @property
    def is_wrong(self) -> bool:
        """A complete answer came, and not one of a service that cannot serve: its content is wrong."""
        kind = self.failure or ""
        return bool(kind) and kind not in _NOT_SERVED and not kind.startswith("status-5")

    def latency(self, timeout_s: float) -> float:
        """Seconds from the instant it was due; a failed request counts as long as its client would have waited."""
        if self.failure is not None or self.ended_s is None:
            return timeout_s
        return self.ended_s - self.due_s


class PlacedOrder(Frozen):
    """An order that the service accepted: the arrival's number, the service's id."""

    number: int
    id: str
    confirmed: bool


class LoadResult(Frozen):
    """The whole load. ``cpu_share``: cores used by the generator; ``lag_p99_s``: how late it handed requests out."""

    start_s: Seconds
    cpu_share: float
    lag_p99_s: Seconds
    outcomes: dict[str, tuple[Outcome, ...]]
    orders: dict[str, tuple[PlacedOrder, ...]]
