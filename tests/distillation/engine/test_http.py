"""The server driven by hand: what the SDK never does, or does only when the network is bad."""

from __future__ import annotations

import http.client
import json
import socket
import struct
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("torch")
np = pytest.importorskip("numpy")
pb = pytest.importorskip("tinker.proto.tinker_public_pb2")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")]


class Caller:
    """Calls an engine over one connection that is kept alive."""

    def __init__(self, address: str) -> None:
        split = urlsplit(address)
        self.host, self.port = str(split.hostname), int(split.port or 0)
        self.connection = http.client.HTTPConnection(self.host, self.port, timeout=60)

    def __call__(self, path: str, body: object, kind: str = "application/json") -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.connection.request("POST", f"/api/v1/{path}", data, {"Content-Type": kind})
        answer = self.connection.getresponse()
        raw = answer.read()
        is_json = bool(raw) and answer.headers["content-type"] == "application/json"
        return answer.status, json.loads(raw) if is_json else raw

    def result(self, request_id: str) -> tuple[int, Any]:
        return self("retrieve_future", {"request_id": request_id})


@pytest.fixture
def call(service: Any) -> Any:
    caller = Caller(str(service._base_url))
    yield caller
    caller.connection.close()


@pytest.fixture
def run(call: Caller, model: str) -> str:
    session = call("create_session", {"type": "create_session"})[1]["session_id"]
    body = {
        "session_id": session,
        "model_seq_id": 0,
        "base_model": model,
        "lora_config": {"rank": 2, "seed": 0},
    }
    promise = call("create_model", body)[1]
    assert call("create_model", body)[1] == promise
    assert call.result(promise["request_id"])[1]["model_id"] == promise["model_id"]
    return str(promise["model_id"])


def batch(run: str, seq_id: int, tokens: list[int], loss: str = "cross_entropy", targets: int = 0) -> bytes:
    message = pb.ForwardBackwardRequest(model_id=run, seq_id=seq_id, loss_fn=loss)
    datum = message.data.add()
    datum.model_input.add().encoded_text.tokens = np.array(tokens, np.int32).tobytes()
    wanted = np.array(tokens[: targets or None], np.int64)
    field = datum.loss_fn_inputs["target_tokens"]
    field.dense, field.dtype = wanted.tobytes(), pb.DTYPE_INT64
    field.shape.append(wanted.size)
    return bytes(message.SerializeToString())


PROTOBUF = "application/x-protobuf"


def loss(answer: tuple[int, Any]) -> float:
    status, raw = answer
    assert status == 200
    output = pb.ForwardBackwardOutput()
    output.ParseFromString(raw)
    return float(output.metrics["loss:sum"])


def test_requests_that_come_in_the_wrong_order_are_done_in_the_right_one(call: Caller, run: str) -> None:
    later = call("forward_backward", batch(run, 3, [5, 6, 7]), PROTOBUF)[1]["request_id"]
    step = call("optim_step", {"model_id": run, "seq_id": 2, "adam_params": {"learning_rate": 0.05}})
    first = call("forward_backward", batch(run, 1, [5, 6, 7]), PROTOBUF)[1]["request_id"]
    assert call.result(step[1]["request_id"])[0] == 200
    assert loss(call.result(later)) < loss(call.result(first))


def test_a_request_sent_twice_is_done_once(call: Caller, run: str) -> None:
    body = batch(run, 1, [5, 6, 7])
    one, again = (call("forward_backward", body, PROTOBUF) for _ in range(2))
    assert one == again
    wanted = loss(call.result(one[1]["request_id"]))
    assert loss(call.result(one[1]["request_id"])) == wanted


@pytest.mark.parametrize(
    ("tokens", "how", "reason"),
    [
        ([5, 6], {"loss": "ppo"}, "use cross_entropy"),
        ([5, 6, 7], {"targets": 2}, "2 target_tokens for 3 tokens"),
        ([], {}, "no tokens"),
    ],
)
def test_a_refused_batch_says_why_and_uses_up_its_id(
    call: Caller, run: str, tokens: list[int], how: dict[str, Any], reason: str
) -> None:
    status, answer = call("forward_backward", batch(run, 1, tokens, **how), PROTOBUF)
    assert status == 400
    assert reason in answer["detail"]
    good = call("forward_backward", batch(run, 2, [5, 6, 7]), PROTOBUF)[1]["request_id"]
    assert loss(call.result(good)) > 0


