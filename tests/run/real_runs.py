"""A small real way to run processes, so that the tests of checks rest on little."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import psutil

from pytest_tinker_steps.plan.model import Check, Command, Where
from pytest_tinker_steps.run.process import Ended


class SubprocessRuns:
    """Runs each command in a process group of its own; remembers what was asked for."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.groups: list[int] = []

    def run(
        self,
        command: Command,
        *,
        cwd: Path,
        env: Mapping[str, str],
        timeout: float,
        log: Path | None,
        on_output: Callable[[str], None] | None = None,
        cancel: threading.Event | None = None,
    ) -> Ended:
        began = time.monotonic()
        self.commands.append(command)
        arguments = ["/bin/sh", "-c", command] if isinstance(command, str) else list(command)
        try:
            process = subprocess.Popen(
                arguments,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                text=True,
            )
        except OSError as error:
            return Ended(None, "not started", 0.0, "", f"{arguments[0]}: {error.strerror}")
        woken: queue.SimpleQueue[str] = queue.SimpleQueue()
        texts: list[str] = []

        def read() -> None:
            assert process.stdout is not None
            texts.append(process.stdout.read())
            process.stdout.close()
            process.wait()
            woken.put("exit")

        def stop() -> None:
            if cancel is not None and cancel.wait():
                woken.put("cancelled")

        reader = threading.Thread(target=read, daemon=True)
        reader.start()
        threading.Thread(target=stop, daemon=True).start()
        reason: Literal["exit", "timeout", "cancelled"] = "exit"
        try:
            self.groups.append(process.pid)  # from here on an interruption ends it
            said = woken.get(timeout=timeout)
            reason = "cancelled" if said == "cancelled" else "exit"
        except queue.Empty:
            reason = "timeout"
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)
            reader.join()
        if log is not None and texts[0]:
            with log.open("a") as stream:
                stream.write(texts[0])
        if on_output is not None:
            on_output(texts[0])
        return Ended(process.returncode, reason, time.monotonic() - began, texts[0][-8192:], reason)

    def alive(self) -> list[int]:
        """Processes that are left of what was started here, a moment after they were killed."""
        limit = time.monotonic() + 20
        while (found := self._members()) and time.monotonic() < limit:
            time.sleep(0.01)
        return found

    def _members(self) -> list[int]:
        found = []
        for process in psutil.process_iter():
            try:
                # Who takes over orphans may leave them as zombies.
                if os.getpgid(process.pid) in self.groups and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found


def a_check(name: str, kind: str = "command", **more: Any) -> Check:
    return Check(name=name, kind=kind, where=Where("steps.yaml", 1), **more)
