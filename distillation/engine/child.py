"""The engine as a child process: started, waited for, watched, and ended.

It dies with its parent whatever happens to that, because it ends when the pipe to it closes. When it is
the engine that dies, a stand-in takes over its port and refuses every request with the reason, so that
the SDK, which would try to reach a silent port for minutes, gives up at once.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from distillation.errors import DistillationError

PROJECT = Path(__file__).parents[2]

LAST_LINES = 5
"""Lines of the engine's own words that an error repeats."""

ACCEPTED = b'{"status": "accepted"}'

END_PATIENCE = 5.0
"""Seconds that the engine has to end by itself."""


class Child:
    """A running engine.

    Attributes:
        address: its base URL.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: IO[bytes], address: str) -> None:
        self.address = address
        self._process = process
        self._log = log
        self._closing = threading.Event()
        self._stand_in: _StandIn | None = None
        self._watch = threading.Thread(target=self._look_after, name="engine-watch", daemon=True)
        self._watch.start()

    @property
    def pid(self) -> int:
        """Of its process."""
        return self._process.pid

    def obituary(self) -> str | None:
        """How the engine ended, on one line; ``None`` while it runs."""
        code = self._process.poll()
        if code is None:
            return None
        return f"the local engine has ended with exit code {code}{_last_words(self._log)}; run the step again"

    def close(self) -> None:
        """End the engine."""
        self._closing.set()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(END_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._watch.join()
        if self._stand_in is not None:
            self._stand_in.close()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _look_after(self) -> None:
        self._process.wait()
        reason = None if self._closing.is_set() else self.obituary()
        if reason is not None:
            self._stand_in = _StandIn(int(urlsplit(self.address).port or 0), reason)


@contextmanager
def engine(model: str, root: Path, patience: float) -> Iterator[Child]:
    """Start an engine, wait until it answers, and end it afterwards.

    Args:
        model: the model's folder.
        root: of its checkpoints.
        patience: seconds until it must answer.

    Raises:
        DistillationError: it did not come up; with its last lines.
    """
    command = [sys.executable, "-m", "distillation.engine", "serve", "--parent-pipe"]
    command += ["--model", model, "--root", str(root.absolute())]
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, cwd=PROJECT
        )
        try:
            address = _address(process, log, patience)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        child = Child(process, log, address)
        try:
            yield child
        finally:
            child.close()


def _address(process: subprocess.Popen[bytes], log: IO[bytes], patience: float) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + patience
    line = b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while not line.endswith(b"\n"):
            if not selector.select(max(0.0, deadline - time.monotonic())):
                raise DistillationError(
                    f"the local engine did not answer within {patience:g} s{_last_words(log)}; "
                    "the machine may be too busy: run the step again"
                )
            piece = os.read(process.stdout.fileno(), 4096)
            if not piece:
                code = process.wait()
                raise DistillationError(
                    f"the local engine did not come up, exit code {code}{_last_words(log)}; "
                    "mend that and run the step again"
                )
            line += piece
    return str(json.loads(line)["address"])


def _last_words(log: IO[bytes]) -> str:
    # The engine writes through the same open file: reading by offset leaves its place alone.
    size = os.fstat(log.fileno()).st_size
    begin = max(0, size - 4000)
    text = os.pread(log.fileno(), size - begin, begin).decode("utf-8", errors="replace")
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    # Where the engine names the mistake itself, what its libraries said before does not help.
    lines = [line for line in lines[-1:] if line.startswith("error: ")] or lines
    return f" (it said: {' | '.join(lines[-LAST_LINES:])})" if lines else ""


class _StandIn:
    """Answers in the place of an engine that has ended."""

    def __init__(self, port: int, reason: str) -> None:
        body = json.dumps({"detail": reason}).encode()

        class Answer(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _refuse(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                # The SDK would print a traceback for every piece of telemetry that is refused.
                told = self.path.endswith("/telemetry")
                # 403: of all refusals the one that the SDK neither retries nor takes for its own mistake.
                self.send_response(200 if told else 403)
                self.send_header("Content-Type", "application/json")
                answer = ACCEPTED if told else body
                self.send_header("Content-Length", str(len(answer)))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_DELETE = _refuse  # noqa: N815 - the library's names

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing: the reason is said once, by who used the engine."""

        self._server: ThreadingHTTPServer | None = None
        # Without the port, which somebody else may have taken, the SDK takes its own time to give up.
        with suppress(OSError):
            self._server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
            self._server.daemon_threads = True
            threading.Thread(target=self._server.serve_forever, name="engine-stand-in", daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
