"""The generator's process: sends a :class:`~grader.load.plan.LoadPlan` with Locust's ``FastHttpUser``.

``python -I -m grader.load.locustfile PLAN STARTED RESULT`` uses Locust as a library: no configuration file, no
argument of Locust's, no web interface, nothing is bound. Requests are due by the plan's clock, whether or not
earlier ones were answered (open model), and a request's latency counts from the instant at which it was due.
"""

from locust import FastHttpUser, constant, task  # isort: skip - patches the interpreter, so it comes first
from locust.env import Environment  # isort: skip

import sys
import time
from pathlib import Path
from typing import Any

import gevent
import gevent.queue
from geventhttpclient.client import HTTPClientPool

from devstack.artifacts import quantile
from grader.load.answers import Shop, Wrong
from grader.load.plan import Arm as PlannedArm
from grader.load.plan import Arrival, LoadPlan
from grader.load.result import LoadResult, Outcome, PlacedOrder
from grader.paths import write_json

BODY_CAP_BYTES = 4_000_000
SPAWN_LIMIT_S = 10.0


class Arm:
    """One service, the requests that are due there, and what became of them."""

    def __init__(self, planned: PlannedArm, plan: LoadPlan) -> None:
        self.name = planned.name
        self.base_url = planned.base_url
        self.plan = plan
        self.offset_s = planned.offset_s
        self.queue: gevent.queue.Queue[Arrival] = gevent.queue.Queue()
        self.shop = Shop(plan.catalogue)
        self.open: dict[int, Outcome] = {}
        self.outcomes: list[Outcome] = []
        self.lags_s: list[float] = []
        self.start_s = 0.0

    def due(self, arrival: Arrival) -> float:
        """The instant (monotonic clock) at which ``arrival`` is due here."""
        return self.start_s + self.offset_s + arrival.due_s

    def dispatch(self) -> None:
        """Hand each request to the users at its instant."""
        for arrival in self.plan.arrivals:
            due_s = self.due(arrival)
            gevent.sleep(max(0.0, due_s - time.monotonic()))
            self.lags_s.append(max(0.0, time.monotonic() - due_s))
            self.open[arrival.number] = Outcome(
                number=arrival.number, endpoint=arrival.endpoint, due_s=due_s, failure="not-sent"
            )
            self.queue.put(arrival)

    def perform(self, client: Any, arrival: Arrival) -> None:
        """Send one request and write down what became of it."""
        due_s = self.due(arrival)
        patience_s = due_s + self.plan.timeout_s - time.monotonic()
        if patience_s <= 0:
            self._close(arrival, failure="not-sent", ended_s=time.monotonic())
            return
        call = self.shop.call(arrival)
        if call is None:
            self._close(arrival, failure="no-order", ended_s=time.monotonic())
            return
        sent_s = time.monotonic()
        self.open[arrival.number] = self.open[arrival.number].model_copy(
            update={"path": call.path, "sent_s": sent_s, "failure": "timeout"}
        )
        status: int | None = None
        failure = None
        try:
            with gevent.Timeout(patience_s):
                status, headers, body = exchange(client, arrival, call.path)
            self.shop.verify(arrival, call, status, headers, body, sent_s, time.monotonic())
        except Wrong as wrong:
            failure = str(wrong)
        except NoAnswer as none:
            failure = str(none)
        except gevent.Timeout:
            failure = "timeout"
        self._close(arrival, status=status, ended_s=time.monotonic(), failure=failure)

    def _close(self, arrival: Arrival, **update: object) -> None:
        opened = self.open.pop(arrival.number, None)
        if opened is not None:
            self.outcomes.append(opened.model_copy(update=update))

    def give_up(self) -> None:
        """What is still open stays what it is: not sent, or timed out."""
        self.outcomes.extend(self.open.values())
        self.open.clear()


class NoAnswer(Exception):
    """No complete answer came; the message is the kind of failure."""


