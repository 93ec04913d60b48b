"""Copies of the plan in folders of their own, run by a real pytest, as a user would."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests import shipped
from tests.distillation.conftest import ROOT

SCALED = Path(__file__).parent
DEFINITIONS = Path(".claude/tasks/step_definitions.yaml")
OURS = ("SPEC.md", "training_config.yaml", "data_generation_config.yaml")
NEEDED = ("torch", "tinker", "transformers", "peft", "sacrebleu", "matplotlib", "psutil", "yaml")

ARTEFACTS = (
    "engine.json",
    "dataset_report.json",
    "validation_report.json",
    "system_prompt.md",
    "teacher_trial.jsonl",
    "student_trial.jsonl",
    "teacher_data_5000.jsonl",
    "generation_report.json",
    "audit_report.json",
    "audited.jsonl",
    "train.jsonl",
    "val.jsonl",
    "split_report.json",
    "training_config.json",
    "cost_estimate.json",
    "training_trial.json",
    "training_logs/loss.txt",
    "training_logs/metrics.jsonl",
    "checkpoints/checkpoints.jsonl",
    "training_report.json",
    "evaluation_trial.jsonl",
    "evaluation_answers.jsonl",
    "evaluation_results.json",
    "metrics.json",
    "demo_transcript.md",
    "review_sheet.md",
    "review_sheet.json",
    "models/beethoven_distilled/adapter/adapter_model.safetensors",
    "models/beethoven_distilled/merged/model.safetensors",
    "figures/loss.png",
    "figures/similarity.png",
    "figures/cost.png",
    "RESULTS_REPORT.md",
    "DEPLOYMENT.md",
)
"""What every run leaves in its run folder."""

ASKED = "asked.txt"

NOTE_WHAT_IS_ASKED = f"""

def _noted(self: Sampler, prompt: Sequence[int], seed: int) -> Future[Any]:
    with open("{ASKED}", "a", encoding="utf-8") as asked:
        asked.write(f"{{seed}}\\n")
    return _submit(self, prompt, seed)


_submit = Sampler.submit
Sampler.submit = _noted
"""
"""Put behind ``distillation/sampling.py`` of a copy: what was asked is in no file of the plan, only what was
answered."""


def demand_packages() -> None:
    """Skip the test where the plan's packages are not installed: it must not install anything."""
    for module in NEEDED:
        # Looked for and not imported: only the steps need them.
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not installed")


