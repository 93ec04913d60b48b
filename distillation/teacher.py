"""Steps 6 and 8: the teacher answers questions with the long system prompt in front.

``--trial 10`` writes ten answers to ``teacher_trial.jsonl``. ``--start N --size M --output FILE`` writes the
answers to the training questions N to N+M-1, one chunk. ``--quality FILE`` judges a chunk. ``--report`` takes
the joined chunks (``--joined FILE``) into the run folder and writes ``generation_report.json``; ``--check``
counts the answers again, those of the trial with ``--trial``.

Many questions are with the service at a time. Every answer goes to a memory at once and is
never asked for again. An empty answer, or one that is cut off, is asked for again with another seed; one
that is merely out of character is not, or the measurement of the teacher would be worth nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from distillation import client, config, events, generation, generation_config, settings
from distillation.characters import DEFAULT_CHARACTER, PROMPT_FILE, Character, check_prompt, find
from distillation.command import execute
from distillation.errors import DistillationError
from distillation.generation_config import GenerationConfig
from distillation.jsonl import write_rows
from distillation.memory import Answer, Key, Memory
from distillation.prices import Price, price_of
from distillation.questions import Question, training_questions
from distillation.sampling import Speaker, collect, seed_of, speaking
from distillation.work_time import GENERATION, Clock

REPORT_EVERY = 25
"""Answers between two reports of progress and cost."""


@dataclass(frozen=True, slots=True)
class Asking:
    """All that decides an answer, apart from question and seed.

    Attributes:
        character: who the teacher plays.
        base: the model that is asked.
        system: the system prompt, as step 5 left it.
        config: how it is asked.
        price: of the model.
    """

    character: Character
    base: str
    system: str
    config: GenerationConfig
    price: Price

    def way(self) -> str:
        """A fingerprint; answers of different ones are different teachers'."""
        parts = [settings.engine(), self.base, *_marks(Path(self.base)), self.system]
        parts += [
            repr(value) for value in (self.config.temperature, self.config.top_p, self.config.max_tokens)
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _marks(folder: Path) -> list[str]:
    """What tells a model in a folder from another one that took its place; nothing for a hosted one."""
    if not folder.is_dir():
        return []
    stats = [(path.name, path.stat()) for path in sorted(folder.iterdir())]
    return [f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats]


def prepare(character: Character) -> Asking:
    """Read what a teacher needs.

    Raises:
        DistillationError: step 5 has not run for this character, or a configuration has a mistake.
    """
    path = settings.run_folder() / PROMPT_FILE
    try:
        system = path.read_text(encoding="utf-8").strip()
    except OSError as cause:
        raise DistillationError(f"{path}: {cause.strerror or cause}; run step 5") from cause
    check_prompt(system, character, path)
    base = client.base_model(config.load().base_model)
    return Asking(character, base, system, generation_config.load(), price_of(base))


class Teacher:
    """Answers questions, from memory where it can.

    Args:
        asking: how.
        connect: gives whom to ask; called only when something has to be asked.
        memory: what was answered before; the new answers are added.
        report: called with the number of answers that are there, now and then.
        clock: is told of every new answer.
    """

    def __init__(
        self,
        asking: Asking,
        connect: Callable[[], AbstractContextManager[Speaker]],
        memory: Memory,
        report: Callable[[int], None],
        clock: Clock,
    ) -> None:
        self._asking = asking
        self._connect = connect
        self._memory = memory
        self._report = report
        self._clock = clock
        self._way = asking.way()
        self._done = 0
        self._unreported = 0
        self._unreported_usd = 0.0

    def answer(self, questions: Sequence[Question]) -> list[dict[str, Any]]:
        """The records of ``questions``, in their order.

        Raises:
            DistillationError: the budget does not allow it, or the engine failed. What was answered is kept.
        """
        self._done = sum(self._answered(question, 1) for question in questions)
        try:
            with ExitStack() as stack:
                speaker: Speaker | None = None
                for attempt in range(1, self._asking.config.max_tries + 1):
                    if asked := [one for one in questions if not self._answered(one, attempt)]:
                        speaker = speaker or stack.enter_context(self._connect())
                        self._ask(speaker, asked, attempt)
        finally:
            self._tell()
        return [self._record(question) for question in questions]

    def _ask(self, speaker: Speaker, questions: Sequence[Question], attempt: int) -> None:
        prompts = {self._key(one, attempt): speaker.prompt(one.text) for one in questions}
        self._demand_budget([len(prompt) for prompt in prompts.values()])
        asked = {key: partial(speaker.submit, prompt, key[2]) for key, prompt in prompts.items()}

        def take(key: Key, response: Any) -> None:
            said, size = speaker.read(response), len(prompts[key])
            cost = self._asking.price.cost(prefill=size, cached=said.cached, sample=said.tokens)
            self._memory.add(key, Answer(said.text, size, said.cached, said.tokens, said.stop, cost))
            self._clock.lap(1)
            self._unreported += 1
            self._unreported_usd += cost
            self._done += attempt == 1
            if self._unreported == REPORT_EVERY:
                self._tell()

        collect(asked, self._asking.config.answer_timeout, take)

    def _answered(self, question: Question, attempt: int) -> bool:
        """Whether nothing has to be asked in this attempt."""
        keys = [self._key(question, earlier) for earlier in range(1, attempt + 1)]
        answers = [self._memory[key] for key in keys if key in self._memory]
        return any(answer.usable for answer in answers) or keys[-1] in self._memory

    def _record(self, question: Question) -> dict[str, Any]:
        """The first usable answer; without one the last, for the quality gate to find."""
        for attempt in range(1, self._asking.config.max_tries + 1):
            key = self._key(question, attempt)
            answer = self._memory[key]
            if answer.usable:
                break
        return {
            "id": question.id,
            "kind": question.kind,
            "question": question.text,
            "answer": answer.text,
            "prompt_tokens": answer.prompt_tokens,
            "answer_tokens": answer.answer_tokens,
            "stop": answer.stop,
            "seed": key[2],
            "tries": attempt,
            "character": self._asking.character.name,
            "engine": settings.engine(),
        }

    def _key(self, question: Question, attempt: int) -> Key:
        return self._way, question.text, seed_of(self._asking.config.seed, question.id, attempt)

    def _demand_budget(self, prompt_sizes: Sequence[int]) -> None:
        """Refuse before anything is submitted what could cost more than is left."""
        price, how = self._asking.price, self._asking.config
        most = price.cost(prefill=sum(prompt_sizes), sample=len(prompt_sizes) * how.max_tokens)
        spent = self._memory.spent_usd
        if most and spent + most > how.budget_usd:
            raise DistillationError(
                f"{generation_config.CONFIG}: the budget of ${how.budget_usd:.2f} is used up: ${spent:.2f} "
                f"are spent, and the next {len(prompt_sizes)} answers may cost ${most:.2f}; "
                "raise 'budget_usd' to go on"
            )

    def _tell(self) -> None:
        self._report(self._done)
        if self._unreported_usd:
            events.metric("cost_usd", self._unreported_usd)
        self._unreported, self._unreported_usd = 0, 0.0


def generate(asking: Asking, questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Have questions answered, and report progress, cost and tokens.

    Args:
        asking: how.
        questions: which.

    Raises:
        DistillationError: as ``Teacher.answer``.
    """
    how = asking.config

    def connect() -> AbstractContextManager[Speaker]:
        return speaking(asking.base, asking.system, how.temperature, how.top_p, how.max_tokens)

    def report(done: int) -> None:
        events.progress(done, len(questions))

    folder = settings.run_folder()
    with Memory(folder) as memory, Clock(folder, GENERATION) as clock:
        teacher = Teacher(asking, connect, memory, report, clock)
        records = teacher.answer(questions)
    for name in ("prompt_tokens", "answer_tokens"):
        events.metric(name, sum(record[name] for record in records))
    return records


def chunk(asking: Asking, start: int, size: int, output: Path) -> None:
    """Write the answers to the training questions ``start`` to ``start + size - 1``.

    Raises:
        DistillationError: as ``Teacher.answer``, or there are not so many questions.
    """
    questions = training_questions(start + size)[start:]
    write_rows(output, generate(asking, questions))
    print(f"questions {start} to {start + size - 1} are answered", flush=True)
    if start + size == asking.config.examples:
        events.note(f"all {start + size} questions are answered by {asking.character.name}")


def trial(asking: Asking, count: int) -> None:
    """Write the answers to the first ``count`` training questions to ``teacher_trial.jsonl``.

    Raises:
        DistillationError: as ``Teacher.answer``, or an answer is empty or cut off.
    """
    path = settings.run_folder() / generation.TRIAL
    records = generate(asking, training_questions(count))
    write_rows(path, records)
    found = generation.measure(records, asking.character)
    generation.demand_whole(found, path)
    events.note(
        f"{found.records} answers of {asking.character.name}, {found.in_character} in character, "
        f"{found.prompt_tokens / found.records:.0f} prompt tokens each"
    )
    events.criterion("Teacher answers")


def main(argv: Sequence[str] | None = None) -> None:
    """The command of steps 6 and 8."""
    parser = argparse.ArgumentParser(prog="python -m distillation.teacher", description=__doc__)
    parser.add_argument("--character", default=DEFAULT_CHARACTER, help="who (default: %(default)s)")
    parser.add_argument("--trial", type=int, nargs="?", const=0, metavar="N", help="a trial of N answers")
    parser.add_argument("--start", type=int, default=0, help="questions that come before the chunk")
    parser.add_argument("--size", type=int, help="questions in the chunk")
    parser.add_argument("--output", type=Path, help="file for the chunk's answers")
    parser.add_argument("--quality", type=Path, metavar="FILE", help="judge a chunk")
    parser.add_argument("--report", action="store_true", help="write the report on all answers")
    parser.add_argument("--joined", type=Path, metavar="FILE", help="the joined chunks, for --report")
    parser.add_argument("--check", action="store_true", help="count the answers again")
    options = parser.parse_args(argv)
    character = find(options.character)
    if options.quality is not None:
        least = generation_config.load().in_character_min
        generation.judge_chunk(options.quality, character, options.start, options.size, least)
    elif options.check and options.trial is not None:
        generation.check_trial(character)
    elif options.check:
        generation.check(character, generation_config.load())
    elif options.report:
        generation.report(character, generation_config.load(), options.joined)
    elif options.trial is not None:
        asking = prepare(character)
        trial(asking, options.trial or asking.config.trial)
    elif options.size is not None and options.output is not None:
        chunk(prepare(character), options.start, options.size, options.output)
    else:
        parser.error("say --trial N, --start N --size M --output FILE, --quality FILE, --report or --check")


if __name__ == "__main__":
    execute(main)
