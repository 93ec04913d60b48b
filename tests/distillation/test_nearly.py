from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distillation import nearly
from distillation.nearly import Pair

SETS = st.lists(st.frozensets(st.sampled_from("abcdefgh"), max_size=8), max_size=12)


@given(sets=SETS, threshold=st.sampled_from([0.1, 0.3, 0.5, 2 / 3, 0.75, 0.85, 0.9, 1.0]))
def test_exactly_the_pairs_above_the_threshold_are_found(
    sets: list[frozenset[str]], threshold: float
) -> None:
    expected = {
        (one, two)
        for two in range(len(sets))
        for one in range(two)
        if sets[one] and sets[two] and nearly.jaccard(sets[one], sets[two]) >= threshold
    }
    assert {(pair.first, pair.second) for pair in nearly.near_pairs(sets, threshold)} == expected


def test_texts_without_a_word_are_near_to_nothing_but_equal_in_themselves() -> None:
    assert nearly.near_pairs([nearly.words("?!"), nearly.words("...")], 0.5) == []
    assert nearly.jaccard(nearly.words(""), nearly.words("!")) == 1.0


def test_case_punctuation_and_blanks_make_no_difference_and_order_does() -> None:
    assert nearly.shingles("Seize  FATE, now!") == nearly.shingles("seize fate now")
    assert nearly.shingles("fate seize now") != nearly.shingles("seize fate now")
    assert nearly.words("fate seize now") == nearly.words("seize fate now")


def test_groups_reach_over_several_pairs() -> None:
    pairs = [Pair(3, 4, 1), Pair(0, 3, 1), Pair(1, 2, 1)]
    assert nearly.groups(6, pairs) == [[0, 3, 4], [1, 2], [5]]


@given(
    count=st.integers(1, 12),
    links=st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=12),
)
def test_groups_hold_every_place_once_and_no_pair_is_torn_apart(
    count: int, links: list[tuple[int, int]]
) -> None:
    pairs = [Pair(one, two, 1) for one, two in links if one < two < count]
    found = nearly.groups(count, pairs)
    assert sorted(place for group in found for place in group) == list(range(count))
    where = {place: number for number, group in enumerate(found) for place in group}
    assert all(where[pair.first] == where[pair.second] for pair in pairs)
