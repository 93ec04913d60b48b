"""What a step does, as data: checks, monitors and mains.

As in ``model``, everything is immutable and holds nothing but builtin values. Times are seconds.
"""

from __future__ import annotations

from dataclasses import field
from typing import Any, Literal

from .values import value

Command = str | tuple[str, ...]
"""A string runs under ``/bin/sh -c``, a tuple without a shell."""

Pairs = tuple[tuple[str, str], ...]
"""An immutable mapping of names to values, in the order of the file."""

DEFAULT_CHECK_TIMEOUT = 30.0
DEFAULT_MAIN_TIMEOUT = 300.0
DEFAULT_MAX_RUNTIME = 24 * 3600.0
DEFAULT_LOG_SIZE = 32 * 1024 * 1024
DEFAULT_BATCH_SIZE = 100

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


@value
class Where:
    """A place in a file of the user's: path as shown to people, line counted from 1."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@value
class Expect:
    """What a check's process must do: exit code, and patterns (``re.search``) in its output."""

    exit: int = 0
    match: str | None = None
    not_match: str | None = None


@value
class Metric:
    """A number in a check's output: the first group of ``pattern``, held between ``min`` and ``max``."""

    name: str
    pattern: str
    min: float | None = None
    max: float | None = None


@value
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


@value
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


@value
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


@value
class Criterion:
    """A success criterion: with a check a critical post-validation, without one what the main must report."""

    text: str
    check: Check | None = None


@value
class Threshold:
    """A limit on a number: an alert comes while ``<metric> <operator> <value>`` holds, or the number is none.

    Attributes:
        operator: ``nan`` asks only whether it is not a number (NaN or infinite).
    """

    metric: str
    operator: Literal[">", ">=", "<", "<=", "==", "!=", "nan"]
    value: float = 0.0


@value
class Stall:
    """Nothing moves: no new output of the main, or a number that stays as it is, for so many seconds."""

    seconds: float
    metric: str | None = None


@value
class Monitor:
    """A check repeated while a main runs.

    Without a command it looks at the main itself: a stall, or a number that the main reports, or that
    ``metric.pattern`` finds in its output.

    Attributes:
        kind: ``sample`` records the output; ``alert`` raises an alert when it exits 0 with output.
        interval: seconds between two starts.
        alert_on: words, separated by ``|``, or ``/regular expression/``, in the output that raise an alert.
        metric: the number in the output; outside of its ``min`` and ``max`` it raises an alert.
        on_alert: ``stop`` ends the main, which has failed then.
    """

    name: str
    kind: Literal["sample", "alert"]
    command: Command | None
    where: Where
    interval: float = 60.0
    alert_on: str | None = None
    timeout: float = DEFAULT_CHECK_TIMEOUT
    metric: Metric | None = None
    threshold: Threshold | None = None
    stall: Stall | None = None
    on_alert: Literal["warn", "stop"] = "warn"


@value
class ReadyWhen:
    """When a background job is ready; exactly one is given.

    Attributes:
        file: written in this attempt; relative to the main's folder.
        line: regular expression, found (``re.search``) in a line of the output of this attempt.
        check: repeated until it passes.
    """

    file: str | None = None
    line: str | None = None
    check: Check | None = None


@value
class Runner:
    """A command prefix that hands a main to something else: a cluster engine, a container, another machine.

    Attributes:
        command: the prefix; what the main would start stands behind it.
        stop: ends what the prefix has started and left elsewhere; None when it ends with the prefix.
    """

    name: str
    command: tuple[str, ...]
    stop: tuple[str, ...] | None = None


@value
class Main:
    """What the step does.

    Attributes:
        kind: ``none`` when the definitions give nothing to run.
        mode: all but ``foreground`` are long work.
        script: a Python file, run with the interpreter of the session, with ``args``.
        python: ``module:function``, called in this process.
        agent, skills, objective, model: for a main that an agent does or repairs.
        test_first: ``None`` when the definitions do not say; ``False`` when they say that there is none.
        timeout: of a foreground main; of the start of a background one, until it is ready; of one piece or
            batch of a chunked or streamed one.
        max_runtime: of all other long work, from its start to its end.
        ready_when: of a background main; None waits for its first output and two seconds of life.
        log_size: bytes after which the log of a background main is begun anew.
        progress: regular expression in the output; its groups are what is done and, if there are two, of
            how much.
        recover: run between two attempts.
        chunks: sizes of the pieces of a chunked main, in order.
        checkpoint_every: a larger piece is cut into sub-pieces of this size.
        quality: checks after each piece of a chunked main.
        fix: run when they fail, before the piece is tried again.
        output: the file in which the good pieces, or batches, are joined.
        batch_size: of a streamed main.
        total: where the input of a streamed main ends; None when only the main knows.
        stop_when: checks that end a streamed main when all of them pass.
        runner: what its processes are handed to; None when they are started here.
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
    max_runtime: float = DEFAULT_MAX_RUNTIME
    ready_when: ReadyWhen | None = None
    log_size: int = DEFAULT_LOG_SIZE
    progress: str | None = None
    recover: Command | None = None
    chunks: tuple[int, ...] = ()
    checkpoint_every: int | None = None
    quality: tuple[Check, ...] = ()
    fix: Command | None = None
    output: str | None = None
    batch_size: int = DEFAULT_BATCH_SIZE
    total: int | None = None
    stop_when: tuple[Check, ...] = ()
    runner: Runner | None = None
