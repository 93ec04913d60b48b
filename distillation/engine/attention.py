"""Attention for sampling many answers at a time: one shared prefix, and what each row has of its own.

The keys and values of a prompt's common beginning (a system prompt of hundreds of tokens) are kept once
and every row attends to them by one matrix product, instead of a copy per row. What follows is kept per
slot, each row at its own position, so rows come and go while the others go on. The softmax runs over both
parts together, so the result is that of ordinary attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface

from distillation.engine.refusals import Failed

SHARED_PREFIX = "distillation_shared_prefix"
"""The name under which transformers knows this attention."""

GROWTH = 64
"""Tokens by which the slots grow."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Keys and values of the tokens that all rows begin with; per layer ``[kv heads, length, width]``."""

    tokens: tuple[int, ...]
    layers: tuple[tuple[torch.Tensor, torch.Tensor], ...]

    @property
    def length(self) -> int:
        """Tokens."""
        return len(self.tokens)


EMPTY = Prefix((), ())


class Slots:
    """What has been seen so far: the shared prefix, and per slot the tokens after it.

    A forward pass of the model goes through ``step``, which says which slots its rows are and where in
    them the rows' new tokens go.
    """

    def __init__(self, count: int, prefix: Prefix = EMPTY) -> None:
        self.count = count
        self.prefix = prefix
        self._keys: dict[int, torch.Tensor] = {}
        self._values: dict[int, torch.Tensor] = {}
        self._rows = torch.zeros(0, dtype=torch.long)
        self._top = 0
        self._front = False
        self._places = torch.zeros(0, 0, dtype=torch.long)
        self._seen = 0
        self._mask = torch.zeros(0)

    @property
    def room(self) -> int:
        """Tokens that there is room for now, over all slots; it grows as it is needed."""
        return max((buffer.shape[0] * buffer.shape[2] for buffer in self._keys.values()), default=0)

    def step(self, rows: torch.Tensor, starts: torch.Tensor, width: int) -> torch.Tensor:
        """Prepare a forward pass of ``width`` tokens in each of ``rows``.

        Args:
            rows: slots, one per row of the pass.
            starts: how many tokens each slot holds already.
            width: tokens per row.

        Returns:
            the position of every token, for the model.
        """
        self._rows = rows
        self._top = int(rows.max()) + 1
        # The first slots in order can be read in place; any other choice of them is a copy.
        self._front = rows.numel() == self._top and bool((rows[1:] > rows[:-1]).all())
        self._places = starts[:, None] + torch.arange(width)
        self._seen = int(starts.max()) + width
        hidden = torch.arange(self._seen) > self._places[:, :, None]
        self._mask = torch.zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
        return self._places + self.prefix.length

    def attend(
        self, layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
        """Attention of one layer; shapes are ``[rows, heads, width, size]``, heads of keys may be fewer."""
        keys, values = self._stored(layer, key, value)
        rows, heads, width, size = query.shape
        shared = key.shape[1]
        group = heads // shared
        query = (query * scale).reshape(rows, shared, group * width, size)
        scores = query @ keys.transpose(2, 3)
        scores = scores.view(rows, shared, group, width, -1) + self._mask[:, None, None]
        scores = scores.view(rows, shared, group * width, -1)
        if not self.prefix.length:
            mixed = torch.softmax(scores, -1) @ values
        else:
            before_keys, before_values = self.prefix.layers[layer]
            together = query.transpose(0, 1).reshape(shared, rows * group * width, size)
            before = (together @ before_keys.transpose(1, 2)).view(shared, rows, group * width, -1)
            weights = torch.softmax(torch.cat([before.transpose(0, 1), scores], -1), -1)
            split = self.prefix.length
            flat = weights[..., :split].transpose(0, 1).reshape(shared, rows * group * width, split)
            mixed = (flat @ before_values).view(shared, rows, group * width, size).transpose(0, 1)
            mixed = mixed + weights[..., split:] @ values
        return mixed.reshape(rows, heads, width, size).transpose(1, 2)

    def as_prefix(self, tokens: tuple[int, ...]) -> Prefix:
        """Slot 0's tokens as a prefix for others; only for slots that have no prefix themselves."""
        layers = tuple(
            (self._keys[layer][0, :, : len(tokens)].clone(), self._values[layer][0, :, : len(tokens)].clone())
            for layer in sorted(self._keys)
        )
        return Prefix(tokens, layers)

    def _stored(
        self, layer: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        found = []
        for kept, new in ((self._keys, key), (self._values, value)):
            buffer = kept.get(layer)
            if buffer is None or buffer.shape[2] < self._seen or buffer.shape[0] < self._top:
                buffer = kept[layer] = self._grown(buffer, new)
            buffer[self._rows[:, None], :, self._places] = new.transpose(1, 2)
            seen = self._seen
            found.append(buffer[: self._top, :, :seen] if self._front else buffer[self._rows, :, :seen])
        return found[0], found[1]

    def _grown(self, buffer: torch.Tensor | None, new: torch.Tensor) -> torch.Tensor:
        """Room for this pass. Slots that no row was in have none, or one long prompt would take it all."""
        slots, tokens = (0, 0) if buffer is None else (buffer.shape[0], buffer.shape[2])
        if slots < self._top:
            slots = min(self.count, 1 << (self._top - 1).bit_length())
        tokens = max(tokens, -(-self._seen // GROWTH) * GROWTH)
        grown = new.new_zeros(slots, new.shape[1], tokens, new.shape[3])
        if buffer is not None:
            grown[: buffer.shape[0], :, : buffer.shape[2]] = buffer
        return grown


class _Current:
    """The slots of the pass that is running: transformers calls the attention without a word about them."""

    slots: Slots | None = None


def run(model: Any, slots: Slots, tokens: torch.Tensor, positions: torch.Tensor, **options: Any) -> Any:
    """One forward pass through ``slots``, after their ``step``."""
    _Current.slots = slots
    try:
        return model(input_ids=tokens, position_ids=positions, use_cache=False, **options)
    finally:
        _Current.slots = None


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    _: object = None,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    if options.get("softcap") is not None or options.get("s_aux") is not None:
        raise Failed("this model's attention has parts that the local engine does not know")
    if _Current.slots is None:
        raise AssertionError("the sampler's model was called outside of run()")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return _Current.slots.attend(module.layer_idx, query, key, value, scale), None


AttentionInterface.register(SHARED_PREFIX, _attention)
