"""Single values of a checked file to the data model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_tinker_steps.plan.model import (
    DEFAULT_MAIN_TIMEOUT,
    Command,
    Cost,
    Expect,
    IdentityPart,
    Metric,
    Need,
    NeedState,
    Pairs,
    Retry,
    Runner,
    TestFirst,
)
from pytest_tinker_steps.plan.schema import CostShape, IdentityShape
from pytest_tinker_steps.plan.shapes import rules
from pytest_tinker_steps.plan.shapes.check_shapes import CheckShape, ExpectShape, MetricShape, RetryShape
from pytest_tinker_steps.plan.shapes.main_shapes import MainShape, RunnerShape, TestFirstShape
from pytest_tinker_steps.plan.shapes.monitor_shapes import MonitorShape
from pytest_tinker_steps.plan.shapes.scalars import is_one_file

_NO_RETRY = Retry()
_ALL_CAUSES = _NO_RETRY.when


def first_word(command: Command | None) -> str:
    if command is None:
        return ""
    return command.split()[0] if isinstance(command, str) else command[0]


def monitor_name(shape: MonitorShape, command: Command | None) -> str:
    """What a monitor without a name is called."""
    if command is not None:
        return first_word(command)
    if shape.metric:
        return shape.metric.name
    return shape.threshold.metric if shape.threshold else "stall"


def probe(kind: str, shape: CheckShape) -> dict[str, Any]:
    """The arguments of a probe, in the form that ``check_shapes`` documents."""
    match kind:
        case "env":
            return {"names": list(shape.env or ())}
        case "import":
            return {"modules": list(shape.import_ or ())}
        case "executable":
            return {"names": list(shape.executable or ())}
        case "python":
            return {"target": shape.python}
        case "disk_free":
            disk = shape.disk_free
            return {"path": disk.path, "bytes": disk.at_least} if disk else {}
        case "file" | "json" | "jsonl" | "yaml" | "port" | "http":
            arguments: dict[str, Any] = getattr(shape, "json_" if kind == "json" else kind).model_dump()
            return arguments
    return {}


def expect(shape: ExpectShape | None) -> Expect:
    return Expect(shape.exit, shape.match, shape.not_match) if shape else Expect()


def metric(shape: MetricShape | None) -> Metric | None:
    return Metric(shape.name, shape.pattern, shape.min, shape.max) if shape else None


def retry(shape: RetryShape | None) -> Retry:
    if shape is None:
        return _NO_RETRY
    when = _ALL_CAUSES if shape.when is None else tuple(shape.when)
    return Retry(shape.attempts, shape.delay, shape.backoff, shape.jitter, when)


def test_first(shape: TestFirstShape | bool | None) -> Any:
    if not isinstance(shape, TestFirstShape):
        return shape
    return TestFirst(
        args=None if shape.args is None else tuple(shape.args),
        command=shape.command,
        env=pairs(shape.env),
        timeout=shape.timeout or DEFAULT_MAIN_TIMEOUT,
    )


def main_kind(shape: MainShape) -> Any:
    return next((kind for kind in rules.MAIN_KINDS if getattr(shape, kind) is not None), "none")


def chunks(shape: MainShape) -> tuple[int, ...]:
    """Sizes of the pieces; with a total the last one is what is left."""
    if shape.mode != "chunked" or shape.total is None or shape.chunk_size is None:
        return tuple(chunk.size for chunk in shape.chunks or ())
    whole, rest = divmod(shape.total, shape.chunk_size)
    return (shape.chunk_size,) * whole + ((rest,) if rest else ())


def output(shape: MainShape, outputs: list[str] | None) -> str | None:
    """The file in which a main in pieces is joined: the one output of the step, unless it says otherwise."""
    if shape.output is None and shape.mode in ("chunked", "stream") and outputs and len(outputs) == 1:
        return outputs[0] if is_one_file(outputs[0]) else None
    return shape.output


def need(text: str) -> Need:
    step, at, state = text.rpartition("@")
    states: dict[str, NeedState] = {"passed": "passed", "started": "started", "ended": "ended"}
    return Need(step, states[state]) if at else Need(text)


def identity(shape: IdentityShape) -> IdentityPart:
    return IdentityPart(
        name=shape.name or shape.env or "",
        value=shape.value or "",
        env=shape.env,
        when_set=shape.set,
        when_unset=shape.unset,
    )


def cost(shape: CostShape | None) -> Cost | None:
    return Cost(shape.usd, shape.assuming or "", shape.when) if shape else None


def runner(name: str | None, shapes: Mapping[str, RunnerShape] | None) -> Runner | None:
    if name is None or not shapes:
        return None
    shape = shapes[name]
    return Runner(name, tuple(shape.command), None if shape.stop is None else tuple(shape.stop))


def pairs(values: Mapping[str, str] | None) -> Pairs:
    return tuple(values.items()) if values else ()
