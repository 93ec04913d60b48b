"""Which token comes next: temperature, top-k, top-p, and one random number per row."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from distillation.engine.protocol import Sampling


def choose(
    logits: torch.Tensor, wanted: Sequence[Sampling], randoms: Sequence[float]
) -> tuple[list[int], list[float]]:
    """Pick a token per row.

    Args:
        logits: ``[rows, vocabulary]``.
        wanted: how each row is sampled.
        randoms: per row a number in [0, 1). The row's token depends on it and on the row's logits only,
            never on the other rows.

    Returns:
        the tokens, and their log probabilities as the model gives them (temperature 1, no token left out).
    """
    picked = logits.argmax(-1)
    warm = [row for row, one in enumerate(wanted) if one.temperature > 0]
    if warm:
        rows = torch.tensor(warm)
        temperatures = torch.tensor([wanted[row].temperature for row in warm], dtype=torch.float64)
        scaled = logits[rows].double() / temperatures[:, None]
        _narrow(scaled, [wanted[row] for row in warm])
        reached = torch.softmax(scaled, -1).cumsum(-1)
        thresholds = torch.tensor([randoms[row] for row in warm], dtype=torch.float64) * reached[:, -1]
        picked[rows] = torch.searchsorted(reached, thresholds[:, None], right=True)[:, 0]
    logprobs = logits.gather(-1, picked[:, None])[:, 0] - logits.logsumexp(-1)
    return picked.tolist(), logprobs.tolist()


def _narrow(scaled: torch.Tensor, wanted: Sequence[Sampling]) -> None:
    """Take the tokens that top-k and top-p leave out away from the rows that ask for it, in place."""
    for row, one in enumerate(wanted):
        if not one.top_k and one.top_p >= 1.0:
            continue
        values, order = scaled[row].sort(descending=True, stable=True)
        kept = torch.softmax(values, -1)
        # A token stays while those before it have not yet reached top_p; the likeliest always stays.
        out = kept.cumsum(-1) - kept >= one.top_p
        if one.top_k:
            out[one.top_k :] = True
        out[0] = False
        scaled[row, order[out]] = float("-inf")
