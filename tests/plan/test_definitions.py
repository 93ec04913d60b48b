"""Definitions files as people write them, and what the model says of them."""

from __future__ import annotations

import gc
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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

ERRORS = Path(__file__).parent / "definitions_errors"
CASES = sorted(ERRORS.glob("*.yaml"))

TRAINING = """\
# .claude/tasks/step_definitions.yaml

step_1_setup_api:
  pre_flight:
    - task: "verify_env"
      command: "echo $TINKER_API_KEY | head -c 10"
      timeout: 5
      parallel: true
    - task: "check_python"
      command: "python -c 'import sys; print(sys.version)'"
      timeout: 5
      parallel: true
    - task: "test_imports"
      command: "python -c 'import tinker'"
      timeout: 10
      parallel: true

  main:
    agent: "tinker-executor"  # Uses .claude/agents/AGENT.md
    skills: ["tinker-api"]     # Uses .claude/skills/tinker-api/
    objective: "Verify Tinker API authentication"
    script: "01_test_auth.py"
    timeout: 300
    success_criteria:
      - "API key validated"
      - "Authentication successful"

  post_validation:
    - task: "verify_connection"
      command: "python -c 'import tinker; tinker.Client()'"
      timeout: 10
      parallel: true
    - task: "log_completion"
      command: "echo 'Step 1 complete' >> .task_log"
      timeout: 5
      parallel: true

step_13_training:
  pre_flight:
    - task: "check_data"
      command: "ls -lh train.jsonl val.jsonl"
      timeout: 5
      parallel: true
    - task: "check_config"
      command: "cat training_config.yaml | head -20"
      timeout: 5
      parallel: true
    - task: "check_disk"
      command: "df -h . | grep -E '^/'"
      timeout: 5
      parallel: true

  main:
    agent: "tinker-executor"  # Uses .claude/agents/AGENT.md
    skills: ["tinker-api"]     # Uses .claude/skills/tinker-api/
    objective: "Start model training"
    script: "06_train_student_model.py"
    mode: "background"  # Special mode for long-running
    timeout: 300  # Just for startup, not full training
    success_criteria:
      - "Training started"
      - "First checkpoint saved"

  background:
    - task: "monitor_loss"
      command: "tail -n 1 training_logs/loss.txt"
      interval: 60  # Check every minute
      alert_on: "error|failed|nan"
    - task: "watch_checkpoints"
      command: "ls -lht checkpoints/ | head -5"
      interval: 120  # Check every 2 minutes
    - task: "check_memory"
      command: "ps aux | grep train_student | head -1"
      interval: 180
"""

GENERATION = """\
step_8_generate_data:
  pre_flight:
    - explore: "Check existing JSONL files"  # 10s
    - verify: "Test teacher model access"    # 10s
    - estimate: "Calculate time/cost"        # 5s

  main:
    mode: "chunked"  # Special handling
    chunks:
      - size: 100   # Generate 100, check quality
      - size: 900   # If good, generate 900 more
      - size: 4000  # If still good, complete
    checkpoint_every: 500

  background:
    - monitor: "wc -l teacher_data_*.jsonl"
    - check: "tail -1 generation.log"
    - alert: "grep ERROR generation.log"
"""


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


# --- the shapes that people have


def test_step_with_checks_on_both_sides_is_read_field_by_field() -> None:
    setup, _ = read(TRAINING).steps
    assert (setup.key, setup.step, str(setup.where)) == ("step_1_setup_api", "1", "defs.yaml:3")
    assert setup.needs is None
    assert setup.on_failure == "fail"
    assert [(c.name, c.command, c.timeout, c.timeout_given, c.parallel) for c in setup.pre_flight] == [
        ("verify_env", "echo $TINKER_API_KEY | head -c 10", 5.0, True, True),
        ("check_python", "python -c 'import sys; print(sys.version)'", 5.0, True, True),
        ("test_imports", "python -c 'import tinker'", 10.0, True, True),
    ]
    assert {c.kind for c in setup.pre_flight} == {"command"}
    assert [str(c.where) for c in setup.pre_flight] == ["defs.yaml:5", "defs.yaml:9", "defs.yaml:13"]
    assert [(c.name, c.command, c.timeout) for c in setup.post_validation] == [
        ("verify_connection", "python -c 'import tinker; tinker.Client()'", 10.0),
        ("log_completion", "echo 'Step 1 complete' >> .task_log", 5.0),
    ]
    main = setup.main
    assert (main.kind, main.mode, main.script, main.args) == ("script", "foreground", "01_test_auth.py", ())
    assert (main.agent, main.skills) == ("tinker-executor", ("tinker-api",))
    assert main.objective == "Verify Tinker API authentication"
    assert (main.timeout, main.timeout_given, main.test_first) == (300.0, True, None)
    assert [(c.text, c.check) for c in main.criteria] == [
        ("API key validated", None),
        ("Authentication successful", None),
    ]


