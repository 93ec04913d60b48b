"""The plan as it ships, from the first step to the last, on the local engine: time and memory too."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.distillation.scaled.copies import Copy, demand_packages

LIMIT_SECONDS = 20 * 60
LIMIT_BYTES = 2 * 1024**3


def memory(processes: list[psutil.Process]) -> int:
    """Bytes that the processes hold together; pages that they share count once, where the system tells."""
    total = 0
    for process in processes:
        try:
            info = process.memory_full_info()
        except psutil.Error:
            continue
        total += getattr(info, "pss", info.rss)
    return total


@pytest.mark.full
def test_the_plan_runs_to_its_end_within_20_minutes_and_2_gb(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    demand_packages()
    plan = Copy.make(tmp_path / "plan", scaled=False)
    began = time.monotonic()
    session = plan.start("--steps", "all", "--steps-wait")
    peak = 0
    try:
        while session.poll() is None:
            assert time.monotonic() - began < LIMIT_SECONDS, plan.tail()
            peak = max(peak, memory(plan.processes()))
            time.sleep(0.5)
        seconds = time.monotonic() - began
        plan.finish(session, 1)
        plan.demand_whole()
    finally:
        plan.kill()
    record_property("seconds", round(seconds))
    record_property("peak_mb", round(peak / 1024**2))
    print(f"the whole plan: {seconds:.0f} s, at most {peak / 1024**2:.0f} MB")
    assert seconds < LIMIT_SECONDS
    assert peak < LIMIT_BYTES
    assert len(plan.lines("teacher_data_5000.jsonl")) == 5000
    assert len(plan.lines("training_logs/loss.txt")) == 1000
