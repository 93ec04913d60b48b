"""The output of a job on its way from the pipe to the log, and to everybody who listens."""

from __future__ import annotations

import codecs
import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from ..mains.command import TextWatch
from ..progress import ProgressReader
from ..redaction import Redactor
from ..telling import Telling
from .job_log import KEPT, JobLog
from .job_spec import LOG, OUTPUT, JobSpec

_PIECE = 65536
_AT_ONCE = 16
"""Pieces that are taken before anything else has its turn."""


class JobOutput:
    """Reads the pipe of a job.

    Args:
        folder: of the job; the pipe is made when it is missing.
        spec: size of the log, pattern of the progress, texts of criteria.
        redactor: what must not be shown.
        listener: told the redacted text as it comes.
        telling: told of progress and of criteria.

    Attributes:
        descriptor: readable when there is something to pump.
    """

    def __init__(
        self,
        folder: Path,
        spec: JobSpec,
        redactor: Redactor,
        listener: Callable[[str], None],
        telling: Telling,
    ) -> None:
        self._pipe = folder / OUTPUT
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._pipe, 0o600)
        # For writing too: without a writer the pipe would always be readable, as an end of file.
        self.descriptor = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._path = folder / LOG
        self._log = JobLog(self._path, spec.log_size)
        self._stream = redactor.stream()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._listener = listener
        self._telling = telling
        self._progress = ProgressReader(spec.progress)
        self._criteria = TextWatch(spec.criteria) if spec.criteria else None

    def pump(self) -> None:
        """Takes what is there."""
        for _ in range(_AT_ONCE):
            try:
                data = os.read(self.descriptor, _PIECE)
            except BlockingIOError:
                return
            self._take(self._stream.feed(data))

    def reopen(self) -> None:
        """Begins a log and a pipe anew where somebody has removed them; what is printed still comes."""
        self._log.close()
        with contextlib.suppress(FileExistsError):
            os.mkfifo(self._pipe, 0o600)

    def close(self) -> None:
        """Takes the rest, also what was held back."""
        self.pump()
        self._take(self._stream.close())
        self._hear(self._decoder.decode(b"", final=True))
        self._log.close()

    def read_again(self, listener: Callable[[str], None]) -> None:
        """Tells somebody what stands in the log already, and looks there for criteria."""
        paths = [self._path.with_name(f"{LOG}.{number}") for number in range(KEPT, 0, -1)]
        for path in [*paths, self._path]:
            if path.exists():
                with path.open(encoding="utf-8", errors="replace", newline="") as file:
                    while text := file.read(_PIECE):
                        listener(text)
                        self._meet(text)

    def _take(self, data: bytes) -> None:
        if data:
            self._log.write(data)
            self._hear(self._decoder.decode(data))

    def _hear(self, text: str) -> None:
        if not text:
            return
        self._listener(text)
        progress = self._progress.feed(text)
        if progress is not None:
            self._telling.seen(*progress)
        self._meet(text)

    def _meet(self, text: str) -> None:
        if self._criteria is not None:
            self._criteria.feed(text)
            for found in sorted(self._criteria.found - self._telling.met):
                self._telling.criterion(found)
