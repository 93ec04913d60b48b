"""``python -m distillation.engine serve``: the local engine by itself."""

from __future__ import annotations

import argparse
import importlib
import os
from collections.abc import Sequence
from pathlib import Path

from distillation.client import base_model, local_root
from distillation.command import execute
from distillation.engine.sessions import SILENCE


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds > 0:
        raise ValueError
    return seconds


def main(argv: Sequence[str] | None = None) -> None:
    """The command of the engine."""
    parser = argparse.ArgumentParser(prog="python -m distillation.engine", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve on the loopback until ended")
    serve.add_argument("--model", type=Path, default=None, help="model folder (default: the shipped one)")
    serve.add_argument("--root", type=Path, default=None, help="folder of the checkpoints")
    serve.add_argument("--port", type=int, default=0, help="0 takes any free port")
    serve.add_argument("--threads", type=int, default=None, help="threads of PyTorch")
    serve.add_argument(
        "--silence", type=_seconds, default=SILENCE, help="seconds after which a client is dead (%(default)s)"
    )
    serve.add_argument("--parent-pipe", action="store_true", help="end when standard input closes")
    options = parser.parse_args(argv)
    # Set before transformers is imported: the engine reads local files and asks no hub, ever.
    os.environ["HF_HUB_OFFLINE"] = "1"
    # PyTorch's threads would spin while they wait for each other, which on a busy machine stops them all.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    model = options.model or Path(base_model())
    module = importlib.import_module("distillation.engine.serve")
    root = options.root or local_root()
    module.serve(model, root, options.port, options.threads, options.parent_pipe, options.silence)


if __name__ == "__main__":
    execute(main)
