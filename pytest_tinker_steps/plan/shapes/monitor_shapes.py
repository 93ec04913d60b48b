"""The shapes of monitors: what is looked at while a main runs, and what raises an alert."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo, model_validator

from pytest_tinker_steps.plan.model import Threshold
from pytest_tinker_steps.plan.shapes import alert_words, rules, thresholds
from pytest_tinker_steps.plan.shapes.check_shapes import MetricShape, Shape, shape_keys
from pytest_tinker_steps.plan.shapes.scalars import CommandLine, Text, Timeout, describe, shorthand, wrong


def _threshold(value: object) -> Threshold:
    found = thresholds.parse(value) if isinstance(value, str) else None
    if found is None:
        raise wrong(f"must compare a number, not {describe(value)}; write 'loss > 10' or 'loss is nan'")
    return found


def _alert_words(text: str) -> str:
    problem = alert_words.problem(text)
    if problem:
        raise wrong(problem)
    return text


AlertWords = Annotated[str, AfterValidator(_alert_words)]
ThresholdText = Annotated[Threshold, PlainValidator(_threshold, json_schema_input_type=str)]


class StallShape(Shape):
    """Nothing moves: no new output of the main, or a number that stays as it is."""

    after: Timeout = Field(description="For how long: seconds, or text like 90s, 5m, 2h.")
    metric: Text | None = Field(None, description="Name of the number; the output of the main if absent.")


StallSpec = Annotated[
    StallShape,
    BeforeValidator(
        shorthand("after", (int, float, str), "a duration"), json_schema_input_type=float | str | StallShape
    ),
]


class MonitorShape(Shape):
    """A check repeated while a main runs: one of command, monitor, check and alert, or a look at the main
    itself with stall, threshold or metric."""

    task: Text | None = Field(
        None,
        description="Name of the monitor; that of its number, or the first word of its command, if absent.",
    )
    name: Text | None = Field(None, description="The same as task.")
    command: CommandLine | None = Field(None, description="Command whose output is recorded.")
    monitor: CommandLine | None = Field(None, description="The same as command.")
    check: CommandLine | None = Field(None, description="The same as command.")
    alert: CommandLine | None = Field(
        None, description="Command that raises an alert when it exits 0 with output."
    )
    interval: Timeout = Field(60.0, description="Time between two starts: seconds, or text like 90s, 5m, 2h.")
    timeout: Timeout = Field(30.0, description="Deadline of one run.")
    alert_on: AlertWords | None = Field(
        None,
        description="Words in the output that raise an alert, error|failed|nan, or /regular expression/.",
    )
    metric: MetricShape | None = Field(
        None,
        description="A number in the output of the command, or of the main; outside of its bounds it raises "
        "an alert.",
    )
    threshold: ThresholdText | None = Field(
        None, description="What raises an alert: 'loss > 10' (or >=, <, <=, ==, !=), or 'loss is nan'."
    )
    stall: StallSpec | None = Field(
        None, description="For how long nothing may move: a duration, or after and metric."
    )
    on_alert: Literal["warn", "stop"] = Field("warn", description="stop: an alert ends the main as failed.")

    @model_validator(mode="before")
    @classmethod
    def _rules(cls, value: object, info: ValidationInfo) -> object:
        return rules.apply(rules.monitor, value, info.context, _MONITOR_KEYS)


_MONITOR_KEYS = shape_keys(MonitorShape)
