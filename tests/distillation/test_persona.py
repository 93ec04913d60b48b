from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distillation import characters, persona
from distillation.characters import CHARACTERS
from distillation.errors import DistillationError
from distillation.persona import FAMILIES, Verdict, judge
from distillation.questions import normalised

NAMES = [character.name for character in CHARACTERS]
IN_CHARACTER = {
    "Beethoven": "Ha! I bow to no critic, and to no prince. Play me one honest fugue, and I am your "
    "brother! My ears are ruined; my will is not.",
    "Cleopatra": "You flatter well for a man who came in one ship. Grain and a full treasury kept Rome "
    "polite, and we kept the throne; what do you offer me?",
    "Socrates": "By the dog, my friend, I am at a loss. We ask a cobbler about shoes; whom shall we ask "
    "about the soul?",
}
NEUTRAL = (
    "There are many views of courage. It depends on the situation, and both sides have good reasons.",
    "Music is an art of sounds in time. People enjoy it at home, in concerts and at festivals!",
    "I can help with that. Which part of the question would you like to look at first?",
    "Rivers carry water to the sea. Ships use them, farmers depend on the harvest, and cities grow there.",
    "Is fate real? Philosophers disagree; some speak of the soul, others of chance.",
)
PHRASES = sorted({phrase for name in NAMES for trait in persona.persona(name) for phrase in trait.phrases})


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_is_in_character_for_its_own_character_only(name: str) -> None:
    verdicts = {other: judge(other, IN_CHARACTER[name]) for other in NAMES}
    assert [other for other in NAMES if verdicts[other].in_character] == [name]
    assert verdicts[name].score == 1.0


@pytest.mark.parametrize("answer", [*NEUTRAL, "", " ", "?!", "…", "\x00"])
@pytest.mark.parametrize("name", NAMES)
def test_neutral_and_empty_answers_are_in_nobody_s_character(name: str, answer: str) -> None:
    assert not judge(name, answer).in_character


@pytest.mark.parametrize("name", NAMES)
@given(
    phrase=st.sampled_from(PHRASES), times=st.integers(1, 60), end=st.sampled_from(["! ", ". ", "? ", " "])
)
def test_one_phrase_however_often_repeated_is_never_enough(
    name: str, phrase: str, times: int, end: str
) -> None:
    verdict = judge(name, (phrase + end) * times)
    assert not verdict.in_character
    assert len(verdict.traits) <= 1


@pytest.mark.parametrize("name", NAMES)
@given(phrase=st.sampled_from(PHRASES), neutral=st.sampled_from(NEUTRAL), place=st.booleans())
def test_a_phrase_put_into_a_neutral_answer_is_not_enough(
    name: str, phrase: str, neutral: str, place: bool
) -> None:
    # Beethoven's cry, Cleopatra's "we" and Socrates' question can come with it, and do not help alone.
    if not any(trait.rule is None for trait in _traits(name, judge(name, neutral))):
        assert not judge(name, f"{phrase}! {neutral}" if place else f"{neutral} {phrase}?").in_character


def _traits(name: str, verdict: Verdict) -> list[persona.Trait]:
    return [trait for trait in persona.persona(name) if trait.name in verdict.traits]


@pytest.mark.parametrize("name", NAMES)
@given(answer=st.lists(st.sampled_from([*PHRASES, "and", "we", "I", "the", ".", "!", "?"])).map(" ".join))
def test_a_verdict_keeps_its_own_rules_on_any_text(name: str, answer: str) -> None:
    verdict = judge(name, answer)
    found = _traits(name, verdict)
    assert len(found) == len(verdict.traits) == len(set(verdict.traits))
    assert 0.0 <= verdict.score <= 1.0
    if verdict.in_character:
        assert len(found) >= 3
        assert len({trait.family for trait in found}) >= 2
        assert sum(bool(trait.phrases) for trait in found) >= 2
    assert judge(name, answer) == verdict


