"""The main of one attempt, whatever its kind and mode."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .failure import PhaseFailed
from .listening import Listener
from .mains import command, python
from .phases import MAIN_LOG, Setting, own_phase, process_phase

if TYPE_CHECKING:
    from ..record.jobs import Job
    from .monitoring.monitors import Monitors

CallPython = Callable[[Mapping[str, str]], None]


class Work:
    """Carries out a main once, and lets its monitors end it.

    Args:
        at: the attempt.
        step_id: of its step.
        identity: of the step.
        live: whether somebody watches the output as it comes.
        anew: whether pieces that earlier sessions have recorded do not count.
        may_begin: raises when a budget does not let something begin; it is given its name.
    """

    def __init__(
        self,
        at: Setting,
        *,
        step_id: str,
        identity: Sequence[str],
        live: bool,
        anew: bool,
        may_begin: Callable[[str], None],
    ) -> None:
        self._at = at
        self._main = at.definition.main
        self._step_id = step_id
        self._identity = identity
        self._anew = anew
        self._may_begin = may_begin
        self._interrupter: python.Interrupter | None = None
        monitored = at.definition.background and self._main.mode != "background"
        monitors = self._monitors() if monitored else None
        self._listener = Listener(self._main, at.telling, at.emit, live=live, monitors=monitors)

    def carry_out(self, call_python: CallPython) -> Job | None:
        """Do the work; of a background main only its start.

        Returns:
            The job that a background main has become: it is ready, or has ended well already.

        Raises:
            PhaseFailed: it was not done, or a monitor ended it.
        """
        at, main, listener = self._at, self._main, self._listener
        if main.kind == "python":
            with own_phase(at, "main", main.python):
                with listener, contextlib.suppress(python.Interruption):
                    call_python(at.env)
                listener.must_go_on()
            return None
        what = command.command_of(main, at.around.interpreter)
        if main.mode == "background":
            from .mains import step_job

            return step_job.start(at, what)
        if main.mode == "foreground":
            process_phase(
                at,
                "main",
                what,
                env=at.env,
                timeout=main.timeout,
                log=MAIN_LOG,
                cause="exit",
                runner=main.runner,
                listener=listener,
            )
            return None
        from .mains import piecewise

        with own_phase(at, "main", command.shown(what, main.runner)):
            with listener:
                piecewise.run(
                    at,
                    listener,
                    step_id=self._step_id,
                    identity=self._identity,
                    anew=self._anew,
                    may_begin=self._may_begin,
                )
            listener.must_go_on()
        return None

    def heard(self, name: str, value: float) -> None:
        """A number that the work has reported."""
        self._listener.metric(name, value)

    def interruptible(self) -> contextlib.AbstractContextManager[None]:
        """While a function of this process runs: a monitor may end it."""
        return self._interrupter.during() if self._interrupter else contextlib.nullcontext()

    def _monitors(self) -> Monitors:
        from .monitoring.monitors import Monitors

        at, around = self._at, self._at.around
        interrupter = self._interrupter = python.Interrupter() if self._main.kind == "python" else None

        def notify() -> None:
            if interrupter is not None and made.stop_requested.is_set():
                interrupter.request()

        made = Monitors(
            at.definition.background,
            runs=around.processes,
            cwd=around.cwd(at.definition.cwd),
            env=at.env,
            log_dir=at.logs,
            redact=around.redactor.text,
            series=at.logs / "series.jsonl",
            notify=notify,
        )
        return made


def function_of(at: Setting) -> Callable[..., Any]:
    """The function of a Python main.

    Raises:
        PhaseFailed: it cannot be imported.
    """
    target = at.definition.main.python
    assert target is not None
    try:
        return python.load(target, at.around.folder)
    except ImportError as error:
        raise PhaseFailed(None, f"main failed: {target} cannot be imported: {error}") from None
