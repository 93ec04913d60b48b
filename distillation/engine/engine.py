"""What the engine does with a request: state on the server's event loop, work on the worker's thread.

Everything here is called on the event loop, except the tasks, which the worker calls and which reach
back by ``_finish`` only.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import traceback
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import torch

from distillation.engine import protocol
from distillation.engine.backend import MAX_RANK, Backend, LoraShape
from distillation.engine.batch import Job
from distillation.engine.checkpoints import Address, Store, parse
from distillation.engine.futures import Completions, Futures, Result, target_of
from distillation.engine.models import Run, Runs
from distillation.engine.refusals import Failed, Refused
from distillation.engine.sampling import Sampler
from distillation.engine.sessions import SILENCE, Sessions
from distillation.engine.worker import Worker

SWEEP = 5.0
"""Seconds between looks for dead clients, at most."""

KEPT_SAMPLERS = 8
"""Saved adapters whose merged weights are kept in memory."""

CLONES = 1_000_000_000
"""A sampling request's number divided by this is the number of the client's copy that sent it."""


class Engine:
    """One base model, its training runs, samplers and checkpoints.

    Args:
        backend: the model.
        store: of its checkpoints.
        loop: on which it is called.
        silence: seconds without a sign of life after which a client is taken for dead.
    """

    def __init__(
        self, backend: Backend, store: Store, loop: asyncio.AbstractEventLoop, silence: float = SILENCE
    ) -> None:
        self.backend = backend
        self.store = store
        self.sessions = Sessions()
        self.futures = Futures()
        self.completions = Completions()
        self.name = str(backend.folder)
        self._loop = loop
        self._silence = silence
        self._worker = Worker(Sampler(backend))
        self._runs = Runs(self._worker.run)
        self._samplers: dict[str, str | None] = {}
        self._copies: dict[str, int] = {}
        self._merged: OrderedDict[str, Mapping[str, torch.Tensor]] = OrderedDict()
        self._base_weights: Mapping[str, torch.Tensor] = {}

    def start(self) -> None:
        """Begin to work on what is submitted."""
        self._worker.start()

    def close(self) -> None:
        """Stop working."""
        self._worker.close()

    async def sweep(self) -> None:
        """Close the sessions of dead clients, for as long as the engine runs."""
        while True:
            await asyncio.sleep(min(SWEEP, self._silence / 4))
            for session_id in self.sessions.silent(self._silence):
                self.close_session(session_id)

    def close_session(self, session_id: str) -> None:
        """A client is done, or dead: free what it had opened."""
        session = self.sessions.close(session_id)
        if session is None:
            return
        for sampler in session.samplers:
            del self._samplers[sampler]
            for number in range(self._copies.pop(sampler, 0) + 1):
                self.completions.forget(target_of(sampler, number))
        self.futures.forget(session_id)
        for run_id in session.runs:
            run = self._runs.close(run_id)
            if run is not None:
                self._worker.run(partial(self._release, run))

    def _release(self, run: Run) -> None:
        if run.adapter is not None:
            self.backend.remove(run.adapter)
            run.adapter = None

    def check_base(self, name: object) -> None:
        """Refuse a base model that is not this engine's."""
        if name is not None and name != self.name:
            raise Refused(404, f"base model {name!r} is unknown; this engine has {self.name!r}")

    def create_run(self, body: Mapping[str, Any]) -> str:
        """Open a training run with a new adapter; returns its id."""
        self.check_base(body["base_model"])
        optimizer = (body.get("optimizer_config") or {}).get("type", "adamw")
        if optimizer != "adamw":
            raise Refused(400, f"optimizer {optimizer!r} is not offered by the local engine; use adamw")
        wanted = body.get("lora_config") or {}
        shape = LoraShape(
            **{name: wanted[name] for name in LoraShape.__dataclass_fields__ if wanted.get(name) is not None}
        )
        if not isinstance(shape.rank, int) or not 1 <= shape.rank <= MAX_RANK:
            raise Refused(400, f"rank must be between 1 and {MAX_RANK}, not {shape.rank}")
        return self._open_run(body, shape, lambda run: self._make(run, None, False))

    def load_run(self, body: Mapping[str, Any]) -> str:
        """Open a training run from a checkpoint; returns its id."""
        address, _, meta = self._training_checkpoint(body["path"])
        self.check_base(body.get("base_model"))
        try:
            shape = self.backend.shape_of(meta["lora"])
        except Failed as cause:
            raise Refused(400, str(cause)) from cause
        with_optimizer = bool(body.get("optimizer"))
        return self._open_run(body, shape, lambda run: self._make(run, str(address), with_optimizer))

    def _open_run(self, body: Mapping[str, Any], shape: LoraShape, make: Callable[[Run], bytes]) -> str:
        session = self.sessions.heard(body["session_id"])
        run_id = f"{session.id}:train:{int(body['model_seq_id'])}"
        run = self._runs.open(run_id, shape)
        if run is None:
            return run_id
        session.runs.add(run_id)
        record = {
            "training_run_id": run_id,
            "base_model": self.name,
            "model_owner": "local",
            "is_lora": True,
            "corrupted": False,
            "lora_rank": shape.rank,
            "user_metadata": body.get("user_metadata"),
        }

        def recorded() -> bytes:
            # As a part of the work its failure is an answer; before it, the SDK would ask on and on.
            self.store.save_run(run_id, record)
            return make(run)

        self.futures.open(run_id)
        self._worker.run(self._task(run_id, recorded))
        return run_id

    def _training_checkpoint(self, path: object) -> tuple[Address, Path, dict[str, Any]]:
        address = parse(path)
        if address.kind != "weights":
            raise Refused(400, f"{address} is no training checkpoint; it must be tinker://run/weights/name")
        return address, *self.store.find(path)

    def _make(self, run: Run, path: str | None, optimizer: bool) -> bytes:
        if path is None:
            run.adapter = self.backend.create(run.shape)
            return json.dumps({"type": "create_model", "model_id": run.id}).encode()
        folder, meta = self.store.find(path)
        run.adapter = self.backend.load(folder, meta["lora"], optimizer)
        return json.dumps({"type": "load_weights", "model_id": run.id, "path": path}).encode()

    def info(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """What is known of a training run that is open here."""
        run = self._runs.find(body["model_id"])
        data = {"arch": "local", "model_name": self.name, "tokenizer_id": self.name}
        return {
            "type": "get_info",
            "model_id": run.id,
            "model_data": data,
            "is_lora": True,
            "lora_rank": run.shape.rank,
            "model_name": self.name,
        }

    def forward_backward(self, request: protocol.BatchRequest) -> str:
        """Submit a batch; returns the request id."""
        run = self._runs.find(request.model_id)
        if request.refusal:
            self._reject(run, request.seq_id, request.refusal)

        def work() -> bytes:
            adapter = run.ready()
            result = self.backend.forward_backward(adapter, request.examples, request.backward)
            return protocol.batch_bytes(result)

        return self._submit(run, request.seq_id, work, protocol.PROTOBUF)

    def optim_step(self, body: Mapping[str, Any]) -> str:
        """Submit an optimizer's step; returns the request id."""
        run = self._runs.find(body["model_id"])
        wanted = body.get("adam_params")
        if wanted is None:
            self._reject(run, body["seq_id"], "the local engine has no optimizer but AdamW")
        if not all(isinstance(value, int | float) for value in wanted.values()):
            self._reject(run, body["seq_id"], "adam_params must be numbers")

        def work() -> bytes:
            metrics = self.backend.optim_step(run.ready(), wanted)
            # JSON has no word for what is no number, and the SDK would not read the answer.
            told = {name: value for name, value in metrics.items() if math.isfinite(value)}
            return json.dumps({"type": "optim_step", "metrics": told}).encode()

        return self._submit(run, body["seq_id"], work)

    def save(self, body: Mapping[str, Any], kind: str) -> str:
        """Submit the saving of a checkpoint; returns the request id.

        A sampler's checkpoint without a name is answered with a sampling session on it.
        """
        run = self._runs.find(body["model_id"])
        seq_id = body["seq_id"]
        name, session = body.get("path"), None
        if name is None:
            name = f"step-{seq_id}"
            if kind == "sampler_weights":
                session = f"{run.id.split(':')[0]}:sample:{int(body['sampling_session_seq_id'])}"
        if body.get("age_encryption_recipients"):
            self._reject(run, seq_id, "encryption is not offered by the local engine")
        try:
            address = parse(f"tinker://{run.id}/{kind}/{name}")
        except Refused as cause:
            self._reject(run, seq_id, cause.detail)

        def work() -> bytes:
            adapter = run.ready()
            path = self.store.save(
                address,
                lambda folder: self.backend.save(adapter, folder, optimizer=kind == "weights"),
                lora=self.backend.describe(run.shape),
                ttl_seconds=body.get("ttl_seconds"),
                user_metadata=body.get("user_metadata"),
                overwrite=bool(body.get("overwrite", False)) or session is not None,
            )
            if session is None:
                return json.dumps({"path": path}).encode()
            self._loop.call_soon_threadsafe(self._open_sampler, session, path)
            return json.dumps({"path": None, "sampling_session_id": session}).encode()

        return self._submit(run, seq_id, work)

    def load_into(self, body: Mapping[str, Any]) -> str:
        """Submit loading into a fresh run, the way older SDKs resume; returns the request id."""
        run = self._runs.find(body["model_id"])
        seq_id = body["seq_id"]
        if seq_id != 1:
            self._reject(run, seq_id, "weights can only be loaded by a run's first request; make a new run")
        try:
            address, _, _ = self._training_checkpoint(body["path"])
        except Refused as cause:
            self._reject(run, seq_id, cause.detail)

        def work() -> bytes:
            self._release(run)
            return self._make(run, str(address), bool(body.get("optimizer")))

        return self._submit(run, seq_id, work)

    def open_sampler(self, body: Mapping[str, Any]) -> str:
        """Open a sampling session on the base model or on a checkpoint; returns its id."""
        session = self.sessions.heard(body["session_id"])
        path = body.get("model_path")
        if path is None:
            self.check_base(body.get("base_model"))
        else:
            if parse(path).kind != "sampler_weights":
                raise Refused(400, f"{path} is no sampler's checkpoint; save_weights_for_sampler makes one")
            self.store.find(path)
        sampler = f"{session.id}:sample:{int(body['sampling_session_seq_id'])}"
        self._open_sampler(sampler, path)
        return sampler

    def _open_sampler(self, sampler: str, path: str | None) -> None:
        try:
            self.sessions.heard(sampler.split(":")[0]).samplers.add(sampler)
        except Refused:
            return
        self._samplers[sampler] = path

    def sampler_path(self, sampler: object) -> str | None:
        """The checkpoint of a sampling session; ``None`` for the base model.

        Raises:
            Refused: 404, there is no such session.
        """
        if not isinstance(sampler, str) or sampler not in self._samplers:
            raise Refused(404, f"sampling session {sampler} is not open")
        return self._samplers[sampler]

    def join_sampler(self, sampler: object) -> int:
        """A copy of a sampling client wants a number of its own, so that its requests' ids are its own."""
        self.sampler_path(sampler)
        self._copies[str(sampler)] = self._copies.get(str(sampler), 0) + 1
        return self._copies[str(sampler)]

    def sample(self, body: Mapping[str, Any]) -> tuple[str, int]:
        """Submit a sampling request; returns its id and how many answers it makes."""
        sampler = body.get("sampling_session_id")
        path = self.sampler_path(sampler)
        request = protocol.parse_sample(body, self.backend.vocabulary, self.backend.context)
        number = int(body["seq_id"])
        request_id = f"{sampler}:{number}"
        if not self.futures.open(request_id):
            return request_id, request.count
        target = target_of(str(sampler), number // CLONES)
        session = self.sessions.heard(str(sampler).split(":")[0])

        def done(outcome: protocol.SampleResult | Exception) -> None:
            if isinstance(outcome, Exception):
                result = _failure(outcome)
            else:
                result = Result(protocol.sample_bytes(outcome), protocol.PROTOBUF)
            self._loop.call_soon_threadsafe(self._finish, request_id, result, target)

        def begin() -> None:
            try:
                weights = self._weights(path)
            except Exception as cause:
                done(cause)
            else:
                self._worker.sample(Job(request, weights, done, lambda: not session.over))

        self._worker.run(begin)
        return request_id, request.count

    def _weights(self, path: str | None) -> Mapping[str, torch.Tensor]:
        if path is None:
            return self._base_weights
        folder, meta = self.store.find(path)
        # A checkpoint may have been deleted and saved anew under the same name.
        key = f"{path} {meta['time']}"
        if key not in self._merged:
            self._merged[key] = self.backend.merged(folder, meta["lora"])
        self._merged.move_to_end(key)
        while len(self._merged) > KEPT_SAMPLERS:
            self._merged.popitem(last=False)
        return self._merged[key]

    def _submit(self, run: Run, seq_id: object, work: Callable[[], bytes], kind: str = protocol.JSON) -> str:
        request_id = f"{run.id}:{seq_id}"
        if request_id not in self.futures:
            self._runs.submit(run, seq_id, self._task(request_id, work, kind))
            self.futures.open(request_id)
        return request_id

    def _reject(self, run: Run, seq_id: object, reason: str) -> NoReturn:
        def work() -> bytes:
            raise Failed(reason)

        self._submit(run, seq_id, work)
        raise Refused(400, reason)

    def _task(
        self, request_id: str, work: Callable[[], bytes], kind: str = protocol.JSON
    ) -> Callable[[], None]:
        def task() -> None:
            try:
                result = Result(work(), kind)
            except Exception as cause:
                result = _failure(cause)
            self._loop.call_soon_threadsafe(self._finish, request_id, result)

        return task

    def _finish(self, request_id: str, result: Result, target: str = "") -> None:
        self.futures.finish(request_id, result)
        # A client that is gone asks for nothing any more, and what is added here now nobody would forget.
        if target and target.split("/")[0] in self._samplers:
            self.completions.add(target, request_id, None if result.failed else len(result.payload))


def _failure(cause: Exception) -> Result:
    """A failed request's answer: the user's mistakes in one line, our own with a traceback in the log."""
    if isinstance(cause, Failed | Refused):
        answer = {"error": str(cause), "category": "user"}
    else:
        traceback.print_exception(cause, file=sys.stderr)
        answer = {"error": f"{type(cause).__name__}: {cause}", "category": "server"}
    return Result(json.dumps(answer).encode(), failed=True)
