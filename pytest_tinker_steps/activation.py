"""From pytest's configuration to an active session: which list, which steps, and what they share."""

from __future__ import annotations

import os
import shlex
import sys
import uuid
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from . import __version__, collect
from .console import Console
from .fixtures import ACTIVE
from .plan import graph, tasklist
from .plan.model import Definitions, Plan, PlanError, Step
from .record import frozen, journal, lock, state, ticking
from .record.controller import Controller
from .record.frozen import Decisions, Frozen, Wishes
from .record.journal import Journal, JournalError
from .run import artefacts
from .run.attempt import StepRun, Upstream, new_task_id
from .run.process import Processes
from .run.redaction import Redactor, secret_values
from .run.surroundings import Surroundings, base_environ

if TYPE_CHECKING:
    from .run.attempt import Emit

LISTS = ("SPEC.md", "tasks.md")
DEFINITIONS = (".claude/tasks/step_definitions.yaml", "step_definitions.yaml")
JOURNAL = ".task_execution.log"
STATE = ".steps"


class Active:
    """A pytest process with steps: the controller of the session, or one of its workers.

    Attributes:
        frozen: the session as it was decided.
        controller: None in a worker.
    """

    def __init__(self, config: pytest.Config, session: Frozen) -> None:
        self.config = config
        self.frozen = session
        self.worker = hasattr(config, "workerinput")
        self.controller: Controller | None = None
        self.console = Console(config, session, together=distributed(config))
        self.session: pytest.Session | None = None
        self.short_secrets: tuple[str, ...] = ()
        self._list_bytes = b""
        self._records = state.Records()
        self._around: Surroundings | None = None
        self._lock: lock.Lock | None = None
        self._events: dict[str, list[dict[str, Any]]] = {}

    # -- begin and end

    def know(self, data: bytes, records: state.Records) -> None:
        """Keep what the controller read before it decided."""
        self._list_bytes, self._records = data, records

    def start(self, session: pytest.Session) -> None:
        """Take the lock and open the journal; from here on things are recorded.

        Raises:
            PlanError: another run holds the list, or it cannot be written.
        """
        self.session = session
        if self.worker:
            if not self.frozen.dry:
                self._lock = lock.hold(self.frozen.folder / STATE, self.frozen.run_id)
            return
        log = listfile = None
        if not self.frozen.dry:
            self._refuse_unwritable()
            try:
                self._lock = lock.acquire(
                    self.frozen.folder / STATE, self.frozen.plan.tasklist.path, _command_line(self.config)
                )
                log = Journal(
                    self.frozen.folder / JOURNAL, self.frozen.run_id, self._surroundings().redactor.text
                )
            except JournalError as error:
                raise PlanError(f"{error}; nothing was started") from None
            except OSError as error:
                raise PlanError(
                    f"{error.filename or self.frozen.folder / STATE}: {error.strerror}; "
                    "nothing was started, since nothing could be recorded"
                ) from None
            ticking.clear_leftovers(self.frozen.path)
            listfile = ticking.ListFile(self.frozen.path, self._list_bytes, self.frozen.plan.tasklist)
        self.controller = Controller(self.frozen, log, listfile, self._records, self._tell)
        if log is not None:
            try:
                said = self.controller.start(self._provenance())
            except JournalError as error:
                raise PlanError(f"{error}; nothing was started") from None
            self.console.lines(said)

    def _tell(self, step: Step, event: dict[str, Any]) -> None:
        self.console.show(step, event)
        try:
            self.config.hook.pytest_steps_event(config=self.config, event=event)
        except Exception as error:
            # Somebody else's hook decides nothing: neither the verdict nor whether the session lives.
            self.console.lines([f"! pytest_steps_event raised {type(error).__name__}: {error}"])

    def _refuse_unwritable(self) -> None:
        if all(name in self.frozen.skips for name in self.frozen.selection.ids):
            return
        why = ticking.writable(self.frozen.path)
        if why and (self.frozen.mode == "run" or self.frozen.untick):
            raise PlanError(
                f"{self.frozen.plan.tasklist.path} cannot be ticked ({why}); nothing was started: "
                "make the list and its folder writable"
            )

    def finish(self, exitstatus: int) -> None:
        """Record the end, end what is left, and let the lock go."""
        if self.controller is not None:
            self.controller.finish(str(int(exitstatus)))
        if self._around is not None:
            self._around.processes.close()
            self._around = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def stop(self, reason: str) -> None:
        """End the session after the current item."""
        if self.session is not None:
            self.session.shouldfail = reason

    @cached_property
    def dumped(self) -> str:
        """The session for workers; made once for all of them."""
        return self.frozen.dump()

    # -- steps

    def step_run(self, step: Step, item: pytest.Item) -> StepRun:
        """The run of one step in this process."""
        upstream = tuple(
            Upstream(need.step, definition.outputs)
            for need in step.needs
            if need.state == "passed" and (definition := self.frozen.by_id[need.step].definition)
        )
        return StepRun(
            step,
            self.frozen.task_ids[step.id],
            self._surroundings(),
            self._emit_for(item),
            upstream=upstream,
            open_since_ns=self.frozen.open_since.get(step.id, 0),
            identity=self.frozen.identities.get(step.id, ()),
            live=self.frozen.live and not self.worker,
        )

    def _emit_for(self, item: pytest.Item) -> Emit:
        def emit(event: dict[str, Any]) -> None:
            if event["event"] == "attempt_started":
                item.user_properties.append(("task_id", event["task_id"]))
            elif event["event"] == "check":
                said = f"{event['status']} {event['message']}".strip()
                item.user_properties.append((f"{event['phase']}: {event['name']}", said))
            if self.controller is not None:
                self.controller.event(event)
            else:
                self._events.setdefault(item.nodeid, []).append(event)

        return emit

    def take_events(self, nodeid: str) -> list[dict[str, Any]]:
        """Events of a worker's item since the last report; they travel on the next one."""
        return self._events.pop(nodeid, [])

    def _surroundings(self) -> Surroundings:
        if self._around is None:
            environ = base_environ(os.environ)
            told = dict(environ)
            for step in self.frozen.plan.steps:
                if step.definition is not None:
                    told.update(step.definition.env)
                    told.update(step.definition.main.env)
            values, self.short_secrets = secret_values(told, self.frozen.secrets)
            redactor = Redactor(values)
            fds = (self._lock.fd,) if self._lock else ()
            self._around = Surroundings(
                folder=self.frozen.folder,
                state=self.frozen.folder / STATE,
                processes=Processes(redactor=redactor, lock_fds=fds),
                redactor=redactor,
                checks_parallel=self.frozen.checks_parallel,
                environ=environ,
            )
        return self._around

    def redact(self, text: str) -> str:
        return self._around.redactor.text(text) if self._around else text

    def cancel_timeout(self, item: pytest.Item) -> None:
        """Take pytest-timeout's net away once a main in this process has ended."""
        if item.config.pluginmanager.hasplugin("timeout"):
            item.ihook.pytest_timeout_cancel_timer(item=item)

    def _provenance(self) -> dict[str, Any]:
        around = self._surroundings()

        def git(*words: str) -> str | None:
            # The git that CI has refuses folders of other users, and there may be none: both are "unknown".
            ended = around.processes.run(
                ("git", *words),
                cwd=self.frozen.folder,
                env={**around.environ, "GIT_OPTIONAL_LOCKS": "0"},
                timeout=5.0,
                log=None,
            )
            return ended.tail.strip() if ended.exit == 0 else None

        head = git("rev-parse", "HEAD")
        dirty = git("status", "--porcelain", "--untracked-files=no") if head else None
        return {
            "git_head": head,
            "git_dirty": None if dirty is None else bool(dirty),
            "python": sys.version.split()[0],
            "pytest": pytest.__version__,
            "plugin": __version__,
            "definitions_sha256": self.frozen.plan.definitions.digest,
            "command": _command_line(self.config),
            "host": os.uname().nodename,
            "pid": os.getpid(),
        }


