"""The generator's process: Locust's users send a :class:`~grader.load.plan.LoadPlan`.

``python -I -m grader.load.locustfile PLAN [UID:GID]`` uses Locust as a library: no configuration file, no
argument of Locust's, no web interface, nothing is bound. Of its ``FastHttpUser`` only what is beneath it is used
(geventhttpclient, see :mod:`grader.load.client`): its session keeps cookies, has headers of its own and no limits.
Requests are due by the plan's clock, whether or not earlier ones were answered (open model), and a request's latency
counts from the instant at which it was due.
"""

from locust import User, constant, task  # isort: skip - patches the interpreter, so it comes first
from locust.env import Environment  # isort: skip

import contextlib
import os
import socket
import sys
import time
from pathlib import Path

import gevent
import gevent.queue

from devstack.artifacts import quantile
from devstack.placement import die_with_parent, give_up_rights
from grader.load.answers import Shop, Wrong
from grader.load.client import Client, NoAnswer
from grader.load.plan import Arm as PlannedArm
from grader.load.plan import Arrival, LoadPlan
from grader.load.result import LoadResult, Outcome, PlacedOrder
from grader.paths import canonical_json

SPAWN_LIMIT_S = 10.0
STARTED = "started.json"
RESULT = "result.json"
"""In the working directory, which stays within reach of an account that could not enter the folders above it."""


class Arm:
    """One service, the requests that are due there, and what became of them."""

    def __init__(self, planned: PlannedArm, plan: LoadPlan) -> None:
        self.name = planned.name
        # Room for twice the users: they share connections, and one that is being closed still counts.
        self.client = Client(planned.base_url, connections=2 * plan.users_per_arm, timeout_s=plan.timeout_s)
        self.plan = plan
        self.offset_s = planned.offset_s
        self.queue: gevent.queue.Queue[Arrival] = gevent.queue.Queue()
        self.shop = Shop(plan.catalogue, habits=planned.habits, asked_before=planned.asked_before)
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

    def perform(self, arrival: Arrival) -> None:
        """Send one request and write down what became of it."""
        due_s = self.due(arrival)
        patience_s = due_s + self.plan.timeout_s - time.monotonic()
        if patience_s <= 0:
            self._close(arrival, failure="not-sent", ended_s=time.monotonic())
            return
        call = self.shop.call(arrival, time.monotonic())
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
                answer = self.client.ask(
                    call.method, call.path, headers=call.headers, body=call.body, fresh=arrival.fresh
                )
            status = answer.status
            self.shop.verify(arrival, call, status, answer.headers, answer.body, sent_s, time.monotonic())
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


def user_class(arm: Arm) -> type[User]:
    """The users of one arm. They share connections: only as many are open as requests were in flight at once."""

    class ArmUser(User):
        wait_time = constant(0)

        @task
        def serve(self) -> None:
            arm.perform(arm.queue.get())

    ArmUser.__name__ = f"User_{arm.name}"
    return ArmUser


def main(plan_file: Path, account: str = "") -> int:
    """Run the plan as ``account`` (``UID:GID``, empty: the caller); write when it started, and what became of it."""
    parent = os.getppid()
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
    if account:
        _load_what_loads_late()
        give_up_rights(*map(int, account.split(":")))
        die_with_parent(parent)  # a change of account takes it back
    result = run(plan, arms)
    runner.quit()
    if errors:
        print(
            f"{len(errors)} requests ended in an error of the generator, first: {errors[0]}", file=sys.stderr
        )
        return 1
    _write(RESULT, canonical_json(result))
    return 0


def _load_what_loads_late() -> None:
    """Meet a service that answers nothing, so that every module and codec is there before the files are out of reach."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = Client(f"http://127.0.0.1:{port}", connections=1, timeout_s=0.01)
        with contextlib.suppress(NoAnswer):
            client.ask("POST", "/", body=b"{}")
    canonical_json(LoadResult(start_s=0, cpu_share=0, lag_p99_s=0, outcomes={}, orders={}))


def _write(name: str, text: str) -> None:
    """Write a file of the working directory, whole or not at all."""
    unfinished = f".{name}"
    with open(unfinished, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(unfinished, name)


def run(plan: LoadPlan, arms: list[Arm]) -> LoadResult:
    """Send everything, wait until it is answered or nobody waits any more."""
    start_s = time.monotonic() + 0.1
    for arm in arms:
        arm.start_s = start_s
    _write(STARTED, canonical_json({"start_s": start_s}))
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
    sys.exit(main(Path(sys.argv[1]), *sys.argv[2:3]))
