"""An exported model, loaded as anybody would: base with adapter by PEFT, and the merged one alone.

Everything is computed in 32-bit floats. PyTorch, transformers and PEFT are imported in the functions, so
that whatever names this module stays light.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distillation.chat import tokenizer_of
from distillation.errors import DistillationError
from distillation.model_files import ADAPTER, MERGED

COMPARED_POSITIONS = 16
"""Last positions of each prompt whose logits are kept for the comparison; a large vocabulary fills memory."""


@dataclass(frozen=True, slots=True)
class Differences:
    """The largest differences that were found.

    Attributes:
        adapter: of log probabilities, base with adapter against the engine.
        merged: of log probabilities, merged model against the engine.
        logits: of logits, base with adapter against merged model.
        prompts: how many were compared.
        tokens: how many log probabilities were.
    """

    adapter: float
    merged: float
    logits: float
    prompts: int
    tokens: int


def merge(base: str, folder: Path) -> None:
    """Write ``merged`` from ``adapter`` and the base model, with the base's tokenizer.

    Args:
        base: name or folder of the base model.
        folder: the model folder, with the adapter in it.

    Raises:
        DistillationError: base or adapter cannot be loaded, or the disk does not take what was merged.
    """
    safetensors = importlib.import_module("safetensors")
    merged = _adapted(base, folder / ADAPTER).merge_and_unload()
    try:
        merged.save_pretrained(folder / MERGED)
        tokenizer_of(base).save_pretrained(folder / MERGED)
    except (OSError, safetensors.SafetensorError) as cause:
        # The libraries' error of a full disk is none of the system's.
        reason = " ".join(str(cause).split())[:200]
        raise DistillationError(f"{folder.parent}: {reason}; make room and run step 19 again") from cause


def compare(base: str, folder: Path, probes: Sequence[Mapping[str, Any]]) -> Differences:
    """Load both and hold them against the engine and against each other.

    Args:
        base: name or folder of the base model.
        folder: the model folder.
        probes: ``tokens``, and the engine's ``logprobs`` of all but the first.

    Raises:
        DistillationError: one of them cannot be loaded.
    """
    adapted = _computed(_adapted(base, folder / ADAPTER), probes)
    merged = _computed(_causal(str(folder / MERGED)), probes)
    return Differences(
        adapter=max(one.off for one in adapted),
        merged=max(one.off for one in merged),
        logits=max(
            float((one.logits - other.logits).abs().max()) for one, other in zip(adapted, merged, strict=True)
        ),
        prompts=len(probes),
        tokens=sum(len(probe["logprobs"]) for probe in probes),
    )


@dataclass(frozen=True, slots=True)
class _Computed:
    off: float
    logits: Any


def _computed(model: Any, probes: Sequence[Mapping[str, Any]]) -> list[_Computed]:
    torch = importlib.import_module("torch")
    found = []
    model.eval()
    with torch.no_grad():
        for probe in probes:
            tokens = torch.tensor([probe["tokens"]])
            logits = model(input_ids=tokens[:, :-1], use_cache=False).logits[0].float()
            logprobs = logits.log_softmax(-1).gather(-1, tokens[0, 1:, None])[:, 0]
            off = float((logprobs - torch.tensor(probe["logprobs"])).abs().max())
            found.append(_Computed(off, logits[-COMPARED_POSITIONS:].clone()))
    return found


def _adapted(base: str, adapter: Path) -> Any:
    peft = importlib.import_module("peft")
    model = _causal(base)
    try:
        with warnings.catch_warnings():
            # PEFT asks transformers for something under its old name.
            warnings.simplefilter("ignore", FutureWarning)
            return peft.PeftModel.from_pretrained(model, str(adapter))
    except (OSError, ValueError, KeyError, RuntimeError, TypeError) as cause:
        raise _unloadable(adapter, cause) from cause


def _causal(name: str) -> Any:
    local = Path(name).is_dir()
    if local:
        # Files of a folder are all that is wanted: no hub is asked for anything.
        os.environ["HF_HUB_OFFLINE"] = "1"
    transformers = importlib.import_module("transformers")
    torch = importlib.import_module("torch")
    transformers.utils.logging.disable_progress_bar()
    try:
        return transformers.AutoModelForCausalLM.from_pretrained(
            name, dtype=torch.float32, local_files_only=local
        )
    except (OSError, ValueError, KeyError, RuntimeError) as cause:
        raise _unloadable(name, cause) from cause


def _unloadable(what: object, cause: Exception) -> DistillationError:
    reason = " ".join(str(cause).split())[:200]
    return DistillationError(
        f"{what}: cannot be loaded ({type(cause).__name__}: {reason}); run step 19 again"
    )
