"""A run of the scaled plan that nobody disturbs: made once, while a test disturbs another one."""

from __future__ import annotations

import fcntl
import os
import subprocess
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.distillation.scaled.copies import Copy

EXIT = "exit"


def shared_folder(factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a run with pytest-xdist share."""
    base = factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


class Undisturbed:
    """Starts at once, in ``folder``, unless another worker has; use it in a ``with`` statement."""

    def __init__(self, folder: Path, patience: float) -> None:
        self._folder = folder
        self._patience = patience
        self._closed = False
        self._session: subprocess.Popen[bytes] | None = None
        self._threads = ThreadPoolExecutor(1)
        self._made: Future[None] = self._threads.submit(self._make)

    def wait(self) -> Copy:
        """The run, once it has ended well."""
        self._made.result(self._patience + 60)
        plan = Copy(self._folder)
        assert (plan.folder / EXIT).read_text() == "0", plan.tail()
        return plan

    def _make(self) -> None:
        with self._folder.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (self._folder / EXIT).exists() or self._closed:
                return
            plan = Copy.make(self._folder, scaled=True)
            self._session = plan.start("--steps", "all", "--steps-wait")
            try:
                code = self._session.wait(timeout=self._patience)
                (self._folder / EXIT).write_text(str(code))
            finally:
                plan.kill()

    def __enter__(self) -> Undisturbed:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        if self._session is not None:
            # What it has started is killed by the thread that waits for it.
            self._session.kill()
        self._threads.shutdown()
