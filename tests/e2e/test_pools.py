"""What there is only so much of: the same verdicts, and never two at once, in every mode."""

from __future__ import annotations

import pytest

from .conftest import Project

MODES = pytest.mark.parametrize("args", [("-n", "0"), ("-n", "3")], ids=" ".join)

ONE_AT_A_TIME = (
    "pools: {gpu: 1}\n"
    + "".join(
        f"step_{n}: {{needs: [], resources: {{gpu: 1}},"
        " main: 'mkdir busy && sleep 0.3 && rmdir busy && echo x >>done'}\n"
        for n in (1, 2, 3)
    )
    + "step_4: {needs: [], exclusive: true, main: 'test ! -e busy && touch alone && sleep 0.3 && rm alone'}\n"
    "step_5: {needs: [], main: 'test ! -e alone && sleep 0.3 && test ! -e alone'}\n"
)


@MODES
def test_steps_that_take_the_same_never_run_at_once(project: Project, args: tuple[str, ...]) -> None:
    project.steps(*"abcde").define(ONE_AT_A_TIME)
    run = project.start("--steps", "all", *args)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    assert project.ticked == ["1", "2", "3", "4", "5"]


JOB = """
pools: {gpu: 1}
step_1:
  main:
    mode: background
    command: touch holds; echo ready; until test -e seen; do sleep 0.1; done; sleep 0.5; rm holds
    ready_when: {line: ready}
  resources: {gpu: 1}
step_2: {needs: ["1@started"], main: test -e holds && touch seen}
step_3: {needs: ["1@started"], resources: {gpu: 1}, main: test ! -e holds}
step_4: {needs: ["1@started"], exclusive: true, main: test ! -e holds}
"""

ALONE = JOB.replace("until test -e seen; do sleep 0.1; done; sleep 0.5", "sleep 1")
"""Its step 2, which the job waits for, is not selected."""


@MODES
def test_a_job_keeps_what_its_step_took_until_it_ends(project: Project, args: tuple[str, ...]) -> None:
    project.steps(*"abcd").define(JOB)
    run = project.start("--steps", "all", *args)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    assert project.ticked == ["1", "2", "3", "4"], output


@pytest.mark.slow
@MODES
def test_a_later_session_waits_for_the_job_of_an_earlier_one(project: Project, args: tuple[str, ...]) -> None:
    project.steps(*"abcd").define(ALONE.replace("sleep 1", "sleep 3"))
    assert project.run("--steps", "1").ret == 0
    run = project.start("--steps", "3", *args)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 0, output
    assert project.ticked == ["1", "3"], output


@pytest.mark.slow
@MODES
def test_a_failed_job_gives_back_what_it_had(project: Project, args: tuple[str, ...]) -> None:
    project.steps(*"abcd").define(ALONE.replace("rm holds", "rm holds; exit 3"))
    run = project.start("--steps", "1,3", *args)
    output, _ = run.communicate(timeout=120)
    assert run.returncode == 1, output
    assert project.verdicts() == {"1": "failed", "3": "passed"}, output
