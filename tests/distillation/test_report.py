from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from distillation import demo, figures, report, report_times, review
from distillation.command import run
from distillation.errors import DistillationError
from distillation.facts import Facts, verify
from distillation.jsonl import read_json, write_bytes, write_json
from tests.distillation.conftest import Events
from tests.distillation.finished import exported, finished

PICTURE = b"\x89PNG\r\n\x1a\n" + b"%s" + b"IEND\xaeB`\x82"


def pictures(folder: Path) -> list[Path]:
    """In place of matplotlib's figures: the fingerprint of the sources and nothing to see."""
    for name, (_, sources) in figures.FIGURES.items():
        fingerprint = figures._fingerprint(folder, sources).encode()
        write_bytes(folder / "figures" / name, PICTURE.replace(b"%s", fingerprint))
    return []


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that is done up to the report, without the drawing."""
    folder = finished(monkeypatch)
    assert run(demo.main, ["--trial"]) == 0
    assert run(review.main, []) == 0
    exported(folder)
    monkeypatch.setattr(figures, "draw", pictures)
    return folder


def test_the_report_names_the_engine_first_and_every_value_with_its_place(
    made: Path, said: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(report.main, []) == 0
    assert {"criterion": "Results documented"} in said()
    text = (made / "RESULTS_REPORT.md").read_text()
    assert text.splitlines()[0] == "# Local engine: a rehearsal of distilling Ludwig van Beethoven"
    similarity = read_json(made / "metrics.json")["similarity"]["chrf"]
    low, value, high = (f"{similarity[name]:.1%}" for name in ("low", "value", "high"))
    assert (
        f"| chrF, normalised | {value} ({low} to {high}) | "
        "`metrics.json#similarity.chrf.value`, `metrics.json#similarity.chrf.low`, "
        "`metrics.json#similarity.chrf.high` |"
    ) in text
    assert "| Checkpoints of steps | 4, 8, 12 |" in text
    for name in ("loss", "similarity", "cost"):
        assert f"](figures/{name}.png)" in text
    capsys.readouterr()
    assert run(report.main, ["--check"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert int(lines["values in report"]) > 80
    assert int(lines["values in deployment"]) > 10
    assert lines["figures"] == "3"


def test_estimate_and_actual_stand_side_by_side_and_add_up(made: Path) -> None:
    path = made / "training_report.json"
    path.write_text(json.dumps(read_json(path) | {"cost_usd": 1.25}))
    run(report.main, [])
    text = (made / "RESULTS_REPORT.md").read_text()
    assert "| Training | $0.0000 estimated, $1.2500 actual |" in text
    evaluated = read_json(made / "evaluation_results.json")["cost_usd"]
    asked = read_json(made / "demo_report.json")["cost_usd"]
    assert f"| Together | $0.0000 estimated, ${1.25 + evaluated + asked:.4f} actual |" in text
    assert "As if hosted: training" in text


def test_the_report_says_where_the_time_went_as_far_as_it_is_known(made: Path) -> None:
    path = made / "training_report.json"
    known = {"seconds": 24.0, "seconds_done": 12, "seconds_stretches": 2}
    path.write_text(json.dumps(read_json(path) | known))
    run(report.main, [])
    text = (made / "RESULTS_REPORT.md").read_text()
    found = read_json(made / "time_report.json")
    assert "| step | seconds | share | rate | from |" in text
    share = found["work"]["training"]["share"]
    assert share == pytest.approx(24 / found["seconds"], abs=1e-6)
    assert (
        f"| Training, with validation and checkpoints | 24.0 | {share:.1%} | 0.50 steps/s | "
        "`training_report.json#seconds`, `time_report.json#work.training.share`, "
        "`time_report.json#work.training.rate` |"
    ) in text
    assert re.search(r"\| Export \| 8\.1 \| [\d.]+% \| – \| `export_report\.json#seconds`", text)
    assert sum(one["share"] for one in found["work"].values()) == pytest.approx(1, abs=1e-4)
    # What was made up here has no generation, and no trial of the training.
    assert set(found["work"]) == {"audit", "split", "training", "evaluation", "demo", "export"}
    assert run(report.main, ["--check"]) == 0


def test_a_time_without_a_count_has_no_rate(made: Path) -> None:
    path = made / "training_report.json"
    path.write_text(json.dumps(read_json(path) | {"seconds": 24.0}))
    assert run(report.main, []) == 0
    text = (made / "RESULTS_REPORT.md").read_text()
    assert re.search(r"\| Training, with validation and checkpoints \| 24\.0 \| [\d.]+% \| – \|", text)
    assert run(report.main, ["--check"]) == 0


def test_shares_that_are_not_those_of_the_reports_are_found_out(made: Path) -> None:
    run(report.main, [])
    path = made / "time_report.json"
    wrong = read_json(path)
    wrong["work"]["export"]["share"] /= 2
    path.write_text(json.dumps(wrong))
    with pytest.raises(DistillationError, match=r"time_report\.json#work\.export\.share is"):
        report.main(["--check"])
    with pytest.raises(DistillationError, match=r"time_report\.json: is not what the reports say"):
        report_times.check(made)


def test_an_unreviewed_run_says_so_and_a_reviewed_one_has_the_marks(made: Path) -> None:
    run(report.main, [])
    assert "Nobody has judged the answers yet." in (made / "RESULTS_REPORT.md").read_text()
    sheet = made / "review_sheet.md"
    sheet.write_text(re.sub(r"^(- \w+):\s*$", r"\1: 4", sheet.read_text(), flags=re.MULTILINE))
    assert run(review.main, ["--read"]) == 0
    assert run(report.main, []) == 0
    text = (made / "RESULTS_REPORT.md").read_text()
    assert "Nobody has judged" not in text
    assert "| Student: voice, facts, usefulness, all | 4.00, 4.00, 4.00, 4.00 |" in text
    assert "| Pairs: student better, equal, teacher better | 0, 25, 0 |" in text


def test_a_source_that_changed_after_the_report_fails_the_check(made: Path) -> None:
    run(report.main, [])
    path = made / "metrics.json"
    path.write_text(json.dumps(read_json(path) | {"prompt_ratio": 99.0}))
    with pytest.raises(
        DistillationError, match=r"RESULTS_REPORT\.md:\d+: metrics\.json#prompt_ratio is 99\.0"
    ):
        report.main(["--check"])


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda text: text.replace("## In short", "## In short\n\nIt saved 97 %.", 1),
            "without its origin: It saved",
        ),
        (lambda text: re.sub(r"(\| Export \| )8\.1", r"\g<1>7.1", text), "not 7.1"),
        (
            lambda text: re.sub(r"(\| Export \| 8\.1 \| [\d.]+% \| )–", r"\g<1>5.00 files/s", text),
            "3 values and 2 origins",
        ),
        (lambda text: re.sub(r"(Student in character \| )[\d.]+%", r"\g<1>99.9%", text), "not 99.9%"),
        (
            lambda text: text.replace("`metrics.json#prompt_ratio` |", "`metrics.json#nothing` |"),
            "has nothing at",
        ),
        (lambda text: re.sub(r"(\| `metrics.json` \| `)\w", r"\g<1>x", text), "was changed after the report"),
        (lambda text: text.replace("# Local engine: a rehearsal of", "#", 1), "does not name the engine"),
        (lambda text: text.replace("figures/loss.png", "figures/cost.png"), "does not show loss.png"),
    ],
)
def test_a_hand_in_the_report_is_found_out(made: Path, edit: Callable[[str], str], message: str) -> None:
    run(report.main, [])
    path = made / "RESULTS_REPORT.md"
    changed = edit(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    with pytest.raises(DistillationError, match=re.escape(message)):
        report.main(["--check"])


def test_figures_of_other_files_and_broken_ones_are_found_out(made: Path) -> None:
    run(report.main, [])
    path = made / "figures" / "loss.png"
    whole = path.read_bytes()
    for content, reason in ((whole[:-8], "no whole picture"), (PICTURE, "of other files")):
        path.write_bytes(content)
        with pytest.raises(DistillationError, match=reason):
            report.main(["--check"])
    path.unlink()
    with pytest.raises(DistillationError, match="run step 20"):
        report.main(["--check"])


def test_deployment_says_how_to_serve_and_how_to_go_back(made: Path) -> None:
    run(report.main, [])
    text = (made / "DEPLOYMENT.md").read_text()
    assert text.startswith("# Local engine: a rehearsal")
    assert "sha256sum -c SHA256SUMS" in text
    assert "`system_prompt.md`" in text
    assert "CC BY-NC 4.0" in text
    assert "| Merged model, bytes | 3,456,789 |" in text


@pytest.mark.parametrize("missing", ["metrics.json", "training_report.json", "export_report.json"])
def test_without_an_earlier_step_there_is_no_report(
    made: Path, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / missing).unlink()
    assert run(report.main, []) == 1
    assert missing in capsys.readouterr().err
    assert not (made / "RESULTS_REPORT.md").exists()


def test_numbers_of_the_other_engine_are_refused(made: Path) -> None:
    path = made / "metrics.json"
    path.write_text(json.dumps(read_json(path) | {"engine": "tinker"}))
    with pytest.raises(DistillationError, match="of engine tinker"):
        report.main([])


def test_a_payback_that_never_comes_is_a_word(made: Path) -> None:
    path = made / "metrics.json"
    path.write_text(json.dumps(read_json(path) | {"payback_answers_cached": None}))
    run(report.main, [])
    assert " and never | `metrics.json#payback_answers`" in (made / "RESULTS_REPORT.md").read_text()
    assert run(report.main, ["--check"]) == 0


def write_and_verify(value: object, row: str) -> int:
    folder = Path("facts")
    write_json(folder / "a.json", {"x": value, "list": [1, 2]})
    (folder / "r.md").write_text(f"| what | value | from |\n|---|---|---|\n{row}\n")
    return verify(folder / "r.md", folder)


@hypothesis_settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=60
)
@given(
    value=st.one_of(st.integers(-(10**9), 10**9), st.floats(-1e6, 1e6)),
    form=st.sampled_from(["{:,}", "{:.4f}", "{:.1%}", "${:,.2f}", "{:.0f}"]),
)
def test_every_form_of_a_number_is_found_again(value: float, form: str) -> None:
    write_json(Path("facts/a.json"), {"x": value})
    row = Facts(Path("facts")).row("a value", form, "a.json#x")
    assert write_and_verify(value, row) == 1


@pytest.mark.parametrize(
    ("value", "row", "message"),
    [
        (0.914, "| a | 91.5% | `a.json#x` |", "a.json#x is 0.914, not 91.5%"),
        (1e-5, "| a | 2e-05 | `a.json#x` |", "not 2e-05"),
        (1234, "| a | 1,235 | `a.json#x` |", "not 1,235"),
        (True, "| a | no | `a.json#x` |", "not no"),
        ("Qwen3", "| a | `Qwen4` | `a.json#x` |", "not `Qwen4`"),
        (5, "| a | 5 and 6 | `a.json#x` |", "2 values and 1 origins"),
        (5, "| step 5 | 5 | `a.json#x` |", "without its origin: step 5"),
        (5, "| a | 4 | `a.json#x + a.json#list.0` |", "is 6, not 4"),
        (5, "| a | 3 | `a.json#list.length` |", "is 2, not 3"),
    ],
)
def test_a_value_that_is_not_the_one_in_the_file_is_found_out(value: object, row: str, message: str) -> None:
    with pytest.raises(DistillationError, match=re.escape(message)):
        write_and_verify(value, row)


@pytest.mark.slow
def test_the_figures_are_pictures_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    folder = finished(monkeypatch)
    assert figures.draw(folder) == [
        Path("figures") / name for name in ("loss.png", "similarity.png", "cost.png")
    ]
    assert figures.check(folder) == 3
    assert all((folder / "figures" / name).stat().st_size > 5_000 for name in figures.FIGURES)
