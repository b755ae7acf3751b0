"""A database of its own for each test that asks for one, in the cluster of all tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from devstack.postgres import Cluster, Database


@pytest_asyncio.fixture(loop_scope="session")
async def database(cluster: Cluster, template: str) -> AsyncIterator[Database]:
    clone = await cluster.clone(template, connection_limit=3)
    yield clone
    await cluster.drop(clone)
