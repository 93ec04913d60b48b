"""The answers of the evaluation: who is asked what, and the records that come of it.

Four voices answer each held-out question: the teacher (with the prompt) twice, the base model and the
student without it. The teacher's first answer is what the others are held against. Settings are the same
for all; the three that are compared share the question's seed, the reference has another, or a student
that is as good as the teacher would win by drawing the same lots.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distillation import chat, settings, similarity
from distillation.errors import DistillationError
from distillation.generation_config import GenerationConfig
from distillation.jsonl import Row, read_rows, write_rows
from distillation.memory import Answer, Key, Memory
from distillation.persona import judge
from distillation.questions import HELD_OUT, Question, held_out_questions
from distillation.sampling import CONNECT_TIMEOUT, Sampler, Speaker, collect, explained, seed_of
from distillation.teacher import Asking
from distillation.training_log import add_rows

ANSWERS = "evaluation_answers.jsonl"
SET_ASIDE = "evaluation_set_aside.jsonl"
MEMORY = "evaluation_memory.jsonl"

REFERENCE = "teacher"
COMPARED = ("second_teacher", "base", "student")
VOICES = (REFERENCE, *COMPARED)
MEASURES: dict[str, Callable[[str, str], float]] = {"chrf": similarity.chrf, "f1": similarity.token_f1}


@dataclass(frozen=True, slots=True)
class Student:
    """The weights that are evaluated.

    Attributes:
        step: of the training, after which they were saved.
        sampler: their address.
    """

    step: int
    sampler: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Who answers, and how.

    Attributes:
        asking: character, base model, system prompt, settings and price.
        student: the weights that are evaluated.
    """

    asking: Asking
    student: Student

    def way(self, voice: str) -> str:
        """A fingerprint of all that decides a voice's answer, apart from question and seed."""
        config: GenerationConfig = self.asking.config
        teaching = voice in (REFERENCE, "second_teacher")
        return _digest(
            settings.engine(),
            self.asking.base,
            self.asking.system if teaching else None,
            self.student.sampler if voice == "student" else None,
            config.temperature,
            config.top_p,
            config.max_tokens,
        )

    def ways(self) -> str:
        """A fingerprint of the whole panel: records of another one are not mixed with these."""
        return _digest(self.asking.character.name, self.asking.config.seed, *map(self.way, VOICES))

    def key(self, voice: str, question: Question) -> Key:
        """Under which an answer is remembered."""
        seed = seed_of(self.asking.config.seed, question.id, 1 if voice == REFERENCE else 2)
        return self.way(voice), question.text, seed


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def speakers(service: Any, panel: Panel) -> dict[str, Speaker]:
    """The voices, ready to be asked.

    Raises:
        DistillationError: the service does not have the model, or no longer the student's weights.
    """
    asking, config = panel.asking, panel.asking.config
    tokenizer = chat.tokenizer_of(asking.base)
    base = _sampling(service, asking.base, base_model=asking.base)
    what = f"the student of step {panel.student.step} ({panel.student.sampler})"
    student = _sampling(service, what, model_path=panel.student.sampler)

    def speaker(sampling: Any, system: str | None) -> Sampler:
        return Sampler(sampling, tokenizer, system, config.temperature, config.top_p, config.max_tokens)

    teacher = speaker(base, asking.system)
    return {
        REFERENCE: teacher,
        "second_teacher": teacher,
        "base": speaker(base, None),
        "student": speaker(student, None),
    }


def _sampling(service: Any, what: str, **which: str) -> Any:
    with explained(
        late=f"{what}: not ready within {CONNECT_TIMEOUT:g} s; run the step again",
        failed=what,
        advice="if the checkpoint is gone or has expired, run step 13 with --resume-from an earlier step",
    ):
        return service.create_sampling_client(**which).result(timeout=CONNECT_TIMEOUT)


