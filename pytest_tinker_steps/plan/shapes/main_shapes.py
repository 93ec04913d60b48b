"""The shapes of mains, of the run on minimal data before them, and of their success criteria."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, model_validator

from pytest_tinker_steps.plan.shapes import main_rules, rules, scalars
from pytest_tinker_steps.plan.shapes.check_shapes import CheckShape, Count, RetrySpec, Shape, shape_keys
from pytest_tinker_steps.plan.shapes.scalars import (
    CommandLine,
    Environment,
    FileName,
    FunctionName,
    LogSize,
    OnePath,
    Path,
    Regex,
    RegexOfProgress,
    Text,
    Texts,
    Timeout,
    shorthand,
)


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
        return rules.apply(main_rules.test_first, value, info.context)


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


class ReadyWhenShape(Shape):
    """When a background job is ready: exactly one of file, line and check."""

    file: OnePath | None = Field(
        None, description="A file that the job has written; relative to the folder of the main."
    )
    line: Regex | None = Field(None, description="Regular expression that a line of the job's output holds.")
    check: CheckShape | None = Field(None, description="A check, repeated until it passes.")

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        return rules.apply(main_rules.ready_when, value, info.context, _READY_KEYS)


_READY_KEYS = shape_keys(ReadyWhenShape)


class ChunkShape(Shape):
    """One piece of a chunked main."""

    size: Count = Field(description="Number of examples.")


ChunkSpec = Annotated[
    ChunkShape, BeforeValidator(shorthand("size", int, "a size"), json_schema_input_type=int | ChunkShape)
]

Arguments = Annotated[list[scalars.Argument], Field(min_length=1)]

StopWhen = Annotated[
    Annotated[CheckShape, Tag("check")] | Annotated[list[CheckShape], Tag("checks")],
    Discriminator(lambda value: "checks" if isinstance(value, list) else "check"),
]


class RunnerShape(Shape):
    """A command prefix that hands a main to something else, for example a cluster engine."""

    command: Arguments = Field(description="The prefix; what the main would start stands behind it.")
    stop: Arguments | None = Field(
        None, description="Command that ends what the prefix has started and left elsewhere."
    )


def _runner(value: object, info: ValidationInfo) -> object:
    if isinstance(info.context, rules.Rules):
        main_rules.runner(value, info.context)
    return shorthand("command", list, "a list")(value)


RunnerSpec = Annotated[
    RunnerShape, BeforeValidator(_runner, json_schema_input_type=list[scalars.Argument] | RunnerShape)
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
        description="Deadline (of the start, for background; of one piece or batch, for chunked and stream): "
        "seconds, or text like 90s, 5m, 2h; 300 s if absent.",
    )
    max_runtime: Timeout | None = Field(
        None, description="Deadline of all other long work, from its start to its end; 24 h if absent."
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
    progress: RegexOfProgress | None = Field(
        None,
        description="Regular expression in the output; its groups are what is done and, if there are two, of "
        "how much.",
    )
    recover: CommandLine | None = Field(None, description="Command that is run between two attempts.")
    ready_when: ReadyWhenShape | None = Field(
        None, description="When a background job is ready; at its first output and 2 s of life if absent."
    )
    log_size: LogSize | None = Field(
        None,
        description="Size at which the log of a background job is begun anew: bytes, or text like 32 MB; "
        "32 MiB if absent.",
    )
    chunks: Annotated[list[ChunkSpec], Field(min_length=1)] | None = Field(
        None, description="Sizes of the pieces of a chunked main, in order."
    )
    chunk_size: Count | None = Field(None, description="Size of each piece of a chunked main with a total.")
    total: Count | None = Field(
        None, description="How many examples there are in all: of a chunked main, or where a stream ends."
    )
    checkpoint_every: Count | None = Field(
        None, description="A piece of a chunked main larger than this is cut into sub-pieces of this size."
    )
    quality: list[CheckShape] | None = Field(None, description="Checks after each piece of a chunked main.")
    fix: CommandLine | None = Field(
        None, description="Command that is run when they fail, before the piece is tried again."
    )
    batch_size: Count | None = Field(None, description="Examples in one batch of a stream; 100 if absent.")
    stop_when: StopWhen | None = Field(None, description="Checks that end a stream when all of them pass.")
    runner: Text | None = Field(None, description="Name of the runner that its processes are handed to.")
    output: FileName | None = Field(
        None,
        description="File in which the good pieces or batches are joined; the one output of the step if "
        "absent.",
    )

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        return rules.apply(main_rules.main, value, info.context)


MainSpec = Annotated[
    MainShape, BeforeValidator(shorthand("command", str, "a command"), json_schema_input_type=str | MainShape)
]
