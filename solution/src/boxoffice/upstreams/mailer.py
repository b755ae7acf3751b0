"""Mailer: takes a message and delivers it in its own time."""

from __future__ import annotations

from boxoffice.deadlines import Deadline
from boxoffice.upstreams.client import Retries, UpstreamClient, UpstreamUnavailable


class Mailer:
    """Client of the mailer upstream."""

    def __init__(self, client: UpstreamClient) -> None:
        self._client = client

    async def send(
        self, *, to: str, template: str, order_id: str, deadline: Deadline, retries: Retries
    ) -> None:
        """Hand a message over, once per template and order. Raises UpstreamUnavailable."""
        response = await self._client.call(
            "POST",
            "/messages",
            body={"to": to, "template": template, "order_id": order_id},
            idempotency_key=f"{template}-{order_id}",
            deadline=deadline,
            retries=retries,
        )
        if response.status_code >= 400:
            raise UpstreamUnavailable("mailer", refused=True)
