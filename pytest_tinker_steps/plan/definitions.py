"""Step definitions in YAML to the data model; every mistake of a file at once, with its line and a hint."""

from __future__ import annotations

import contextlib
import gc
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from pytest_tinker_steps.plan import definition_errors, rules
from pytest_tinker_steps.plan.check_shapes import CheckShape, ExpectShape, MetricShape, RetryShape
from pytest_tinker_steps.plan.model import (
    DEFAULT_CHECK_TIMEOUT,
    DEFAULT_MAIN_TIMEOUT,
    Check,
    Command,
    Criterion,
    Definition,
    Definitions,
    Expect,
    IdentityPart,
    Main,
    Metric,
    Monitor,
    Need,
    NeedState,
    Pairs,
    PlanError,
    Retry,
    TestFirst,
    Where,
)
from pytest_tinker_steps.plan.pipelines import ending_filter
from pytest_tinker_steps.plan.schema import (
    MODES,
    DefaultsShape,
    File,
    IdentityShape,
    MainShape,
    MonitorShape,
    StepShape,
    TestFirstShape,
    json_schema,
)
from pytest_tinker_steps.plan.yaml_source import Map, Problem, Seq, read

__all__ = ["json_schema", "load"]

LONG_MAIN = 300.0
"""Seconds of a foreground main above which a test on minimal data is worth declaring."""

# Not validated: that would build a validator for each of them beside the one for the whole file.
_NO_DEFAULTS = DefaultsShape.model_construct()
_NO_MAIN = MainShape.model_construct()
_NO_RETRY = Retry()
_ALL_CAUSES = _NO_RETRY.when


def load(text: bytes, path: str) -> Definitions:
    """Read a definitions file.

    Args:
        text: the file's bytes.
        path: as shown to people.

    Raises:
        PlanError: with all mistakes of the file, one line each, in the order of the lines.
    """
    with _collection_paused():
        return _load(text, path)


