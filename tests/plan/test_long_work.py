"""Long work as people write it: jobs, monitors, pieces, batches, and what the model says of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinker_steps.plan.definitions import load
from pytest_tinker_steps.plan.model import (
    Check,
    Definition,
    Definitions,
    Main,
    Metric,
    Monitor,
    PlanError,
    Retry,
    Stall,
    Threshold,
)
from pytest_tinker_steps.plan.shapes import thresholds


def read(text: str) -> Definitions:
    return load(text.encode(), "defs.yaml")


def one(text: str) -> Definition:
    (step,) = read(text).steps
    return step


def main(text: str) -> Main:
    return one(f"step_1: {{main: {{{text}}}}}").main


def monitor(text: str) -> Monitor:
    (made,) = one(f"step_1: {{background: [{{{text}}}]}}").background
    return made


def problems(text: str) -> list[str]:
    with pytest.raises(PlanError) as caught:
        read(text)
    return list(caught.value.problems)


# --- background


@pytest.mark.parametrize("what", ["command: make", "command: [make, all]", "script: a.py, args: [-v]"])
def test_background_main_with_everything(what: str) -> None:
    made = main(
        f"mode: background, {what}, timeout: 5m, max_runtime: 6h, log_size: 8MB, recover: [make, clean], "
        "progress: 'step (\\d+) of (\\d+)', retries: 2, ready_when: {line: ^listening}, test_first: make try"
    )
    assert (made.mode, made.timeout, made.max_runtime, made.log_size) == (
        "background",
        300.0,
        21600.0,
        8_000_000,
    )
    assert (made.recover, made.progress) == (("make", "clean"), r"step (\d+) of (\d+)")
    assert made.ready_when is not None
    assert (made.ready_when.file, made.ready_when.line, made.ready_when.check) == (None, "^listening", None)
    assert made.test_first


def test_main_that_says_nothing_of_it_has_the_defaults() -> None:
    made = main("command: make, mode: background")
    assert made == Main(kind="command", mode="background", command="make")


@pytest.mark.parametrize("path", ["007", "checkpoints/", "out/ready file"])
def test_job_is_ready_when_a_file_is_there(path: str) -> None:
    made = main(f"mode: background, command: make, ready_when: {{file: {path}}}").ready_when
    assert made is not None
    assert (made.file, made.line, made.check) == (path, None, None)


def test_job_is_ready_when_a_check_passes_that_is_written_as_any_other() -> None:
    made = one(
        "step_1:\n"
        "  main:\n"
        "    mode: background\n"
        "    command: ./serve\n"
        "    ready_when:\n"
        "      check: {task: answers, http: 'http://localhost:8000', timeout: 3}\n"
    ).main.ready_when
    assert made is not None
    assert made.check is not None
    assert (made.check.name, made.check.kind, made.check.timeout) == ("answers", "http", 3.0)
    assert made.check.probe["url"] == "http://localhost:8000"
    assert str(made.check.where) == "defs.yaml:6"


def test_progress_may_have_one_group() -> None:
    assert main(r"command: make, progress: '(\d+) %'").progress == r"(\d+) %"


def test_step_gives_its_main_the_recovery_unless_the_main_has_one() -> None:
    first, second = read(
        "step_1: {main: make, recover: make clean, retries: 1}\n"
        "step_2: {main: {command: make, recover: make mend}, recover: make clean, retries: 1}\n"
    ).steps
    assert (first.main.recover, second.main.recover) == ("make clean", "make mend")


def test_recovery_that_never_runs_is_warned_of() -> None:
    assert read(
        "step_1:\n  main: make\n  recover: x\n"
        "step_2:\n  main:\n    command: make\n    recover: x\n"
        "step_3:\n  main: {command: make, recover: x}\n  retries: 1\n"
    ).warnings == (
        "defs.yaml:3: 'recover' runs between two attempts, and there is one; add 'retries'",
        "defs.yaml:7: 'recover' runs between two attempts, and there is one; add 'retries'",
    )


@pytest.mark.parametrize(("text", "dollars"), [("5", 5.0), ("0.25", 0.25)])
def test_budget_of_a_step(text: str, dollars: float) -> None:
    assert one(f"step_1: {{budget_usd: {text}}}").budget_usd == dollars


# --- chunked


@pytest.mark.parametrize(
    ("text", "chunks"),
    [
        ("chunks: [{size: 100}, {size: 900}, 4000]", (100, 900, 4000)),
        ("total: 10, chunk_size: 4", (4, 4, 2)),
        ("total: 8, chunk_size: 4", (4, 4)),
        ("total: 3, chunk_size: 4", (3,)),
    ],
)
def test_pieces_of_a_chunked_main(text: str, chunks: tuple[int, ...]) -> None:
    made = main(f"mode: chunked, command: make, {text}")
    assert (made.chunks, made.total) == (chunks, None)


@given(total=st.integers(1, 5000), size=st.integers(1, 5000))
def test_pieces_of_a_total_add_up_to_it(total: int, size: int) -> None:
    chunks = main(f"mode: chunked, total: {total}, chunk_size: {size}").chunks
    assert sum(chunks) == total
    assert set(chunks[:-1]) <= {size}
    assert 0 < chunks[-1] <= size


def test_chunked_main_with_everything() -> None:
    step = one(
        "step_8:\n"
        "  main:\n"
        "    mode: chunked\n"
        "    script: generate.py\n"
        "    args:\n"
        "      - --from={chunk.start}\n"
        "      - --count={chunk.size}\n"
        "      - --out={chunk.output}\n"
        "      - '{other} ${HOME} {}'\n"
        "    chunks: [100, 900]\n"
        "    checkpoint_every: 500\n"
        "    quality:\n"
        "      - {task: answers, command: ./judge $CHUNK_OUTPUT}\n"
        "      - {disk_free: 1 GB, critical: false}\n"
        "    fix: ./mend {chunk.output} {chunk.attempt}\n"
        "    output: data/all.jsonl\n"
        "    max_runtime: 2h\n"
        "    test_first: [--count=2]\n"
        "  outputs: [data/all.jsonl, report.txt]\n"
    )
    made = step.main
    assert made.args[2] == "--out={chunk.output}"
    assert (made.checkpoint_every, made.output, made.max_runtime) == (500, "data/all.jsonl", 7200.0)
    assert made.fix == "./mend {chunk.output} {chunk.attempt}"
    assert [(check.name, str(check.where)) for check in made.quality] == [
        ("answers", "defs.yaml:13"),
        ("disk_free", "defs.yaml:14"),
    ]


@pytest.mark.parametrize("mode", ["mode: chunked, chunks: [1]", "mode: stream"])
@pytest.mark.parametrize(
    ("outputs", "output"),
    [
        ("out.jsonl", "out.jsonl"),
        ("[out.jsonl]", "out.jsonl"),
        ("[a, b]", None),
        ("['*.jsonl']", None),
        ("[out/]", None),
        ("[]", None),
    ],
)
def test_pieces_are_joined_in_the_one_output_of_the_step(mode: str, outputs: str, output: str | None) -> None:
    assert one(f"step_1: {{main: {{{mode}}}, outputs: {outputs}}}").main.output == output


def test_other_mains_are_not_joined() -> None:
    assert one("step_1: {main: make, outputs: a.txt}").main.output is None


# --- stream


def test_streamed_main_with_everything() -> None:
    made = main(
        "mode: stream, command: './judge {batch.start} {batch.size} {batch.results} > {batch.output}', "
        "batch_size: 20, total: 1000, output: answers.jsonl, stop_when: {command: ./enough, timeout: 5}"
    )
    assert (made.batch_size, made.total, made.output, made.chunks) == (20, 1000, "answers.jsonl", ())
    assert [(check.name, check.timeout) for check in made.stop_when] == [("./enough", 5.0)]


@pytest.mark.parametrize("stop_when", ["{file: done}", "[{file: done}]", "[{file: done}, {file: done}]"])
def test_stream_is_stopped_by_one_check_or_by_several(stop_when: str) -> None:
    made = main(f"mode: stream, command: make, stop_when: {stop_when}").stop_when
    assert {(check.kind, check.probe["path"]) for check in made} == {("file", "done")}
    assert len(made) == stop_when.count("file")


def test_stream_may_know_its_end_itself() -> None:
    made = main("mode: stream, command: make")
    assert (made.batch_size, made.total, made.stop_when) == (100, None, ())


def test_placeholders_of_other_mains_are_their_own_business() -> None:
    assert main("command: 'echo {chunk.nonsense}'").command == "echo {chunk.nonsense}"


def test_long_work_with_retries() -> None:
    made = main("mode: stream, command: make, retries: {attempts: 3, when: [exit]}")
    assert made.retry == Retry(3, when=("exit",))


@pytest.mark.parametrize("mode", ["foreground", "background", "stream"])
def test_key_of_another_mode_is_told_with_the_mode_that_it_is_for(mode: str) -> None:
    (problem,) = problems(f"step_1: {{main: {{mode: {mode}, checkpoint_every: 5}}}}")
    assert problem == (
        f"defs.yaml:1: 'checkpoint_every' is for mode chunked, and this one is {mode}; "
        "change the mode, or remove the key"
    )


@pytest.mark.parametrize("fix", ["make {chunk.ouput}", ["make", "{chunk.ouput}"]])
def test_misspelt_placeholder_is_told_with_the_right_one(fix: str | list[str]) -> None:
    text = f"step_1: {{main: {{mode: chunked, chunks: [1], quality: [{{file: a}}], fix: {fix!r}}}}}"
    (problem,) = problems(text)
    assert problem == "defs.yaml:1: there is no placeholder '{chunk.ouput}'; did you mean '{chunk.output}'?"


# --- monitors


def test_monitor_with_everything() -> None:
    made = monitor(
        "task: loss, command: tail -n 1 loss.log, interval: 5s, timeout: 2, alert_on: error|failed|nan, "
        "metric: {name: loss, pattern: 'loss=(.*)', min: 0, max: 20}, threshold: loss >= 1e1, "
        "stall: {after: 10m, metric: loss}, on_alert: stop"
    )
    assert (made.name, made.kind, made.command) == ("loss", "sample", "tail -n 1 loss.log")
    assert (made.interval, made.timeout, made.alert_on) == (5.0, 2.0, "error|failed|nan")
    assert made.metric == Metric("loss", "loss=(.*)", 0, 20)
    assert made.threshold == Threshold("loss", ">=", 10.0)
    assert (made.stall, made.on_alert) == (Stall(600.0, "loss"), "stop")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("stall: 10m", "stall"),
        ("stall: {after: 10m, metric: step}", "stall"),
        ("threshold: val loss is NaN", "val loss"),
        ("metric: {name: loss, pattern: (.)}, stall: 10m", "loss"),
        ("name: own, stall: 600", "own"),
    ],
)
def test_monitor_without_a_command_looks_at_the_main(text: str, name: str) -> None:
    made = monitor(text)
    assert (made.name, made.kind, made.command) == (name, "sample", None)


def test_monitors_of_one_step_have_names_of_their_own() -> None:
    made = one("step_1: {background: [{check: tail a}, {check: tail b}, {task: tail 2, alert: grep x y}]}")
    assert [(m.name, m.kind) for m in made.background] == [
        ("tail", "sample"),
        ("tail 2", "sample"),
        ("tail 2 2", "alert"),
    ]


@pytest.mark.parametrize("stall", ["10m", "600", "{after: 10m}", "{after: 600.0}"])
def test_stall_is_a_duration(stall: str) -> None:
    assert monitor(f"stall: {stall}").stall == Stall(600.0)


@pytest.mark.parametrize("alert_on", ["error|failed|nan", '"/loss=(nan|inf)/"'])
def test_words_that_raise_an_alert_stay_as_written(alert_on: str) -> None:
    assert monitor(f"command: x, alert_on: {alert_on}").alert_on == alert_on.strip('"')


# --- thresholds


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("loss > 10", Threshold("loss", ">", 10.0)),
        ("loss>=10", Threshold("loss", ">=", 10.0)),
        (" val loss <-1.5e-3 ", Threshold("val loss", "<", -0.0015)),
        ("loss <= .5", Threshold("loss", "<=", 0.5)),
        ("loss == 0", Threshold("loss", "==", 0.0)),
        ("loss != 0", Threshold("loss", "!=", 0.0)),
        ("loss is nan", Threshold("loss", "nan")),
        ("loss IS NaN", Threshold("loss", "nan")),
        ("é > 1", Threshold("é", ">", 1.0)),
    ],
)
def test_thresholds(text: str, expected: Threshold) -> None:
    assert thresholds.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "loss",
        "> 3",
        "loss > ",
        "loss = 3",
        "loss => 3",
        "loss > x",
        "loss > nan",
        "loss > 1e999",
        "1 < x < 2",
    ],
)
def test_what_compares_no_number_is_no_threshold(text: str) -> None:
    assert thresholds.parse(text) is None


@given(
    name=st.from_regex(r"[a-z_./]+", fullmatch=True),
    operator=st.sampled_from([">", ">=", "<", "<=", "==", "!="]),
    value=st.floats(allow_nan=False, allow_infinity=False),
)
def test_every_comparison_with_a_finite_number_is_read(name: str, operator: str, value: float) -> None:
    assert thresholds.parse(f"{name} {operator} {value!r}") == Threshold(name, operator, value)  # type: ignore[arg-type]


def test_checks_of_long_work_are_checks_like_any_other() -> None:
    quality = main("mode: chunked, chunks: [1], quality: [{file: a}]").quality
    before = one("step_1: {pre_flight: [{file: a}]}").pre_flight
    assert all(isinstance(check, Check) for check in quality)
    assert quality == before
