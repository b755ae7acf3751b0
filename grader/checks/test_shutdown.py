"""How the service takes leave of its database."""

from __future__ import annotations

from devstack.artifacts import Artifact
from grader.judge import Judge, check

ABANDONED = 2
"""A session may be lost to a statement that was given up, or belong to a listener that nobody closes."""


@check(
    id="sessions-closed",
    category="monitoring-reliability",
    level="mid",
    title="The database sessions are closed at the end",
    failure_title="The database sessions are abandoned at the end",
    why="A client that goes without a word leaves its sessions to be found out by the server: an error in its log for each, and a "
    "slot that the next process lacks until then. Behind a network that drops packets that takes hours.",
    remediation="Close pools and engines after the `yield` of the lifespan, when the requests have been drained: await "
    "engine.dispose(), pool.close(). Do not leave by os._exit, and do not let the server be killed while it drains.",
    question="What does PostgreSQL see of your process's end, and what does it see when the machine loses its power?",
)
def test_sessions_closed(shutdown: Artifact, judge: Judge) -> None:
    held = int(shutdown.number("sessions-at-signal"))
    abandoned = int(shutdown.number("abandoned-after") - shutdown.number("abandoned-before"))
    # Who has no more sessions than are allowed to be lost must not pass by losing all of them.
    judge.at_most(
        f"sessions abandoned at the end, of {held} open at SIGTERM", abandoned, min(ABANDONED, max(0, held - 1)),
        source="contract: close the database sessions cleanly; pg_stat_database.sessions_abandoned, two are let pass",
    )  # fmt: skip
    judge.evidence(shutdown.log_tail, name="end of the service's log")
