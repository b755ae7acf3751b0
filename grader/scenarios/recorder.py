"""The record of a scenario in the making."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import JsonValue

from devstack.artifacts import (
    Artifact,
    ConnectionSample,
    DatabaseCounters,
    Disturbance,
    Exchange,
    Heartbeats,
    Ledger,
    Outcome,
)


@dataclass
class Recorder:
    """The record in the making; :meth:`artifact` freezes it."""

    exchanges: dict[str, list[Exchange]] = field(default_factory=dict)
    heartbeats: dict[str, Heartbeats] = field(default_factory=dict)
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    counters: dict[str, DatabaseCounters] = field(default_factory=dict)
    connections: dict[str, list[ConnectionSample]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    facts: dict[str, JsonValue] = field(default_factory=dict)

    def artifact(
        self,
        scenario: str,
        attempt: int,
        outcome: Outcome,
        log_tail: str,
        disturbance: Disturbance | None = None,
    ) -> Artifact:
        """The frozen record."""
        return Artifact(
            scenario=scenario,
            attempt=attempt,
            outcome=outcome,
            exchanges={name: tuple(found) for name, found in self.exchanges.items()},
            heartbeats=self.heartbeats,
            ledgers=self.ledgers,
            counters=self.counters,
            connections={name: tuple(found) for name, found in self.connections.items()},
            texts=self.texts,
            facts=self.facts,
            log_tail=log_tail,
            disturbance=disturbance,
        )
