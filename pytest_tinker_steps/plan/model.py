"""The plan as data: boxes of the task list, definitions, and the steps made of both.

Everything here is immutable and holds nothing but builtin values, so that a plan can be frozen by
the controller and handed to workers as it is. Times are seconds. Paths are strings as the user
wrote them, relative to the folder of the task list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Command = str | tuple[str, ...]
"""A string runs under ``/bin/sh -c``, a tuple without a shell."""

Pairs = tuple[tuple[str, str], ...]
"""An immutable mapping of names to values, in the order of the file."""

DEFAULT_CHECK_TIMEOUT = 30.0
DEFAULT_MAIN_TIMEOUT = 300.0

NeedState = Literal["passed", "started", "ended"]
RetryCause = Literal["pre", "test", "timeout", "exit", "post"]
MainKind = Literal["command", "script", "python", "none"]
MainMode = Literal["foreground", "background", "chunked", "stream"]

PROBES = (
    "env",
    "import",
    "file",
    "json",
    "jsonl",
    "yaml",
    "executable",
    "disk_free",
    "port",
    "http",
    "python",
)
"""Built-in checks that need no process of the user's. ``import`` asks the interpreter of the main."""


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


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a file of the user's: path as shown to people, line counted from 1."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
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

    @property
    def done(self) -> bool:
        return self.marker in ("x", "X")


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Expect:
    """What a check's process must do: exit code, and patterns (``re.search``) in its output."""

    exit: int = 0
    match: str | None = None
    not_match: str | None = None


@dataclass(frozen=True, slots=True)
class Metric:
    """A number in a check's output: the first group of ``pattern``, held between ``min`` and ``max``."""

    name: str
    pattern: str
    min: float | None = None
    max: float | None = None


@dataclass(frozen=True, slots=True)
class Retry:
    """How often something is tried.

    Attributes:
        attempts: total number of tries, the first included (``retries: 3`` is ``attempts: 4``).
        delay: seconds before the second try; ``backoff`` multiplies it each time; ``jitter`` adds a
            random share of it (0.1 = up to 10 %).
        when: which failures are tried again; only meaningful for mains.
    """

    attempts: int = 1
    delay: float = 0.0
    backoff: float = 1.0
    jitter: float = 0.0
    when: tuple[RetryCause, ...] = ("test", "timeout", "exit", "post")


@dataclass(frozen=True, slots=True)
class Check:
    """One small command or built-in probe with a timeout.

    Attributes:
        kind: ``command``, one of ``PROBES``, or ``prose`` (natural language; needs an agent).
        command: for ``command``.
        probe: the probe's arguments, as JSON-like builtin values, already validated.
        prose: the text, for ``prose``.
        timeout_given: whether the definitions say it; a default is noted in the plan.
        fix: run once after a failure, before the check is tried again.
    """

    name: str
    kind: str
    where: Where
    command: Command | None = None
    probe: dict[str, Any] = field(default_factory=dict)
    prose: str = ""
    timeout: float = DEFAULT_CHECK_TIMEOUT
    timeout_given: bool = False
    parallel: bool = True
    critical: bool = True
    expect: Expect = Expect()
    metric: Metric | None = None
    fix: Command | None = None
    retry: Retry = Retry()
    env: Pairs = ()
    cwd: str | None = None


@dataclass(frozen=True, slots=True)
class TestFirst:
    """The run on minimal data that must pass before the main starts.

    Exactly one way is given: ``args`` in place of the script's own, a ``command`` of its own, or
    only an ``env`` added to the main's.
    """

    __test__ = False  # not a test class, whatever its name looks like to pytest

    args: tuple[str, ...] | None = None
    command: Command | None = None
    env: Pairs = ()
    timeout: float = DEFAULT_MAIN_TIMEOUT


@dataclass(frozen=True, slots=True)
class Criterion:
    """A success criterion: with a check a critical post-validation, without one what the main must report."""

    text: str
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class Monitor:
    """A check repeated while a main runs.

    Attributes:
        kind: ``sample`` records the output; ``alert`` raises an alert when it exits 0 with output.
        interval: seconds between two starts.
        alert_on: pattern in the output that raises an alert.
    """

    name: str
    kind: Literal["sample", "alert"]
    command: Command
    where: Where
    interval: float = 60.0
    alert_on: str | None = None
    timeout: float = DEFAULT_CHECK_TIMEOUT


@dataclass(frozen=True, slots=True)
class Main:
    """What the step does.

    Attributes:
        kind: ``none`` when the definitions give nothing to run.
        mode: all but ``foreground`` are long work.
        script: a Python file, run with the interpreter of the session, with ``args``.
        python: ``module:function``, called in this process.
        agent, skills, objective, model: for a main that an agent does or repairs.
        test_first: ``None`` when the definitions do not say; ``False`` when they say that there is none.
        chunks, checkpoint_every: sizes of the pieces of a chunked main.
    """

    kind: MainKind = "none"
    mode: MainMode = "foreground"
    command: Command | None = None
    script: str | None = None
    args: tuple[str, ...] = ()
    python: str | None = None
    agent: str | None = None
    skills: tuple[str, ...] = ()
    objective: str | None = None
    model: str | None = None
    timeout: float = DEFAULT_MAIN_TIMEOUT
    timeout_given: bool = False
    test_first: TestFirst | Literal[False] | None = None
    criteria: tuple[Criterion, ...] = ()
    retry: Retry = Retry()
    env: Pairs = ()
    cwd: str | None = None
    chunks: tuple[int, ...] = ()
    checkpoint_every: int | None = None


@dataclass(frozen=True, slots=True)
class Need:
    """An edge: the step ``step`` (as written in the definitions) must have reached ``state``."""

    step: str
    state: NeedState = "passed"


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class Definition:
    """What the definitions file says about one step.

    Attributes:
        key: the mapping key, or ``step: 13`` of the list shape, as it stands.
        step: id of the step.
        needs: ``None`` when not given: the step follows the one before it in the list.
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


@dataclass(frozen=True, slots=True)
class Definitions:
    """A definitions file.

    Attributes:
        path: as shown to people; the place to write in when a step has none.
        steps: in file order.
        secrets: names of further environment variables whose values are never shown.
        digest: SHA-256 of the file's bytes, hexadecimal; empty when there is no file.
        warnings: ``path:line: ...`` lines.
    """

    path: str
    steps: tuple[Definition, ...] = ()
    secrets: tuple[str, ...] = ()
    digest: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One box that is work of its own, with its definition and its resolved needs.

    Attributes:
        id: the box's key.
        index: position among the steps, from 0.
        needs: resolved ids; the implicit edge of the sequence included.
    """

    id: str
    index: int
    box: Box
    definition: Definition | None
    needs: tuple[Need, ...] = ()

    @property
    def title(self) -> str:
        return self.box.title

    @property
    def node_name(self) -> str:
        return f"step_{self.id}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All steps of one task list, with their definitions, as a graph."""

    tasklist: TaskList
    definitions: Definitions
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()
