"""Step 17: talk to the student, side by side with the teacher where that is wanted.

``python -m distillation.demo`` asks for a question, again and again. The student answers without any system
prompt; ``/teacher on`` (or ``--compare``) has the teacher answer as well, with the long one. ``/quit`` or
Ctrl-D ends; Ctrl-C gives an answer up, and ends where none is awaited. ``--script FILE`` takes the
questions from a file, a line each, and so does standard input when it is no terminal.

``--trial`` holds a conversation of three questions and writes ``demo_transcript.md`` and
``demo_report.json``; ``--check`` asks three others and says how long the slowest answer took.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from distillation import events, settings
from distillation.characters import DEFAULT_CHARACTER, Character, find
from distillation.command import execute
from distillation.conversation import Conversation, conversing, spend
from distillation.errors import DistillationError
from distillation.evaluate import best_student
from distillation.jsonl import read_json, write_bytes, write_json
from distillation.persona import judge
from distillation.questions import Question, held_out_questions

TRANSCRIPT = "demo_transcript.md"
REPORT = "demo_report.json"

TRIAL_QUESTIONS = 3

SLOWEST_SECONDS: dict[settings.Engine, float] = {"local": 1.0, "tinker": 30.0}
"""How long the student's answer may take: a tiny model here, a real one behind a network there."""

IN_CHARACTER = 2 / 3
"""Least share of the student's answers that must be in character: of a handful, one may be a bad draw."""

HELP = "/teacher on|off: let the teacher answer too; /quit or Ctrl-D: end; anything else is a question"
INTERRUPTED = 130
"""Exit code after Ctrl-C in a script, as of a shell."""


def obey(conversation: Conversation, line: str) -> bool:
    """Do what a line says, and print what comes of it.

    Returns:
        whether the conversation goes on.

    Raises:
        DistillationError: no answer came.
    """
    words = line.split()
    if not words:
        return True
    if words[0].startswith("/"):
        return _command(conversation, words)
    # A terminal may hand on bytes that are no text; a tokenizer takes text only.
    question = line.strip().encode("utf-8", errors="replace").decode()
    for reply in conversation.ask(question):
        print(reply.shown(), flush=True)
        spend([reply])
    return True


def _command(conversation: Conversation, words: Sequence[str]) -> bool:
    match [word.casefold() for word in words]:
        case ["/quit"]:
            return False
        case ["/teacher", "on" | "off" as wanted]:
            conversation.compare = wanted == "on"
            print(f"the teacher answers {'too' if conversation.compare else 'no more'}", flush=True)
        case _:
            print(HELP, flush=True)
    return True


def talk(conversation: Conversation, read: Callable[[str], str] = input) -> None:
    """Converse with somebody at a terminal, until they end it. A failed answer does not end it.

    Args:
        conversation: as from ``conversing``.
        read: asks for a line with the given prompt; raises ``EOFError`` at the end.
    """
    print(HELP, flush=True)
    while True:
        try:
            line = read("you> ")
        except (EOFError, KeyboardInterrupt):
            print(flush=True)
            return
        try:
            if not obey(conversation, line):
                return
        except KeyboardInterrupt:
            print("\n(given up)", flush=True)
        except DistillationError as mistake:
            print(f"error: {mistake}", flush=True)


def recite(conversation: Conversation, lines: Iterable[str]) -> int:
    """Ask what a script says, line by line.

    Returns:
        how many lines were questions.

    Raises:
        DistillationError: no answer came.
    """
    asked = 0
    for line in lines:
        if line.strip() and not line.lstrip().startswith("/"):
            print(f"you> {line.strip()}", flush=True)
            asked += 1
        if not obey(conversation, line):
            break
    return asked


def hold(conversation: Conversation, questions: Sequence[Question]) -> list[dict[str, Any]]:
    """Ask each question and keep the answers."""
    held = []
    for question in questions:
        replies = list(conversation.ask(question.text))
        spend(replies)
        held.append({"question": question.text, "replies": [asdict(reply) for reply in replies]})
    return held