def test_step_with_monitors_is_read_field_by_field() -> None:
    _, training = read(TRAINING).steps
    assert (training.key, training.step, training.where.line) == ("step_13_training", "13", 38)
    assert [c.command for c in training.pre_flight] == [
        "ls -lh train.jsonl val.jsonl",
        "cat training_config.yaml | head -20",
        "df -h . | grep -E '^/'",
    ]
    assert (training.main.mode, training.main.script) == ("background", "06_train_student_model.py")
    assert [c.text for c in training.main.criteria] == ["Training started", "First checkpoint saved"]
    assert [(m.name, m.kind, m.command, m.interval, m.alert_on) for m in training.background] == [
        ("monitor_loss", "sample", "tail -n 1 training_logs/loss.txt", 60.0, "error|failed|nan"),
        ("watch_checkpoints", "sample", "ls -lht checkpoints/ | head -5", 120.0, None),
        ("check_memory", "sample", "ps aux | grep train_student | head -1", 180.0, None),
    ]


def test_step_in_natural_language_with_chunks_is_read_field_by_field() -> None:
    step = one(GENERATION)
    assert (step.key, step.step) == ("step_8_generate_data", "8")
    assert [(c.name, c.kind, c.prose, c.command) for c in step.pre_flight] == [
        ("explore", "prose", "Check existing JSONL files", None),
        ("verify", "prose", "Test teacher model access", None),
        ("estimate", "prose", "Calculate time/cost", None),
    ]
    assert (step.main.kind, step.main.mode) == ("none", "chunked")
    assert (step.main.chunks, step.main.checkpoint_every) == ((100, 900, 4000), 500)
    assert [(m.kind, m.name, m.command, m.interval, m.timeout) for m in step.background] == [
        ("sample", "wc", "wc -l teacher_data_*.jsonl", 60.0, 30.0),
        ("sample", "tail", "tail -1 generation.log", 60.0, 30.0),
        ("alert", "grep", "grep ERROR generation.log", 60.0, 30.0),
    ]


def test_checks_that_end_in_a_filter_are_warned_of_and_monitors_are_not() -> None:
    assert read(TRAINING).warnings == (
        "defs.yaml:6: check 'verify_env' ends in 'head', which passes whatever comes before; "
        "use a probe or 'expect'",
        "defs.yaml:45: check 'check_config' ends in 'head', which passes whatever comes before; "
        "use a probe or 'expect'",
    )


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
        "step_1: {timeout: 2m, retries: {attempts: 2, delay: 1m, backoff: 2, jitter: 0.1, when: [exit]}, main: x}\n"
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


# --- mistakes


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_all_mistakes_of_a_file_are_told_at_once(case: Path) -> None:
    with pytest.raises(PlanError) as caught:
        load(case.read_bytes(), case.name)
    assert [*caught.value.problems] == case.with_suffix(".txt").read_text("utf-8").splitlines()


def test_every_golden_case_has_its_messages_and_the_other_way_round() -> None:
    assert CASES
    assert {case.stem for case in CASES} == {case.stem for case in ERRORS.glob("*.txt")}


@pytest.mark.parametrize(
    "timeout", ["0", "-1", ".nan", ".inf", "31d", "true", "[5]", "soon", "5 m s", "1e400"]
)
def test_timeouts_that_end_nothing_are_mistakes(timeout: str) -> None:
    (problem,) = problems(f"step_1: {{timeout: {timeout}}}")
    assert problem.startswith("defs.yaml:1: 'timeout' must be ")
    assert "; " in problem


def test_mistake_below_an_alias_is_told_once() -> None:
    (problem,) = problems("step_1: {env: &e {A B: 1}}\nstep_2: {env: *e}\n")
    assert problem.startswith("defs.yaml:1: 'A B' ")


def test_checks_may_be_shared_by_anchors_and_merged() -> None:
    first, second = read(
        "step_1: {pre_flight: [&c {command: ls, timeout: 5}]}\n"
        "step_2: {pre_flight: [*c, {<<: *c, timeout: 7}]}\n"
    ).steps
    assert [c.timeout for c in (*first.pre_flight, *second.pre_flight)] == [5, 5, 7]


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "steps",
                    "step",
                    "step_1",
                    "defaults",
                    "secrets",
                    "pre_flight",
                    "main",
                    "command",
                    "env",
                    "file",
                    "test_first",
                    "identity",
                    "needs",
                    "retries",
                    "timeout",
                    "metric",
                    "check",
                    "success_criteria",
                    "chunks",
                    "background",
                    "expect",
                    "port",
                    "disk_free",
                    "http",
                    "args",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(value=st.dictionaries(st.sampled_from(["step_1", "steps", "defaults", "secrets", "x"]), YAML_VALUES))
@settings(max_examples=150, deadline=None)
def test_whatever_stands_in_a_file_it_is_read_or_told_in_lines(value: dict[str, object]) -> None:
    import yaml

    try:
        load(yaml.safe_dump(value, allow_unicode=True).encode("utf-8", "surrogatepass"), "defs.yaml")
    except PlanError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.startswith("defs.yaml:")
            assert "; " in problem
            assert "\n" not in problem


def test_garbage_collection_goes_on_after_a_mistake() -> None:
    problems("step_1: 5")
    assert gc.isenabled()


def test_model_is_imported_without_the_checking_of_definitions() -> None:
    code = "import sys, pytest_tinker_steps.plan.model; sys.exit('pydantic' in sys.modules or 'yaml' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=30).returncode == 0
