"""The model itself: its weights, LoRA adapters on it, and training them, with PyTorch and PEFT.

One thread calls this: whoever holds a backend sees to that. The base's weights never change; every
adapter is a set of small matrices beside them, with its own optimizer.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import io
import json
import math
import re
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from distillation.engine.attention import SHARED_PREFIX
from distillation.engine.protocol import BatchResult, Example
from distillation.engine.refusals import Failed
from distillation.errors import DistillationError

ALPHA = 32
"""LoRA's alpha, as on the hosted service: an update is scaled by ``ALPHA / rank``."""

MAX_RANK = 256

ADAPTER = "adapter_model.safetensors"
OPTIMIZER = "optimizer.pt"

MICRO_BATCH_NUMBERS = 32_000_000
"""Logits that one micro-batch may hold (4 bytes each, and about as much again for their gradient)."""

_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class LoraShape:
    """How an adapter is shaped.

    Attributes:
        rank: of its matrices.
        seed: of its first values; ``None`` for different ones each time.
        train_mlp, train_attn, train_unembed: which linear layers have one.
    """

    rank: int = 32
    seed: int | None = None
    train_mlp: bool = True
    train_attn: bool = True
    train_unembed: bool = True


@dataclass(slots=True)
class Adapter:
    """An adapter that is being trained."""

    name: str
    shape: LoraShape
    parameters: list[torch.nn.Parameter]
    optimizer: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        self.optimizer = torch.optim.AdamW(self.parameters, lr=0.0, fused=True)