def exchange(client: Any, arrival: Arrival, path: str) -> tuple[int, dict[str, str], bytes]:
    """Send one request; its status, headers (lower-case names) and body. Raises NoAnswer, gevent.Timeout."""
    headers = {"Accept-Encoding": "identity"}
    options: dict[str, Any] = {}
    if arrival.order is not None:
        headers["Idempotency-Key"] = arrival.order.key
        options["json"] = arrival.order.body()
    method = "POST" if arrival.order is not None else "GET"
    with client.request(
        method, path, name=arrival.endpoint, headers=headers, stream=True,
        allow_redirects=False, catch_response=True, **options,
    ) as answer:  # fmt: skip
        answer.success()  # Locust's own statistics are not used
        if answer.status_code == 0:
            raise NoAnswer(_kind(getattr(answer, "error", None)))
        received = {str(name).lower(): str(value)[:4000] for name, value in answer.headers.items()}
        body = bytearray()
        for chunk in answer.iter_content(chunk_size=65536, decode_content=False):
            body += chunk
            if len(body) > BODY_CAP_BYTES:
                raise NoAnswer("too-large")
        return answer.status_code, received, bytes(body)


def _kind(error: object) -> str:
    """What stands behind an answer that never came."""
    seen = 0
    while isinstance(error, BaseException) and seen < 5:
        if isinstance(error, gevent.Timeout | TimeoutError):
            return "timeout"
        if isinstance(error, ConnectionRefusedError):
            return "refused"
        # geventhttpclient wraps what it met, and keeps it as ``original``
        error, seen = getattr(error, "original", None) or error.__cause__, seen + 1
    return "reset"


def user_class(arm: Arm) -> type[FastHttpUser]:
    """The users of one arm. They share connections: only as many are open as requests were in flight at once."""

    class ArmUser(FastHttpUser):
        host = arm.base_url
        wait_time = constant(0)
        # Room for twice the users: a connection that a timeout interrupts while sending is not given back.
        client_pool = HTTPClientPool(
            concurrency=2 * arm.plan.users_per_arm,
            connection_timeout=arm.plan.timeout_s,
            network_timeout=arm.plan.timeout_s,
        )

        @task
        def serve(self) -> None:
            arm.perform(self.client, arm.queue.get())

    ArmUser.__name__ = f"User_{arm.name}"
    return ArmUser


def main(plan_file: Path, started_file: Path, result_file: Path) -> int:
    """Run the plan; write when it started, and at the end what became of it."""
    plan = LoadPlan.model_validate_json(plan_file.read_text(encoding="utf-8"))
    arms = [Arm(planned, plan) for planned in plan.arms]
    errors: list[str] = []
    environment = Environment(user_classes=[user_class(arm) for arm in arms])
    environment.events.user_error.add_listener(  # type: ignore[no-untyped-call]
        lambda user_instance, exception, tb: errors.append(repr(exception))
    )
    runner = environment.create_local_runner()
    users = plan.users_per_arm * len(arms)
    runner.start(users, spawn_rate=users)
    with gevent.Timeout(SPAWN_LIMIT_S):
        while runner.user_count < users:
            gevent.sleep(0.02)
    result = run(plan, arms, started_file)
    runner.quit()
    if errors:
        print(
            f"{len(errors)} requests ended in an error of the generator, first: {errors[0]}", file=sys.stderr
        )
        return 1
    write_json(result_file, result)
    return 0


def run(plan: LoadPlan, arms: list[Arm], started_file: Path) -> LoadResult:
    """Send everything, wait until it is answered or nobody waits any more."""
    start_s = time.monotonic() + 0.1
    for arm in arms:
        arm.start_s = start_s
    write_json(started_file, {"start_s": start_s})
    dispatchers = [gevent.spawn(arm.dispatch) for arm in arms]
    gevent.sleep(max(0.0, start_s + plan.warm_up_s - time.monotonic()))
    cpu_s, wall_s = time.process_time(), time.monotonic()
    gevent.joinall(dispatchers, raise_error=True)
    cpu_share = (time.process_time() - cpu_s) / max(1e-9, time.monotonic() - wall_s)
    deadline_s = start_s + plan.end_s + plan.drain_s
    while any(arm.open for arm in arms) and time.monotonic() < deadline_s:
        gevent.sleep(0.02)
    for arm in arms:
        arm.give_up()
    return LoadResult(
        start_s=start_s,
        cpu_share=cpu_share,
        lag_p99_s=quantile([lag for arm in arms for lag in arm.lags_s], 0.99),
        outcomes={arm.name: tuple(sorted(arm.outcomes, key=lambda found: found.number)) for arm in arms},
        orders={
            arm.name: tuple(
                PlacedOrder(number=number, id=order.id, confirmed=order.confirmed)
                for number, order in sorted(arm.shop.orders.items())
            )
            for arm in arms
        },
    )


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:4])))
