"""Texts that are nearly the same: every pair above a threshold, found without comparing all with all.

The similarity is the Jaccard index of two sets: what they share, as a share of all they have. Sets that
reach a threshold *t* share at least one of the ``size - ceil(t * size) + 1`` rarest items of each (prefix
filtering: Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant 2007). So only pairs that share a rare
item are compared. Nothing is estimated: the pairs are those that comparing all with all would find.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence, Set
from dataclasses import dataclass

from distillation.questions import normalised


@dataclass(frozen=True, slots=True)
class Pair:
    """Two texts, by their places, ``first`` before ``second``, and how similar they are."""

    first: int
    second: int
    similarity: float


def shingles(text: str) -> frozenset[str]:
    """The words of a text and its pairs of neighbouring words, case and punctuation aside."""
    words = normalised(text).split()
    return frozenset(words).union(f"{one} {two}" for one, two in itertools.pairwise(words))


def words(text: str) -> frozenset[str]:
    """The words of a text, case and punctuation aside."""
    return frozenset(normalised(text).split())


def jaccard(one: Set[Hashable], other: Set[Hashable]) -> float:
    """What two sets share, from 0 to 1. Two empty sets are the same."""
    shared = len(one & other)
    union = len(one) + len(other) - shared
    return shared / union if union else 1.0


def near_pairs(sets: Sequence[Set[str]], threshold: float) -> list[Pair]:
    """All pairs of sets whose Jaccard index is at least ``threshold``, by their places.

    Args:
        sets: what each text is made of. Empty ones are near to nothing.
        threshold: more than 0, at most 1.
    """
    frequency = Counter(item for one in sets for item in one)
    holders: defaultdict[str, list[int]] = defaultdict(list)
    found = []
    for place, one in enumerate(sets):
        rarest = sorted(one, key=lambda item: (frequency[item], item))
        # Rounding must not shorten the prefix: a little too long costs time, too short loses pairs.
        prefix = rarest[: len(one) - math.ceil(threshold * len(one) - 1e-9) + 1] if one else []
        for other in sorted({other for item in prefix for other in holders[item]}):
            similarity = jaccard(sets[other], one)
            if similarity >= threshold:
                found.append(Pair(other, place, similarity))
        for item in prefix:
            holders[item].append(place)
    return found


def groups(count: int, pairs: Iterable[Pair]) -> list[list[int]]:
    """Gather places that belong together, also by way of others, in order of their first members."""
    leader = list(range(count))

    def lead(place: int) -> int:
        while leader[place] != place:
            leader[place] = leader[leader[place]]
            place = leader[place]
        return place

    for pair in pairs:
        one, two = sorted((lead(pair.first), lead(pair.second)))
        leader[two] = one
    gathered: defaultdict[int, list[int]] = defaultdict(list)
    for place in range(count):
        gathered[lead(place)].append(place)
    return list(gathered.values())
