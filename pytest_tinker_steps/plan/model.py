"""The plan as data: boxes of the task list, definitions, and the steps made of both.

Everything here is immutable and holds nothing but builtin values, so that a plan can be frozen by
the controller and handed to workers as it is. Times are seconds. Paths are strings as the user
wrote them, relative to the folder of the task list.
"""

from __future__ import annotations

from typing import Literal

from .values import value
from .work import (
    DEFAULT_BATCH_SIZE,
    DEFAULT_CHECK_TIMEOUT,
    DEFAULT_LOG_SIZE,
    DEFAULT_MAIN_TIMEOUT,
    DEFAULT_MAX_RUNTIME,
    PROBES,
    Check,
    Command,
    Criterion,
    Expect,
    Main,
    MainKind,
    MainMode,
    Metric,
    Monitor,
    Pairs,
    ReadyWhen,
    Retry,
    RetryCause,
    Runner,
    Stall,
    TestFirst,
    Threshold,
    Where,
)

__all__ = [
    "DEFAULT_BATCH_SIZE",
    "DEFAULT_CHECK_TIMEOUT",
    "DEFAULT_LOG_SIZE",
    "DEFAULT_MAIN_TIMEOUT",
    "DEFAULT_MAX_RUNTIME",
    "PROBES",
    "Box",
    "Check",
    "Command",
    "Cost",
    "Criterion",
    "Definition",
    "Definitions",
    "Expect",
    "IdentityPart",
    "Main",
    "MainKind",
    "MainMode",
    "Metric",
    "Monitor",
    "Need",
    "NeedState",
    "Pairs",
    "Plan",
    "PlanError",
    "ReadyWhen",
    "Retry",
    "RetryCause",
    "Runner",
    "Stall",
    "Step",
    "TaskList",
    "TestFirst",
    "Threshold",
    "Where",
]

NeedState = Literal["passed", "started", "ended", "over"]
"""``over``, which no file can say, asks for the order alone: it also holds for what did not run."""


