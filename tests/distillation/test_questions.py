from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillation import questions
from distillation.errors import DistillationError
from distillation.questions import NEAR_DUPLICATE, Question, all_questions, normalised, similarity


def test_there_are_more_than_8000_questions_of_five_kinds_each_with_an_id_of_its_own() -> None:
    space = all_questions()
    assert len(space) >= 8_000
    assert len({question.id for question in space}) == len(space)
    assert len({normalised(question.text) for question in space}) == len(space)
    assert set(Counter(question.kind for question in space)) == set(questions.KINDS)
    assert len(questions.KINDS) == 5


def test_every_question_names_its_topic_and_is_one_sentence() -> None:
    for question in all_questions():
        assert question.topic in question.text
        assert question.text[-1] in "?."
        assert question.text[0].isupper()
        assert "  " not in question.text


def test_the_order_is_always_the_same() -> None:
    first = all_questions()
    all_questions.cache_clear()
    random.seed(5)
    assert all_questions() == first
    assert [question.id for question in first[:3]] == [
        "opinion-7-fire",
        "memory-7-discipline",
        "advice-4-daily-practice",
    ]


@pytest.mark.parametrize("count", [1, 50, 99, 5_000])
def test_any_number_of_questions_is_balanced_over_the_kinds(count: int) -> None:
    for chosen in (questions.training_questions(count), questions.held_out_questions(min(count, 2_000))):
        kinds = Counter(question.kind for question in chosen)
        counts = [kinds[kind] for kind in questions.KINDS]
        assert max(counts) - min(counts) <= 1


def test_more_questions_begin_with_the_same_ones() -> None:
    assert questions.training_questions(100) == questions.training_questions(5_000)[:100]
    assert questions.held_out_questions(10) == questions.held_out_questions(500)[:10]


def test_training_and_held_out_questions_share_nothing_even_after_normalising() -> None:
    training = questions.training_questions(len(all_questions()) - questions.HELD_OUT)
    held_out = questions.held_out_questions(questions.HELD_OUT)
    assert len(training) >= 6_000
    assert not {normalised(q.text) for q in training} & {normalised(q.text) for q in held_out}
    assert set(training) | set(held_out) == set(all_questions())


def test_no_two_questions_of_the_space_are_near_duplicates() -> None:
    # Near-duplicates share all but a few words, so they share one of the three rarest of either.
    space = all_questions()
    words = [frozenset(normalised(question.text).split()) for question in space]
    frequency = Counter(word for bag in words for word in bag)
    assert max(map(len, words)) <= 13, "three words are enough only for short questions"
    by_word: dict[str, list[int]] = defaultdict(list)
    for number, bag in enumerate(words):
        rarest = sorted(bag, key=lambda word: (frequency[word], word))[: len(bag) - int(0.8 * len(bag))]
        for other in {other for word in rarest for other in by_word[word]}:
            shared = len(bag & words[other]) / len(bag | words[other])
            assert shared < NEAR_DUPLICATE, (space[number].text, space[other].text)
        for word in rarest:
            by_word[word].append(number)


@pytest.mark.parametrize("count", [-1, 2_001, 10**9])
def test_asking_for_more_than_there_are_says_how_many_there_are(count: int) -> None:
    with pytest.raises(DistillationError, match=f"{count} questions held out were asked for; there are 2000"):
        questions.held_out_questions(count)


@given(st.text())
def test_normalising_is_idempotent_and_blind_to_case_blanks_and_punctuation(text: str) -> None:
    plain = normalised(text)
    assert normalised(plain) == plain
    assert normalised(f"  {text} \t?!") == plain
    assert similarity(text, text) == 1.0


@given(st.text(), st.text())
def test_similarity_is_symmetric_and_between_0_and_1(one: str, other: str) -> None:
    assert 0.0 <= similarity(one, other) == similarity(other, one) <= 1.0


def test_similarity_counts_shared_words() -> None:
    assert similarity("What do you think of rain?", "what do YOU think of: snow") == pytest.approx(5 / 7)
    assert similarity("", "?") == 1.0
    assert similarity("", "word") == 0.0


def test_a_question_is_a_value() -> None:
    assert Question("a", "b", "c", "d") == Question("a", "b", "c", "d")
