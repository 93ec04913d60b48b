from __future__ import annotations

import shutil
import sys
import types
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path

import pytest

from distillation import dataset, settings
from distillation.characters import CHARACTERS
from distillation.command import run
from distillation.errors import DistillationError
from distillation.jsonl import read_json, read_rows
from tests.distillation.conftest import Events

SAMPLE = settings.DATA / "sample"


class FakeHub(types.ModuleType):
    """Stands for ``huggingface_hub``: hands out files of a folder, or fails as told."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__("huggingface_hub")
        self.folder = folder
        self.offline: list[bool] = []

    def hf_hub_download(
        self, repo: str, path: str, *, repo_type: str, etag_timeout: float, local_files_only: bool
    ) -> str:
        assert 0 < etag_timeout <= 10
        assert (repo, repo_type) == ("fnlp/character-llm-data", "dataset")
        self.offline.append(local_files_only)
        if self.folder is None:
            raise FileNotFoundError("not in the cache\nand more lines")
        return str(self.folder / path)


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    copy = folder / "hub"
    shutil.copytree(SAMPLE, copy)
    fake = FakeHub(copy)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return fake


def test_the_public_dataset_is_used_when_it_can_be_had(hub: FakeHub, said: Events) -> None:
    assert run(dataset.main, []) == 0
    report = read_json(Path("runs/local/dataset_report.json"))
    assert report["source"] == "hub"
    assert report["licence"].startswith("CC BY-NC")
    assert said()[-3]["note"].startswith("52 examples of fnlp/character-llm-data")
    assert hub.offline == [True, True, True]


def test_else_the_sample_is_used_and_the_note_says_why(
    hub: FakeHub, said: Events, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.folder = None
    assert run(dataset.main, []) == 0
    note = said()[-3]["note"]
    assert note.startswith("52 examples of the shipped sample (Beethoven 40, Cleopatra 6, Socrates 6); ")
    assert note.endswith("the hub is out of reach")
    assert "\n" not in note
    assert [event for event in said() if "progress" in event][-1] == {"progress": [3, 3]}
    capsys.readouterr()
    assert run(dataset.main, ["--check"]) == 0
    assert capsys.readouterr().out == "broken lines: 0\ncharacters: 3\nexamples: 52\nsource: sample\n"


def test_a_client_that_is_not_installed_is_a_reason_too(
    said: Events, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert run(dataset.main, []) == 0
    assert "could not be had" in said()[-3]["note"]


def test_a_failure_in_reach_keeps_its_own_words(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "hub_answers", lambda: True)
    hub.folder = None
    assert dataset.choose("auto").reason.endswith("FileNotFoundError: not in the cache")


def test_asked_for_by_name_the_hub_is_not_replaced(hub: FakeHub) -> None:
    hub.folder = None
    with pytest.raises(DistillationError, match=r"could not be had: .*leave out --source hub"):
        dataset.choose("hub")


def test_a_copy_on_disk_can_be_used(hub: FakeHub) -> None:
    assert run(dataset.main, ["--source", str(hub.folder)]) == 0
    assert read_json(Path("runs/local/dataset_report.json"))["source"] == "folder"
    assert hub.offline == []


def test_a_copy_that_lacks_a_file_is_named(folder: Path) -> None:
    with pytest.raises(DistillationError, match=r"prompted_agent_dialogue_Beethoven\.jsonl: no such file"):
        dataset.choose(str(folder))


def test_broken_lines_are_copied_and_counted(hub: FakeHub) -> None:
    assert hub.folder is not None
    path = hub.folder / dataset.file_in_dataset(CHARACTERS[0])
    path.write_bytes(path.read_bytes() + b'{"prompt": "cut o\n')
    dataset.bring(dataset.choose("hub"))
    assert Path("runs/local/dataset/Beethoven.jsonl").read_bytes() == path.read_bytes()
    report = read_json(Path("runs/local/dataset_report.json"))
    assert report["characters"]["Beethoven"]["broken_lines"] == 1
    assert report["characters"]["Beethoven"]["examples"] == 40


def test_a_file_without_any_example_fails(hub: FakeHub) -> None:
    assert hub.folder is not None
    (hub.folder / dataset.file_in_dataset(CHARACTERS[1])).write_text("<html>not found</html>\n")
    with pytest.raises(DistillationError, match=r"Cleopatra\.jsonl: holds no example"):
        dataset.bring(dataset.choose("hub"))


def test_a_changed_file_fails_the_check() -> None:
    dataset.bring(dataset.choose("sample"))
    path = Path("runs/local/dataset/Socrates.jsonl")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DistillationError, match=r"Socrates\.jsonl: 5 examples, and .* says 6"):
        dataset.check_report()


def test_a_missing_report_fails_the_check() -> None:
    with pytest.raises(DistillationError, match=r"dataset_report\.json: No such file"):
        dataset.check_report()


@pytest.mark.parametrize(
    ("outcome", "answer"),
    [
        (urllib.error.URLError("no route"), False),
        (TimeoutError(), False),
        (urllib.error.HTTPError("https://huggingface.co", 403, "no", Message(), None), True),
    ],
)
def test_any_http_answer_means_in_reach(
    outcome: Exception, answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake_urlopen(request: object, timeout: float) -> None:
        raise outcome

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(urllib.request, "urlopen", fake_urlopen)
    assert dataset.hub_answers() is answer


def test_lengths_and_keys_are_described() -> None:
    rows = read_rows(SAMPLE / dataset.file_in_dataset(CHARACTERS[0]))
    described = dataset.describe(rows)
    assert described["keys"] == ["output", "prompt", "source"]
    assert described["turns"]["min"] >= 3
    assert described["output_chars"]["min"] > 150
    assert dataset.describe([])["turns"] == {}