def _command_line(config: pytest.Config) -> str:
    return shlex.join(["pytest", *(str(arg) for arg in config.invocation_params.args)])


def distributed(config: pytest.Config) -> bool:
    """Whether workers run the items of this session."""
    return hasattr(config, "workerinput") or config.getoption("dist", "no") != "no"


@dataclass(frozen=True, slots=True)
class _Target:
    """What the command line says about the list.

    Attributes:
        path: of the list.
        only: ids named on the command line or in ``-k``, when nothing else selects steps.
        args: in place of pytest's own, or None.
        maybe: whether nothing but words of ``-k`` asks for steps; they may be names of ordinary tests.
    """

    path: Path
    only: tuple[str, ...] | None
    args: tuple[str, ...] | None
    maybe: bool = False


def activate(config: pytest.Config) -> Active | None:
    """Make the session active if it is to have steps.

    Raises:
        pytest.UsageError: one line for each mistake of the user's.
    """
    try:
        workerinput = getattr(config, "workerinput", None)
        if workerinput is not None:
            active = Active(config, Frozen.load(workerinput["tinker_steps"]))
        else:
            found = _decide(config)
            if found is None:
                return None
            active = found
    except PlanError as error:
        raise pytest.UsageError("\n".join(error.problems)) from None
    if active.frozen.args is not None:
        config.args = list(active.frozen.args)
        config.args_source = pytest.Config.ArgsSource.ARGS
    config.stash[ACTIVE] = active
    return active