class Backend:
    """A model folder, loaded.

    Attributes:
        tokenizer: of the model.
        vocabulary: how many tokens it knows.
        context: how many tokens it can see at a time.
        end_tokens: tokens that end an answer.
        fingerprint: of its weights; an adapter fits one base only.
        sampler_model: a view of the base that shares its weights, with the attention that sampling needs.
    """

    def __init__(self, folder: Path, context: int = 4096) -> None:
        self.folder = folder
        logging.disable_progress_bar()
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            base: Any = AutoModelForCausalLM.from_pretrained(
                folder, dtype=torch.float32, attn_implementation="sdpa", local_files_only=True
            )
        except (OSError, ValueError, KeyError) as cause:
            raise DistillationError(
                f"{folder}: no model can be loaded from there ({' '.join(str(cause).split())[:200]}); "
                "name a folder with config.json, model.safetensors and a tokenizer"
            ) from cause
        config = base.config.get_text_config()
        self.vocabulary = int(config.vocab_size)
        limits = [context, getattr(config, "max_position_embeddings", None)]
        limits.append(getattr(config, "sliding_window", None))
        self.context = min(limit for limit in limits if limit)
        self.end_tokens = _end_tokens(base, self.tokenizer)
        self.fingerprint = _fingerprint(folder)
        base.requires_grad_(False)
        base.eval()
        tensors = [*base.parameters(), *base.buffers()]
        self.sampler_model: Any = copy.deepcopy(base, {id(tensor): tensor for tensor in tensors})
        self.sampler_model.set_attn_implementation(SHARED_PREFIX)
        if self.sampler_model.config._attn_implementation != SHARED_PREFIX:
            raise DistillationError(f"{folder}: {type(base).__name__} does not let its attention be replaced")
        self._base = base
        self._tied = bool(getattr(config, "tie_word_embeddings", False))
        self._linear = _linear_layers(base)
        self._model: Any = None
        self._active = ""
        self._worn: Mapping[str, torch.Tensor] = {}
        self._dressed: dict[str, Any] = {}

    def create(self, shape: LoraShape) -> Adapter:
        """A new adapter, which changes nothing until it is trained.

        Raises:
            Failed: the model has no layer that it could be put on.
        """
        name = f"adapter_{uuid.uuid4().hex[:8]}"
        config = self._config(shape)
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if shape.seed is None:
                torch.seed()
            else:
                torch.manual_seed(shape.seed)
            if self._model is None:
                peft = importlib.import_module("peft")
                self._model = peft.get_peft_model(self._base, config, adapter_name=name)
            else:
                self._model.add_adapter(name, config)
        parameters = [p for n, p in self._model.named_parameters() if f".{name}." in n]
        adapter = Adapter(name, shape, parameters)
        self._use(adapter)
        return adapter

    def remove(self, adapter: Adapter) -> None:
        """Free an adapter's memory."""
        self._model.delete_adapter(adapter.name)
        self._active = ""

    def forward_backward(self, adapter: Adapter, batch: Sequence[Example], backward: bool) -> BatchResult:
        """Cross-entropy of each target, weighted and summed; gradients add up until ``optim_step``.

        Raises:
            Failed: a token is unknown to the model, or a row is longer than it can see.
        """
        for number, example in enumerate(batch):
            _check_row(example, number, self.vocabulary, self.context)
        self._use(adapter)
        logprobs: list[Any] = [None] * len(batch)
        losses: list[Any] = [None] * len(batch)
        total = 0.0
        for rows in micro_batches([e.tokens.size for e in batch], MICRO_BATCH_NUMBERS // self.vocabulary):
            tokens, targets, weights = _padded([batch[row] for row in rows])
            with torch.set_grad_enabled(backward):
                logits = self._model(input_ids=tokens, use_cache=False).logits
                surprise = torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), targets.flatten(), reduction="none"
                ).view_as(weights)
                weighted = surprise * weights
                loss = weighted.sum()
                if backward:
                    loss.backward()
            total += float(loss.detach())
            for place, row in enumerate(rows):
                length = batch[row].tokens.size
                logprobs[row] = -surprise[place, :length].detach().numpy()
                losses[row] = weighted[place, :length].detach().numpy()
        return BatchResult(tuple(logprobs), tuple(losses), {"loss:sum": total})

    def optim_step(self, adapter: Adapter, wanted: Mapping[str, Any]) -> dict[str, float]:
        """One AdamW step with the gathered gradients, which are forgotten after it.

        Args:
            adapter: whose.
            wanted: the SDK's ``AdamParams``.

        Returns:
            metrics: the norm of the gradients before clipping.
        """
        self._use(adapter)
        group = adapter.optimizer.param_groups[0]
        group["lr"] = float(wanted["learning_rate"])
        group["betas"] = (float(wanted.get("beta1", 0.9)), float(wanted.get("beta2", 0.95)))
        group["eps"] = float(wanted.get("eps", 1e-12))
        group["weight_decay"] = float(wanted.get("weight_decay", 0.0))
        limit = float(wanted.get("grad_clip_norm") or 0.0)
        norm = torch.nn.utils.clip_grad_norm_(adapter.parameters, limit if limit > 0 else math.inf)
        adapter.optimizer.step()
        adapter.optimizer.zero_grad(set_to_none=True)
        return {"grad_norm:mean": float(norm)}

    def describe(self, shape: LoraShape) -> dict[str, Any]:
        """What a checkpoint says of its adapter, so that ``load`` can make it again."""
        return asdict(shape) | {"base": self.fingerprint}

    def save(self, adapter: Adapter, folder: Path, optimizer: bool) -> None:
        """Write an adapter in PEFT's form, and its optimizer's state when that is wanted."""
        peft = importlib.import_module("peft")
        safetensors = importlib.import_module("safetensors.torch")
        # PEFT would add the whole head for having an adapter on it.
        state = peft.get_peft_model_state_dict(
            self._model, adapter_name=adapter.name, save_embedding_layers=False
        )
        tensors = {name: value.contiguous() for name, value in state.items()}
        # Written here, and the optimizer too: the libraries' own errors do not say that a disk is full.
        (folder / ADAPTER).write_bytes(safetensors.save(tensors))
        config = copy.copy(self._model.peft_config[adapter.name])
        config.inference_mode = True
        config.base_model_name_or_path = str(self.folder)
        config.save_pretrained(str(folder))
        if optimizer:
            saved = io.BytesIO()
            torch.save(adapter.optimizer.state_dict(), saved)
            (folder / OPTIMIZER).write_bytes(saved.getbuffer())

    def load(self, folder: Path, lora: Mapping[str, Any], optimizer: bool) -> Adapter:
        """Make a saved adapter again, with its optimizer's state when that is wanted.

        Raises:
            Failed: it is another base's, or it has no such state.
        """
        peft = importlib.import_module("peft")
        adapter = self.create(self.shape_of(lora))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            peft.set_peft_model_state_dict(self._model, self._tensors(folder), adapter_name=adapter.name)
        if optimizer:
            if not (folder / OPTIMIZER).exists():
                raise Failed(f"{folder.name} has no optimizer state")
            adapter.optimizer.load_state_dict(torch.load(folder / OPTIMIZER, weights_only=True))
        return adapter

    def shape_of(self, lora: Mapping[str, Any]) -> LoraShape:
        """The shape that ``describe`` wrote down.

        Raises:
            Failed: it was of another base.
        """
        if lora["base"] != self.fingerprint:
            raise Failed("the checkpoint belongs to another base model; start the engine with that one")
        return LoraShape(**{name: lora[name] for name in LoraShape.__dataclass_fields__})

    def merged(self, folder: Path, lora: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """The weights that a saved adapter makes of the base's, by the layer's name.

        Raises:
            Failed: it was trained on another base.
        """
        scale = ALPHA / self.shape_of(lora).rank
        tensors = self._tensors(folder)
        merged = {}
        for name, down in tensors.items():
            if name.endswith(".lora_A.weight"):
                layer = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                up = tensors[name.replace(".lora_A.", ".lora_B.")]
                merged[layer] = self._linear[layer] + scale * (up @ down)
        return merged

    def wear(self, merged: Mapping[str, torch.Tensor]) -> Any:
        """The sampler's model, with these weights in the place of the base's until the next call."""
        for name, layer in self._dressed.items():
            if name not in merged:
                layer.weight = torch.nn.Parameter(self._linear[name], requires_grad=False)
        if self._worn is not merged:
            self._dressed = {name: self.sampler_model.get_submodule(name) for name in merged}
            for name, layer in self._dressed.items():
                layer.weight = torch.nn.Parameter(merged[name], requires_grad=False)
            self._worn = merged
        return self.sampler_model

    def _tensors(self, folder: Path) -> dict[str, torch.Tensor]:
        safetensors = importlib.import_module("safetensors.torch")
        tensors: dict[str, torch.Tensor] = safetensors.load_file(folder / ADAPTER)
        return tensors

    def _use(self, adapter: Adapter) -> None:
        if self._active != adapter.name:
            self._model.set_adapter(adapter.name)
            self._active = adapter.name

    def _config(self, shape: LoraShape) -> Any:
        peft = importlib.import_module("peft")
        head = self._head_name()
        targets = []
        for name in self._linear:
            if name == head:
                # With tied weights the head is the embedding: an adapter on it could not be merged.
                wanted = shape.train_unembed and not self._tied
            else:
                wanted = shape.train_attn if _ATTENTION.search(name) else shape.train_mlp
            if wanted:
                targets.append(name)
        if not targets:
            raise Failed("no layer of this model is left to train; ask for more than train_unembed")
        return peft.LoraConfig(
            r=shape.rank,
            lora_alpha=ALPHA,
            target_modules=targets,
            lora_dropout=0.0,
            bias="none",
            task_type="CAUSAL_LM",
        )

    def _head_name(self) -> str:
        head = self._base.get_output_embeddings()
        names = (name for name, module in self.sampler_model.named_modules() if name in self._linear)
        return next((n for n in names if self._linear[n] is getattr(head, "weight", None)), "")


def micro_batches(lengths: Sequence[int], most: int) -> Iterator[list[int]]:
    """Rows of like length together, each group's padded size at most ``most`` tokens (or one row)."""
    group: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        if group and (len(group) + 1) * lengths[row] > most:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _padded(batch: Sequence[Example]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    # Padding on the right needs no mask: a causal model does not look there, and its weight is 0.
    size = (len(batch), max(example.tokens.size for example in batch))
    tokens, targets = np.zeros(size, np.int64), np.zeros(size, np.int64)
    weights = np.zeros(size, np.float32)
    for row, example in enumerate(batch):
        tokens[row, : example.tokens.size] = example.tokens
        targets[row, : example.tokens.size] = example.targets
        weights[row, : example.tokens.size] = example.weights
    return torch.from_numpy(tokens), torch.from_numpy(targets), torch.from_numpy(weights)


def _check_row(example: Example, number: int, vocabulary: int, context: int) -> None:
    if example.tokens.size > context:
        raise Failed(f"datum {number}: {example.tokens.size} tokens, and the model sees {context}")
    for name, tokens in (("token", example.tokens), ("target", example.targets)):
        if tokens.min() < 0 or tokens.max() >= vocabulary:
            raise Failed(f"datum {number}: a {name} is not between 0 and {vocabulary - 1}")


def _linear_layers(model: Any) -> dict[str, torch.Tensor]:
    return {n: m.weight for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    found: set[int] = set()
    for value in (model.generation_config.eos_token_id, tokenizer.eos_token_id):
        if value is not None:
            found.update(value if isinstance(value, list) else [value])
    return frozenset(found)


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256(_shape_bytes(folder))
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            for piece in _pieces(file):
                digest.update(piece)
    return digest.hexdigest()[:16]


def _shape_bytes(folder: Path) -> bytes:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return json.dumps(config.get("architectures")).encode()


def _pieces(file: Any) -> Iterable[bytes]:
    while piece := file.read(1 << 20):
        yield piece