def student_replies(held: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The student's answers of a conversation that was held."""
    return [reply for turn in held for reply in turn["replies"] if reply["voice"] == "student"]


def transcript(report: Mapping[str, Any]) -> str:
    """The conversation of a report as Markdown, for people."""
    parts = [
        f"# A conversation with {report['character']}\n\n"
        f"The student of step {report['checkpoint']}, engine {report['engine']}, has no system prompt."
    ]
    for turn in report["turns"]:
        parts.append(f"## {turn['question']}")
        for reply in turn["replies"]:
            quoted = "\n".join(f"> {line}".rstrip() for line in reply["text"].splitlines())
            parts.append(
                f"{reply['voice'].capitalize()} ({reply['tokens']} tokens in {reply['seconds']:.2f} s, "
                f"{reply['prompt_tokens']} prompt tokens):\n\n{quoted}"
            )
    return "\n\n".join(parts) + "\n"


def trial(character: Character) -> dict[str, Any]:
    """Hold the conversation of step 17 and write transcript and report.

    Returns:
        the report.

    Raises:
        DistillationError: the student is not in character. The files are written before that is said.
    """
    folder = settings.run_folder()
    began = time.monotonic()
    with conversing(character) as conversation:
        startup = time.monotonic() - began
        conversation.compare = True
        held = hold(conversation, held_out_questions(TRIAL_QUESTIONS))
    mine = student_replies(held)
    report = {
        "engine": settings.engine(),
        "character": character.name,
        "checkpoint": best_student(folder).step,
        "startup_seconds": round(startup, 1),
        "slowest_seconds": max(reply["seconds"] for reply in mine),
        "in_character": sum(judge(character.name, reply["text"]).in_character for reply in mine),
        "cost_usd": sum(reply["cost_usd"] for turn in held for reply in turn["replies"]),
        "turns": held,
        "seconds": round(time.monotonic() - began, 1),
    }
    write_json(folder / REPORT, report)
    write_bytes(folder / TRANSCRIPT, transcript(report).encode())
    _demand_in_character(int(report["in_character"]), len(mine), folder / TRANSCRIPT)
    return report


def _demand_in_character(found: int, answers: int, where: Path) -> None:
    if found < answers * IN_CHARACTER:
        raise DistillationError(
            f"{where}: only {found} of {answers} answers are in character; read them, and look at step 15"
        )


def check(character: Character) -> list[str]:
    """Hold transcript and report against each other, and ask three other questions, in lines.

    Raises:
        DistillationError: they do not fit, or the student is not in character, or too slow.
    """
    folder = settings.run_folder()
    report = read_json(folder / REPORT)
    if (report.get("engine"), report.get("character")) != (settings.engine(), character.name):
        raise DistillationError(f"{folder / REPORT}: of another engine or character; run step 17 again")
    try:
        written = (folder / TRANSCRIPT).read_text(encoding="utf-8")
    except OSError as cause:
        raise DistillationError(f"{folder / TRANSCRIPT}: {cause.strerror or cause}; run step 17") from cause
    if written != transcript(report):
        raise DistillationError(f"{folder / TRANSCRIPT}: is not what {REPORT} says; run step 17 again")
    with conversing(character) as conversation:
        held = hold(conversation, held_out_questions(2 * TRIAL_QUESTIONS)[TRIAL_QUESTIONS:])
    mine = student_replies(held)
    before = student_replies(report["turns"])
    found = sum(judge(character.name, reply["text"]).in_character for reply in (*before, *mine))
    _demand_in_character(found, len(before) + len(mine), folder / TRANSCRIPT)
    slowest, allowed = max(reply["seconds"] for reply in mine), SLOWEST_SECONDS[settings.engine()]
    lines = [
        f"transcript answers: {len(before)}",
        f"answers: {len(mine)}",
        f"in character: {found}",
        f"slowest seconds: {slowest:.3f}",
        f"seconds allowed: {allowed:g}",
        f"longest prompt tokens: {max(reply['prompt_tokens'] for reply in (*before, *mine))}",
    ]
    if slowest >= allowed:
        print("\n".join(lines), flush=True)
        raise DistillationError(
            f"the slowest answer took {slowest:.2f} s, {allowed:g} s are allowed; see what else is running"
        )
    return lines


def _lines_of(script: Path | None) -> list[str]:
    """The lines of a script, or of standard input.

    Raises:
        DistillationError: they cannot be read, or hold no question.
    """
    name = script or Path("standard input")
    try:
        lines = (sys.stdin.read() if script is None else script.read_text(encoding="utf-8")).splitlines()
    except OSError as cause:
        raise DistillationError(f"{name}: {cause.strerror or cause}; name a file with questions") from cause
    except UnicodeDecodeError as cause:
        raise DistillationError(f"{name}: not UTF-8; save it as such") from cause
    if not any(line.strip() and not line.lstrip().startswith("/") for line in lines):
        raise DistillationError(f"{name}: holds no question; write one on a line")
    return lines


def _converse(character: Character, script: Path | None, compare: bool) -> None:
    at_terminal = script is None and sys.stdin.isatty()
    lines = [] if at_terminal else _lines_of(script)
    if at_terminal:
        with contextlib.suppress(ImportError):
            importlib.import_module("readline")  # makes the lines editable, where it is there
        print(f"{character.full_name} will be there in a moment ...", flush=True)
    try:
        with conversing(character) as conversation:
            conversation.compare = compare
            if at_terminal:
                talk(conversation)
            else:
                recite(conversation, lines)
    except KeyboardInterrupt:
        print(flush=True)
        raise SystemExit(INTERRUPTED) from None


def main(argv: Sequence[str] | None = None) -> None:
    """The demo, and the command of step 17."""
    parser = argparse.ArgumentParser(prog="python -m distillation.demo", description=__doc__)
    parser.add_argument("--character", default=DEFAULT_CHARACTER, help="who (default: %(default)s)")
    parser.add_argument("--compare", action="store_true", help="let the teacher answer too")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--script", type=Path, metavar="FILE", help="questions, a line each")
    mode.add_argument("--trial", action="store_true", help="hold and write down the conversation of step 17")
    mode.add_argument("--check", action="store_true", help="ask three questions and measure the answers")
    options = parser.parse_args(argv)
    character = find(options.character)
    if options.check:
        print("\n".join(check(character)))
    elif options.trial:
        report = trial(character)
        events.metric("slowest_seconds", report["slowest_seconds"])
        events.note(
            f"{len(report['turns'])} questions answered as {character.name} without a prompt, "
            f"the slowest in {report['slowest_seconds']:.2f} s"
        )
        events.criterion("Student talks without the prompt")
    else:
        _converse(character, options.script, options.compare)


if __name__ == "__main__":
    execute(main)
