from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from distillation import checkpoints, client, config, export, loading, settings
from distillation.characters import find
from distillation.checkpoints import Checkpoint
from distillation.command import run
from distillation.download import fetch
from distillation.errors import DistillationError
from distillation.jsonl import read_json, write_json, write_rows
from distillation.model_card import model_card
from distillation.model_files import check_sums, rebase, reference, tensors_in, write_sums
from tests.distillation.conftest import ROOT
from tests.distillation.finished import finished
from tests.distillation.tiny_model import WORDS, logprobs, make_adapter, make_base

# transformers asks itself for something that it warns of.
LIBRARIES = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
CONNECT = socket.socket.connect
BEETHOVEN = find("Beethoven")
FILES = {"/adapter_config.json": b"{}", "/big": bytes(100_000)}


class Service(BaseHTTPRequestHandler):
    """Gives out files, and one that is shorter than it says."""

    def do_GET(self) -> None:
        content = FILES.get(self.path.split("?")[0])
        self.send_response(200 if content is not None or self.path == "/torn" else 403)
        self.send_header("Content-Length", str(len(content or b"") or 500 * (self.path == "/torn")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A service on the loopback, the one place that may be reached here."""
    monkeypatch.setattr(socket.socket, "connect", CONNECT)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server = HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_every_file_is_downloaded_from_its_address_past_any_proxy(address: str, tmp_path: Path) -> None:
    urls = {"adapter_config.json": f"{address}/adapter_config.json?signed=1", "sub/big": f"{address}/big"}
    fetch(urls, tmp_path / "there")
    assert (tmp_path / "there/adapter_config.json").read_bytes() == b"{}"
    assert (tmp_path / "there/sub/big").stat().st_size == 100_000


@pytest.mark.parametrize(
    ("name", "path", "reason"),
    [
        ("a", "/expired", "a: cannot be downloaded"),
        ("a", "/torn", "a: 0 of 500 bytes came"),
        ("../a", "/big", "leads out of its folder"),
        ("/etc/a", "/big", "leads out of its folder"),
        ("..\\a", "/big", "leads out of its folder"),
    ],
)
def test_a_download_that_fails_or_leads_astray_is_one_line(
    address: str, tmp_path: Path, name: str, path: str, reason: str
) -> None:
    with pytest.raises(DistillationError, match=re.escape(reason)):
        fetch({name: address + path}, tmp_path / "there")


def test_no_files_and_plain_http_to_strangers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DistillationError, match="names no file"):
        fetch({}, tmp_path)
    with pytest.raises(DistillationError, match="is not https"):
        fetch({"a": "http://example.invalid/a"}, tmp_path)


def model_folder(folder: Path) -> Path:
    write_json(folder / "adapter/adapter_config.json", {"r": 4})
    header = json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes(8)
    (folder / "adapter/adapter_model.safetensors").write_bytes(weights)
    write_sums(folder)
    return folder


def test_checksums_are_those_of_sha256sum(tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, check=False)
    assert done.returncode == 0
    assert check_sums(folder) == 2
    assert tensors_in(folder / "adapter") == 1


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda folder: (folder / "adapter/adapter_config.json").write_text("{}"), "was changed after"),
        (lambda folder: (folder / "adapter/adapter_config.json").unlink(), "is missing"),
        (lambda folder: (folder / "more").write_text("x"), "has no checksum"),
        (lambda folder: (folder / "SHA256SUMS").write_text("x\n"), "SHA256SUMS:1: is no checksum"),
        (lambda folder: (folder / "SHA256SUMS").unlink(), "run step 19"),
    ],
)
def test_a_file_that_is_not_what_was_exported_is_found_out(tmp_path: Path, spoil: Any, reason: str) -> None:
    folder = model_folder(tmp_path / "model")
    spoil(folder)
    with pytest.raises(DistillationError, match=reason):
        check_sums(folder)


@pytest.mark.parametrize("content", [b"", b"12345678", b"\x02" + bytes(7) + b"{}", b"\xff" * 30])
def test_weights_that_are_no_safetensors_are_found_out(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(DistillationError, match="is no safetensors file"):
        tensors_in(tmp_path)


def test_weights_cut_short_are_found_out(tmp_path: Path) -> None:
    path = model_folder(tmp_path / "model") / "adapter/adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DistillationError, match=r"\d+ of \d+ bytes"):
        tensors_in(path.parent)


def test_the_base_is_named_without_the_path_of_this_machine() -> None:
    assert reference(str(Path.cwd() / "base/model")) == "base/model"
    assert reference("Qwen/Qwen3-8B") == "Qwen/Qwen3-8B"
    assert reference("/elsewhere/model") == "/elsewhere/model"
    write_json(Path("adapter_config.json"), {"r": 4, "base_model_name_or_path": "/secret"})
    assert rebase(Path("adapter_config.json"), "base") == {"r": 4, "base_model_name_or_path": "base"}
    with pytest.raises(DistillationError, match="is no PEFT adapter: nothing is missing or spoilt"):
        rebase(Path("nothing"), "base")


def slow_with_libraries(test: Any) -> Any:
    """Mark a test that loads PyTorch, transformers and PEFT."""
    return pytest.mark.slow(LIBRARIES(test))


NUMBERS = {
    "similarity": {"chrf": {"value": 0.91, "low": 0.89, "high": 0.93}},
    "in_character": {"student": {"value": 0.97}},
    "prompt_tokens_saved": 0.979,
}


@pytest.mark.parametrize("merged", [True, False])
def test_the_card_names_base_licence_and_numbers(merged: bool) -> None:
    adapter = {"base_model_name_or_path": "Qwen/Qwen3-8B", "r": 32, "lora_alpha": 32}
    card = model_card(BEETHOVEN, adapter, 800, NUMBERS, {"questions": 250}, merged)
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["base_model"] == "Qwen/Qwen3-8B"
    assert front["license"] == "cc-by-nc-4.0"
    assert front["datasets"] == ["fnlp/character-llm-data"]
    assert "| similarity, chrf | 91.0% (89.0% to 93.0%) |" in card
    assert "a rehearsal with a tiny model" in card
    assert "CC BY-NC 4.0" in card
    assert ("- `merged/`" in card) is merged
    assert "\n\n\n" not in card


def test_without_an_evaluation_of_the_best_checkpoint_nothing_is_exported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished(monkeypatch)
    better = Checkpoint(13, 14, "state-13", "sampler-13", 0.01, "f", "now")
    checkpoints.record(folder, better)
    assert run(export.main, []) == 1
    assert "not of the best checkpoint, that of step 13; run step 15 again" in capsys.readouterr().err


@dataclasses.dataclass
class Exported:
    """A tiny model in the place where an export lies."""

    folder: Path
    target: Path
    base: str
    probes: list[dict[str, Any]]


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Exported:
    for name in ("transformers", "peft"):
        pytest.importorskip(name)
    pytest.importorskip("torch").set_num_threads(1)
    folder, target = settings.run_folder(), export.model_folder(BEETHOVEN)
    base = make_base(Path("base").absolute())
    make_adapter(base, target / "adapter")
    loading.merge(base, target)
    shutil.copyfile(settings.DATA / "example.py", target / "example.py")
    write_sums(target)
    draw = random.Random(0)
    rows = [draw.choices(range(2, len(WORDS)), k=draw.randint(5, 30)) for _ in range(export.PROMPTS)]
    probes = [{"tokens": row, "logprobs": logprobs(base, target / "adapter", row)} for row in rows]
    write_rows(folder / export.PROBES, probes)
    checkpoints.record(folder, Checkpoint(4, 5, "state", "sampler", 0.5, "f", "now"))
    report = {"engine": "local", "character": "Beethoven", "base_model": "base", "checkpoint": 4}
    report |= {"merged": True, "fingerprint": export.fingerprint(target)}
    write_json(folder / export.REPORT, report)
    return Exported(folder, target, base, probes)


@slow_with_libraries
def test_adapter_and_merged_model_say_what_the_engine_says(
    tiny: Exported, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert run(export.main, ["--check"]) == 0
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert (lines["compared"], lines["prompts"]) == ("1", "20")
    assert int(lines["tokens"]) == sum(len(probe["logprobs"]) for probe in tiny.probes)
    assert float(lines["logprob difference adapter"]) < 1e-4
    assert float(lines["logprob difference merged"]) < 1e-4
    assert float(lines["logit difference"]) < 1e-4


@slow_with_libraries
def test_another_adapter_and_another_merged_model_are_found_out(tiny: Exported) -> None:
    wrong = [probe | {"logprobs": [value + 0.01 for value in probe["logprobs"]]} for probe in tiny.probes]
    write_rows(tiny.folder / export.PROBES, wrong)
    with pytest.raises(DistillationError, match="the adapter's log probabilities differ from the engine's"):
        export.main(["--check"])
    write_rows(tiny.folder / export.PROBES, tiny.probes)
    shutil.copyfile(Path(tiny.base) / "model.safetensors", tiny.target / "merged/model.safetensors")
    with pytest.raises(DistillationError, match="was changed after the export"):
        export.main(["--check"])
    write_sums(tiny.target)
    with pytest.raises(DistillationError, match="is not the model of"):
        export.main(["--check"])
    report = read_json(tiny.folder / export.REPORT)
    write_json(tiny.folder / export.REPORT, report | {"fingerprint": export.fingerprint(tiny.target)})
    with pytest.raises(DistillationError, match="the merged model's log probabilities differ"):
        export.main(["--check"])


@slow_with_libraries
@pytest.mark.parametrize("arguments", [[], ["--adapter", "--base", "BASE"]])
def test_the_example_answers_with_nothing_of_this_plan_at_hand(tiny: Exported, arguments: list[str]) -> None:
    arguments = [tiny.base if one == "BASE" else one for one in arguments]
    done = subprocess.run(
        [sys.executable, "example.py", *arguments, "--max-tokens", "5", "What is music ?"],
        cwd=tiny.target,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) <= set(WORDS)


@slow_with_libraries
def test_the_best_checkpoint_of_a_real_engine_is_exported_and_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "transformers", "peft", "tinker"):
        pytest.importorskip(name)
    folder = finished(monkeypatch)
    config.settle({})
    base = make_base(Path("base").absolute())
    environment = os.environ | {"PYTHONPATH": str(ROOT), client.LOCAL_MODEL_VARIABLE: base}

    def said(*arguments: str) -> dict[str, str]:
        # The SDK keeps its connections until its process ends, so each gets one of its own.
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=300, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        return dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)

    state = said("tests.distillation.train_a_little")["state"]
    sampler = checkpoints.best(folder).sampler
    (folder / checkpoints.LEDGER).unlink()
    checkpoints.record(folder, Checkpoint(12, 13, state, sampler, 0.1, "f", "now"))
    said("distillation.export")
    lines = said("distillation.export", "--check")
    for name in ("logprob difference adapter", "logprob difference merged", "logit difference"):
        assert float(lines[name]) < 1e-4
    assert int(said("distillation.export", "--check-example")["example words"]) > 0
    target = export.model_folder(BEETHOVEN)
    adapter = read_json(target / "adapter/adapter_config.json")
    assert adapter["base_model_name_or_path"] == "base"
    assert not list(target.parent.glob(".*")), "drafts are left"
    assert (target / "merged/model.safetensors").stat().st_mode & 0o777 == 0o644
