from __future__ import annotations

import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillation import similarity
from distillation.errors import DistillationError
from distillation.similarity import Estimate, chrf, mean, normalised, share, token_f1
from tests.distillation.evaluating import plain_chrf

TEXTS = st.text(st.sampled_from("ab cd,é!"), max_size=40)


@given(TEXTS, TEXTS)
def test_chrf_is_that_of_its_definition(one: str, other: str) -> None:
    pytest.importorskip("sacrebleu")
    if one.strip() and other.strip():
        assert chrf(one, other) == pytest.approx(plain_chrf(one, other), abs=1e-4)


def test_chrf_without_its_library_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", missing)
    similarity._chrf.cache_clear()
    with pytest.raises(DistillationError, match="sacrebleu is not installed; run step 2"):
        chrf("a", "b")


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Fate knocks!", "fate, knocks", 1.0),
        ("fate fate", "fate", 2 / 3),
        ("a b c", "b c d", 2 / 3),
        ("storm", "silence", 0.0),
        ("", "storm", 0.0),
        ("!", "?", 1.0),
    ],
)
def test_token_f1_counts_words_with_their_number(one: str, other: str, expected: float) -> None:
    assert token_f1(one, other) == pytest.approx(expected)


@given(TEXTS, TEXTS)
def test_token_f1_is_symmetric_and_a_share(one: str, other: str) -> None:
    assert 0 <= token_f1(one, other) <= 1
    assert token_f1(one, other) == token_f1(other, one)
    assert token_f1(one, one) == 1


def test_floor_is_nothing_ceiling_is_everything_and_nothing_is_cut_off() -> None:
    floor, ceiling = [0.1, 0.3], [0.5, 0.7]
    assert normalised(floor, floor, ceiling).value == pytest.approx(0)
    assert normalised(ceiling, floor, ceiling).value == pytest.approx(1)
    assert normalised([0.3, 0.5], floor, ceiling).value == pytest.approx(0.5)
    assert normalised([0.7, 0.9], floor, ceiling).value == pytest.approx(1.5)
    assert normalised([0.0, 0.2], floor, ceiling).value == pytest.approx(-0.25)


def test_a_teacher_that_never_says_the_same_twice_cannot_be_measured_with() -> None:
    with pytest.raises(DistillationError, match="similarity cannot be measured"):
        normalised([0.2, 0.3], [0.2, 0.2], [0.2, 0.21])


def test_one_question_has_no_interval() -> None:
    with pytest.raises(DistillationError, match="at least two questions"):
        normalised([0.5], [0.1], [0.9])
    with pytest.raises(DistillationError, match="at least two questions"):
        mean([0.5])


def scores(chance: random.Random, count: int) -> tuple[list[float], list[float], list[float]]:
    """Student, floor and ceiling of questions that are hard or easy for all three; truth: 0.75."""
    hard = [chance.uniform(0, 0.2) for _ in range(count)]
    return (
        [one + 0.4 + chance.gauss(0, 0.1) for one in hard],
        [one + 0.1 + chance.gauss(0, 0.05) for one in hard],
        [one + 0.5 + chance.gauss(0, 0.1) for one in hard],
    )


def test_the_interval_is_as_wide_as_a_bootstrap_says() -> None:
    chance = random.Random(1)
    student, floor, ceiling = scores(chance, 200)
    found = normalised(student, floor, ceiling)
    drawn = []
    for _ in range(500):
        rows = chance.choices(range(200), k=200)
        low = statistics.fmean(floor[row] for row in rows)
        high = statistics.fmean(ceiling[row] for row in rows)
        drawn.append((statistics.fmean(student[row] for row in rows) - low) / (high - low))
    assert found.half_width == pytest.approx(1.96 * statistics.stdev(drawn), rel=0.1)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    chance = random.Random(2)
    covered = 0
    for _ in range(300):
        found = normalised(*scores(chance, 100))
        covered += found.low <= 0.75 <= found.high
    assert 0.91 <= covered / 300 <= 0.985


@given(st.integers(1, 500), st.data())
def test_a_share_lies_in_its_interval_and_that_between_0_and_1(samples: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, samples))
    found = share(hits, samples)
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high


def test_known_intervals() -> None:
    # Wilson's interval for 8 of 10, as tables have it.
    found = share(8, 10)
    assert (round(found.low, 3), round(found.high, 3)) == (0.490, 0.943)
    assert mean([1.0, 2.0, 3.0]).half_width == pytest.approx(1.96 / 3**0.5, abs=1e-3)
    assert Estimate(0.5, 0.4, 0.6, 3).as_json() == {"value": 0.5, "low": 0.4, "high": 0.6, "samples": 3}


def test_no_answers_have_no_share() -> None:
    with pytest.raises(DistillationError, match="there are no answers"):
        share(0, 0)
