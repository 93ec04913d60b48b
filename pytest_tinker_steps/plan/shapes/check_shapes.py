"""The shapes of checks and of what they share with mains: retries, expectations, probes.

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
"""

from __future__ import annotations

from typing import Annotated

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

from pytest_tinker_steps.plan.shapes import rules, scalars
from pytest_tinker_steps.plan.shapes.scalars import (
    CommandLine,
    Delay,
    Environment,
    FunctionName,
    ModuleNames,
    Path,
    Programs,
    Regex,
    RegexWithGroup,
    RetryCauses,
    Size,
    Text,
    Texts,
    Timeout,
    Url,
    VariableNames,
    shorthand,
)

Count = Annotated[int, Field(ge=1)]


class Shape(BaseModel):
    """A mapping of the file: unknown keys and guessed types are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, defer_build=True)


def shape_keys(shape: type[BaseModel]) -> tuple[str, ...]:
    """The keys of a shape as they are written in a file."""
    return tuple(spec.alias or name for name, spec in shape.model_fields.items())


class RetryShape(Shape):
    """How often something is tried, and when again."""

    attempts: Annotated[int, Field(ge=1, le=1000)] = Field(
        1, description="Total number of tries, the first included."
    )
    delay: Delay = Field(0.0, description="Wait before the second try: seconds, or text like 90s, 5m, 2h.")
    backoff: Annotated[float, Field(ge=1, le=100)] = Field(
        1.0, description="Multiplies the delay after each try."
    )
    jitter: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="Random share added to a delay; 0.1 is up to 10 %."
    )
    when: RetryCauses | None = Field(
        None, description="Failures of a main that are tried again; all but 'pre' if absent."
    )


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


FileSpec = Annotated[
    FileProbe, BeforeValidator(shorthand("path", str, "a path"), json_schema_input_type=str | FileProbe)
]
DataSpec = Annotated[
    DataProbe, BeforeValidator(shorthand("path", str, "a path"), json_schema_input_type=str | DataProbe)
]
DiskSpec = Annotated[
    DiskProbe,
    BeforeValidator(
        shorthand("at_least", (int, str), "a size"), json_schema_input_type=int | str | DiskProbe
    ),
]
PortSpec = Annotated[
    PortProbe,
    BeforeValidator(shorthand("port", int, "the number of a port"), json_schema_input_type=int | PortProbe),
]
HttpSpec = Annotated[
    HttpProbe, BeforeValidator(shorthand("url", str, "a URL"), json_schema_input_type=str | HttpProbe)
]

CheckEnvironment = Annotated[
    Annotated[Environment, Tag("mapping")] | Annotated[VariableNames, Tag("names")],
    Discriminator(lambda value: "mapping" if isinstance(value, dict) else "names"),
]


class CheckShape(Shape):
    """One small command or built-in probe: exactly one of command, env, import, file, json, jsonl, yaml,
    executable, disk_free, port, http, python, explore, verify and estimate."""

    task: Text | None = Field(None, description="Name of the check; the first word of its command if absent.")
    name: Text | None = Field(None, description="The same as task.")
    command: CommandLine | None = Field(
        None, description="Text for /bin/sh, or a list for a process without a shell."
    )
    env: CheckEnvironment | None = Field(
        None,
        description="A name or list of names: these environment variables must be set. A mapping: added to "
        "the environment of the check.",
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
    python: FunctionName | None = Field(
        None, description="A function, module:function, that must return or not raise."
    )
    explore: Text | None = Field(None, description="A check in natural language, for an agent.")
    verify: Text | None = Field(None, description="A check in natural language, for an agent.")
    estimate: Text | None = Field(None, description="A check in natural language, for an agent.")
    timeout: Timeout | None = Field(
        None, description="Deadline: seconds, or text like 90s, 5m, 2h; 30 s if absent."
    )
    parallel: bool = Field(True, description="false: runs alone, not beside the other checks.")
    critical: bool = Field(True, description="false: a failure is a warning and stops nothing.")
    expect: ExpectShape | None = Field(None, description="What the command must do; exit 0 if absent.")
    metric: MetricShape | None = Field(None, description="A number to read from the output.")
    fix: CommandLine | None = Field(
        None, description="Command that is run once after a failure, before the next try."
    )
    retries: RetrySpec | None = Field(None, description="Number of further tries, or how to retry.")
    cwd: Path | None = Field(None, description="Folder to run in, relative to the step's.")

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        return rules.apply(rules.check, value, info.context, CHECK_KEYS)


CHECK_KEYS = shape_keys(CheckShape)
