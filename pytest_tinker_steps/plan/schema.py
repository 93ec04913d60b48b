"""The shapes of a definitions file, for checking at the boundary and for the JSON Schema that is shipped.

``File.model_validate(value, context=Rules(...))`` reports every error of a file at once. Field errors come from
pydantic; rules between keys are written to the context by validators that run before the fields are looked
at, so that a wrong field does not hide them.

Probes reach the model as these dictionaries (None where nothing is given):

    env          {"names": [str]}
    import       {"modules": [str]}
    file         {"path": str, "min_bytes": int | None, "contains": str | None}
    json, jsonl, yaml
                 {"path": str, "required": [str], "min_rows": int | None}
    executable   {"names": [str]}
    disk_free    {"path": str, "bytes": int}
    port         {"host": str, "port": int, "open": bool}
    http         {"url": str, "status": int, "contains": str | None}
    python       {"target": "module:function"}

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
from pytest_tinker_steps.plan.rules import STEP_KEY, Rules
from pytest_tinker_steps.plan.scalars import (
    CommandLine,
    Delay,
    Environment,
    FunctionName,
    ModuleNames,
    Needs,
    Path,
    Paths,
    Programs,
    Regex,
    RegexWithGroup,
    RetryCauses,
    Size,
    Text,
    Texts,
    Timeout,
    Url,
    VariableName,
    VariableNames,
    shorthand,
)
from pytest_tinker_steps.plan.yaml_source import Map, Mode

DIALECT = "https://json-schema.org/draft/2020-12/schema"

MODES: dict[str, Mode] = {
    "env": "deep",
    "identity": "deep",
    "test_first": "items",
} | dict.fromkeys(
    (
        *("step", "needs", "inputs", "outputs", "cwd", "secrets", "mode", "on_failure", "when"),
        *("task", "name", "command", "fix", "script", "args", "python", "monitor", "check", "alert"),
        *("agent", "skills", "objective", "model", "success_criteria", "text", "explore", "verify", "estimate"),
        *("import", "file", "json", "jsonl", "yaml", "path", "required", "contains", "executable"),
        *("host", "http", "url", "match", "not_match", "pattern", "alert_on", "value"),
    ),
    "text",
)
"""Keys whose values are text as typed, for ``yaml_source.read``."""

Count = Annotated[int, Field(ge=1)]


class Shape(BaseModel):
    """A mapping of the file: unknown keys and guessed types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class RetryShape(Shape):
    """How often something is tried, and when again."""

    attempts: Annotated[int, Field(ge=1, le=1000)] = Field(1, description="Total number of tries, the first included.")
    delay: Delay = Field(0.0, description="Wait before the second try: seconds, or text like 90s, 5m, 2h.")
    backoff: Annotated[float, Field(ge=1, le=100)] = Field(1.0, description="Multiplies the delay after each try.")
    jitter: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="Random share added to a delay; 0.1 is up to 10 %.")
    when: RetryCauses | None = Field(None, description="Failures of a main that are tried again; all but 'pre' if absent.")


