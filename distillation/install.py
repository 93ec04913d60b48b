"""Step 2: install what the plan needs and is missing, at the versions it was tested with.

``python -m distillation.install`` calls pip only when something is missing; ``--plan`` shows what it
would do, ``--check`` fails when something is missing. Neither of the two changes anything.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distillation import events
from distillation.command import execute
from distillation.errors import DistillationError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
REQUIREMENTS = ROOT / "requirements.txt"
CONSTRAINTS = ROOT / "constraints.txt"

PIP_TIMEOUT = 840
"""Seconds for one call of pip; what the plan needs is 1.3 GB on disk."""

Runner = Callable[[Sequence[str]], int]
"""Runs a command and returns its exit code."""


def read_requirements(path: Path) -> list[Requirement]:
    """The requirements in a pip file, those for other platforms left out.

    Raises:
        DistillationError: the file cannot be read, or a line is no requirement.
    """
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as cause:
        raise DistillationError(f"{path}: {cause.strerror or cause}") from cause
    found = []
    for number, line in enumerate(lines, 1):
        text = line.split("#", 1)[0].strip()
        if not text:
            continue
        try:
            requirement = Requirement(text)
        except InvalidRequirement as cause:
            raise DistillationError(
                f"{path}:{number}: not a requirement: {text}; write it as name>=1.0"
            ) from cause
        if requirement.marker is None or requirement.marker.evaluate():
            found.append(requirement)
    return found


def missing(requirements: Iterable[Requirement]) -> list[str]:
    """What is not installed or too old or new, with what it needs in turn: ``name>=1.0 (have 0.9)``."""
    from packaging.requirements import Requirement

    lacking: list[str] = []
    seen: set[str] = set()
    waiting = list(requirements)
    while waiting:
        requirement = waiting.pop(0)
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        plain = f"{requirement.name}{requirement.specifier}"
        try:
            have = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            lacking.append(plain)
            continue
        if not requirement.specifier.contains(have, prereleases=True):
            lacking.append(f"{plain} (have {have})")
            continue
        extras = requirement.extras or {""}
        for text in importlib.metadata.requires(requirement.name) or ():
            dependency = Requirement(text)
            marker = dependency.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(dependency)
    return lacking


def ensure(
    requirements: Sequence[Requirement], runner: Runner | None = None, constraints: Path = CONSTRAINTS
) -> list[str]:
    """Install what is missing, held by ``constraints``, into this interpreter's environment.

    Args:
        requirements: what must be there.
        runner: runs pip; the default lets its output through and waits ``PIP_TIMEOUT`` seconds.

    Returns:
        what was missing and is now installed; empty when nothing had to be done.

    Raises:
        DistillationError: there is no pip, or pip failed.
    """
    lacking = missing(requirements)
    if not lacking:
        return []
    if importlib.util.find_spec("pip") is None:
        raise DistillationError(
            f"{sys.executable} has no pip; install by hand: "
            f"uv pip install -r {REQUIREMENTS.name} -c {CONSTRAINTS.name}"
        )
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]
    command += ["--no-input", "--progress-bar", "off"]
    command += [*map(str, requirements), "-c", str(constraints)]
    code = (runner or _pip)(command)
    if code != 0:
        raise DistillationError(
            f"pip ended with exit code {code} while installing {', '.join(lacking)}; its reason stands above"
        )
    importlib.invalidate_caches()
    if still := missing(requirements):
        raise DistillationError(f"pip reported success but these are still missing: {', '.join(still)}")
    return lacking


def _pip(command: Sequence[str]) -> int:
    try:
        return subprocess.run(command, check=False, timeout=PIP_TIMEOUT).returncode
    except subprocess.TimeoutExpired as cause:
        raise DistillationError(
            f"pip did not finish within {PIP_TIMEOUT} s; run the step again, what was downloaded is kept"
        ) from cause


def main(argv: Sequence[str] | None = None) -> None:
    """The command of step 2."""
    parser = argparse.ArgumentParser(prog="python -m distillation.install", description=__doc__)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--plan", action="store_true", help="say what is missing and change nothing")
    mode.add_argument("--check", action="store_true", help="fail when something is missing")
    options = parser.parse_args(argv)
    requirements = read_requirements(REQUIREMENTS)
    # A broken constraints file is better named here, with its line, than by pip after the downloads.
    read_requirements(CONSTRAINTS)
    if options.plan or options.check:
        lacking = missing(requirements)
        print(f"requirements: {len(requirements)}\nmissing: {len(lacking)}")
        for name in lacking:
            print(f"  {name}")
        if options.check and lacking:
            raise DistillationError("not everything is installed; run python -m distillation.install")
        return
    installed = ensure(requirements)
    there = ", ".join(
        f"{r.name.replace('_', '-')} {importlib.metadata.version(r.name)}" for r in requirements
    )
    events.note(f"installed {len(installed)} missing, now {there}" if installed else f"all there: {there}")
    events.metric("packages_installed", len(installed))
    events.criterion("Requirements installed")


if __name__ == "__main__":
    execute(main)