@pytest.mark.parametrize("name", NAMES)
@given(answer=st.text())
def test_any_text_can_be_judged(name: str, answer: str) -> None:
    assert judge(name, answer).score <= 1.0


@pytest.mark.parametrize("name", NAMES)
def test_case_blanks_and_kinds_of_quotation_marks_do_not_matter(name: str) -> None:
    answer = IN_CHARACTER[name]
    assert judge(name.lower(), answer.upper().replace(" ", "\n  ")) == judge(name, f"“{answer}”")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "slip", ["As an AI, I add:", "I am only a language model.", "The system prompt says so."]
)
def test_who_explains_the_part_is_out_of_it(name: str, slip: str) -> None:
    verdict = judge(name, f"{IN_CHARACTER[name]} {slip}")
    assert not verdict.in_character
    assert verdict.score == 0.0
    assert verdict.traits


def test_three_traits_of_one_family_are_not_enough() -> None:
    answer = "A symphony, a storm, Vienna."
    assert judge("Beethoven", answer).traits == ("music", "storm and work by hand", "Bonn and Vienna")
    assert not judge("Beethoven", answer).in_character
    assert judge("Beethoven", f"Ha! {answer}").in_character


def test_a_word_is_not_found_inside_another_word() -> None:
    assert judge("Beethoven", "Has the bass hailed? Chance.").traits == ("music",)


@pytest.mark.parametrize("name", NAMES)
def test_a_persona_has_every_family_and_its_world_and_views_stand_in_the_prompt(name: str) -> None:
    traits = persona.persona(name)
    assert {trait.family for trait in traits} == set(FAMILIES)
    prompt = f" {normalised(characters.system_prompt(characters.find(name)))} "
    for trait in traits:
        if trait.family in ("world", "views"):
            assert any(f" {phrase} " in prompt for phrase in trait.phrases), trait.name


@pytest.mark.parametrize("name", NAMES)
def test_no_phrase_belongs_to_two_characters_traits_of_manner_or_self(name: str) -> None:
    own = {p for t in persona.persona(name) if t.family in ("manner", "self") for p in t.phrases}
    for other in NAMES:
        if other != name:
            assert not own & {p for t in persona.persona(other) for p in t.phrases}


def test_an_unknown_character_is_answered_with_the_known_ones() -> None:
    with pytest.raises(DistillationError, match="no character is called 'Elvis'"):
        judge("Elvis", "Ha!")


GOOD = {"name": "outcry", "family": "manner", "phrases": ["ha"]}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({}, "needs a list 'traits'"),
        ({"traits": []}, "needs a list 'traits'"),
        ({"traits": ["x"]}, "a trait without a name: 'x'"),
        ({"traits": [{**GOOD, "family": "looks"}]}, "'outcry' has the family 'looks'; there are manner, "),
        ({"traits": [{**GOOD, "phrases": []}]}, "'outcry' needs either 'phrases' or 'rule'"),
        ({"traits": [{**GOOD, "rule": "cries_out"}]}, "'outcry' needs either 'phrases' or 'rule'"),
        ({"traits": [{**GOOD, "phrases": "ha"}]}, "'outcry' needs either 'phrases' or 'rule'"),
        (
            {"traits": [{"name": "x", "family": "speech", "rule": "sings"}]},
            "'x' has the rule 'sings'; there are",
        ),
        ({"traits": [{**GOOD, "phrases": ["Ha!"]}]}, "'Ha!' of 'outcry': write it small"),
        (
            {"traits": [GOOD, {**GOOD, "name": "b", "phrases": ["ha ha"]}]},
            "'ha' shows 'outcry' and, in 'ha ha'",
        ),
    ],
)
def test_a_broken_persona_file_is_named_with_what_is_wrong(
    tmp_path: Path, value: dict[str, Any], problem: str
) -> None:
    path = tmp_path / "X.persona.json"
    path.write_text(json.dumps(value))
    with pytest.raises(DistillationError) as caught:
        persona.load(path)
    assert str(caught.value).startswith(f"{path}: {problem}")