class Copy:
    """The plan in ``folder``, which ``make`` has made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run_folder = folder / "runs" / "local"
        self.log = folder / "session.log"

    @classmethod
    def make(cls, folder: Path, *, scaled: bool) -> Copy:
        """Copy the plan to ``folder``: with the small numbers of the tests, or as it ships.

        A scaled one notes every question that is put to a model, see ``unanswered``.
        """
        source = SCALED if scaled else ROOT
        definitions = SCALED / DEFINITIONS.name if scaled else ROOT / DEFINITIONS
        shutil.copytree(ROOT / "distillation", folder / "distillation")
        if scaled:
            with (folder / "distillation" / "sampling.py").open("a", encoding="utf-8") as module:
                module.write(NOTE_WHAT_IS_ASKED)
        (folder / DEFINITIONS).parent.mkdir(parents=True)
        shutil.copy2(definitions, folder / DEFINITIONS)
        ours = [source / name for name in OURS]
        for path in (*ours, ROOT / "requirements.txt", ROOT / "constraints.txt"):
            shutil.copy2(path, folder)
        if not scaled:
            (folder / "SPEC.md").write_text(shipped.the_list(), encoding="utf-8")
        return cls(folder)

    def environment(self) -> dict[str, str]:
        """That of a user without a key; nothing of the tests that run now, and no network."""
        unwanted = ("TINKER_", "PYTEST_", "DISTILLATION_", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
        # An installer that is called all the same fails: it has nowhere to look.
        barred = {"HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1"}
        return kept | barred | {"PYTHONPATH": str(self.folder)}

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start ``python -m pytest`` with these arguments; what it says is added to ``log``."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
                cwd=self.folder,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self, session: subprocess.Popen[bytes], seconds: float) -> None:
        """Wait for the end of a session, which must be a good one."""
        code = session.wait(timeout=seconds)
        assert code == 0, f"exit {code}\n{self.tail()}"

    def module(self, name: str, *arguments: str) -> str:
        """Run ``python -m distillation.<name>`` to its good end; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", f"distillation.{name}", *arguments],
            cwd=self.folder,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def tail(self) -> str:
        """The end of what the sessions said."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-6000:]

    def processes(self) -> list[psutil.Process]:
        """All that runs for this copy: pytest, mains, engines, jobs, supervisors, guardians."""
        found = []
        for process in psutil.process_iter():
            try:
                # An engine has the folder in it twice.
                if str(self.folder) in process.environ().get("PYTHONPATH", "").split(os.pathsep):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def kill(self) -> None:
        """Kill all that runs for this copy, as a machine does that loses its power."""
        # Once more until nothing is left: a process may start another one just before its end.
        while found := self.processes():
            for process in found:
                try:
                    os.kill(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            psutil.wait_procs(found, timeout=10)

    def kill_when(
        self,
        session: subprocess.Popen[bytes],
        reached: Callable[[], bool],
        *,
        only_pytest: bool = False,
        seconds: float = 600,
    ) -> None:
        """Kill what runs for this copy as soon as ``reached``, which must be before the session ends.

        Args:
            session: that of pytest.
            reached: looked at fifty times a second.
            only_pytest: and not what it has started, as somebody does who kills a process.
            seconds: in which it must be reached.
        """
        deadline = time.monotonic() + seconds
        while not reached():
            assert session.poll() is None, f"the session ended before\n{self.tail()}"
            assert time.monotonic() < deadline, f"not reached in {seconds:g} s\n{self.tail()}"
            time.sleep(0.02)
        if only_pytest:
            session.kill()
        else:
            self.kill()
        session.wait(timeout=60)

    def lines(self, name: str) -> list[str]:
        """The whole lines of a file of the run folder; none when it is not there."""
        path = self.run_folder / name
        if not path.exists():
            return []
        return path.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()

    def read(self, name: str) -> str:
        """The text of a file of the run folder."""
        return (self.run_folder / name).read_text(encoding="utf-8")

    @property
    def unanswered(self) -> int:
        """Questions that were put to a model and whose answer is in neither memory, in a scaled copy."""
        asked = self.folder / ASKED
        remembered = [*self.lines("teacher_memory.jsonl"), *self.lines("evaluation_memory.jsonl")]
        return (asked.read_bytes().count(b"\n") if asked.exists() else 0) - len(remembered)

    @property
    def ticked(self) -> list[int]:
        """The steps whose boxes are ticked."""
        found = re.findall(
            r"^- \[x\] \*\*STEP (\d+)\*\*", (self.folder / "SPEC.md").read_text(), re.MULTILINE
        )
        return [int(number) for number in found]

    def demand_whole(self) -> None:
        """All is ticked and there, the numbers of the report are those of the files, and nothing runs on."""
        assert self.ticked == list(range(1, 21)), self.tail()
        missing = [name for name in ARTEFACTS if not (self.run_folder / name).is_file()]
        assert missing == []
        assert not (self.folder / "runs" / "tinker").exists()
        said = self.module("report", "--check")
        values = re.search(r"(?m)^values in report: (\d+)$", said)
        assert values is not None
        assert int(values[1]) >= 80
        assert "first line: Local engine: a rehearsal" in said
        # Monitors and guardians have a moment to notice that it is over.
        left = psutil.wait_procs(self.processes(), timeout=60)[1]
        assert [" ".join(process.cmdline()) for process in left] == []