class PlanError(Exception):
    """A user's mistake in a task list, in definitions or in a selection.

    Args:
        problems: one line each, ``path:line: what is wrong; what to do``.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems

    def __reduce__(self) -> tuple[type[PlanError], tuple[str, ...]]:
        return (PlanError, self.problems)


@value
class Box:
    """One checkbox of a task list that is a step or a container of steps.

    Attributes:
        id: as written: ``13``, ``T012``, ``2.1``; ``#3`` (the ordinal below its heading) without one.
        key: ``id`` where that is unique in the list, else ``<heading>/<id>``; what people type.
        title: first line of the box without id, markup and tick suffix.
        text: what stands after the bracket, without the tick suffix and trailing spaces, unchanged
            otherwise: a tick is only written where this still stands.
        line: counted from 1.
        offset: of the line's first byte in the file, in bytes (a BOM counts).
        marker: what stands between the brackets.
        scope: the headings above, outermost first.
        brief: the Markdown that belongs to the step.
        optional: marked with ``*``; not part of ``all`` and never holds a container back.
        struck: ``~~struck~~``; never run.
        parent: key of the container, if there is one.
        children: keys of the boxes inside; a box with children is a container.
        note: the runner's suffix after the text (`` ✓ [time] [task id] (note)``), if there is one.
        track: what the list calls the work that goes on in sequence beside other work; empty without one.
        layer: what the list calls the work that waits for all work of the layers before; empty without one.
        after: keys of the boxes that come before it by the shape of the list, its sections and marks; None
            for the step before it.
        depends: keys of the boxes that its text, or the text of its section, says it depends on.
    """

    id: str
    key: str
    title: str
    text: str
    line: int
    offset: int
    marker: str
    scope: tuple[str, ...] = ()
    brief: str = ""
    optional: bool = False
    struck: bool = False
    parent: str | None = None
    children: tuple[str, ...] = ()
    note: str = ""
    track: str = ""
    layer: str = ""
    after: tuple[str, ...] | None = None
    depends: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        return self.marker in ("x", "X")


@value
class TaskList:
    """All boxes of one file, in file order.

    Attributes:
        path: as shown to people.
        boxes: steps and containers.
        warnings: ``path:line: ...`` lines, for example an unterminated fence.
    """

    path: str
    boxes: tuple[Box, ...]
    warnings: tuple[str, ...] = ()


@value
class Need:
    """An edge: the step ``step`` (as written in the definitions) must have reached ``state``."""

    step: str
    state: NeedState = "passed"


@value
class IdentityPart:
    """One value of a step's identity: a constant, or what an environment variable says.

    Attributes:
        name: shown as ``name=value``.
        value: the constant, when ``env`` is None.
        env: name of the variable; ``when_set`` replaces its value (so that a secret's is never
            used), ``when_unset`` stands when it is missing or empty.
    """

    name: str
    value: str = ""
    env: str | None = None
    when_set: str | None = None
    when_unset: str = ""


@value
class Cost:
    """What a step is expected to cost.

    Attributes:
        usd: US dollars.
        assuming: what the number rests on, in words.
        when: name of the environment variable without which the step costs nothing; None when it always does.
    """

    usd: float
    assuming: str = ""
    when: str | None = None


@value
class Definition:
    """What the definitions file says about one step.

    Attributes:
        key: the mapping key, or ``step: 13`` of the list shape, as it stands.
        step: id of the step.
        needs: ``None`` when not given: the step follows the one before it in the list.
        budget_usd: US dollars; when they are spent, nothing more of the step is begun.
        track: in place of the list's; steps of one track run in sequence, tracks side by side.
        layer: in place of the list's; steps of a layer wait for all of the layers before.
        resources: how much of which pool the step takes while it runs, or its job does.
        exclusive: nothing else runs beside it.
        where: of the key in the definitions file.
    """

    key: str
    step: str
    where: Where
    pre_flight: tuple[Check, ...] = ()
    main: Main = Main()
    post_validation: tuple[Check, ...] = ()
    background: tuple[Monitor, ...] = ()
    needs: tuple[Need, ...] | None = None
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    env: Pairs = ()
    cwd: str | None = None
    identity: tuple[IdentityPart, ...] = ()
    on_failure: Literal["fail", "warn"] = "fail"
    budget_usd: float | None = None
    track: str = ""
    layer: str = ""
    resources: tuple[tuple[str, int], ...] = ()
    exclusive: bool = False
    cost: Cost | None = None


@value
class Definitions:
    """A definitions file.

    Attributes:
        path: as shown to people; the place to write in when a step has none.
        steps: in file order.
        secrets: names of further environment variables whose values are never shown.
        digest: SHA-256 of the file's bytes, hexadecimal; empty when there is no file.
        warnings: ``path:line: ...`` lines.
        pools: names of what there is only so much of, and how much.
    """

    path: str
    steps: tuple[Definition, ...] = ()
    secrets: tuple[str, ...] = ()
    digest: str = ""
    warnings: tuple[str, ...] = ()
    pools: tuple[tuple[str, int], ...] = ()


@value
class Step:
    """One box that is work of its own, with its definition and its resolved needs.

    Attributes:
        id: the box's key.
        index: position among the steps, from 0.
        needs: resolved ids; the implicit edge of the sequence included.
        ends: id of the background step whose job's end this is; empty for a step itself.
        track, layer: those of the definition, else those of the list.
    """

    id: str
    index: int
    box: Box
    definition: Definition | None
    needs: tuple[Need, ...] = ()
    ends: str = ""
    track: str = ""
    layer: str = ""

    @property
    def title(self) -> str:
        return self.box.title

    @property
    def node_name(self) -> str:
        return f"step_{self.id}"


@value
class Plan:
    """All steps of one task list, with their definitions, as a graph."""

    tasklist: TaskList
    definitions: Definitions
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()
