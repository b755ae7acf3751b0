"""Whatever is sent: the service answers as its own OpenAPI document says, and never with 500."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from devstack.world import World, WorldSettings

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest_asyncio.fixture(loop_scope="session")
async def base_url(
    world_settings: WorldSettings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[str]:
    async with World(world_settings, tmp_path_factory.mktemp("openapi")) as world:
        yield (await world.start_service()).base_url


def test_every_answer_is_documented(base_url: str) -> None:
    api = schemathesis.openapi.from_url(f"{base_url}/openapi.json")
    operations = [result.ok() for result in api.get_all_operations()]
    assert len(operations) == 8
    for operation in operations:

        @settings(
            max_examples=25,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        )
        @given(case=operation.as_strategy())
        def check(case: schemathesis.Case) -> None:
            case.call_and_validate(checks=CHECKS)

        check()
