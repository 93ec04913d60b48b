"""A batch of answers in the making: rows advance together, join while others are under way, and leave."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch

from distillation.engine.attention import EMPTY, Prefix, Slots, run
from distillation.engine.backend import Backend, micro_batches
from distillation.engine.choose import choose
from distillation.engine.protocol import Answer, Floats, SampleRequest, SampleResult

PIECE = 512
"""Tokens of a long prompt that are read at a time."""

NUMBERS = 32_000_000
"""Numbers (4 bytes each) that logits or attention scores of one forward pass may come to."""

SLOT_BYTES = 512 * 1024 * 1024
"""What the keys and values of all slots may come to, at ``SLOT_TOKENS`` tokens each."""

SLOT_TOKENS = 256
MAX_SLOTS = 192

Weights = Mapping[str, torch.Tensor]
Outcome = SampleResult | Exception


@dataclass(slots=True)
class Job:
    """A request to sample, with its sampler's weights, and whom to tell.

    Attributes:
        request: what is asked for.
        weights: as ``Backend.merged`` makes them; empty for the base model. Jobs with the same object
            here can share a batch.
        done: called once, with the result or with what went wrong.
        alive: asked before work is put into the job; ``False`` drops it silently.
        cached: tokens of its prompt that were read already.
    """

    request: SampleRequest
    weights: Weights
    done: Callable[[Outcome], None]
    alive: Callable[[], bool] = lambda: True
    arrived: float = field(default_factory=time.monotonic)
    cached: int = 0
    answers: dict[int, Answer] = field(default_factory=dict)
    prompt_logprobs: Floats | None = None

    def finish(self, index: int, answer: Answer) -> None:
        """Hand in one of the answers; the last one completes the job."""
        self.answers[index] = answer
        if len(self.answers) == self.request.count:
            ordered = tuple(self.answers[number] for number in range(self.request.count))
            self.done(SampleResult(ordered, self.prompt_logprobs, self.cached))


@dataclass(slots=True)
class _Row:
    """One answer in the making. ``held`` tokens are in its slot; the last one made is not among them yet."""

    job: Job
    index: int
    slot: int
    held: int
    randoms: random.Random
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)


class Batch:
    """Rows of one sampler whose prompts begin with ``prefix``.

    Attributes:
        weights: of the sampler.
        prefix: what all prompts begin with.
        free: how many more answers may be begun now.
    """

    def __init__(self, backend: Backend, weights: Weights, prefix: Prefix = EMPTY, count: int = 0) -> None:
        self.weights = weights
        self.prefix = prefix
        self._backend = backend
        self._heads, count_ = _measure(backend)
        self._count = count or count_
        self._slots = Slots(self._count, prefix)
        self._free = list(range(self._count))
        self._queue: list[tuple[Job, int]] = []
        self._rows: list[_Row] = []

    @property
    def free(self) -> int:
        """How many more answers may be begun now."""
        return len(self._free) - len(self._queue)

    @property
    def size(self) -> int:
        """How many answers it can make at a time."""
        return self._count

    @property
    def jobs(self) -> list[Job]:
        """The jobs it is at, each once."""
        found = [row.job for row in self._rows] + [job for job, _ in self._queue]
        return list({id(job): job for job in found}.values())

    def fits(self, job: Job) -> bool:
        """Whether a job can be done here."""
        prompt, prefix = job.request.prompt, self.prefix.tokens
        return job.weights is self.weights and len(prompt) > len(prefix) and prompt[: len(prefix)] == prefix

    def add(self, job: Job) -> None:
        """Take a job that fits; answers beyond ``free`` wait for room."""
        self._queue.extend((job, index) for index in range(job.request.count))

    def fail(self, cause: Exception) -> None:
        """Tell every job what went wrong, and be done."""
        for job in self.jobs:
            job.done(cause)
        self._rows, self._queue = [], []

    def step(self) -> None:
        """Begin what waits if there is enough room, and make one token for every row."""
        # Reading a few prompts costs about as much as reading many: wait until some can begin together.
        if self._queue and (not self._rows or len(self._free) >= min(self._count // 8 + 1, len(self._queue))):
            room = len(self._free)
            fresh, self._queue = self._queue[:room], self._queue[room:]
            self._begin(fresh)
        elif self._rows:
            self._advance()

    def read_prefix(self, tokens: tuple[int, ...]) -> Prefix:
        """Read tokens into slot 0 of this batch, which has no prefix, and make a prefix of them."""
        self._read([0], [tokens])
        return self._slots.as_prefix(tokens)

    def _begin(self, fresh: Sequence[tuple[Job, int]]) -> None:
        skip = self.prefix.length
        rows = []
        for job, index in fresh:
            seed = job.request.sampling.seed
            randoms = random.Random() if seed is None else random.Random(f"{seed}/{index}")
            job.cached = skip
            rows.append(_Row(job, index, self._free.pop(0), len(job.request.prompt) - skip, randoms))
        self._rows.extend(rows)
        for job in {id(job): job for job, _ in fresh}.values():
            if job.request.prompt_logprobs and job.prompt_logprobs is None:
                job.prompt_logprobs = self._score(job.request.prompt)
        tails = [row.job.request.prompt[skip:] for row in rows]
        self._take(rows, self._read([row.slot for row in rows], tails))

    def _read(self, places: Sequence[int], tails: Sequence[tuple[int, ...]]) -> torch.Tensor:
        """Put tokens into slots from their beginning; the logits after each row's last one."""
        model = self._backend.wear(self.weights)
        found = torch.zeros(len(tails), self._backend.vocabulary)
        longest = max(len(tail) for tail in tails)
        numbers = max(self._backend.vocabulary, self._heads * (self.prefix.length + longest))
        for group in micro_batches([len(tail) for tail in tails], max(1, NUMBERS // numbers)):
            rows = torch.tensor([places[one] for one in group])
            last = torch.tensor([len(tails[one]) - 1 for one in group])
            width = int(last.max()) + 1
            tokens = torch.zeros(len(group), width, dtype=torch.long)
            for line, one in enumerate(group):
                tokens[line, : len(tails[one])] = torch.tensor(tails[one])
            for begin in range(0, width, PIECE):
                piece = tokens[:, begin : begin + PIECE]
                positions = self._slots.step(rows, torch.full_like(rows, begin), piece.shape[1])
                ends = (last >= begin) & (last < begin + piece.shape[1])
                kept = torch.unique(last[ends] - begin) if ends.any() else torch.tensor([0])
                logits = run(model, self._slots, piece, positions, logits_to_keep=kept).logits
                for line in torch.nonzero(ends)[:, 0].tolist():
                    place = int(torch.searchsorted(kept, last[line] - begin))
                    found[group[line]] = logits[line, place]
        return found

    def _score(self, prompt: tuple[int, ...]) -> Floats:
        """Log probability of each token of a prompt; the first has none."""
        model = self._backend.wear(self.weights)
        slots = Slots(1)
        tokens = torch.tensor([prompt])
        found = [torch.full((1,), float("nan"))]
        for begin in range(0, tokens.shape[1], PIECE):
            piece = tokens[:, begin : begin + PIECE]
            positions = slots.step(torch.tensor([0]), torch.tensor([begin]), piece.shape[1])
            logits = run(model, slots, piece, positions).logits[0]
            following = tokens[0, begin + 1 : begin + 1 + PIECE]
            logits = logits[: following.numel()]
            found.append(-torch.nn.functional.cross_entropy(logits, following, reduction="none"))
        return np.asarray(torch.cat(found), dtype=np.float32)

    def _advance(self) -> None:
        rows = sorted(self._rows, key=lambda row: row.slot)
        starts = torch.tensor([row.held for row in rows])
        positions = self._slots.step(torch.tensor([row.slot for row in rows]), starts, 1)
        tokens = torch.tensor([[row.tokens[-1]] for row in rows])
        model = self._backend.wear(self.weights)
        logits = run(model, self._slots, tokens, positions, logits_to_keep=1).logits[:, -1]
        for row in rows:
            row.held += 1
        self._take(rows, logits)

    def _take(self, rows: Sequence[_Row], logits: torch.Tensor) -> None:
        wanted = [row.job.request.sampling for row in rows]
        tokens, logprobs = choose(logits, wanted, [row.randoms.random() for row in rows])
        over = set()
        for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
            row.tokens.append(token)
            row.logprobs.append(logprob)
            reason = self._reason(row)
            if reason is not None:
                over.add(row.slot)
                row.job.finish(row.index, Answer(row.tokens, row.logprobs, reason))
            elif not row.job.alive():
                over.add(row.slot)
        if over:
            self._rows = [row for row in self._rows if row.slot not in over]
            # Low slots first: the fuller the front, the more often it is read in place.
            self._free = sorted([*self._free, *over])

    def _reason(self, row: _Row) -> Literal["stop", "length"] | None:
        sampling = row.job.request.sampling
        token = row.tokens[-1]
        if token in sampling.stop_tokens or (sampling.ends and token in self._backend.end_tokens):
            return "stop"
        if sampling.stop_strings:
            # A token may hold part of a character, so a few more than the longest text are looked at.
            tail = row.tokens[-(4 + max(len(text.encode()) for text in sampling.stop_strings)) :]
            said = self._backend.tokenizer.decode(tail)
            if any(text in said for text in sampling.stop_strings):
                return "stop"
        return "length" if len(row.tokens) >= sampling.max_tokens else None


def _measure(backend: Backend) -> tuple[int, int]:
    """Attention heads of the model, and how many slots its keys and values allow."""
    config = backend.sampler_model.config.get_text_config()
    heads = int(config.num_attention_heads)
    kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
    width = int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    token_bytes = 2 * 4 * kv_heads * width * int(config.num_hidden_layers)
    return heads, max(4, min(MAX_SLOTS, SLOT_BYTES // (token_bytes * SLOT_TOKENS)))
