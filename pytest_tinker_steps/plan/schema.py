"""The shapes of a definitions file, for checking at the boundary and for the JSON Schema that is shipped.

``File.model_validate(value, context=Rules(...))`` reports every error of a file at once. Field errors come
from pydantic; rules between keys are written to the context by validators that run before the fields are
looked at, so that a wrong field does not hide them.

``python -m pytest_tinker_steps.plan.schema`` prints the JSON Schema.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema

from pytest_tinker_steps.plan import rules, scalars
from pytest_tinker_steps.plan.check_shapes import CheckShape, Count, RetrySpec, Shape, shape_keys
from pytest_tinker_steps.plan.core_schema import Mode
from pytest_tinker_steps.plan.rules import STEP_KEY, Rules
from pytest_tinker_steps.plan.scalars import (
    CommandLine,
    Environment,
    FunctionName,
    Needs,
    Path,
    Paths,
    Regex,
    Text,
    Texts,
    Timeout,
    VariableName,
    VariableNames,
    shorthand,
)
from pytest_tinker_steps.plan.yaml_source import Map

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TEXT: Mode = "text"

MODES = dict.fromkeys(
    (
        *("step", "needs", "inputs", "outputs", "cwd", "secrets", "mode", "on_failure", "when"),
        *("task", "name", "command", "fix", "script", "args", "python", "monitor", "check", "alert"),
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
MODES.update(env="deep", identity="deep", test_first="items")
"""Keys whose values are text as typed, for ``yaml_source.read``."""


class MonitorShape(Shape):
    """A command repeated while a main runs: exactly one of command, monitor, check and alert."""

    task: Text | None = Field(
        None, description="Name of the monitor; the first word of its command if absent."
    )
    name: Text | None = Field(None, description="The same as task.")
    command: CommandLine | None = Field(None, description="Command whose output is recorded.")
    monitor: CommandLine | None = Field(None, description="The same as command.")
    check: CommandLine | None = Field(None, description="The same as command.")
    alert: CommandLine | None = Field(
        None, description="Command that raises an alert when it exits 0 with output."
    )
    interval: Timeout = Field(60.0, description="Time between two starts: seconds, or text like 90s, 5m, 2h.")
    alert_on: Regex | None = Field(None, description="Regular expression in the output that raises an alert.")
    timeout: Timeout = Field(30.0, description="Deadline of one run.")

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        return rules.apply(rules.monitor, value, info.context, _MONITOR_KEYS)


_MONITOR_KEYS = shape_keys(MonitorShape)


class TestFirstShape(Shape):
    """The run on minimal data that must pass before the main starts: args, a command, or only an env."""

    __test__ = False  # not a test class, whatever its name looks like to pytest

    args: list[scalars.Argument] | None = Field(
        None, description="Arguments for the script, in place of its own."
    )
    command: CommandLine | None = Field(None, description="A command of its own.")
    env: Environment | None = Field(None, description="Added to the environment of the run.")
    timeout: Timeout | None = Field(
        None, description="Deadline: seconds, or text like 90s, 5m, 2h; 300 s if absent."
    )

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        return rules.apply(rules.test_first, value, info.context)


def _test_first(value: object) -> object:
    if value is True:
        raise scalars.wrong("does not say how; write the arguments as a list, a command, or a mapping")
    if isinstance(value, list):
        return {"args": value}
    return value if value is False else shorthand("command", str, "false, a list, a command")(value)


TestFirstSpec = Annotated[
    Annotated[Literal[False], Tag("none")] | Annotated[TestFirstShape, Tag("run")],
    Discriminator(lambda value: "none" if value is False else "run"),
    BeforeValidator(
        _test_first, json_schema_input_type=Literal[False] | str | list[scalars.Argument] | TestFirstShape
    ),
]


class CriterionShape(Shape):
    """A success criterion."""

    text: Text = Field(description="The criterion in words.")
    check: CheckShape | None = Field(None, description="How it is checked; without it the main reports it.")


CriterionSpec = Annotated[
    CriterionShape,
    BeforeValidator(shorthand("text", str, "text"), json_schema_input_type=str | CriterionShape),
]
Criteria = Annotated[list[CriterionSpec], BeforeValidator(scalars.one_or_list)]


class ChunkShape(Shape):
    """One piece of a chunked main."""

    size: Count = Field(description="Number of examples.")


ChunkSpec = Annotated[
    ChunkShape, BeforeValidator(shorthand("size", int, "a size"), json_schema_input_type=int | ChunkShape)
]


class MainShape(Shape):
    """What the step does: at most one of command, script and python."""

    command: CommandLine | None = Field(
        None, description="Text for /bin/sh, or a list for a process without a shell."
    )
    script: Path | None = Field(None, description="A Python file, run with the interpreter of the session.")
    args: list[scalars.Argument] | None = Field(None, description="Arguments of the script.")
    python: FunctionName | None = Field(
        None, description="A function, module:function, called in the session."
    )
    agent: Text | None = Field(None, description="Name of the agent that does the step.")
    skills: Texts | None = Field(None, description="Names of the skills that the agent is given.")
    objective: Text | None = Field(None, description="What is to be reached, in a sentence.")
    model: Text | None = Field(None, description="Name of the model that the agent uses.")
    mode: Literal["foreground", "background", "chunked", "stream"] = Field(
        "foreground", description="How it runs; all but foreground are long work."
    )
    timeout: Timeout | None = Field(
        None,
        description="Deadline (of the start, for background): seconds, or text like 90s, 5m, 2h; "
        "300 s if absent.",
    )
    test_first: TestFirstSpec | None = Field(
        None,
        description="The run on minimal data that must pass first: arguments for the script (a list), a "
        "command (text), a mapping, or false for none.",
    )
    success_criteria: Criteria | None = Field(
        None, description="What must be reached: texts, or text and check."
    )
    retries: RetrySpec | None = Field(None, description="Number of further tries, or how to retry.")
    env: Environment | None = Field(None, description="Added to the environment of the main.")
    cwd: Path | None = Field(None, description="Folder to run in, relative to that of the task list.")
    chunks: list[ChunkSpec] | None = Field(
        None, description="Sizes of the pieces of a chunked main; checks run after each."
    )
    checkpoint_every: Count | None = Field(None, description="Examples between two checkpoints.")

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        return rules.apply(rules.main, value, info.context)


MainSpec = Annotated[
    MainShape, BeforeValidator(shorthand("command", str, "a command"), json_schema_input_type=str | MainShape)
]


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
    on_failure: Literal["fail", "warn"] = Field(
        "fail", description="warn: a failure does not fail the session."
    )


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
