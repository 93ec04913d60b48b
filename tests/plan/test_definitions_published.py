"""The definitions of the twenty-step plan, in the words they were published in."""

from __future__ import annotations

from pytest_tinker_steps.plan.definitions import load
from pytest_tinker_steps.plan.model import Definition, Definitions, Retry

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
    main = training.main
    assert (main.kind, main.mode, main.script) == ("script", "background", "06_train_student_model.py")
    assert (main.timeout, main.timeout_given, main.max_runtime) == (300.0, True, 24 * 3600.0)
    assert (main.ready_when, main.log_size, main.progress) == (None, 32 * 1024 * 1024, None)
    assert (training.budget_usd, main.recover, main.retry) == (None, None, Retry())
    assert [c.text for c in training.main.criteria] == ["Training started", "First checkpoint saved"]
    assert [(m.name, m.kind, m.command, m.interval, m.alert_on) for m in training.background] == [
        ("monitor_loss", "sample", "tail -n 1 training_logs/loss.txt", 60.0, "error|failed|nan"),
        ("watch_checkpoints", "sample", "ls -lht checkpoints/ | head -5", 120.0, None),
        ("check_memory", "sample", "ps aux | grep train_student | head -1", 180.0, None),
    ]
    assert {(m.timeout, m.metric, m.threshold, m.stall, m.on_alert) for m in training.background} == {
        (30.0, None, None, None, "warn")
    }


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
    assert (step.main.quality, step.main.fix, step.main.output) == ((), None, None)
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
