"""The JSON Schema that is shipped: equal to the shapes, and useful in an editor."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_tinker_steps.plan.definitions import json_schema
from pytest_tinker_steps.plan.model import PROBES

COMMITTED = Path(__file__).parents[2] / "schema" / "step_definitions.schema.json"


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return json_schema()


def test_committed_file_is_what_the_module_prints() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "pytest_tinker_steps.plan.schema"],
        check=True,
        timeout=60,
        capture_output=True,
        text=True,
    ).stdout
    assert COMMITTED.read_text("utf-8") == printed, (
        "run: python -m pytest_tinker_steps.plan.schema > schema/step_definitions.schema.json"
    )


def test_schema_in_the_package_is_the_committed_one(schema: dict[str, Any]) -> None:
    assert json.loads(COMMITTED.read_text("utf-8")) == schema


def test_schema_says_what_it_is(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"]
    assert schema["description"]


def test_steps_are_known_by_their_keys_and_nothing_else_is(schema: dict[str, Any]) -> None:
    (pattern,) = schema["patternProperties"]
    assert re.search(pattern, "step_13_training")
    assert re.search(pattern, "step_2.1")
    assert not re.search(pattern, "step_")
    assert not re.search(pattern, "stp_1")
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]) == {"steps", "defaults", "secrets", "pools", "runners"}


def test_every_key_is_described_and_unknown_ones_are_refused(schema: dict[str, Any]) -> None:
    for name, shape in {"file": schema, **schema["$defs"]}.items():
        assert shape["additionalProperties"] is False, name
        for key, spec in shape["properties"].items():
            assert spec.get("description"), f"{name}.{key}"


def test_every_probe_is_a_key_of_a_check(schema: dict[str, Any]) -> None:
    assert set(PROBES) <= set(schema["$defs"]["CheckShape"]["properties"])


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    names = re.findall(r'"#/\$defs/(\w+)"', json.dumps(schema))
    assert names
    assert set(names) <= set(schema["$defs"])