def _retry(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        if value < 0:
            raise scalars.wrong(f"must not be negative, but is {value}; write 0 for one try only")
        return {"attempts": value + 1}
    return shorthand("attempts", (), "a number of further tries")(value)


RetrySpec = Annotated[RetryShape, BeforeValidator(_retry, json_schema_input_type=int | RetryShape)]


class ExpectShape(Shape):
    """What the process of a check must do."""

    exit: Annotated[int, Field(ge=0, le=255)] = Field(0, description="Exit code that counts as success.")
    match: Regex | None = Field(None, description="Regular expression that the output must hold.")
    not_match: Regex | None = Field(None, description="Regular expression that the output must not hold.")


class MetricShape(Shape):
    """A number in the output of a check, shown on its line and held between bounds."""

    name: Text = Field(description="What the number is called.")
    pattern: RegexWithGroup = Field(description="Regular expression whose first group is the number.")
    min: float | None = Field(None, description="Smallest value that passes.")
    max: float | None = Field(None, description="Largest value that passes.")

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        return rules.apply(rules.metric, value, info.context)


class FileProbe(Shape):
    """A file that must exist."""

    path: Path = Field(description="Path or glob, relative to the folder of the check.")
    min_bytes: Size | None = Field(None, description="Smallest size: bytes, or text like 500 MB or 2 GiB.")
    contains: Text | None = Field(None, description="Text that the file must hold.")


class DataProbe(Shape):
    """A data file that must parse."""

    path: Path = Field(description="Path, relative to the folder of the check.")
    required: Texts = Field(default=[], description="Keys that every row (or the one mapping) must have.")
    min_rows: Annotated[int, Field(ge=0)] | None = Field(None, description="Smallest number of rows.")


class DiskProbe(Shape):
    """Room that a disk must have."""

    path: Path = Field(".", description="A path on the disk.")
    at_least: Size = Field(description="Free room: bytes, or text like 500 MB or 2 GiB.")


class PortProbe(Shape):
    """A TCP port that must listen, or must be free."""

    host: Text = Field("127.0.0.1", description="Name or address.")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(description="Number of the port.")
    open: bool = Field(True, description="true: somebody listens there; false: nobody does.")


class HttpProbe(Shape):
    """A URL that must answer."""

    url: Url = Field(description="What is fetched.")
    status: Annotated[int, Field(ge=100, le=599)] = Field(200, description="Status that counts as success.")
    contains: Text | None = Field(None, description="Text that the answer must hold.")


def _probe(shape: type[Shape], key: str, kind: Any, expected: str) -> Any:
    """``shape``, or a bare value that stands for its ``key``."""
    return Annotated[shape, BeforeValidator(shorthand(key, kind, expected), json_schema_input_type=kind | shape)]


FileSpec = _probe(FileProbe, "path", str, "a path")
DataSpec = _probe(DataProbe, "path", str, "a path")
DiskSpec = _probe(DiskProbe, "at_least", int | str, "a size")
PortSpec = _probe(PortProbe, "port", int, "the number of a port")
HttpSpec = _probe(HttpProbe, "url", str, "a URL")

CheckEnvironment = Annotated[
    Annotated[Environment, Tag("mapping")] | Annotated[VariableNames, Tag("names")],
    Discriminator(lambda value: "mapping" if isinstance(value, dict) else "names"),
]


class CheckShape(Shape):
    """One small command or built-in probe: exactly one of command, env, import, file, json, jsonl, yaml,
    executable, disk_free, port, http, python, explore, verify and estimate."""

    task: Text | None = Field(None, description="Name of the check; the first word of its command if absent.")
    name: Text | None = Field(None, description="The same as task.")
    command: CommandLine | None = Field(None, description="Text for /bin/sh, or a list for a process without a shell.")
    env: CheckEnvironment | None = Field(
        None,
        description="A name or list of names: these environment variables must be set. A mapping: added to the "
        "environment of the check.",
    )
    import_: ModuleNames | None = Field(None, alias="import", description="Python modules that must import.")
    file: FileSpec | None = Field(None, description="A file that must exist.")
    json_: DataSpec | None = Field(None, alias="json", description="A JSON file that must parse.")
    jsonl: DataSpec | None = Field(None, description="A JSON lines file whose every line must parse.")
    yaml: DataSpec | None = Field(None, description="A YAML file that must parse.")
    executable: Programs | None = Field(None, description="Programs that must be on the PATH.")
    disk_free: DiskSpec | None = Field(None, description="Free room that a disk must have.")
    port: PortSpec | None = Field(None, description="A TCP port that must listen, or must be free.")
    http: HttpSpec | None = Field(None, description="A URL that must answer.")
    python: FunctionName | None = Field(None, description="A function, module:function, that must return or not raise.")
    explore: Text | None = Field(None, description="A check in natural language, for an agent.")
    verify: Text | None = Field(None, description="A check in natural language, for an agent.")
    estimate: Text | None = Field(None, description="A check in natural language, for an agent.")
    timeout: Timeout | None = Field(None, description="Deadline: seconds, or text like 90s, 5m, 2h; 30 s if absent.")
    parallel: bool = Field(True, description="false: runs alone, not beside the other checks.")
    critical: bool = Field(True, description="false: a failure is a warning and stops nothing.")
    expect: ExpectShape | None = Field(None, description="What the command must do; exit 0 if absent.")
    metric: MetricShape | None = Field(None, description="A number to read from the output.")
    fix: CommandLine | None = Field(None, description="Command that is run once after a failure, before the next try.")
    retries: RetrySpec | None = Field(None, description="Number of further tries, or how to retry.")
    cwd: Path | None = Field(None, description="Folder to run in, relative to that of the task list.")

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        return rules.apply(rules.check, value, info.context, frozenset(KEYS["CheckShape"]))


class MonitorShape(Shape):
    """A command repeated while a main runs: exactly one of command, monitor, check and alert."""

    task: Text | None = Field(None, description="Name of the monitor; the first word of its command if absent.")
    name: Text | None = Field(None, description="The same as task.")
    command: CommandLine | None = Field(None, description="Command whose output is recorded.")
    monitor: CommandLine | None = Field(None, description="The same as command.")
    check: CommandLine | None = Field(None, description="The same as command.")
    alert: CommandLine | None = Field(None, description="Command that raises an alert when it exits 0 with output.")
    interval: Timeout = Field(60.0, description="Time between two starts: seconds, or text like 90s, 5m, 2h.")
    alert_on: Regex | None = Field(None, description="Regular expression in the output that raises an alert.")
    timeout: Timeout = Field(30.0, description="Deadline of one run.")

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        return rules.apply(rules.monitor, value, info.context, frozenset(KEYS["MonitorShape"]))


class TestFirstShape(Shape):
    """The run on minimal data that must pass before the main starts: args, a command, or only an env."""

    __test__ = False  # not a test class, whatever its name looks like to pytest

    args: list[scalars.Argument] | None = Field(None, description="Arguments for the script, in place of its own.")
    command: CommandLine | None = Field(None, description="A command of its own.")
    env: Environment | None = Field(None, description="Added to the environment of the run.")
    timeout: Timeout | None = Field(None, description="Deadline: seconds, or text like 90s, 5m, 2h; 300 s if absent.")

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
    BeforeValidator(_test_first, json_schema_input_type=Literal[False] | str | list[str] | TestFirstShape),
]


