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


TWO_MODES = pytest.mark.parametrize("args", [("-n", "0"), ("-n", "2")], ids=" ".join)


@TWO_MODES
def test_jobs_never_have_more_than_there_is_and_every_mode_says_the_same(
    project: Project, args: tuple[str, ...]
) -> None:
    command = "echo ready; echo + >>held; sleep 0.3; echo - >>held"
    job = f"main: {{mode: background, command: '{command}', ready_when: {{line: ready}}}}"
    project.steps(*"abcd").define(
        "pools: {gpu: 2}\n"
        + "".join(f"step_{n}: {{needs: [], resources: {{gpu: 1}}, {job}}}\n" for n in (1, 2))
        + "step_3: {needs: [], resources: {gpu: 1}, main: 'echo + >>held; sleep 0.3; echo - >>held'}\n"
        "step_4: {needs: [], main: 'true'}\n"
    )
    run = project.start("--steps", "all", "--steps-wait", *args)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 0, output
    assert project.ticked == ["1", "2", "3", "4"]
    held = most = 0
    for sign in (project.path / "held").read_text().split():
        held += 1 if sign == "+" else -1
        most = max(most, held)
    assert most == 2


@TWO_MODES
def test_a_job_that_is_not_started_holds_nothing(project: Project, args: tuple[str, ...]) -> None:
    project.steps(*"abc").define(
        "pools: {gpu: 1}\n"
        "step_1: {main: 'false'}\n"
        "step_2: {needs: [1], resources: {gpu: 1}, main: {mode: background, command: sleep 61}}\n"
        "step_3: {needs: [], resources: {gpu: 1}, main: 'true'}\n"
    )
    run = project.start("--steps", "all", *args)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1, output
    assert project.ticked == ["3"]
    assert "step_2  blocked by step_1 (failed)" in output


@TWO_MODES
def test_what_is_only_reported_asks_no_pool(project: Project, args: tuple[str, ...]) -> None:
    project.steps(*"abc", ticked=(1,)).define(
        "pools: {gpu: 1}\n"
        "step_1: {needs: [], resources: {gpu: 1}, main: 'true', post_validation: [{file: SPEC.md}]}\n"
        "step_2: {needs: [], resources: {gpu: 1}, main: {mode: background, ready_when: {line: up},"
        " command: 'echo up; until test -e over; do sleep 0.1; done'}}\n"
        "step_3: {needs: [4], resources: {gpu: 1}, main: 'true'}\n"
        "step_4: {needs: [], main: 'true'}\n"
    )
    project.write("SPEC.md", project.spec + "- [ ] **STEP 4**: d\n")
    try:
        assert project.run("--steps", "2").ret == 0
        verified = project.start("--steps-verify", *args)
        output, _ = verified.communicate(timeout=60)
        assert (verified.returncode, "1 of 1 ticks hold" in output) == (0, True), output
        refused = project.start("--steps", "2,3", *args)
        output, _ = refused.communicate(timeout=60)
        assert "step_3 needs step_4, neither done nor selected; run: pytest --steps 3,4" in output
        assert "→ step_2  started" in output
    finally:
        project.write("over", "")


@TWO_MODES
def test_tests_run_beside_a_job_that_nothing_else_may_run_beside(
    project: Project, args: tuple[str, ...]
) -> None:
    project.steps("a").define(
        "step_1: {exclusive: true, main: {mode: background, ready_when: {line: up},"
        " command: 'echo up; until test -e over; do sleep 0.1; done'}}\n"
    )
    project.write(
        "test_more.py", "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test(n): assert n != 2\n"
    )
    try:
        run = project.start("--steps", "all", "SPEC.md", "test_more.py", *args)
        output, _ = run.communicate(timeout=60)
    finally:
        project.write("over", "")
    assert run.returncode == 1, output
    assert "1 failed, 3 passed, 1 started" in output
