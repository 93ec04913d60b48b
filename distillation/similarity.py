"""How alike answers are: chrF and token F1, held between a floor and a ceiling.

Two samples of one teacher differ, and answers to one question share words whoever gives them. So a raw
score says little. The floor is the base model's score without the prompt, the ceiling that of a second
sample of the teacher; 0 is no better than untrained, 1 as close as the teacher is to itself. Nothing is
cut off at 0 or 1.
"""

from __future__ import annotations

import importlib
import math
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from distillation.errors import DistillationError

LEVEL_Z = statistics.NormalDist().inv_cdf(0.975)
"""Standard errors on each side of a 95 % confidence interval."""

MIN_SPREAD = 0.02
"""Least distance between floor and ceiling by which a score can be measured."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % confidence interval.

    Attributes:
        value: the estimate.
        low: lower end.
        high: upper end.
        samples: how many questions it rests on.
    """

    value: float
    low: float
    high: float
    samples: int

    @property
    def half_width(self) -> float:
        """Half of the interval's length."""
        return (self.high - self.low) / 2

    def as_json(self, digits: int = 4) -> dict[str, Any]:
        """The estimate as it stands in a report."""
        return {
            "value": round(self.value, digits),
            "low": round(self.low, digits),
            "high": round(self.high, digits),
            "samples": self.samples,
        }


def chrf(answer: str, reference: str) -> float:
    """Character n-gram F-score (chrF2, as sacrebleu computes it for one sentence), 0 to 1.

    Raises:
        DistillationError: sacrebleu is not installed.
    """
    return float(_chrf().sentence_score(answer, [reference]).score) / 100


@lru_cache(maxsize=1)
def _chrf() -> Any:
    try:
        # Takes 0.3 s to import, and nothing but the evaluation needs it.
        metrics = importlib.import_module("sacrebleu.metrics")
    except ImportError as cause:
        raise DistillationError("sacrebleu is not installed; run step 2") from cause
    return metrics.CHRF()


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall of the words, case and order aside (as in SQuAD), 0 to 1."""
    ours, theirs = (Counter(_WORD.findall(text.lower())) for text in (answer, reference))
    if not ours or not theirs:
        return float(ours == theirs)
    common = (ours & theirs).total()
    return 2 * common / (ours.total() + theirs.total())


def mean(values: Sequence[float]) -> Estimate:
    """The mean of a sample with its normal interval.

    Raises:
        DistillationError: there are fewer than two values.
    """
    _demand_two(values)
    middle = statistics.fmean(values)
    margin = LEVEL_Z * statistics.stdev(values, middle) / math.sqrt(len(values))
    return Estimate(middle, middle - margin, middle + margin, len(values))


def share(hits: int, samples: int) -> Estimate:
    """A share with its Wilson interval, which holds near 0 and 1 as well.

    Raises:
        DistillationError: there are no samples.
    """
    if samples < 1:
        raise DistillationError("there are no answers; run the evaluation")
    rate, z2 = hits / samples, LEVEL_Z**2
    middle = (rate + z2 / (2 * samples)) / (1 + z2 / samples)
    margin = LEVEL_Z * math.sqrt(rate * (1 - rate) / samples + z2 / (4 * samples**2)) / (1 + z2 / samples)
    # At 0 and 1 an end of the interval is the rate itself; rounding would miss it by the last bit.
    low, high = min(rate, max(0.0, middle - margin)), max(rate, min(1.0, middle + margin))
    return Estimate(rate, low, high, samples)


def normalised(student: Sequence[float], floor: Sequence[float], ceiling: Sequence[float]) -> Estimate:
    """Where the student's mean lies between the floor's and the ceiling's.

    The interval is that of a ratio of two means over the same questions, by linearisation (Cochran,
    Sampling Techniques, chapter 6): the questions' own difficulty cancels.

    Args:
        student: scores of the student's answers against the teacher's.
        floor: those of the base model without the prompt, of the same questions in the same order.
        ceiling: those of the teacher's second sample.

    Raises:
        DistillationError: fewer than two questions, or floor and ceiling do not differ.
    """
    _demand_two(student)
    above = [one - low for one, low in zip(student, floor, strict=True)]
    range_ = [high - low for high, low in zip(ceiling, floor, strict=True)]
    spread = statistics.fmean(range_)
    if spread < MIN_SPREAD:
        raise DistillationError(
            f"a second answer of the teacher is only {spread:.3f} nearer to the first than the base model's "
            "is, so that similarity cannot be measured; lower the sampling temperature"
        )
    ratio = statistics.fmean(above) / spread
    residuals = [one - ratio * width for one, width in zip(above, range_, strict=True)]
    margin = LEVEL_Z * statistics.stdev(residuals) / math.sqrt(len(residuals)) / spread
    return Estimate(ratio, ratio - margin, ratio + margin, len(residuals))


def _demand_two(values: Sequence[float]) -> None:
    if len(values) < 2:
        raise DistillationError("an interval needs at least two questions; evaluate more")
