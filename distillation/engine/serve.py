"""Run the engine until it is told to end, or until whoever started it is gone."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import torch

from distillation.engine.backend import Backend
from distillation.engine.checkpoints import Store
from distillation.engine.engine import Engine
from distillation.engine.http import LOOPBACK, Server
from distillation.engine.routes import Routes
from distillation.engine.sessions import SILENCE

LOOK_AFTER_PARENT = 0.5
"""Seconds between looks whether the parent still lives."""


def serve(
    model: Path,
    root: Path,
    port: int = 0,
    threads: int | None = None,
    parent_pipe: bool = False,
    silence: float = SILENCE,
) -> None:
    """Load a model, print the address as one JSON line, and serve until SIGTERM or SIGINT.

    Args:
        model: folder of a Hugging Face model.
        root: where the checkpoints go; made if it is missing.
        port: on the loopback; 0 for any free one.
        threads: of PyTorch; ``None`` for half the processors: the client and a second engine (a training
            in the background, say) need some too.
        parent_pipe: end as soon as the other end of standard input closes, which it also does when the
            parent is killed.
        silence: seconds without a sign of life after which a client is taken for dead; the SDK gives one
            every ten.

    Raises:
        DistillationError: the model cannot be loaded.
    """
    if parent_pipe:
        _follow_parent()
    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // 2))
    backend = Backend(model.resolve())
    ends = (signal.SIGTERM,) if parent_pipe else (signal.SIGTERM, signal.SIGINT)
    asyncio.run(_serve(backend, Store(root.resolve()), port, ends, silence))


async def _serve(
    backend: Backend, store: Store, port: int, ends: tuple[signal.Signals, ...], silence: float
) -> None:
    loop = asyncio.get_running_loop()
    engine = Engine(backend, store, loop, silence)
    routes = Routes(engine)
    server = Server(routes.answer)
    routes.port = await server.listen(port)
    engine.start()
    ended = asyncio.Event()
    for number in ends:
        loop.add_signal_handler(number, ended.set)
    sweep = asyncio.create_task(engine.sweep())
    address = {"address": f"http://{LOOPBACK}:{routes.port}", "pid": os.getpid(), "model": engine.name}
    print(json.dumps(address), flush=True)
    await ended.wait()
    sweep.cancel()
    server.close()
    engine.close()
    sys.stdout.flush()
    # Polls still wait and the worker may be in the middle of a step: neither is worth waiting for.
    os._exit(0)


def _follow_parent() -> None:
    # Control-C reaches the whole group: the parent decides what becomes of its engine.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()

    def pipe() -> None:
        # Not through sys.stdin: its lock, held here, would crash an interpreter that is about to end.
        while os.read(0, 1):
            pass
        os._exit(0)

    def process() -> None:
        # The parent's other children may have inherited the pipe, which then stays open.
        while os.getppid() == parent:
            time.sleep(LOOK_AFTER_PARENT)
        os._exit(0)

    for watch in (pipe, process):
        threading.Thread(target=watch, name=f"parent-{watch.__name__}", daemon=True).start()
