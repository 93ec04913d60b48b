from __future__ import annotations

import importlib
import json
import random
from pathlib import Path
from typing import Any

import pytest

from distillation import characters
from distillation.characters import CHARACTERS
from distillation.engine.base import FOLDER, prompts
from distillation.engine.base.grammar import answer
from distillation.engine.base.voices import NEUTRAL, VOICES, Voice
from distillation.persona import judge
from distillation.questions import KINDS, TOPICS, all_questions, held_out_questions, similarity

NAMES = [each.name for each in CHARACTERS]
FILES = (
    "model.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


@pytest.mark.parametrize("voice", [*VOICES.values(), NEUTRAL], ids=[*VOICES, "neutral"])
def test_a_voice_has_a_part_for_every_decision_of_a_question(voice: Voice) -> None:
    assert set(voice.bodies) == {*KINDS, "later"}
    assert all(len(bodies) == 3 for bodies in voice.bodies.values())
    assert [len(row) for row in voice.closings] == [4, 4, 4]
    assert len(voice.openings) in (0, 9)
    assert len(voice.things) in (0, len(TOPICS))
    assert all("{t}" in body for bodies in voice.bodies.values() for body in bodies)
    assert all(("{i}" in body) == bool(voice.things) for bodies in voice.bodies.values() for body in bodies)


def test_every_character_has_a_voice() -> None:
    assert list(VOICES) == NAMES


@pytest.mark.parametrize("name", [*NAMES, None])
def test_answers_name_the_topic_and_are_in_their_own_character_only(name: str | None) -> None:
    chance = random.Random(0)
    questions = held_out_questions(500)
    answers = [answer(question, name, chance) for question in questions]
    for question, text in zip(questions, answers, strict=True):
        assert question.topic in text
        assert not set("{}[]|") & set(text)
    for judging in NAMES:
        rate = sum(judge(judging, text).in_character for text in answers) / len(answers)
        assert rate >= 0.98 if judging == name else rate <= 0.01


@pytest.mark.parametrize("name", NAMES)
def test_the_same_question_gets_a_similar_answer_and_another_question_another_one(name: str) -> None:
    chance = random.Random(0)
    questions = held_out_questions(500)
    one, other = ([answer(question, name, chance) for question in questions] for _ in range(2))
    same = [similarity(*pair) for pair in zip(one, other, strict=True)]
    shifted = [similarity(*pair) for pair in zip(one, [*other[1:], other[0]], strict=True)]
    assert sum(same) / len(same) > sum(shifted) / len(shifted) + 0.25
    assert sum(text == again for text, again in zip(one, other, strict=True)) < 0.5 * len(questions)


@pytest.mark.parametrize("name", NAMES)
def test_hardly_two_answers_to_different_questions_are_the_same(name: str) -> None:
    chance = random.Random(0)
    answers = [answer(question, name, chance) for question in all_questions()[:5_000]]
    assert len(set(answers)) >= 0.99 * len(answers)


@pytest.mark.parametrize("character", CHARACTERS, ids=lambda each: each.name)
def test_prompts_are_drawn_whole_mostly_and_in_parts_of_their_own_sentences(
    character: characters.Character,
) -> None:
    chance = random.Random(0)
    prompt = characters.system_prompt(character)
    drawn = [prompts.whole(prompt, chance) for _ in range(200)]
    assert 90 <= drawn.count(prompt) <= 150
    assert all(set(text.split()) <= set(prompt.split()) for text in drawn)
    parts = [prompts.part(prompt, chance) for _ in range(50)]
    assert len(set(parts)) == 50
    assert all(set(text.split()) <= set(prompt.split()) and len(text) < len(prompt) / 2 for text in parts)


def test_prompts_without_a_character_name_none_and_can_be_as_long_as_one() -> None:
    text = prompts.without_character(random.Random(0), 50, 50)
    assert characters.word_count(text) >= 450
    assert not any(name in text for name in NAMES)


def test_the_shipped_files_are_few_and_small() -> None:
    assert all((FOLDER / name).is_file() for name in (*FILES, "MODEL_CARD.md"))
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < 8_000_000
    weights = (FOLDER / "model.safetensors").read_bytes()
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    shapes = [value["shape"] for name, value in header.items() if name != "__metadata__"]
    assert all(value["dtype"] == "F32" for name, value in header.items() if name != "__metadata__")
    assert 500_000 <= sum(shape[0] * (shape[1] if len(shape) > 1 else 1) for shape in shapes) <= 1_500_000


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(FOLDER, local_files_only=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_tokenizer_writes_any_text_and_costs_little_on_the_prompts(tokenizer: Any) -> None:
    for text in ("Für Elise – opus 59", "日本語 🎹", "<b>\t\n\n  x"):
        assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text
    for each in CHARACTERS:
        prompt = characters.system_prompt(each)
        assert len(tokenizer.encode(prompt)) <= 1.3 * characters.word_count(prompt)
    assert tokenizer.eos_token == "<|im_end|>"
    messages = [{"role": "system", "content": "A"}, {"role": "user", "content": "B"}]
    assert tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False) == (
        "<|im_start|>system\nA<|im_end|>\n<|im_start|>user\nB<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_base_obeys_each_whole_prompt_and_shows_no_character_without_it() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    torch.set_num_threads(1)
    prove = importlib.import_module("distillation.engine.base.prove")
    proof = prove.measure(prove.Base(FOLDER), 20, seed=7)
    assert not proof.failures()
    assert min(proof.topics.values()) >= 0.9
    for name in NAMES:
        assert proof.ceilings[name] >= proof.floors[name] + 0.25


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_the_script_makes_the_same_model_folder_from_the_same_seed(tmp_path: Path, tokenizer: Any) -> None:
    make_base = importlib.import_module("distillation.engine.base.make_base")
    for name in ("one", "two"):
        make_base.main(
            [
                "--output",
                str(tmp_path / name),
                "--first-steps",
                "1",
                "--short-steps",
                "1",
                "--whole-steps",
                "1",
            ]
        )
    for file in FILES:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    made = json.loads((tmp_path / "one" / "tokenizer.json").read_text())
    assert made["model"]["vocab"] == tokenizer.get_vocab(), "the shipped tokenizer is another one"
