"""The paths of the protocol, as SDK 0.38 asks for them, and what is answered on each."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from distillation.engine import checkpoints, protocol
from distillation.engine.engine import Engine
from distillation.engine.futures import LONG_POLL, target_of
from distillation.engine.http import LOOPBACK, Call, Reply
from distillation.engine.refusals import Refused

CLIENT_CONFIG = {
    "pjwt_auth_enabled": False,
    "use_pyqwest_transport": False,
    "parallel_fwdbwd_chunks": True,
    # One poll per sampler instead of one per sample in flight.
    "sample_use_retrieve_futures": True,
    "sample_join_sampling_session": True,
}

_RUN = r"/training_runs/(?P<run>[^/]+)"
_CHECKPOINT = _RUN + r"/checkpoints/(?P<checkpoint>[^/]+/[^/]+)"

Handler = Callable[[Call], "Reply | Awaitable[Reply]"]


def _json(value: object, status: int = 200) -> Reply:
    return Reply(json.dumps(value).encode(), status)


def _none() -> Reply:
    return Reply(status=204)


class Routes:
    """Answers the calls to an engine; ``port`` is where it listens, once that is known."""

    def __init__(self, engine: Engine) -> None:
        self.port = 0
        self._engine = engine
        handlers: list[tuple[str, str, Handler]] = [
            ("GET", "/healthz", lambda _: _json({"status": "ok"})),
            ("GET", "/auth/apikey/me", lambda _: _json({"user_urn": "local", "org_urn": "local"})),
            ("GET", "/get_server_capabilities", self._capabilities),
            ("POST", "/client/config", lambda _: _json(CLIENT_CONFIG)),
            ("POST", "/client/dynamic_config", self._dynamic_config),
            ("POST", "/telemetry", lambda _: _json({"status": "accepted"})),
            ("POST", "/create_session", self._create_session),
            ("POST", "/session_heartbeat", self._heartbeat),
            ("POST", r"/sessions/([^/]+)/finish", self._finish_session),
            ("POST", "/create_model", self._create_model),
            ("POST", "/get_info", lambda call: _json(engine.info(call.json()))),
            ("POST", "/forward_backward", self._forward_backward),
            ("POST", "/optim_step", lambda call: self._promise(engine.optim_step(call.json()))),
            ("POST", "/save_weights", lambda call: self._save(call, "weights")),
            ("POST", "/save_weights_for_sampler", lambda call: self._save(call, "sampler_weights")),
            ("POST", "/save_weights_external", lambda call: self._save(call, "external_weights")),
            ("POST", "/load_weights", self._load_weights),
            ("POST", "/weights_info", self._weights_info),
            ("POST", "/create_sampling_session", self._create_sampler),
            ("POST", "/join_sampling_session", self._join_sampler),
            ("GET", r"/samplers/(.+)", self._sampler),
            ("POST", "/asample", self._sample),
            ("POST", "/retrieve_future", self._retrieve),
            ("POST", "/retrieve_futures", self._retrieve_many),
            ("GET", "/training_runs", self._runs),
            ("GET", _RUN, lambda call: _json(engine.store.run(call.groups[0]))),
            ("GET", _RUN + "/checkpoints", self._checkpoints_of_run),
            ("GET", "/checkpoints", self._checkpoints),
            ("DELETE", _CHECKPOINT, self._delete),
            ("PUT", _CHECKPOINT + "/ttl", self._ttl),
            ("GET", _CHECKPOINT + "/external_weights_urls", self._urls),
            ("GET", _CHECKPOINT + r"/files/([\w.-]+)", self._file),
        ]
        self._table = [(method, re.compile(path), handler) for method, path, handler in handlers]

    async def answer(self, call: Call) -> Reply:
        """Find the route and do what it says.

        Raises:
            Refused: there is none, or it refuses.
        """
        path = call.path.removeprefix("/api/v1")
        for method, pattern, handler in self._table:
            if method == call.method and (found := pattern.fullmatch(path)):
                found_call = Call(call.method, path, call.query, call.content_type, call.body, found.groups())
                reply = handler(found_call)
                return reply if isinstance(reply, Reply) else await reply
        raise Refused(404, f"{call.method} {call.path} is not offered by the local engine")

    def _capabilities(self, _: Call) -> Reply:
        model = {
            "model_name": self._engine.name,
            "max_context_length": self._engine.backend.context,
            "trainable": True,
            "sampleable": True,
        }
        return _json({"supported_models": [model]})

    def _dynamic_config(self, _: Call) -> Reply:
        return _json({"refresh_interval_sec": 3600, "sample_cancel_enabled": False})

    def _create_session(self, _: Call) -> Reply:
        session = self._engine.sessions.open()
        return _json({"type": "create_session", "session_id": session.id})

    def _heartbeat(self, call: Call) -> Reply:
        self._engine.sessions.heard(call.json()["session_id"])
        return _json({"type": "session_heartbeat"})

    def _finish_session(self, call: Call) -> Reply:
        self._engine.close_session(call.groups[0])
        return _none()

    def _promise(self, request_id: str, **more: Any) -> Reply:
        return _json({"request_id": request_id, **more})

    def _create_model(self, call: Call) -> Reply:
        run_id = self._engine.create_run(call.json())
        return self._promise(run_id, model_id=run_id)

    def _forward_backward(self, call: Call) -> Reply:
        if "protobuf" not in call.content_type:
            raise Refused(415, "forward_backward takes protobuf; use SDK 0.38 or newer")
        return self._promise(self._engine.forward_backward(protocol.parse_batch(call.body)))

    def _save(self, call: Call, kind: str) -> Reply:
        return self._promise(self._engine.save(call.json(), kind))

    def _load_weights(self, call: Call) -> Reply:
        body = call.json()
        if body.get("model_id"):
            return self._promise(self._engine.load_into(body), model_id=body["model_id"])
        run_id = self._engine.load_run(body)
        return self._promise(run_id, model_id=run_id)

    def _weights_info(self, call: Call) -> Reply:
        _, meta = self._engine.store.find(call.json()["tinker_path"])
        lora = meta["lora"]
        shape = {name: lora[name] for name in ("train_unembed", "train_mlp", "train_attn")}
        known = {"base_model": self._engine.name, "is_lora": True, "lora_rank": lora["rank"]}
        return _json(known | shape)

    def _create_sampler(self, call: Call) -> Reply:
        sampler = self._engine.open_sampler(call.json())
        return _json({"type": "create_sampling_session", "sampling_session_id": sampler})

    def _join_sampler(self, call: Call) -> Reply:
        return _json({"client_counter": self._engine.join_sampler(call.json()["sampling_session_id"])})

    def _sampler(self, call: Call) -> Reply:
        path = self._engine.sampler_path(call.groups[0])
        known = {"sampler_id": call.groups[0], "base_model": self._engine.name, "model_path": path}
        return _json(known)

    def _sample(self, call: Call) -> Reply:
        request_id, count = self._engine.sample(call.json())
        return self._promise(request_id, sample_sequence_ids=[f"{request_id}:{i}" for i in range(count)])

    async def _retrieve(self, call: Call) -> Reply:
        request_id = call.json()["request_id"]
        result = await self._engine.futures.collect(request_id)
        if result is None:
            again = {"type": "try_again", "request_id": request_id, "queue_state": "active"}
            return _json(again, 408)
        return Reply(result.payload, 200, result.content_type)

    async def _retrieve_many(self, call: Call) -> Reply:
        body = call.json()
        sampler = body["target"]["sampling_session_id"]
        # One that was taken for dead, and is not, must not ask for ever for what never comes.
        self._engine.sampler_path(sampler)
        target = target_of(sampler, body["target"].get("cloned_sampler_id", 0))
        wait = body.get("timeout")
        patience = LONG_POLL if wait is None else min(float(wait), LONG_POLL)
        completions, cursor = await self._engine.completions.after(
            target, body.get("prev_cursor", 0), patience
        )
        return _json({"completions": completions, "cursor": cursor})

    def _page(self, call: Call, name: str, found: list[dict[str, Any]], limit: int) -> Reply:
        offset, limit = int(call.query.get("offset", 0)), int(call.query.get("limit", limit))
        cursor = {"offset": offset, "limit": limit, "total_count": len(found)}
        return _json({name: found[offset : offset + limit], "cursor": cursor})

    def _runs(self, call: Call) -> Reply:
        return self._page(call, "training_runs", self._engine.store.runs(), 20)

    def _checkpoints_of_run(self, call: Call) -> Reply:
        return _json({"checkpoints": self._engine.store.all(call.groups[0])})

    def _checkpoints(self, call: Call) -> Reply:
        return self._page(call, "checkpoints", self._engine.store.all(), 100)

    def _delete(self, call: Call) -> Reply:
        self._engine.store.delete(_path(call))
        return _none()

    def _ttl(self, call: Call) -> Reply:
        self._engine.store.set_ttl(_path(call), call.json().get("ttl_seconds"))
        return _none()

    def _urls(self, call: Call) -> Reply:
        folder, _ = self._engine.store.find(_path(call))
        if folder.parent.name != "external_weights":
            raise Refused(400, f"{_path(call)} was not made for export; save_weights_external makes such")
        run, checkpoint = call.groups[:2]
        begin = f"http://{LOOPBACK}:{self.port}/api/v1/training_runs/{run}/checkpoints/{checkpoint}/files"
        names = (file.name for file in folder.iterdir() if file.name != checkpoints.META)
        expires = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
        return _json({"urls": {name: f"{begin}/{name}" for name in sorted(names)}, "expires": expires})

    def _file(self, call: Call) -> Reply:
        folder, _ = self._engine.store.find(_path(call))
        file = folder / call.groups[2]
        if not file.is_file():
            raise Refused(404, f"{_path(call)} has no file {file.name}")
        return Reply(file.read_bytes(), 200, "application/octet-stream")


def _path(call: Call) -> str:
    return f"tinker://{call.groups[0]}/{call.groups[1]}"
