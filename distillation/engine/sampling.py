"""Which sampling requests are worked on together.

Requests of one sampler whose prompts begin alike share the keys and values of that beginning, which are
made once and kept for the next batches. Alike are those that wait and those that were begun lately, so it
does not matter whether they come all at once or one by one. What cannot share a batch gets one of its own,
and the batches take turns token by token, so a long answer never holds up the others.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Sequence

import torch

from distillation.engine.attention import EMPTY, Prefix
from distillation.engine.backend import Backend
from distillation.engine.batch import Batch, Job, Weights

SHARED_FROM = 32
"""Common tokens from which on a shared beginning is worth keeping."""

GATHER = 0.005
"""Seconds that the first request after a pause waits for company."""

LOOKED_AT = 256
"""Waiting jobs that are considered at a time, so that a long queue costs no time per token."""

REMEMBERED = 32
"""Prompts begun lately that a waiting one is compared with, too."""

MAX_BATCHES = 4
KEPT_PREFIXES = 8

GOOD_ENOUGH = 0.8
"""A kept prefix is used again if it is at least this share of the longest that would pay."""


class Sampler:
    """Works on the jobs it was given, one token of every running row per ``step``."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._waiting: list[Job] = []
        self._batches: list[Batch] = []
        self._prefixes: OrderedDict[tuple[int, tuple[int, ...]], tuple[Weights, Prefix]] = OrderedDict()
        # By the weights' id, so that nothing is kept alive: one that was given twice costs a prefix at most.
        self._begun: deque[tuple[int, tuple[int, ...]]] = deque(maxlen=REMEMBERED)

    def add(self, job: Job) -> None:
        """Take a job; it is begun when its turn comes."""
        self._waiting.append(job)

    @property
    def busy(self) -> bool:
        """Whether ``step`` has something to do."""
        return bool(self._waiting or self._batches)

    def step(self) -> None:
        """Let jobs join, then make one token for each row; jobs that are complete are told so.

        What goes wrong in a batch ends its jobs, with the reason.
        """
        if self.waits_for_company() > 0:
            return
        with torch.inference_mode():
            if self._waiting:
                self._distribute()
            for batch in self._batches:
                self._advance(batch)
        self._batches = [batch for batch in self._batches if batch.jobs]

    def _advance(self, batch: Batch) -> None:
        try:
            batch.step()
        except Exception as cause:
            batch.fail(cause)

    def waits_for_company(self) -> float:
        """Seconds that ``step`` had better wait, because more requests are likely on their way."""
        if self._batches or not self._waiting:
            return 0.0
        return max(0.0, self._waiting[0].arrived + GATHER - time.monotonic())

    def _distribute(self) -> None:
        """Give waiting jobs, the oldest first, to the batches that suit them, opening new ones."""
        if len(self._batches) >= MAX_BATCHES and not any(batch.free > 0 for batch in self._batches):
            return
        left: list[Job] = []
        for job in self._waiting[:LOOKED_AT]:
            if not job.alive():
                continue
            batch = self._batch_for(job)
            if batch is None and len(self._batches) < MAX_BATCHES:
                try:
                    batch = Batch(self._backend, job.weights, self._prefix(job))
                except Exception as cause:
                    job.done(cause)
                    continue
                self._batches.append(batch)
            if batch is not None and batch.free > 0:
                batch.add(job)
                self._begun.append((id(job.weights), job.request.prompt))
            else:
                left.append(job)
        self._waiting[:LOOKED_AT] = left

    def _batch_for(self, job: Job) -> Batch | None:
        """The running batch that shares most of the job's prompt, unless a new one would share far more."""
        fitting = [batch for batch in self._batches if batch.fits(job)]
        if not fitting:
            return None
        general = _most_general([batch.prefix for batch in fitting])
        batch = next(batch for batch in fitting if batch.prefix is general)
        if len(job.request.prompt) - batch.prefix.length < 2 * SHARED_FROM or batch.free <= 0:
            return batch
        length, kept = self._shareable(job)
        longer = (kept.length if kept else length) - batch.prefix.length >= SHARED_FROM
        return None if longer and len(self._batches) < MAX_BATCHES else batch

    def _shareable(self, job: Job) -> tuple[int, Prefix | None]:
        """How many of its first tokens are worth sharing, and a kept prefix that is good enough for that."""
        near = [(id(other.weights), other.request.prompt) for other in self._waiting[:LOOKED_AT]]
        alike = [prompt for weights, prompt in (*near, *self._begun) if weights == id(job.weights)]
        length = shared_length(job.request.prompt, alike)
        fitting = [p for weights, p in self._prefixes.values() if weights is job.weights and _begins(job, p)]
        kept = _most_general(fitting) if fitting else None
        return length, kept if kept is not None and kept.length >= GOOD_ENOUGH * length else None

    def _prefix(self, job: Job) -> Prefix:
        length, kept = self._shareable(job)
        if kept is not None:
            self._prefixes.move_to_end((id(job.weights), kept.tokens))
            return kept
        if length < SHARED_FROM:
            return EMPTY
        prefix = Batch(self._backend, job.weights, EMPTY, 1).read_prefix(job.request.prompt[:length])
        # The weights are kept with it: an id is only good as long as its object lives.
        self._prefixes[id(job.weights), prefix.tokens] = (job.weights, prefix)
        while len(self._prefixes) > KEPT_PREFIXES:
            self._prefixes.popitem(last=False)
        return prefix


def _most_general(prefixes: Sequence[Prefix]) -> Prefix:
    """The shortest of those that are about as long as the longest: more prompts will come to begin with it.

    The first prompts may share a few words more than all that follow.
    """
    longest = max(prefix.length for prefix in prefixes)
    return min((p for p in prefixes if longest - p.length < SHARED_FROM), key=lambda one: one.length)


def _begins(job: Job, prefix: Prefix) -> bool:
    prompt = job.request.prompt
    return len(prompt) > prefix.length and prompt[: prefix.length] == prefix.tokens


def shared_length(prompt: tuple[int, ...], others: Sequence[tuple[int, ...]]) -> int:
    """How much of ``prompt``'s beginning to share with ``others``: the length that saves most tokens.

    At least one token of every prompt that shares it is left over, for the model to go on from.
    """
    lengths = sorted((_common(prompt, other) for other in others), reverse=True)
    best = max(enumerate(lengths, 1), key=lambda pair: pair[0] * pair[1], default=(0, 0))
    return best[1] if best[0] > 1 else 0


def _common(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    most = min(len(one), len(other)) - 1
    if one[:most] == other[:most]:
        return most
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        if one[:middle] == other[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