@contextlib.contextmanager
def _collection_paused() -> Iterator[None]:
    """Keep the garbage collector still while only things are made that stay: it takes half of the time of a
    large file, looking again and again at what cannot go."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _load(text: bytes, path: str) -> Definitions:
    source = read(text, path, MODES)
    value = _root(source.value, path)
    context = rules.Rules(_secret_names(value), list(source.problems))
    file = None
    try:
        file = File.model_validate(value, context=context)
    except ValidationError as error:
        context.problems.extend(definition_errors.problems(error, value))
    if file is None or context.problems:
        raise PlanError(*(problem.at(path) for problem in sorted(set(context.problems))))
    return _Builder(path, file).definitions(value, hashlib.sha256(text).hexdigest())


def _root(value: Any, path: str) -> Map:
    if isinstance(value, Map):
        return value
    root = Map(1)
    if isinstance(value, Seq):
        root["steps"], root.lines["steps"] = value, value.line
    elif value is not None:
        raise PlanError(
            Problem(1, "this is neither a mapping nor a list of steps; write step_<id>: keys").at(path)
        )
    return root


def _secret_names(value: Map) -> frozenset[str]:
    given = value.get("secrets")
    names = given if isinstance(given, Seq) else [given]
    return frozenset(name for name in names if isinstance(name, str))


class _Builder:
    """Makes the data model of a checked file, and collects warnings on the way."""

    def __init__(self, path: str, file: File) -> None:
        self.path = path
        self.file = file
        self.warnings: list[Problem] = []

    def definitions(self, value: Map, digest: str) -> Definitions:
        named = self.file.__pydantic_extra__
        listed = iter(self.file.steps or ())
        defaults = self.file.defaults or _NO_DEFAULTS
        steps = tuple(
            self._definition(key, step, line, named[key] if key in named else next(listed), below, defaults)
            for key, step, line, below in rules.steps(value)
        )
        return Definitions(
            path=self.path,
            steps=steps,
            secrets=tuple(self.file.secrets or ()),
            digest=digest,
            warnings=tuple(warning.at(self.path) for warning in sorted(set(self.warnings))),
        )

    def _definition(
        self, key: str, step: str, line: int, shape: StepShape, value: Any, defaults: DefaultsShape
    ) -> Definition:
        below = value if isinstance(value, Map) else Map(line)
        identity = shape.identity if shape.identity is not None else defaults.identity
        return Definition(
            key=key,
            step=step,
            where=Where(self.path, line),
            pre_flight=self._checks(shape.pre_flight, below.get("pre_flight")),
            main=self._main(shape, below),
            post_validation=self._checks(shape.post_validation, below.get("post_validation")),
            background=self._monitors(shape.background, below.get("background")),
            needs=None if shape.needs is None else tuple(_need(text) for text in shape.needs),
            inputs=tuple(shape.inputs or ()),
            outputs=tuple(shape.outputs or ()),
            env=_pairs({**(defaults.env or {}), **(shape.env or {})}),
            cwd=shape.cwd or defaults.cwd,
            identity=tuple(_identity(part) for part in identity or ()),
            on_failure=shape.on_failure,
        )

    def _checks(self, shapes: list[CheckShape] | None, values: Any) -> tuple[Check, ...]:
        if not shapes:
            return ()
        return tuple(self._check(shape, value) for shape, value in zip(shapes, values, strict=True))

    def _check(self, shape: CheckShape, value: Map, name: str = "") -> Check:
        kind = rules.check_kinds(value)[0]
        is_prose = kind in rules.PROSE
        check = Check(
            name=shape.task or shape.name or name or _first_word(shape.command) or kind,
            kind="prose" if is_prose else kind,
            where=Where(self.path, value.line),
            command=shape.command,
            probe=_probe(kind, shape),
            prose=value[kind] if is_prose else "",
            timeout=shape.timeout or DEFAULT_CHECK_TIMEOUT,
            timeout_given=shape.timeout is not None,
            parallel=shape.parallel,
            critical=shape.critical,
            expect=_expect(shape.expect),
            metric=_metric(shape.metric),
            fix=shape.fix,
            retry=_retry(shape.retries),
            env=_pairs(shape.env) if isinstance(shape.env, dict) else (),
            cwd=shape.cwd,
        )
        self._warn_of_filter(check, value)
        return check

    def _warn_of_filter(self, check: Check, value: Map) -> None:
        judged = check.expect.match or check.expect.not_match or check.metric
        if judged or not isinstance(check.command, str):
            return
        program = ending_filter(check.command)
        if program:
            text = (
                f"check '{check.name}' ends in '{program}', which passes whatever comes before; "
                "use a probe or 'expect'"
            )
            self.warnings.append(Problem(value.lines["command"], text))

    def _monitors(self, shapes: list[MonitorShape] | None, values: Any) -> tuple[Monitor, ...]:
        if not shapes:
            return ()
        return tuple(self._monitor(shape, value) for shape, value in zip(shapes, values, strict=True))

    def _monitor(self, shape: MonitorShape, value: Map) -> Monitor:
        command = shape.command or shape.monitor or shape.check or shape.alert
        if command is None:
            raise AssertionError("a monitor without a command passed the rules")
        return Monitor(
            name=shape.task or shape.name or _first_word(command),
            kind="sample" if shape.alert is None else "alert",
            command=command,
            where=Where(self.path, value.line),
            interval=shape.interval,
            alert_on=shape.alert_on,
            timeout=shape.timeout,
        )

    def _main(self, step: StepShape, value: Map) -> Main:
        shape: MainShape = step.main or _NO_MAIN
        timeout = shape.timeout or step.timeout
        self._warn_of_untested(shape, timeout, value)
        return Main(
            kind=_main_kind(shape),
            mode=shape.mode,
            command=shape.command,
            script=shape.script,
            args=tuple(shape.args or ()),
            python=shape.python,
            agent=shape.agent,
            skills=tuple(shape.skills or ()),
            objective=shape.objective,
            model=shape.model,
            timeout=timeout or DEFAULT_MAIN_TIMEOUT,
            timeout_given=timeout is not None,
            test_first=_test_first(shape.test_first),
            criteria=self._criteria(shape, value),
            retry=_retry(shape.retries or step.retries),
            env=_pairs(shape.env),
            cwd=shape.cwd,
            chunks=tuple(chunk.size for chunk in shape.chunks or ()),
            checkpoint_every=shape.checkpoint_every,
        )

    def _warn_of_untested(self, shape: MainShape, timeout: float | None, value: Map) -> None:
        if (
            timeout is None
            or timeout <= LONG_MAIN
            or shape.mode != "foreground"
            or shape.test_first is not None
        ):
            return
        below = value.get("main")
        lines = below.lines if isinstance(below, Map) and shape.timeout else value.lines
        text = (
            f"the main may take {timeout:.0f} s and nothing is tried before; "
            "declare 'test_first', or 'test_first: false'"
        )
        self.warnings.append(Problem(lines["timeout"], text))

    def _criteria(self, shape: MainShape, value: Map) -> tuple[Criterion, ...]:
        if not shape.success_criteria:
            return ()
        given = value["main"]["success_criteria"]
        values = given if isinstance(given, list) else [given]
        return tuple(
            Criterion(
                text=criterion.text,
                check=self._check(criterion.check, below["check"], criterion.text)
                if criterion.check
                else None,
            )
            for criterion, below in zip(shape.success_criteria, values, strict=True)
        )


def _first_word(command: Command | None) -> str:
    if command is None:
        return ""
    return command.split()[0] if isinstance(command, str) else command[0]


def _probe(kind: str, shape: CheckShape) -> dict[str, Any]:
    """The arguments of a probe, in the form that ``schema`` documents."""
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


def _expect(shape: ExpectShape | None) -> Expect:
    return Expect(shape.exit, shape.match, shape.not_match) if shape else Expect()


def _metric(shape: MetricShape | None) -> Metric | None:
    return Metric(shape.name, shape.pattern, shape.min, shape.max) if shape else None


def _retry(shape: RetryShape | None) -> Retry:
    if shape is None:
        return _NO_RETRY
    when = _ALL_CAUSES if shape.when is None else tuple(shape.when)
    return Retry(shape.attempts, shape.delay, shape.backoff, shape.jitter, when)


def _test_first(shape: TestFirstShape | bool | None) -> Any:
    if not isinstance(shape, TestFirstShape):
        return shape
    return TestFirst(
        args=None if shape.args is None else tuple(shape.args),
        command=shape.command,
        env=_pairs(shape.env),
        timeout=shape.timeout or DEFAULT_MAIN_TIMEOUT,
    )


def _main_kind(shape: MainShape) -> Any:
    return next((kind for kind in rules.MAIN_KINDS if getattr(shape, kind) is not None), "none")


def _need(text: str) -> Need:
    step, at, state = text.rpartition("@")
    states: dict[str, NeedState] = {"passed": "passed", "started": "started", "ended": "ended"}
    return Need(step, states[state]) if at else Need(text)


def _identity(shape: IdentityShape) -> IdentityPart:
    return IdentityPart(
        name=shape.name or shape.env or "",
        value=shape.value or "",
        env=shape.env,
        when_set=shape.set,
        when_unset=shape.unset,
    )


def _pairs(values: Mapping[str, str] | None) -> Pairs:
    return tuple(values.items()) if values else ()
