"""Questions and answers in turn: the student, and the teacher beside it where that is wanted."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from distillation import client, events, settings
from distillation.characters import Character
from distillation.evaluate import best_student
from distillation.evaluation_answers import Panel, speakers
from distillation.prices import Price
from distillation.sampling import Speaker, explained, seed_of
from distillation.teacher import prepare


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in the conversation.

    Attributes:
        voice: ``student`` or ``teacher``.
        text: what was said.
        prompt_tokens: of the question, with the system prompt if there was one.
        tokens: of the answer, its end token included.
        seconds: from the question to the whole answer.
        cost_usd: US dollars.
    """

    voice: str
    text: str
    prompt_tokens: int
    tokens: int
    seconds: float
    cost_usd: float

    def shown(self) -> str:
        """The answer as it is printed."""
        return (
            f"{self.voice}> {self.text}\n"
            f"  ({self.tokens} tokens in {self.seconds:.2f} s; {self.prompt_tokens} prompt tokens)"
        )


class Conversation:
    """Questions and answers in turn.

    Args:
        voices: who can be asked; ``student``, and ``teacher`` for ``compare``.
        price: of the model.
        seed: of the first answer; every question has one of its own.
        patience: seconds in which an answer must come.

    Attributes:
        compare: whether the teacher answers too.
    """

    def __init__(self, voices: Mapping[str, Speaker], price: Price, seed: int, patience: float) -> None:
        self.compare = False
        self._voices = voices
        self._price = price
        self._seed = seed
        self._patience = patience
        self._asked = 0

    def ask(self, question: str) -> Iterator[Reply]:
        """The answers to a question, each as soon as it is there.

        Raises:
            DistillationError: no answer came.
        """
        self._asked += 1
        for voice in ("student", "teacher") if self.compare else ("student",):
            yield self._reply(voice, question)

    def _reply(self, voice: str, question: str) -> Reply:
        speaker = self._voices[voice]
        prompt = speaker.prompt(question)
        began = time.monotonic()
        future = speaker.submit(prompt, seed_of(self._seed, f"demo {self._asked}", 1))
        silent = f"the {voice} gave no answer"
        late = f"{silent} in {self._patience:g} s; ask again"
        with explained(late=late, failed=silent, advice="ask again"):
            said = speaker.read(future.result(timeout=self._patience))
        seconds = time.monotonic() - began
        cost = self._price.cost(prefill=len(prompt), cached=said.cached, sample=said.tokens)
        return Reply(voice, said.text, len(prompt), said.tokens, round(seconds, 3), cost)


@contextmanager
def conversing(character: Character) -> Iterator[Conversation]:
    """A conversation with the student of the best checkpoint, who has been asked once to warm up.

    Raises:
        DistillationError: there is no checkpoint, or the service cannot be reached.
    """
    panel = Panel(prepare(character), best_student(settings.run_folder()))
    how = panel.asking.config
    with client.connected(panel.asking.base) as service:
        found = speakers(service, panel)
        conversation = Conversation(
            {name: found[name] for name in ("student", "teacher")},
            panel.asking.price,
            how.seed,
            how.answer_timeout,
        )
        for reply in conversation.ask("Who are you?"):
            spend([reply])
        yield conversation


def spend(replies: Iterable[Reply]) -> None:
    """Report what answers cost, if they cost anything."""
    if cost := sum(reply.cost_usd for reply in replies):
        events.metric("cost_usd", cost)
