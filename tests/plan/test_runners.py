"""Runners as people write them, and what the model says of them."""

from __future__ import annotations

import pytest

from pytest_tinker_steps.plan import codec
from pytest_tinker_steps.plan.definitions import load
from pytest_tinker_steps.plan.model import Definitions, Runner
from pytest_tinker_steps.plan.shapes import runners

TEXT = """
runners:
  slurm: [srun, --gres=gpu:1, 010, no]
  ray: {command: [ray, submit, "--id={run}", --], stop: [ray, stop, "{run}"]}
step_1: {main: {command: make, runner: slurm}}
step_2: {main: {command: make, mode: background, runner: ray}}
step_3: {main: make}
"""


def test_a_runner_is_a_prefix_and_perhaps_a_stop() -> None:
    first, second, third = (step.main.runner for step in load(TEXT.encode(), "defs.yaml").steps)
    assert first == Runner("slurm", ("srun", "--gres=gpu:1", "010", "no"))
    assert second == Runner("ray", ("ray", "submit", "--id={run}", "--"), ("ray", "stop", "{run}"))
    assert third is None


def test_runners_survive_the_cache() -> None:
    given = load(TEXT.encode(), "defs.yaml")
    assert codec.decode(Definitions, codec.encode(given)) == given


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("--id={run}", ["run"]),
        ("{step}-{task_id}", ["step", "task_id"]),
        ("{chunk.index}", ["chunk.index"]),
        ("{Nonsense}", ["Nonsense"]),
        ('${HOME} {{.Names}} {{json}} {"gpus": 1} {} {a b} {0}', []),
    ],
)
def test_only_plain_words_in_braces_are_placeholders(word: str, names: list[str]) -> None:
    assert runners.named(word) == names
