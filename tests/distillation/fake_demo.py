"""The demo with voices that are fakes, to be run in a terminal of its own. ``slowly`` is never answered."""

from __future__ import annotations

import fcntl
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

from distillation import demo
from distillation.characters import Character
from distillation.command import run
from distillation.conversation import Conversation
from distillation.prices import free
from distillation.sampling import Said
from tests.distillation.generating import FakeSpeaker


def answering(name: str) -> FakeSpeaker:
    """A fake that says its name and the question."""

    def answer(question: str, seed: int) -> Said | BaseException | None:
        if question == "slowly":
            print("(asked)", flush=True)
            return None
        if question == "broken":
            return ConnectionError("the line\nis dead")
        return Said(f"{name} on {question}", 5, "stop")

    return FakeSpeaker(answer)


@contextmanager
def conversing(_: Character) -> Iterator[Conversation]:
    """A conversation without any service."""
    yield Conversation({name: answering(name) for name in ("student", "teacher")}, free("fake"), 1, 30.0)


def main() -> None:
    """Run the demo's own command on the fakes."""
    if sys.stdin.isatty():
        # Control-C reaches only those whose terminal it is typed into.
        fcntl.ioctl(sys.stdin, termios.TIOCSCTTY, 0)
    demo.__dict__["conversing"] = conversing
    sys.exit(run(demo.main))


if __name__ == "__main__":
    main()
