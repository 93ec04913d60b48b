"""How the plan's programs end: with the exit code they earned, whatever the SDK's threads are doing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.distillation.conftest import ROOT

# Stands for the SDK, whose native threads now and then abort a process that takes its interpreter down: this
# one always does.
FAKE_SDK = """
import os, sys, types

class Abort:
    def __del__(self):
        os.abort()

sys.modules["tinker"] = types.ModuleType("tinker")
sys.modules["tinker"].thread = Abort()
"""

PROGRAM = """
import atexit, sys
from distillation.command import execute
from distillation.errors import DistillationError

def main(argv):
    atexit.register(print, "at exit")
    print("said")
    {ending}

execute(main)
"""


def ended(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("sdk", ["", FAKE_SDK], ids=["without the SDK", "with the SDK"])
@pytest.mark.parametrize(
    ("ending", "code", "error"),
    [
        ("pass", 0, ""),
        ("raise DistillationError('no; do that')", 1, "error: no; do that\n"),
        ("raise SystemExit(130)", 130, ""),
    ],
)
def test_a_program_ends_with_the_code_it_earned(ending: str, code: int, error: str, sdk: str) -> None:
    done = ended(sdk + PROGRAM.format(ending=ending))
    assert (done.returncode, done.stdout, done.stderr) == (code, "said\nat exit\n", error)


def test_the_fake_aborts_a_process_that_takes_its_interpreter_down() -> None:
    assert ended(FAKE_SDK + "print('said')").returncode == -6
