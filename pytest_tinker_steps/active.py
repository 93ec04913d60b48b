"""A pytest process that has steps: what it shares, when it begins and how it ends."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from . import __version__
from .console import Console
from .outbox import Outbox
from .plan.model import PlanError, Step
from .record import lock, state
from .record.frozen import Frozen
from .record.journal import Journal, JournalError, now
from .record.places import STATE
from .run.artefacts import Upstream
from .run.attempt import StepRun
from .run.process import Processes
from .run.redaction import Redactor, secret_values
from .run.surroundings import Surroundings, base_environ, layered

if TYPE_CHECKING:
    from .jobwatch import JobWatch
    from .record.controller import Controller
    from .record.deaths import Death
    from .record.jobs import Job
    from .run.attempt import Emit
    from .run.budget import Budget


@dataclass(slots=True, eq=False)
class Running:
    """A step while its item runs; the run of a job's end is that of the step whose job it is.

    Attributes:
        done: whether its body was run to its good end.
    """

    run: StepRun
    step: Step
    item: pytest.Function
    done: bool = False


class Active:
    """A pytest process with steps: the controller of the session, or one of its workers.

    Attributes:
        frozen: the session as it was decided.
        controller: None in a worker.
        running: the step whose item runs now in this process.
        left_over: whether workers that were lost have left work that nobody did.
    """

    def __init__(self, config: pytest.Config, session: Frozen) -> None:
        self.config = config
        self.frozen = session
        self.worker = hasattr(config, "workerinput")
        self.controller: Controller | None = None
        self.console = Console(config, session, together=distributed(config))
        self.session: pytest.Session | None = None
        self.short_secrets: tuple[str, ...] = ()
        self.left_over = False
        self.running: Running | None = None
        self.deaths: dict[str, Death] = {}
        self._list_bytes = b""
        self._records = state.Records()
        self._around: Surroundings | None = None
        self._watched = False
        self._lock: lock.Lock | None = None
        self._outbox = Outbox()
        self._jobwatch: JobWatch | None = None

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
        self._watched = bool(self.config.hook.pytest_steps_event.get_hookimpls())
        if self.worker:
            if not self.frozen.dry:
                self._lock = lock.hold(self.frozen.folder / STATE, self.frozen.run_id)
            return
        from .record import ticking  # workers neither record nor tick
        from .record.controller import Controller

        log = listfile = None
        if not self.frozen.dry:
            self._refuse_unwritable()
            try:
                self._lock = lock.acquire(
                    self.frozen.folder / STATE, self.frozen.plan.tasklist.path, _command_line(self.config)
                )
                redactor = self._surroundings().redactor
                log = Journal(
                    self.frozen.folder / self.frozen.journal_name,
                    self.frozen.run_id,
                    redactor.text if redactor.hides else None,
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
            self._take_over()

    def _take_over(self) -> None:
        """Give jobs whose supervisors died new ones."""
        for job in (*self.frozen.jobs.values(), *self.frozen.fallen.values()):
            self._watch(job)
            from .record.jobs import UNSUPERVISED  # only sessions with jobs pay for it
            from .run.background import jobs

            around = self._surroundings()
            step = self.frozen.by_id.get(job.step)
            definition = step.definition if step else None
            own = (definition.env, definition.main.env) if definition else ()
            try:
                jobs.adopt(around.state, job.task_id, environ=layered(around.environ, *own))
            except jobs.JobError as error:
                self.console.lines([f"! step_{job.step}'s job has no supervisor: {error}"])
            else:
                if job.state == UNSUPERVISED:
                    self.console.lines([f"step_{job.step}'s job (pid {job.pid}) has a supervisor again"])

    def _tell(self, step: Step, event: dict[str, Any]) -> None:
        self.console.show(step, event)
        if not self._watched:
            return
        self.console.catch_up()
        try:
            self.config.hook.pytest_steps_event(config=self.config, event=event)
        except Exception as error:
            # Somebody else's hook decides nothing: neither the verdict nor whether the session lives.
            self.console.lines([f"! pytest_steps_event raised {type(error).__name__}: {error}"])

    def _refuse_unwritable(self) -> None:
        if all(name in self.frozen.skips for name in self.frozen.selection.ids):
            return
        from .record import ticking

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

    # -- steps

    def begin(self, step: Step, item: pytest.Function) -> Running:
        """Make the run of a step, for the fixtures and the body of its item."""
        refusal = self.frozen.refusals.get(step.id)
        if refusal:
            pytest.fail(refusal, pytrace=False)
        self.running = Running(self._run_of(step, item), step, item)
        return self.running

    def end(self) -> None:
        """End what the step has left behind."""
        running, self.running = self.running, None
        if running is None:
            return
        try:
            running.run.end()
        except JournalError as error:
            self.stop(str(error))

    def _run_of(self, step: Step, item: pytest.Item) -> StepRun:
        """The run of one step in this process; for the end of a job, that of the step whose job it is."""
        if step.ends:
            step = self.frozen.by_id[step.ends]
        upstream = tuple(
            Upstream(self.frozen.by_id[need.step].ends or need.step, definition.outputs)
            for need in step.needs
            if need.state == "passed" and (definition := self.frozen.by_id[need.step].definition)
        )
        death = self.deaths.get(step.id)
        return StepRun(
            step,
            death.following if death else self.frozen.task_ids.get(step.id, ""),
            self._surroundings(),
            self._emit_for(item),
            upstream=upstream,
            open_since_ns=self.frozen.open_since.get(step.id, 0),
            identity=self.frozen.identities.get(step.id, ()),
            live=self.frozen.live and not self.worker,
            anew=self.frozen.rerun,
            spent_before=self.frozen.spent.get(step.id, 0.0),
            death=death,
        )

    def job_of(self, name: str) -> Job | None:
        """The newest job of a step, as it is now."""
        from .run.background.jobs import look_all

        return next((job for job in reversed(look_all(self._surroundings().state)) if job.step == name), None)

    def end_job(self, task_id: str, why: str) -> None:
        """Ask for the end of the job of an attempt that is over before its job was ready, if there is one."""
        from .run.background.jobs import ask_to_stop

        ask_to_stop(self._surroundings().state, task_id, why)

    def concluded(self, end: Step) -> bool:
        """Whether nothing has to be run for the end of a job; then it has a verdict.

        A worker says no: whoever sent the item has asked before.
        """
        if self.frozen.dry or self.controller is None:
            return self.frozen.dry
        if self.controller.verdicts.get(end.ends, "started") == "started":
            if end.id in self.frozen.waiting:
                return False
            job = self.job_of(end.ends)
            if job is not None and not job.live:
                return False
        self.controller.conclude(end)
        return True

    def settled(self, step: Step) -> None:
        """What is to be done in the controller when a step has its verdict."""
        assert self.controller is not None
        tale = self.controller.tales.get(step.ends or step.id)
        if tale is not None and tale.job is not None:
            self._watch(tale.job, told=bool(step.ends))
        if self._jobwatch is not None:
            self._jobwatch.look()
        definition = step.definition
        if definition is None or definition.main.mode not in ("chunked", "stream"):
            return
        if self.controller.verdicts.get(step.id) == "passed":
            from .run.mains import pieces

            pieces.discard(self._surroundings().state, step.id)

    def _watch(self, job: Job, *, told: bool = False) -> None:
        """Tell from now on what happens to a job while other steps run; no more when its end was told."""
        if self._jobwatch is None:
            from .jobwatch import JobWatch  # only sessions with jobs pay for it

            self._jobwatch = JobWatch(self.frozen.folder / STATE, self.console.lines)
        if job.live and not told:
            self._jobwatch.add(job)
        else:
            self._jobwatch.drop(job)

    def tell_job(self, item: pytest.Item, job: Job) -> None:
        """Tell the controller what a step's job has become."""
        from .record.plain import to_plain

        who = {"step": job.step, "task_id": job.task_id, "timestamp": now()}
        self._emit_for(item)({"event": "job", "status": job.state, **who, "job": to_plain(job)})

    def over_budget(self, step: Step) -> str:
        """Why a step may not begin any more, or an empty string."""
        limit = step.definition.budget_usd if step.definition else None
        if self.frozen.dry or (self.frozen.budget is None and limit is None):
            return ""
        budget = self._surroundings().budget
        return budget.reached(step.id, limit, self.frozen.spent.get(step.id, 0.0)) if budget else ""

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
                self._outbox.put(item, event)

        return emit

    def take_events(self, nodeid: str) -> list[dict[str, Any]]:
        """Events of a worker's item since the last report; they travel on the next one."""
        return self._outbox.take(nodeid)

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
                run_id=self.frozen.run_id,
                journal=self.frozen.folder / self.frozen.journal_name,
                secrets=self.frozen.secrets,
                budget=self._budget(),
            )
        return self._around

    def _budget(self) -> Budget | None:
        """Where costs are added up, if anything depends on their sum."""
        definitions = (step.definition for step in self.frozen.plan.steps)
        if self.frozen.budget is None and all(d is None or d.budget_usd is None for d in definitions):
            return None
        from .run.budget import Budget, costs_of

        return Budget(costs_of(self.frozen.folder / STATE, self.frozen.run_id), self.frozen.budget)

    def redact(self, text: str) -> str:
        return self._around.redactor.text(text) if self._around else text

    def cancel_timeout(self, item: pytest.Item, step: Step) -> None:
        """Take pytest-timeout's net away once a main in this process has ended.

        That of other mains is wide enough for their validations, too.
        """
        in_process = step.definition is not None and step.definition.main.kind == "python"
        if in_process and item.config.pluginmanager.hasplugin("timeout"):
            item.ihook.pytest_timeout_cancel_timer(item=item)

    def _provenance(self) -> dict[str, Any]:
        from .run.repository import described  # workers do not record

        around = self._surroundings()
        head, dirty = described(around.processes, around.folder, around.environ)
        return {
            "git_head": head,
            "git_dirty": dirty,
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


ACTIVE = pytest.StashKey[Active]()
"""Where pytest's configuration keeps it."""
