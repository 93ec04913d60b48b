from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_tinker_steps.plan.model import PROBES
from pytest_tinker_steps.run.probing import file_probes, probes
from pytest_tinker_steps.run.probing.probes import ProbeContext, ProbeFailed
from tests.run.real_runs import SubprocessRuns, a_check

Look = Callable[..., str]


@pytest.fixture
def look(tmp_path: Path) -> Look:
    """Run a probe in ``tmp_path``; ``env`` and ``timeout`` may be given."""

    def probe(kind: str, *, env: dict[str, str] | None = None, timeout: float = 60, **given: Any) -> str:
        defaults: dict[str, dict[str, Any]] = {
            "file": {"min_bytes": None, "contains": None},
            "json": {"required": [], "min_rows": None},
            "jsonl": {"required": [], "min_rows": None},
            "yaml": {"required": [], "min_rows": None},
            "http": {"status": 200, "contains": None},
        }
        environment = dict(os.environ) if env is None else env
        context = ProbeContext(
            tmp_path, environment, sys.executable, time.monotonic() + timeout, SubprocessRuns()
        )
        return probes.probe(a_check("check", kind, probe={**defaults.get(kind, {}), **given}), context)

    return probe


def refusal(look: Look, kind: str, **given: Any) -> str:
    with pytest.raises(ProbeFailed) as caught:
        look(kind, **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_kind_of_probe_in_the_model_has_one() -> None:
    assert set(probes._PROBES) == set(PROBES)


# --- env


def test_a_variable_counts_as_set_only_with_a_value(look: Look) -> None:
    assert look("env", names=["A"], env={"A": "x"}) == "A set"
    assert refusal(look, "env", names=["A", "B"], env={"B": " "}) == "A is not set; B is set but empty"


def test_a_variable_of_this_process_is_not_one_of_the_main(
    look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONLY_HERE", "x")
    assert refusal(look, "env", names=["ONLY_HERE"], env={}) == "ONLY_HERE is not set"


def test_the_value_of_a_variable_is_never_shown(look: Look) -> None:
    assert "hunter2" not in look("env", names=["KEY"], env={"KEY": "hunter2"})


# --- import


def test_modules_are_imported_by_the_interpreter_of_the_main(look: Look, tmp_path: Path) -> None:
    (tmp_path / "written_by_a_step.py").write_text("")
    assert look("import", modules=["json", "written_by_a_step"]) == "json, written_by_a_step imported"
    assert "written_by_a_step" not in sys.modules


def test_a_failed_import_names_the_module_and_the_last_line_of_the_error(look: Look, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("print('noise')\nimport not_there_at_all")
    message = refusal(look, "import", modules=["json", "broken", "sys"])
    assert message == "broken: ModuleNotFoundError: No module named 'not_there_at_all' (exit 1)"


def test_a_module_that_ends_the_interpreter_is_named(look: Look, tmp_path: Path) -> None:
    (tmp_path / "crash.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    assert refusal(look, "import", modules=["json", "crash"]) == "crash: the interpreter ended (exit -9)"


def test_an_import_that_does_not_end_is_cut_off(look: Look, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(30)")
    with pytest.raises(TimeoutError):
        look("import", modules=["slow"], timeout=0.3)


def test_an_interpreter_that_is_not_there_is_reported(tmp_path: Path) -> None:
    context = ProbeContext(tmp_path, {}, "/no/python", time.monotonic() + 60, SubprocessRuns())
    with pytest.raises(ProbeFailed, match="/no/python: No such file"):
        probes.probe(a_check("c", "import", probe={"modules": ["json"]}), context)


# --- file


def test_a_file_exists_with_its_size(look: Look, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"x" * 1500)
    assert look("file", path="a.bin") == "a.bin: 1.5 kB"
    assert look("file", path=str(tmp_path / "a.bin"), min_bytes=1500).endswith("a.bin: 1.5 kB")
    assert refusal(look, "file", path="a.bin", min_bytes=1501) == "a.bin: 1500 bytes, at least 1501 needed"
    assert refusal(look, "file", path="b.bin") == "b.bin: does not exist"


def test_a_folder_is_a_file_only_when_asked_for_as_a_folder(look: Look, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "file").touch()
    assert look("file", path="out/") == "out/: a folder"
    assert refusal(look, "file", path="out").startswith("out: a folder, not a file")
    assert refusal(look, "file", path="file/") == "file/: not a folder"
    assert refusal(look, "file", path="gone/") == "gone/: does not exist"
    assert "are for files" in refusal(look, "file", path="out/", contains="x")


def test_a_text_is_found_across_the_borders_of_blocks(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "log").write_text("aaaa training complete ✓ bbbb")
    for size in range(1, 12):
        monkeypatch.setattr(file_probes, "BLOCK", size)
        assert look("file", path="log", contains="complete ✓")
        assert (
            refusal(look, "file", path="log", contains="complete ✗") == "log: does not contain 'complete ✗'"
        )


def test_a_glob_needs_one_match_and_asks_the_same_of_all(look: Look, tmp_path: Path) -> None:
    assert refusal(look, "file", path="*.pt") == "*.pt: no file matches"
    (tmp_path / "folder.pt").mkdir()
    assert refusal(look, "file", path="*.pt") == "*.pt: no file matches"
    (tmp_path / "a.pt").write_text("weights")
    assert look("file", path="*.pt") == "*.pt: 1 file"
    assert look("file", path="*.pt/") == "*.pt/: 1 folder"
    (tmp_path / "folder.pt" / "b.pt").write_text("")
    assert look("file", path="**/*.pt") == "**/*.pt: 2 files"
    assert refusal(look, "file", path="**/*.pt", min_bytes=1).startswith("folder.pt/b.pt: 0 bytes")


def test_a_name_that_only_looks_like_a_glob_is_a_name(look: Look, tmp_path: Path) -> None:
    (tmp_path / "data[1].json").write_text("{}")
    assert look("file", path="data[1].json") == "data[1].json: 2 B"


def test_a_pipe_is_not_opened(look: Look, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert refusal(look, "jsonl", path="pipe") == "pipe: not a regular file"


def test_what_the_system_refuses_is_reported_in_plain_words(look: Look) -> None:
    name = "a" * 300
    assert refusal(look, "json", path=name) == f"{name}: File name too long"


# --- data


def test_json_is_an_object_or_a_list(look: Look, tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text('\ufeff{"teacher": "qwen"}')
    (tmp_path / "l.json").write_text('[{"a": 1}, {"b": 2}]')
    (tmp_path / "n.json").write_text("7")
    assert look("json", path="o.json", required=["teacher"]) == "o.json: 1 key"
    assert look("json", path="l.json", min_rows=2) == "l.json: 2 rows"
    assert refusal(look, "json", path="n.json") == "n.json: a number, neither an object nor a list"
    assert refusal(look, "json", path="o.json", required=["x"]) == "o.json: no key 'x'"
    assert refusal(look, "json", path="l.json", required=["a"]) == "l.json: element 2: no key 'a'"
    assert refusal(look, "json", path="l.json", min_rows=3) == "l.json: 2 rows, at least 3 needed"
    assert refusal(look, "json", path="o.json", min_rows=1).startswith("o.json: an object, not a list")


@pytest.mark.parametrize("text", ["[" * 100_000, "[1" + "0" * 5000 + "]"], ids=["deep", "long number"])
def test_json_that_python_cannot_hold_is_a_failed_check(look: Look, tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "a.jsonl").write_text(text)
    assert refusal(look, "json", path="a.json").startswith("a.json: not JSON: ")
    assert refusal(look, "jsonl", path="a.jsonl").startswith("a.jsonl:1: not JSON: ")


def test_the_line_of_a_mistake_in_json_is_named(look: Look, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{\n  "a": 1,\n  b\n}')
    assert refusal(look, "json", path="a.json").startswith("a.json:3: not JSON: ")
    (tmp_path / "b.json").write_bytes(b'{\n"a": "\xff"}')
    assert refusal(look, "json", path="b.json") == "b.json:2: not UTF-8: invalid start byte"


def test_the_first_bad_row_of_jsonl_is_named(look: Look, tmp_path: Path) -> None:
    rows = ['{"messages": []}', "", '{"messages": 1}', "{'messages': 1}", "nonsense"]
    (tmp_path / "t.jsonl").write_text("\n".join(rows))
    assert refusal(look, "jsonl", path="t.jsonl").startswith("t.jsonl:4: not JSON: ")
    (tmp_path / "t.jsonl").write_text("\n".join(rows[:3]))
    assert look("jsonl", path="t.jsonl", required=["messages"], min_rows=2) == "t.jsonl: 2 rows"
    assert refusal(look, "jsonl", path="t.jsonl", required=["id"]) == "t.jsonl:1: no key 'id'"
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n[1]\n')
    assert refusal(look, "jsonl", path="t.jsonl", required=["a"]).startswith(
        "t.jsonl:2: a list, not an object"
    )


def test_no_rows_are_no_data_unless_said_otherwise(look: Look, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text("\n\n")
    assert refusal(look, "jsonl", path="t.jsonl") == "t.jsonl: 0 rows, at least 1 needed"
    assert look("jsonl", path="t.jsonl", min_rows=0) == "t.jsonl: 0 rows"


def test_a_row_without_end_is_not_read_into_memory(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_probes, "LONGEST_ROW", 1000)
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n"' + "x" * 998 + '"\n')
    assert refusal(look, "jsonl", path="t.jsonl").startswith("t.jsonl:2: longer than 1.0 kB")


def test_a_long_file_is_left_at_the_deadline(
    look: Look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": 1}\n' * 400_000)
    rows, loads = 0, json.loads

    def counted(text: str) -> Any:
        nonlocal rows
        rows += 1
        return loads(text)

    monkeypatch.setattr(json, "loads", counted)
    with pytest.raises(TimeoutError):
        look("jsonl", path="t.jsonl", timeout=0.02)
    assert rows < 200_000


@given(rows=st.lists(st.dictionaries(st.text(), st.integers() | st.text(), max_size=3), max_size=20))
def test_rows_that_were_written_as_json_are_counted(
    rows: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    (folder / "t.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows))
    context = ProbeContext(folder, {}, sys.executable, time.monotonic() + 60, SubprocessRuns())
    arguments = {"path": "t.jsonl", "required": [], "min_rows": 0}
    message = probes.probe(a_check("c", "jsonl", probe=arguments), context)
    assert message == f"t.jsonl: {len(rows)} row{'' if len(rows) == 1 else 's'}"


def test_yaml_is_judged_like_json(look: Look, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("rank: 32\nlr: 1e-4\n")
    assert look("yaml", path="c.yaml", required=["rank"]) == "c.yaml: 2 keys"
    assert refusal(look, "yaml", path="c.yaml", required=["alpha"]) == "c.yaml: no key 'alpha'"
    (tmp_path / "c.yaml").write_text("rank: 32\nlr: [1\n")
    assert refusal(look, "yaml", path="c.yaml").startswith("c.yaml:3: not YAML: ")
    (tmp_path / "c.yaml").write_text("a: 1\n---\nb: 1\n")
    assert refusal(look, "yaml", path="c.yaml").startswith("c.yaml:2: not YAML: ")
    (tmp_path / "c.yaml").write_text("")
    assert refusal(look, "yaml", path="c.yaml") == "c.yaml: empty, neither an object nor a list"
    (tmp_path / "c.yaml").write_text("day: 2026-13-45\n")
    assert refusal(look, "yaml", path="c.yaml").startswith("c.yaml: not YAML: ")
    (tmp_path / "c.yaml").write_text("a: \x01\n")
    assert refusal(look, "yaml", path="c.yaml").startswith("c.yaml: not YAML: ")


# --- executable, disk_free


def test_executables_are_looked_for_on_the_path_of_the_main(look: Look, tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    path = {"PATH": str(tool.parent)}
    assert refusal(look, "executable", names=["tool"], env=path) == "tool: no such executable on PATH"
    tool.chmod(0o755)
    assert look("executable", names=["tool"], env=path) == str(tool)
    assert look("executable", names=["bin/tool"], env={"PATH": ""}) == str(tool)
    assert refusal(look, "executable", names=["bin/gone"]) == "bin/gone: no such executable"


def test_room_is_measured_where_the_folder_will_be(look: Look) -> None:
    assert look("disk_free", path="not/yet/made", bytes=1).startswith("not/yet/made: ")
    message = refusal(look, "disk_free", path=".", bytes=10**18)
    assert message.endswith(" free, 1000000.0 TB needed")


# --- port, http


@pytest.fixture
def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_a_port_is_open_when_somebody_listens(look: Look, free_port: int) -> None:
    where = {"host": "127.0.0.1", "port": free_port}
    assert look("port", **where, open=False) == f"127.0.0.1:{free_port}: free"
    assert refusal(look, "port", **where, open=True) == f"127.0.0.1:{free_port}: nobody listens"
    with socket.create_server(("127.0.0.1", free_port)):
        assert look("port", **where, open=True) == f"127.0.0.1:{free_port}: open"
        assert refusal(look, "port", **where, open=False) == f"127.0.0.1:{free_port}: somebody listens"


class Answers(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/drip":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b".")
                time.sleep(0.02)
            return
        places = {"/moved": "/health", "/to-file": "file:///etc/passwd", "/to-ftp": "ftp://127.0.0.1/x"}
        if path in places:
            self.send_response(302)
            self.send_header("Location", places[path])
        else:
            self.send_response(200 if path == "/health" else 404)
        self.end_headers()
        self.wfile.write(b"engine ready")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as running:
        running.block_on_close = False
        running.handle_error = lambda *_: None  # type: ignore[method-assign] # a client that left
        running.daemon_threads = True
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_web_server_answers_with_the_status_and_text_that_are_wanted(look: Look, server: str) -> None:
    assert (
        look("http", url=f"{server}/health?key=hunter2", contains="ready") == f"{server}/health: status 200"
    )
    assert refusal(look, "http", url=f"{server}/gone") == f"{server}/gone: status 404, not 200"
    assert look("http", url=f"{server}/gone", status=404) == f"{server}/gone: status 404"
    message = refusal(look, "http", url=f"{server}/health?key=hunter2", contains="asleep")
    assert message == f"{server}/health: the answer does not contain 'asleep'"


def test_redirects_are_followed_to_the_web_alone(look: Look, server: str) -> None:
    assert look("http", url=f"{server}/moved") == f"{server}/moved: status 200"
    assert look("http", url=f"{server}/moved", status=302) == f"{server}/moved: status 302"
    assert refusal(look, "http", url=f"{server}/to-file") == f"{server}/to-file: status 302, not 200"
    assert "ftp" in refusal(look, "http", url=f"{server}/to-ftp")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http:///x", "localhost:80"])
def test_what_is_not_the_web_is_not_asked(look: Look, url: str) -> None:
    assert refusal(look, "http", url=url) == "http: not a URL of http or https"


def test_credentials_in_a_url_are_neither_sent_nor_shown(look: Look, server: str) -> None:
    url = server.replace("://", "://me:hunter2@")
    assert "hunter2" not in refusal(look, "http", url=url)


def test_a_server_that_is_not_there_is_named(look: Look, free_port: int) -> None:
    url = f"http://127.0.0.1:{free_port}/health"
    assert refusal(look, "http", url=url) == f"{url}: Connection refused"


def test_a_proxy_is_not_asked_for_this_machine(
    look: Look, server: str, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port}")
    monkeypatch.delenv("no_proxy", raising=False)
    assert look("http", url=f"{server}/health")


def test_an_answer_that_drips_is_cut_off_at_the_deadline(look: Look, server: str) -> None:
    with pytest.raises(TimeoutError):
        look("http", url=f"{server}/drip", contains="never", timeout=0.2)


def test_a_server_that_takes_the_connection_and_is_silent_is_left_at_the_deadline(look: Look) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(TimeoutError):
        look("http", url=f"http://127.0.0.1:{silent.getsockname()[1]}/", timeout=0.2)


def test_something_that_is_not_a_web_server_is_a_failed_check(look: Look) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"220 mail\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        message = refusal(look, "http", url=f"http://127.0.0.1:{other.getsockname()[1]}/")
        thread.join()
    assert "not an answer of a web server" in message


# --- python


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Callable[[str], str]]:
    """Write a module that no other test has imported; its name."""
    before = set(sys.modules)

    def write(text: str) -> str:
        name = f"probed_{tmp_path.name}_{len(list(tmp_path.iterdir()))}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield write
    for name in set(sys.modules) - before:
        if name.startswith("probed_"):
            del sys.modules[name]


def test_a_function_says_its_message(look: Look, module: Callable[[str], str]) -> None:
    path = list(sys.path)
    name = module("class Group:\n  @staticmethod\n  def f(): return '12 fine'\ndef nothing(): pass")
    assert look("python", target=f"{name}:Group.f") == "12 fine"
    assert look("python", target=f"{name}:nothing") == ""
    assert sys.path == path


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return False", "{name}:f returned False"),
        ("return type('bool_', (), {{'__bool__': lambda self: False}})()", "{name}:f returned False"),
        ("raise ValueError('only\\n3 rows')", "ValueError: only 3 rows"),
        ("assert 1 == 2", "AssertionError"),
        ("import sys; sys.exit(2)", "SystemExit: 2"),
        ("import pytest; pytest.skip('later')", "Skipped: later"),
        ("raise TimeoutError('the engine')", "TimeoutError: the engine"),
        ("open('/not/there')", "FileNotFoundError: [Errno 2] No such file or directory: '/not/there'"),
    ],
)
def test_a_function_that_says_no_fails_with_its_own_words(
    look: Look, module: Callable[[str], str], body: str, message: str
) -> None:
    name = module(f"def f():\n  {body}\n".replace("{{", "{").replace("}}", "}"))
    assert refusal(look, "python", target=f"{name}:f") == message.format(name=name)


def test_a_coroutine_function_does_not_pass_unawaited(look: Look, module: Callable[[str], str]) -> None:
    name = module("async def f(): raise ValueError\n")
    assert "coroutine" in refusal(look, "python", target=f"{name}:f")


def test_a_function_that_is_not_there_is_a_failed_check(look: Look, module: Callable[[str], str]) -> None:
    name = module("")
    assert refusal(look, "python", target=f"{name}:f").startswith("AttributeError: ")
    assert refusal(look, "python", target="no_such_module_here:f").startswith("ModuleNotFoundError: ")
