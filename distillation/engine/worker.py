"""The one thread that computes: training tasks in the order they came, and sampling in between."""

from __future__ import annotations

import threading
from collections import deque

from distillation.engine.batch import Job
from distillation.engine.models import Task
from distillation.engine.sampling import Sampler


class Worker:
    """Runs tasks and sampling jobs until it is closed. Tasks and sampling steps take turns."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._tasks: deque[Task] = deque()
        self._jobs: deque[Job] = deque()
        self._news = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._loop, name="engine-worker", daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def run(self, task: Task) -> None:
        """Take a task; tasks run one after the other in this order."""
        with self._news:
            self._tasks.append(task)
            self._news.notify()

    def sample(self, job: Job) -> None:
        """Take a job for the sampler."""
        with self._news:
            self._jobs.append(job)
            self._news.notify()

    def close(self, patience: float = 5.0) -> None:
        """Stop after the task or step at hand; what is left is not done. Waits ``patience`` seconds."""
        with self._news:
            self._closed = True
            self._news.notify()
        self._thread.join(patience)

    def _loop(self) -> None:
        while True:
            with self._news:
                while not (self._closed or self._tasks or self._jobs or self._sampler.busy):
                    self._news.wait()
                if not self._tasks and (pause := self._sampler.waits_for_company()) > 0:
                    self._news.wait(pause)
                if self._closed:
                    return
                task = self._tasks.popleft() if self._tasks else None
                jobs, self._jobs = self._jobs, deque()
            for job in jobs:
                self._sampler.add(job)
            if task is not None:
                task()
            if self._sampler.busy:
                self._sampler.step()
