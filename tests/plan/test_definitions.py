"""Definitions as people write them, and what the model says of them."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest

from pytest_tinker_steps.plan.definitions import load
from pytest_tinker_steps.plan.model import (
    Check,
    Definition,
    Definitions,
    IdentityPart,
    Need,
    PlanError,
    Retry,
    TestFirst,
)
from tests.counting import calls_of


def read(text: str) -> Definitions:
    return load(text.encode(), "defs.yaml")


def one(text: str) -> Definition:
    (step,) = read(text).steps
    return step


def check(text: str) -> Check:
    (made,) = one(f"step_1: {{pre_flight: [{{{text}}}]}}").pre_flight
    return made


def problems(text: str) -> list[str]:
    with pytest.raises(PlanError) as caught:
        read(text)
    return list(caught.value.problems)


# --- files and steps


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "---\n", "{}", "[]", "steps:\n"])
def test_file_without_steps_is_fine(text: str) -> None:
    assert read(text).steps == ()


def test_digest_is_that_of_the_bytes() -> None:
    assert read("{}").digest == hashlib.sha256(b"{}").hexdigest()


@pytest.mark.parametrize(
    ("key", "step"),
    [
        ("step_13", "13"),
        ("step_13_training", "13"),
        ("step_013_x", "013"),
        ("step_2.10_x", "2.10"),
        ("step_T012_x_y", "T012"),
        ("step_CR-A_foo", "CR-A"),
    ],
)
def test_id_is_what_follows_step_up_to_the_next_underscore(key: str, step: str) -> None:
    assert one(f"{key}:").step == step


@pytest.mark.parametrize("form", ["steps:\n  - step: {}\n", "- step: {}\n"])
@pytest.mark.parametrize("step", ["13", "2.10", "013", "no", "1e3", '"2.10"'])
def test_id_in_the_list_form_is_taken_as_typed(form: str, step: str) -> None:
    made = one(form.format(step))
    assert (made.step, made.key) == (step.strip('"'), f"step: {step.strip(chr(34))}")


def test_steps_of_both_forms_keep_the_order_of_the_file() -> None:
    both = "step_2: {}\nsteps: [{step: 1}, {step: 3}]\nstep_0: {}"
    assert [step.step for step in read(both).steps] == ["2", "1", "3", "0"]


def test_defaults_hold_where_a_step_says_nothing() -> None:
    first, second = read(
        "defaults: {env: {A: 1, B: 2}, cwd: work, identity: {engine: local}}\n"
        "step_1:\n"
        "step_2: {env: {B: 3, C: no}, cwd: other, identity: []}\n"
    ).steps
    assert (first.env, first.cwd) == ((("A", "1"), ("B", "2")), "work")
    assert first.identity == (IdentityPart("engine", "local"),)
    assert second.env == (("A", "1"), ("B", "3"), ("C", "no"))
    assert (second.cwd, second.identity) == ("other", ())


def test_secrets_are_names() -> None:
    assert read("secrets: [DSN, PIN]").secrets == ("DSN", "PIN")


@pytest.mark.parametrize(
    ("needs", "expected"),
    [
        ("[]", ()),
        ("13", (Need("13"),)),
        (
            '[2.10, "13@started", 4@ended, 5@passed]',
            (Need("2.10"), Need("13", "started"), Need("4", "ended"), Need("5")),
        ),
    ],
)
def test_needs(needs: str, expected: tuple[Need, ...]) -> None:
    assert one(f"step_20: {{needs: {needs}}}").needs == expected


def test_identity_as_mapping_and_as_list() -> None:
    variable = "{env: TINKER_API_KEY, set: hosted, unset: local}"
    part = IdentityPart("engine", "", "TINKER_API_KEY", "hosted", "local")
    assert one(f"step_1: {{identity: {{engine: {variable}, size: 010}}}}").identity == (
        part,
        IdentityPart("size", "010"),
    )
    assert one(f"step_1: {{identity: [v2, {variable}, {{name: n, env: HOME}}]}}").identity == (
        IdentityPart("", "v2"),
        IdentityPart("TINKER_API_KEY", "", "TINKER_API_KEY", "hosted", "local"),
        IdentityPart("n", "", "HOME"),
    )


def test_variable_that_the_file_calls_secret_is_no_identity() -> None:
    text = "secrets: DSN\nstep_1: {identity: {db: {env: DSN}}}"
    (problem,) = problems(text)
    assert problem.startswith("defs.yaml:2: the value of DSN looks secret and would be stored; ")


# --- checks


@pytest.mark.parametrize(
    ("text", "kind", "probe"),
    [
        ("env: HOME", "env", {"names": ["HOME"]}),
        ("env: [A, B]", "env", {"names": ["A", "B"]}),
        ("import: os.path", "import", {"modules": ["os.path"]}),
        ("file: a/*.txt", "file", {"path": "a/*.txt", "min_bytes": None, "contains": None}),
        (
            "file: {path: a, min_bytes: 1 kB, contains: 007}",
            "file",
            {"path": "a", "min_bytes": 1000, "contains": "007"},
        ),
        ("json: a.json", "json", {"path": "a.json", "required": [], "min_rows": None}),
        (
            "jsonl: {path: a, required: [x, 1.0], min_rows: 5}",
            "jsonl",
            {"path": "a", "required": ["x", "1.0"], "min_rows": 5},
        ),
        ("yaml: {path: a, required: x}", "yaml", {"path": "a", "required": ["x"], "min_rows": None}),
        ("executable: [git, uv]", "executable", {"names": ["git", "uv"]}),
        ("disk_free: 2 GB", "disk_free", {"path": ".", "bytes": 2 * 10**9}),
        ("disk_free: {path: /, at_least: 1.5GiB}", "disk_free", {"path": "/", "bytes": 3 * 2**29}),
        ("disk_free: 500MB", "disk_free", {"path": ".", "bytes": 500 * 10**6}),
        ("port: 8080", "port", {"host": "127.0.0.1", "port": 8080, "open": True}),
        ("port: {host: db, port: 1, open: false}", "port", {"host": "db", "port": 1, "open": False}),
        ("http: 'http://x/y'", "http", {"url": "http://x/y", "status": 200, "contains": None}),
        (
            "http: {url: 'https://x', status: 204, contains: ok}",
            "http",
            {"url": "https://x", "status": 204, "contains": "ok"},
        ),
        ("python: pkg.checks:all_there", "python", {"target": "pkg.checks:all_there"}),
    ],
)
def test_probes_reach_the_model_in_one_form(text: str, kind: str, probe: dict[str, object]) -> None:
    made = check(text)
    assert (made.kind, made.name, made.probe, made.command) == (kind, kind, probe, None)


def test_mapping_under_env_is_the_environment_and_not_a_probe() -> None:
    made = check("command: make, env: {LEVEL: 010, EMPTY: , ON: yes}")
    assert (made.kind, made.probe) == ("command", {})
    assert made.env == (("LEVEL", "010"), ("EMPTY", ""), ("ON", "yes"))


def test_check_with_everything() -> None:
    made = check(
        "name: loss, command: [python, -m, loss, 2.10], timeout: 1.5h, parallel: false, critical: false, "
        "expect: {exit: 3, match: '^ok', not_match: nan}, fix: make, retries: 3, cwd: sub, "
        "metric: {name: loss, pattern: 'loss=(.*)', min: 0, max: 1.5}"
    )
    assert made.command == ("python", "-m", "loss", "2.10")
    assert (made.name, made.timeout, made.parallel, made.critical) == ("loss", 5400.0, False, False)
    assert (made.expect.exit, made.expect.match, made.expect.not_match) == (3, "^ok", "nan")
    assert (made.fix, made.retry, made.cwd) == ("make", Retry(attempts=4), "sub")
    assert made.metric is not None
    assert (made.metric.pattern, made.metric.min, made.metric.max) == ("loss=(.*)", 0, 1.5)


def test_check_says_when_its_timeout_is_the_default() -> None:
    made = check("command: git status --short")
    assert (made.name, made.timeout, made.timeout_given) == ("git", 30.0, False)


@pytest.mark.parametrize(
    "judge", ["expect: {match: x}", "expect: {not_match: x}", "metric: {name: n, pattern: (x)}"]
)
def test_filter_whose_output_is_judged_is_not_warned_of(judge: str) -> None:
    assert read(f"step_1: {{pre_flight: [{{command: 'cat x | head', {judge}}}]}}").warnings == ()


# --- mains


def test_main_may_be_a_command() -> None:
    main = one("step_1: {main: make all}").main
    assert (main.kind, main.command) == ("command", "make all")


def test_main_without_anything_to_run_is_left_to_the_run() -> None:
    assert one("step_1: {main: {objective: think}}").main.kind == "none"


def test_arguments_are_taken_as_typed() -> None:
    main = one("step_1: {main: {script: a.py, args: [--lr, 1e-4, no, 2.10], test_first: [--n, 010]}}").main
    assert main.args == ("--lr", "1e-4", "no", "2.10")
    assert main.test_first == TestFirst(args=("--n", "010"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("false", False),
        ("", None),
        ("make try", TestFirst(command="make try")),
        ("{env: {N: 2}, timeout: 5m}", TestFirst(env=(("N", "2"),), timeout=300.0)),
        ("{command: [a, b], timeout: 5}", TestFirst(command=("a", "b"), timeout=5.0)),
    ],
)
def test_ways_to_test_first(text: str, expected: object) -> None:
    assert one(f"step_1:\n  main:\n    script: a.py\n    test_first: {text}\n").main.test_first == expected


def test_step_gives_its_main_timeout_and_retries_unless_the_main_says_otherwise() -> None:
    first, second = read(
        "step_1: {timeout: 2m, main: x,\n"
        "  retries: {attempts: 2, delay: 1m, backoff: 2, jitter: 0.1, when: [exit]}}\n"
        "step_2: {timeout: 2m, retries: 5, main: {command: x, timeout: 9, retries: 0}}\n"
    ).steps
    assert (first.main.timeout, first.main.timeout_given) == (120.0, True)
    assert first.main.retry == Retry(2, 60.0, 2.0, 0.1, ("exit",))
    assert (second.main.timeout, second.main.retry) == (9.0, Retry())


def test_criterion_with_a_check_is_named_after_its_text() -> None:
    (criterion,) = one(
        "step_1: {main: {success_criteria: [{text: model saved, check: {file: model.bin}}]}}"
    ).main.criteria
    assert criterion.check is not None
    assert (criterion.text, criterion.check.name, criterion.check.kind) == (
        "model saved",
        "model saved",
        "file",
    )


@pytest.mark.parametrize(
    ("main", "warned"),
    [
        ("{command: x, timeout: 301}", True),
        ("{command: x, timeout: 300}", False),
        ("{command: x, timeout: 301, test_first: false}", False),
        ("{command: x, timeout: 301, test_first: make try}", False),
        ("{command: x, timeout: 301, mode: background}", False),
    ],
)
def test_long_main_without_a_test_is_warned_of(main: str, warned: bool) -> None:
    assert read(f"step_1:\n  main: {main}\n").warnings == (
        (
            "defs.yaml:2: the main may take 301 s and nothing is tried before; "
            "declare 'test_first', or 'test_first: false'",
        )
        if warned
        else ()
    )


def test_checks_may_be_shared_by_anchors_and_merged() -> None:
    first, second = read(
        "step_1: {pre_flight: [&c {command: ls, timeout: 5}]}\n"
        "step_2: {pre_flight: [*c, {<<: *c, timeout: 7}]}\n"
    ).steps
    assert [c.timeout for c in (*first.pre_flight, *second.pre_flight)] == [5, 5, 7]


def test_model_is_imported_without_the_checking_of_definitions() -> None:
    code = (
        "import sys, pytest_tinker_steps.plan.model; "
        "sys.exit('pydantic' in sys.modules or 'yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0


def test_a_step_costs_no_more_among_many() -> None:
    step = """
step_{n}_work:
  needs: [{n}]
  pre_flight:
    - task: check_data
      command: "ls -lh train.jsonl val.jsonl"
      timeout: 5
    - file: {{path: a.txt, min_bytes: 10}}
  main:
    objective: "Start model training"
    script: "06_train_student_model.py"
    timeout: 300
    success_criteria: ["Training started", "First checkpoint saved"]
  post_validation:
    - {{task: verify, command: "python -c 'import tinker'", timeout: 10}}
  background:
    - {{task: loss, command: "tail -n 1 loss.txt", interval: 60, alert_on: "error|nan"}}
"""

    def calls(count: int) -> int:
        text = "".join(step.format(n=n) for n in range(count))
        made = calls_of(lambda: read(text))
        assert len(read(text).steps) == count
        return made

    assert calls(400) < calls(100) * 4 * 1.2
