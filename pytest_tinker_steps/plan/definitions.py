"""Step definitions in YAML to the data model; every mistake of a file at once, with its line and a hint."""

from __future__ import annotations

import contextlib
import gc
import hashlib
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from pytest_tinker_steps.plan.model import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_CHECK_TIMEOUT,
    DEFAULT_LOG_SIZE,
    DEFAULT_MAIN_TIMEOUT,
    DEFAULT_MAX_RUNTIME,
    Check,
    Criterion,
    Definition,
    Definitions,
    Main,
    Monitor,
    PlanError,
    ReadyWhen,
    Stall,
    Where,
)
from pytest_tinker_steps.plan.schema import MODES, DefaultsShape, File, StepShape, json_schema
from pytest_tinker_steps.plan.shapes import converting, definition_errors, rules
from pytest_tinker_steps.plan.shapes.check_shapes import CheckShape
from pytest_tinker_steps.plan.shapes.main_shapes import MainShape
from pytest_tinker_steps.plan.shapes.monitor_shapes import MonitorShape
from pytest_tinker_steps.plan.shapes.pipelines import ending_filter
from pytest_tinker_steps.plan.shapes.yaml_source import Map, Problem, Seq, read

__all__ = ["json_schema", "load"]

LONG_MAIN = 300.0
"""Seconds of a foreground main above which a test on minimal data is worth declaring."""

# Not validated: that would build a validator for each of them beside the one for the whole file.
_NO_DEFAULTS = DefaultsShape.model_construct()
_NO_MAIN = MainShape.model_construct()


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
    context = rules.Rules(_secret_names(value), _pools(value), _runners(value), list(source.problems))
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


def _pools(value: Map) -> dict[str, int]:
    given = value.get("pools")
    if not isinstance(given, Map):
        return {}
    return {name: amount for name, amount in given.items() if type(amount) is int}


def _runners(value: Map) -> tuple[str, ...]:
    given = value.get("runners")
    return tuple(given) if isinstance(given, Map) else ()


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
            pools=tuple((self.file.pools or {}).items()),
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
            needs=None if shape.needs is None else tuple(converting.need(text) for text in shape.needs),
            inputs=tuple(shape.inputs or ()),
            outputs=tuple(shape.outputs or ()),
            env=converting.pairs({**(defaults.env or {}), **(shape.env or {})}),
            cwd=shape.cwd or defaults.cwd,
            identity=tuple(converting.identity(part) for part in identity or ()),
            on_failure=shape.on_failure,
            budget_usd=shape.budget_usd,
            track=shape.track or "",
            layer=shape.layer or "",
            resources=tuple((shape.resources or {}).items()),
            exclusive=shape.exclusive,
            cost=converting.cost(shape.cost),
        )

    def _checks(self, shapes: list[CheckShape] | None, values: Any) -> tuple[Check, ...]:
        if not shapes:
            return ()
        return tuple(self._check(shape, value) for shape, value in zip(shapes, values, strict=True))

    def _check(self, shape: CheckShape, value: Map, name: str = "") -> Check:
        kind = rules.check_kinds(value)[0]
        is_prose = kind in rules.PROSE
        check = Check(
            name=shape.task or shape.name or name or converting.first_word(shape.command) or kind,
            kind="prose" if is_prose else kind,
            where=Where(self.path, value.line),
            command=shape.command,
            probe=converting.probe(kind, shape),
            prose=value[kind] if is_prose else "",
            timeout=shape.timeout or DEFAULT_CHECK_TIMEOUT,
            timeout_given=shape.timeout is not None,
            parallel=shape.parallel,
            critical=shape.critical,
            expect=converting.expect(shape.expect),
            metric=converting.metric(shape.metric),
            fix=shape.fix,
            retry=converting.retry(shape.retries),
            env=converting.pairs(shape.env) if isinstance(shape.env, dict) else (),
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
        names: set[str] = set()
        return tuple(self._monitor(shape, value, names) for shape, value in zip(shapes, values, strict=True))

    def _monitor(self, shape: MonitorShape, value: Map, taken: set[str]) -> Monitor:
        """Make a monitor with a name of its own: samples are kept by it, and two may begin with ``tail``."""
        command = shape.command or shape.monitor or shape.check or shape.alert
        wanted = name = shape.task or shape.name or converting.monitor_name(shape, command)
        number = 1
        while name in taken:
            number += 1
            name = f"{wanted} {number}"
        taken.add(name)
        return Monitor(
            name=name,
            kind="sample" if shape.alert is None else "alert",
            command=command,
            where=Where(self.path, value.line),
            interval=shape.interval,
            alert_on=shape.alert_on,
            timeout=shape.timeout,
            metric=converting.metric(shape.metric),
            threshold=shape.threshold,
            stall=Stall(shape.stall.after, shape.stall.metric) if shape.stall else None,
            on_alert=shape.on_alert,
        )

    def _main(self, step: StepShape, value: Map) -> Main:
        shape: MainShape = step.main or _NO_MAIN
        timeout = shape.timeout or step.timeout
        retry = converting.retry(shape.retries or step.retries)
        recover = shape.recover or step.recover
        self._warn_of_untested(shape, timeout, value)
        if recover is not None and retry.attempts == 1:
            lines = value["main"].lines if shape.recover else value.lines
            text = "'recover' runs between two attempts, and there is one; add 'retries'"
            self.warnings.append(Problem(lines["recover"], text))
        return Main(
            kind=converting.main_kind(shape),
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
            test_first=converting.test_first(shape.test_first),
            criteria=self._criteria(shape, value),
            retry=retry,
            env=converting.pairs(shape.env),
            cwd=shape.cwd,
            max_runtime=shape.max_runtime or DEFAULT_MAX_RUNTIME,
            ready_when=self._ready_when(shape, value),
            log_size=shape.log_size or DEFAULT_LOG_SIZE,
            progress=shape.progress,
            recover=recover,
            chunks=converting.chunks(shape),
            checkpoint_every=shape.checkpoint_every,
            quality=self._checks(shape.quality, _below(value, "main", "quality")),
            fix=shape.fix,
            output=converting.output(shape, step.outputs),
            batch_size=shape.batch_size or DEFAULT_BATCH_SIZE,
            total=shape.total if shape.mode == "stream" else None,
            stop_when=self._stop_when(shape, value),
            runner=converting.runner(shape.runner, self.file.runners),
        )

    def _ready_when(self, shape: MainShape, value: Map) -> ReadyWhen | None:
        ready = shape.ready_when
        if ready is None:
            return None
        given = _below(value, "main", "ready_when", "check")
        check = self._check(ready.check, given) if ready.check else None
        return ReadyWhen(ready.file, ready.line, check)

    def _stop_when(self, shape: MainShape, value: Map) -> tuple[Check, ...]:
        given = _below(value, "main", "stop_when")
        if isinstance(shape.stop_when, CheckShape):
            return (self._check(shape.stop_when, given),)
        return self._checks(shape.stop_when, given)

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


def _below(value: Any, *keys: str) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, Map) else None
    return value