def ask(
    panel: Panel,
    voices: Mapping[str, Speaker],
    questions: Sequence[Question],
    memory: Memory,
    report: Callable[[int, int, float], None],
) -> list[dict[str, Any]]:
    """Have all voices answer all questions, and score the answers.

    Args:
        panel: who answers, and how.
        voices: by name, as from ``speakers``.
        questions: which.
        memory: of answers that were paid for; new ones are added as they come.
        report: called after every answer with answers done, answers in all, and dollars spent on it.

    Returns:
        one record for each question, in order.

    Raises:
        DistillationError: a question failed. What was answered is remembered.
    """
    wanted = {(voice, one.id): (panel.key(voice, one), one) for one in questions for voice in VOICES}
    missing = {name: what for name, what in wanted.items() if what[0] not in memory}
    prompts = {name: voices[name[0]].prompt(one.text) for name, (_, one) in missing.items()}
    asked = {
        name: partial(voices[name[0]].submit, prompts[name], key[2]) for name, (key, _) in missing.items()
    }
    done = len(wanted) - len(missing)

    def take(name: tuple[str, str], response: Any) -> None:
        nonlocal done
        said, size = voices[name[0]].read(response), len(prompts[name])
        cost = panel.asking.price.cost(prefill=size, cached=said.cached, sample=said.tokens)
        memory.add(missing[name][0], Answer(said.text, size, said.cached, said.tokens, said.stop, cost))
        done += 1
        report(done, len(wanted), cost)

    collect(asked, panel.asking.config.answer_timeout, take)
    return [_record(panel, one, memory) for one in questions]


def _record(panel: Panel, question: Question, memory: Memory) -> dict[str, Any]:
    answers = {}
    for voice in VOICES:
        key = panel.key(voice, question)
        answer = memory[key]
        answers[voice] = {
            "answer": answer.text,
            "prompt_tokens": answer.prompt_tokens,
            "answer_tokens": answer.answer_tokens,
            "stop": answer.stop,
            "seed": key[2],
            "in_character": judge(panel.asking.character.name, answer.text).in_character,
            "cost_usd": answer.cost_usd,
        }
    return {
        "id": question.id,
        "kind": question.kind,
        "question": question.text,
        "character": panel.asking.character.name,
        "engine": settings.engine(),
        "checkpoint": panel.student.step,
        "sampler": panel.student.sampler,
        "ways": panel.ways(),
        **answers,
        "scores": scores({voice: str(answers[voice]["answer"]) for voice in VOICES}),
    }


def scores(answers: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """How near each compared voice comes to the teacher's answer, by each measure."""
    return {
        voice: {
            name: round(measure(answers[voice], answers[REFERENCE]), 6) for name, measure in MEASURES.items()
        }
        for voice in COMPARED
    }


def flaw(row: Row) -> str:
    """Why a line is no record of the evaluation; empty when it is one."""
    if row.value is None:
        return row.problem
    texts = ("id", "kind", "question", "character", "engine", "ways", "sampler")
    for name in texts:
        if not isinstance(row.value.get(name), str):
            return f"no text '{name}'"
    for voice in VOICES:
        answer = row.value.get(voice)
        if not isinstance(answer, dict) or not isinstance(answer.get("answer"), str):
            return f"no answer of the {voice}"
        if not all(isinstance(answer.get(name), int) for name in ("prompt_tokens", "answer_tokens")):
            return f"no tokens of the {voice}"
    return ""


def read(path: Path) -> list[dict[str, Any]]:
    """The records of a file.

    Raises:
        DistillationError: a line is none, or is of another engine; names it.
    """
    records = []
    for row in read_rows(path):
        if reason := flaw(row):
            raise DistillationError(f"{path}:{row.line}: {reason}; mend the line, or run the step again")
        assert row.value is not None
        if row.value["engine"] != settings.engine():
            raise DistillationError(f"{path}:{row.line}: of engine {row.value['engine']}; run the step again")
        records.append(row.value)
    return records


def merge(folder: Path, records: Iterable[dict[str, Any]], ways: str) -> list[dict[str, Any]]:
    """Add records to the run folder's answers; those of another panel are set aside.

    Args:
        folder: the run folder.
        records: of one panel.
        ways: that panel's fingerprint.

    Returns:
        all answers of the panel, in the order of the held-out questions.
    """
    path, aside = folder / ANSWERS, folder / SET_ASIDE
    known = read(path) if path.exists() else []
    others = [one for one in known if one["ways"] != ways]
    if others:
        print(f"{len(others)} answers of another student or prompt go to {aside}", flush=True)
        add_rows(aside, others)
    mine = {one["id"]: one for one in (*known, *records) if one["ways"] == ways}
    place = {question.id: number for number, question in enumerate(held_out_questions(HELD_OUT))}
    ordered = sorted(mine.values(), key=lambda one: place.get(one["id"], len(place)))
    write_rows(path, ordered)
    return ordered