class CriterionShape(Shape):
    """A success criterion."""

    text: Text = Field(description="The criterion in words.")
    check: CheckShape | None = Field(None, description="How it is checked; without it the main reports it.")


CriterionSpec = _probe(CriterionShape, "text", str, "text")
Criteria = Annotated[list[CriterionSpec], BeforeValidator(scalars.one_or_list)]


class ChunkShape(Shape):
    """One piece of a chunked main."""

    size: Count = Field(description="Number of examples.")


class MainShape(Shape):
    """What the step does: at most one of command, script and python."""

    command: CommandLine | None = Field(None, description="Text for /bin/sh, or a list for a process without a shell.")
    script: Path | None = Field(None, description="A Python file, run with the interpreter of the session.")
    args: list[scalars.Argument] | None = Field(None, description="Arguments of the script.")
    python: FunctionName | None = Field(None, description="A function, module:function, called in the session.")
    agent: Text | None = Field(None, description="Name of the agent that does the step.")
    skills: Texts | None = Field(None, description="Names of the skills that the agent is given.")
    objective: Text | None = Field(None, description="What is to be reached, in a sentence.")
    model: Text | None = Field(None, description="Name of the model that the agent uses.")
    mode: Literal["foreground", "background", "chunked", "stream"] = Field(
        "foreground", description="How it runs; all but foreground are long work."
    )
    timeout: Timeout | None = Field(
        None, description="Deadline (of the start, for background): seconds, or text like 90s, 5m, 2h; 300 s if absent."
    )
    test_first: TestFirstSpec | None = Field(
        None,
        description="The run on minimal data that must pass first: arguments for the script (a list), a command "
        "(text), a mapping, or false for none.",
    )
    success_criteria: Criteria | None = Field(None, description="What must be reached: texts, or text and check.")
    retries: RetrySpec | None = Field(None, description="Number of further tries, or how to retry.")
    env: Environment | None = Field(None, description="Added to the environment of the main.")
    cwd: Path | None = Field(None, description="Folder to run in, relative to that of the task list.")
    chunks: list[_probe(ChunkShape, "size", int, "a size")] | None = Field(  # type: ignore[valid-type]
        None, description="Sizes of the pieces of a chunked main; checks run after each."
    )
    checkpoint_every: Count | None = Field(None, description="Examples between two checkpoints.")

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        return rules.apply(rules.main, value, info.context)


MainSpec = _probe(MainShape, "command", str, "a command")


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
        json_schema_input_type=dict[str, str | float | bool | IdentityShape] | list[str | float | bool | IdentityShape],
    ),
]


class StepShape(Shape):
    """What is to be done for one step of the task list."""

    pre_flight: list[CheckShape] | None = Field(None, description="Checks before the main, side by side.")
    main: MainSpec | None = Field(None, description="What the step does: a mapping, or a command.")
    post_validation: list[CheckShape] | None = Field(None, description="Checks after the main, side by side.")
    background: list[MonitorShape] | None = Field(None, description="Monitors, repeated while the main runs.")
    needs: Needs | None = Field(
        None,
        description="Steps that must have passed first; 13@started or 13@ended for another state. [] waits for "
        "none. Absent: the step before it in the list.",
    )
    inputs: Paths | None = Field(None, description="Files that the step reads; globs are allowed.")
    outputs: Paths | None = Field(None, description="Files that the step writes; globs are allowed.")
    env: Environment | None = Field(None, description="Added to the environment of everything in the step.")
    cwd: Path | None = Field(None, description="Folder to run in, relative to that of the task list.")
    identity: Identity | None = Field(None, description="Values that say what the step was done with.")
    retries: RetrySpec | None = Field(None, description="The main's, unless it says otherwise.")
    timeout: Timeout | None = Field(None, description="The main's, unless it says otherwise.")
    on_failure: Literal["fail", "warn"] = Field("fail", description="warn: a failure does not fail the session.")


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

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False, title="pytest-tinker-steps definitions")
    __pydantic_extra__: dict[str, StepShape] = Field(init=False)

    steps: list[ListedStepShape] | None = Field(None, description="Steps as a list, each with its step: <id>.")
    defaults: DefaultsShape | None = Field(None, description="What holds for each step that does not say otherwise.")
    secrets: VariableNames | None = Field(
        None, description="Names of further environment variables whose values are never shown."
    )

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, Map) and isinstance(info.context, Rules):
            return rules.file(value, info.context)
        return value


def _keys(shape: type[BaseModel]) -> tuple[str, ...]:
    return tuple(spec.alias or name for name, spec in shape.model_fields.items())


KEYS = {shape.__name__: _keys(shape) for shape in (CheckShape, MonitorShape)}


class _Generator(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002
        return False


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a definitions file, for editors; both forms are in it."""
    shape = _without_defaults_of_nothing(File.model_json_schema(schema_generator=_Generator))
    step = shape.pop("additionalProperties")
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
