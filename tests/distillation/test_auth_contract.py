"""Step 1 with the real SDK against a fake service on the loopback: what the SDK sends and raises today."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.distillation.conftest import ROOT

KEY = "tml-0123456789abcdef"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("tinker") is None, reason="the SDK is not installed: step 2 installs it"
    ),
]


class FakeService(ThreadingHTTPServer):
    """Answers the SDK's requests; ``status`` is what asking for the capabilities gets."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), FakeAnswers)
        self.status = 200
        self.keys: list[str | None] = []


class FakeAnswers(BaseHTTPRequestHandler):
    server: FakeService

    def do_GET(self) -> None:
        self.server.keys.append(self.headers.get("x-api-key"))
        self._answer(self.server.status, {"supported_models": []})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(200, {})

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value if status == 200 else {"detail": "no"}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the test reads the step's own output."""


@pytest.fixture
def service() -> Iterator[FakeService]:
    with FakeService() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


def step_1(service: FakeService) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "TINKER_API_KEY": KEY,
        "TINKER_BASE_URL": f"http://127.0.0.1:{service.server_port}",
    }
    return subprocess.run(
        [sys.executable, "-m", "distillation.auth"],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )


def test_a_key_that_is_taken_is_sent_once_and_recorded(service: FakeService) -> None:
    done = step_1(service)
    assert done.returncode == 0, done.stderr
    assert service.keys == [KEY]
    assert json.loads(Path("runs/tinker/engine.json").read_text())["authenticated"] is True
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "AuthenticationError: .*; the service refused the key"),
        (402, "BillingError: .*; the account has no billing yet"),
        (403, "PermissionDeniedError: .*; the key is known but may not use this service"),
    ],
)
def test_a_refusal_is_one_line_that_says_what_to_do(status: int, advice: str, service: FakeService) -> None:
    service.status = status
    done = step_1(service)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert re.search(advice, line), line
    assert KEY not in done.stdout + done.stderr
    assert not Path("runs/tinker/engine.json").exists()