def _decide(config: pytest.Config) -> Active | None:
    found = _session(config)
    if found is None:
        return None
    session, data, records = found
    active = Active(config, session)
    active.know(data, records)
    return active


def _session(config: pytest.Config) -> tuple[Frozen, bytes, state.Records] | None:
    """The session as the command line asks for it, with what was read for it; None without steps."""
    option = config.option
    if option.steps_untick and not option.steps_verify:
        raise PlanError("--steps-untick goes with --steps-verify: it takes back ticks that do not hold")
    target = _target(config)
    if target is None:
        return None
    only = target.only
    if target.maybe:
        only = _ids_in(target.path, only or ())
        if not only:
            return None
    data, plan = load(config, target.path)
    folder = target.path.parent
    records = state.fold(journal.read(folder / JOURNAL))
    wishes = Wishes(
        steps="all" if option.steps is None else option.steps,
        only=only,
        verify=option.steps_verify,
        rerun=option.steps_rerun,
        assume=option.steps_assume,
        command=_command_for(config, target.path),
    )
    decisions = frozen.decide(plan, wishes, records, os.environ, lambda s: artefacts.assumable(s, folder))
    return _freeze(config, target, plan, decisions, records), data, records


def _ids_in(path: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of the names that are ids of steps, as the list writes them; none if it is no list of ours."""
    try:
        boxes = tasklist.parse(path.read_bytes(), str(path)).boxes
    except (OSError, PlanError):
        return ()
    known = {box.key.lower(): box.key for box in boxes if not box.children and not box.struck}
    return tuple(known[name.lower()] for name in names if name.lower() in known)


def _command_for(config: pytest.Config, path: Path) -> str:
    """What to type for a session on this list."""
    if path == _default_list(config):
        return "pytest"
    return shlex.join(["pytest", os.path.relpath(path, config.invocation_params.dir)])


def _freeze(
    config: pytest.Config, target: _Target, plan: Plan, decisions: Decisions, records: state.Records
) -> Frozen:
    option = config.option
    dry = bool(option.collectonly or getattr(option, "setuponly", 0) or getattr(option, "setupplan", 0))
    ci = bool(os.environ.get("CI"))
    return Frozen(
        plan=plan,
        selection=decisions.selection,
        run_id=f"run_{uuid.uuid4().hex[:12]}",
        mode="verify" if option.steps_verify else "run",
        skips=decisions.skips,
        refusals=decisions.refusals,
        standing=decisions.standing,
        identities=decisions.identities,
        open_since={name: s.first_open_ns for name, s in records.steps.items() if s.first_open_ns},
        task_ids={name: new_task_id(name) for name in decisions.selection.ids},
        assumed=decisions.assumed,
        folder=target.path.parent,
        path=target.path,
        nodeid=_nodeid(config, target.path),
        journal_name=JOURNAL,
        checks_parallel=_checks_parallel(config),
        secrets=(*plan.definitions.secrets, *config.getini("steps_secrets")),
        dry=dry,
        live=config.get_verbosity() > 0 or option.capture == "no",
        strict=ci if option.steps_strict is None else option.steps_strict,
        untick=option.steps_untick,
        args=target.args,
    )


def _checks_parallel(config: pytest.Config) -> int:
    text = config.getini("steps_checks_parallel")
    if not text.isdecimal() or int(text) < 1:
        raise PlanError(f"steps_checks_parallel = {text}: give a number of checks from 1")
    return int(text)


def _nodeid(config: pytest.Config, path: Path) -> str:
    # Outside the root directory pytest would give it no name at all.
    return os.path.relpath(path, config.rootpath).replace(os.sep, "/")


# -- which list


def _given(config: pytest.Config) -> list[str]:
    return list(config.args) if config.args_source == pytest.Config.ArgsSource.ARGS else []


def _argument_path(config: pytest.Config, argument: str) -> Path:
    return Path(os.path.abspath(config.invocation_params.dir / argument.split("::")[0]))


def _default_list(config: pytest.Config) -> Path | None:
    setting = config.getini("steps_list")
    if setting:
        base = config.inipath.parent if config.inipath else config.rootpath
        return Path(os.path.abspath(base / setting))
    return next((config.rootpath / name for name in LISTS if (config.rootpath / name).is_file()), None)


def _target(config: pytest.Config) -> _Target | None:
    option = config.option
    asked = option.steps is not None or option.steps_verify or option.steps_plan
    default = _default_list(config)
    given = _given(config)
    lists = [
        argument
        for argument in given
        if argument.split("::")[0].endswith(".md")
        and (
            asked
            or _argument_path(config, argument) == default
            or Path(argument.split("::")[0]).name in LISTS
            or "::step_" in argument
        )
    ]
    if lists:
        return _target_of(config, lists, given)
    named = tuple(collect.named_in(option.keyword or ""))
    if not asked and not named:
        return None
    if default is None or not default.is_file():
        if not asked:
            return None
        where = default or f"{config.rootpath} (looked for {' and '.join(LISTS)})"
        raise PlanError(
            f"--steps: there is no task list at {where}; "
            "write one, name it on the command line, or set steps_list in the configuration"
        )
    only = None if asked else named
    if asked and not given:
        return _Target(default, only, (str(default),))
    return _Target(default, only, (*config.args, str(default)), maybe=not asked)


def _target_of(config: pytest.Config, lists: list[str], given: list[str]) -> _Target:
    paths = {_argument_path(config, argument) for argument in lists}
    if len(paths) > 1:
        raise PlanError(f"{' and '.join(sorted(map(str, paths)))}: one task list in a session, please")
    path = paths.pop()
    if not path.is_file():
        raise PlanError(f"{path}: there is no such task list")
    parts = [argument.split("::", 1)[1] for argument in lists if "::" in argument]
    only = tuple(part.removeprefix("step_") for part in parts) if len(parts) == len(lists) else None
    if only is not None and config.option.steps is not None:
        raise PlanError("--steps and a step's own id on the command line: give one of them")
    others = [argument for argument in given if argument not in lists]
    # The ids stay in the frozen session: pytest itself would match them against items by name.
    return _Target(path, only, (*others, str(path)))


# -- loading


def load(config: pytest.Config, path: Path) -> tuple[bytes, Plan]:
    """Read a task list and its definitions.

    Raises:
        PlanError: all mistakes of the file that comes first.
    """
    shown = _nodeid(config, path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PlanError(f"{shown}: the task list cannot be read: {error.strerror}") from None
    return data, graph.build(tasklist.parse(data, shown), _definitions(config, path.parent))


def _definitions(config: pytest.Config, folder: Path) -> Definitions:
    setting = config.getini("steps_definitions")
    candidates = [setting] if setting else list(DEFINITIONS)
    for name in candidates:
        path = folder / name
        if path.is_file():
            from .plan import definitions

            shown = _nodeid(config, path)
            try:
                return definitions.load(path.read_bytes(), shown)
            except OSError as error:
                raise PlanError(f"{shown}: the definitions cannot be read: {error.strerror}") from None
    if setting:
        raise PlanError(f"steps_definitions = {setting}: there is no such file below {folder}")
    return Definitions(path=_nodeid(config, folder / candidates[0]))


def planned(config: pytest.Config) -> tuple[Frozen, state.Records]:
    """The session as it would be, for showing it; nothing is written.

    Raises:
        PlanError: as for a session.
    """
    found = _session(config)
    assert found is not None  # the option asks for steps
    session, _, records = found
    return replace(session, dry=True), records
