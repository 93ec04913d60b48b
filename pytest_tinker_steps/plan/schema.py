"""The shapes of a definitions file, for checking at the boundary and for the JSON Schema that is shipped.

``File.model_validate(value, context=Rules(...))`` reports every error of a file at once. Field errors come
from pydantic; rules between keys are written to the context by validators that run before the fields are
looked at, so that a wrong field does not hide them.

``python -m pytest_tinker_steps.plan.schema`` prints the JSON Schema.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator
from pydantic.json_schema import GenerateJsonSchema

from pytest_tinker_steps.plan.shapes import rules
from pytest_tinker_steps.plan.shapes.check_shapes import CheckShape, Count, RetrySpec, Shape
from pytest_tinker_steps.plan.shapes.core_schema import Mode
from pytest_tinker_steps.plan.shapes.main_shapes import MainSpec, RunnerSpec
from pytest_tinker_steps.plan.shapes.monitor_shapes import MonitorShape
from pytest_tinker_steps.plan.shapes.rules import STEP_KEY, Rules
from pytest_tinker_steps.plan.shapes.scalars import (
    CommandLine,
    Dollars,
    Environment,
    Needs,
    Path,
    Paths,
    Text,
    Timeout,
    VariableName,
    VariableNames,
    shorthand,
)
from pytest_tinker_steps.plan.shapes.yaml_source import Map

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TEXT: Mode = "text"

MODES = dict.fromkeys(
    (
        *("step", "needs", "inputs", "outputs", "cwd", "secrets", "mode", "on_failure", "when"),
        *("task", "name", "command", "fix", "script", "args", "python", "monitor", "check", "alert"),
        *("recover", "output", "progress", "line", "metric", "threshold", "on_alert"),
        *("track", "layer", "assuming", "runner", "stop"),
        *(
            "agent",
            "skills",
            "objective",
            "model",
            "success_criteria",
            "text",
            "explore",
            "verify",
            "estimate",
        ),
        *("import", "file", "json", "jsonl", "yaml", "path", "required", "contains", "executable"),
        *("host", "http", "url", "match", "not_match", "pattern", "alert_on", "value"),
    ),
    _TEXT,
)
MODES.update(env="deep", identity="deep", test_first="items", runners="deep")
"""Keys whose values are text as typed, for ``yaml_source.read``."""


class IdentityShape(Shape):
    """One value that says what a step was done with: a constant, or what an environment variable says."""

    name: Text | None = Field(None, description="Name of the value; that of the variable if absent.")
    value: str | None = Field(None, description="A constant.")
    env: VariableName | None = Field(None, description="An environment variable whose value counts.")
    set: str | None = Field(None, description="Stands for the value of the variable whenever it has one.")
    unset: str = Field("", description="Stands for the value when the variable is missing or empty.")

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        return rules.apply(rules.identity, value, info.context)


Identity = Annotated[
    list[IdentityShape],
    BeforeValidator(
        rules.identity_entries,
        json_schema_input_type=dict[str, str | float | bool | IdentityShape]
        | list[str | float | bool | IdentityShape],
    ),
]


class CostShape(Shape):
    """What a step is expected to cost."""

    usd: Annotated[float, Field(ge=0)] = Field(description="US dollars.")
    assuming: Text | None = Field(None, description="What the number rests on, in words.")
    when: VariableName | None = Field(
        None, description="An environment variable without which the step costs nothing."
    )


CostSpec = Annotated[
    CostShape,
    BeforeValidator(shorthand("usd", (int, float), "US dollars"), json_schema_input_type=float | CostShape),
]
Amounts = dict[Text, Count]


class StepShape(Shape):
    """What is to be done for one step of the task list."""

    pre_flight: list[CheckShape] | None = Field(None, description="Checks before the main, side by side.")
    main: MainSpec | None = Field(None, description="What the step does: a mapping, or a command.")
    post_validation: list[CheckShape] | None = Field(None, description="Checks after the main, side by side.")
    background: list[MonitorShape] | None = Field(None, description="Monitors, repeated while the main runs.")
    needs: Needs = Field(
        None,
        description="Steps that must have passed first; 13@started or 13@ended for another state. [] waits "
        "for none. Absent: the step before it in the list.",
    )
    inputs: Paths | None = Field(None, description="Files that the step reads; globs are allowed.")
    outputs: Paths | None = Field(None, description="Files that the step writes; globs are allowed.")
    env: Environment | None = Field(None, description="Added to the environment of everything in the step.")
    cwd: Path | None = Field(None, description="Folder to run in, relative to that of the task list.")
    identity: Identity | None = Field(None, description="Values that say what the step was done with.")
    retries: RetrySpec | None = Field(None, description="The main's, unless it says otherwise.")
    timeout: Timeout | None = Field(None, description="The main's, unless it says otherwise.")
    recover: CommandLine | None = Field(None, description="The main's, unless it says otherwise.")
    on_failure: Literal["fail", "warn"] = Field(
        "fail", description="warn: a failure does not fail the session."
    )
    budget_usd: Dollars | None = Field(
        None, description="US dollars; when they are spent, nothing more of the step is begun."
    )
    cost: CostSpec | None = Field(None, description="What the step is expected to cost, for the plan.")
    track: Text | None = Field(
        None, description="Steps of one track run in sequence, and tracks side by side."
    )
    layer: Text | None = Field(
        None, description="Steps of a layer run side by side, when those of the layers before have passed."
    )
    resources: Amounts | None = Field(
        None, description="How much of which pool the step takes while it runs, or its job does."
    )
    exclusive: bool = Field(False, description="true: nothing else runs beside it.")

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        return rules.apply(rules.step, value, info.context)


class ListedStepShape(StepShape):
    """A step of the list form."""

    step: Text = Field(
        description="Id of the step, as in the task list.",
        json_schema_extra={"type": ["string", "number"]},
    )


class DefaultsShape(Shape):
    """What holds for each step that does not say otherwise."""

    env: Environment | None = Field(None, description="Environment; a step's own variables are added.")
    cwd: Path | None = Field(None, description="Folder to run in.")
    identity: Identity | None = Field(None, description="Values that say what a step was done with.")


class File(BaseModel):
    """What is to be done for the steps of a task list: checks before, the main, checks after, monitors."""

    model_config = ConfigDict(
        extra="allow", strict=True, allow_inf_nan=False, title="pytest-tinker-steps definitions"
    )
    __pydantic_extra__: dict[str, StepShape] = Field(init=False)

    steps: list[ListedStepShape] | None = Field(
        None, description="Steps as a list, each with its step: <id>."
    )
    defaults: DefaultsShape | None = Field(
        None, description="What holds for each step that does not say otherwise."
    )
    secrets: VariableNames | None = Field(
        None, description="Names of further environment variables whose values are never shown."
    )
    pools: Amounts | None = Field(
        None, description="What there is only so much of, for resources: names and amounts."
    )
    runners: dict[Text, RunnerSpec] | None = Field(
        None, description="Command prefixes that mains are handed to, by name."
    )

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, Map) and isinstance(info.context, Rules):
            return rules.file(value, info.context)
        return value


class _Generator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic asks with it
        return False


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a definitions file, for editors; both forms are in it."""
    shape = _without_defaults_of_nothing(File.model_json_schema(schema_generator=_Generator))
    step = shape.pop("additionalProperties")
    shape["$defs"]["StepShape"]["type"] = ["object", "null"]  # a key with nothing below is a step, too
    return {
        "$schema": DIALECT,
        "title": shape["title"],
        "description": shape["description"],
        "type": ["object", "array", "null"],
        "properties": shape["properties"],
        "patternProperties": {STEP_KEY.pattern: step},
        "additionalProperties": False,
        "items": {"$ref": "#/$defs/ListedStepShape"},
        "$defs": shape["$defs"],
    }


def _without_defaults_of_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_defaults_of_nothing(below)
            for key, below in value.items()
            if not (key == "default" and below is None)
        }
    if isinstance(value, list):
        return [_without_defaults_of_nothing(below) for below in value]
    return value


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
