"""The machine-readable report, and the JSON Schema that it follows.

``python -m grader.reports.json`` prints the schema that is kept in ``docs/scorecard.schema.json``.
"""

from __future__ import annotations

from grader.model import Scorecard
from grader.paths import canonical_json


def render(scorecard: Scorecard) -> str:
    """``scorecard.json``: the same bytes for the same scorecard."""
    return canonical_json(scorecard)


def schema() -> str:
    """The JSON Schema of ``scorecard.json``."""
    return canonical_json(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            **Scorecard.model_json_schema(mode="serialization"),
        }
    )


if __name__ == "__main__":
    print(schema(), end="")