def test_other_refused_requests_use_up_their_ids_too(call: Caller, run: str) -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("optim_step", {"optimizer_params": {"type": "dimuon"}}),
        ("optim_step", {"adam_params": {"learning_rate": "fast"}}),
        ("save_weights", {"path": "../../etc"}),
        ("load_weights", {"path": "tinker://a/weights/b", "optimizer": True}),
    ]
    for number, (path, body) in enumerate(wrong, 1):
        status, answer = call(path, {"model_id": run, "seq_id": number, **body})
        assert (status, path) == (400, path), answer
    good = call("forward_backward", batch(run, 5, [5, 6, 7]), PROTOBUF)[1]["request_id"]
    assert loss(call.result(good)) > 0


def test_a_failed_request_says_why_and_whose_fault_it_is(call: Caller, run: str) -> None:
    promise = call("forward_backward", batch(run, 1, [5, 299, 300]), PROTOBUF)[1]["request_id"]
    status, answer = call.result(promise)
    assert (status, answer["category"]) == (200, "user")
    assert "not between 0 and 299" in answer["error"]


def test_unknown_things_are_named(call: Caller, run: str) -> None:
    assert call.result("never")[0] == 410
    assert call("optim_step", {"model_id": "never", "seq_id": 1})[0] == 404
    assert call("nowhere", {})[0] == 404
    assert call("optim_step", {})[0] == 422
    assert call("optim_step", b"{")[0] == 400
    assert call("forward_backward", b"\xff\xff", PROTOBUF)[0] == 400
    assert call("asample", {"sampling_session_id": "never"})[0] == 404
    assert call("retrieve_futures", {"target": {"sampling_session_id": "never"}})[0] == 404


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": {"chunks": []}}, "empty"),
        ({"prompt": {"chunks": [{"tokens": [300]}]}}, "between 0 and 299"),
        ({"prompt": {"chunks": [{"tokens": [5] * 1024}]}}, "the model sees 1024"),
        ({"num_samples": 0}, "num_samples"),
        ({"sampling_params": {"temperature": -1}}, "temperature"),
        ({"sampling_params": {"top_p": 0}}, "top_p"),
        ({"sampling_params": {"max_tokens": 0}}, "max_tokens"),
        ({"sampling_params": {"stop": [""]}}, "stop string is empty"),
        ({"topk_prompt_logprobs": 3}, "not offered"),
    ],
)
def test_a_wrong_sampling_request_is_refused_in_one_line(
    call: Caller, run: str, model: str, change: dict[str, Any], reason: str
) -> None:
    session = run.split(":")[0]
    body = {"session_id": session, "sampling_session_seq_id": 0, "base_model": model}
    sampler = call("create_sampling_session", body)[1]["sampling_session_id"]
    good = {"sampling_session_id": sampler, "seq_id": 1, "prompt": {"chunks": [{"tokens": [5]}]}}
    status, answer = call("asample", good | change)
    assert status == 400
    assert reason in answer["detail"]


def test_a_finished_session_frees_what_it_had(call: Caller, run: str) -> None:
    request = call("forward_backward", batch(run, 1, [5, 6]), PROTOBUF)[1]["request_id"]
    assert call.result(request)[0] == 200
    call(f"sessions/{run.split(':')[0]}/finish", {})
    assert call("forward_backward", batch(run, 2, [5, 6]), PROTOBUF)[0] == 404
    assert call.result(request)[0] == 410


def test_another_host_name_is_refused(call: Caller) -> None:
    call.connection.request("GET", "/api/v1/healthz", headers={"Host": "evil.example"})
    answer = call.connection.getresponse()
    answer.read()
    assert answer.status == 403


def test_what_is_no_http_is_refused_and_a_client_that_vanishes_does_no_harm(call: Caller) -> None:
    with socket.create_connection((call.host, call.port), timeout=60) as raw:
        raw.sendall(b"HELLO\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")
    for piece in (b"", b"POST /api/v1/asample HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n{"):
        with socket.create_connection((call.host, call.port), timeout=60) as raw:
            raw.sendall(piece)
            # Closing with a reset is what a killed client looks like.
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert call("create_session", {})[0] == 200


def test_a_chunked_body_is_read(call: Caller) -> None:
    call.connection.request(
        "POST",
        "/api/v1/create_session",
        iter([b"{", b"}"]),
        encode_chunked=True,
        headers={"Transfer-Encoding": "chunked", "Content-Type": "application/json"},
    )
    answer = call.connection.getresponse()
    answer.read()
    assert answer.status == 200
