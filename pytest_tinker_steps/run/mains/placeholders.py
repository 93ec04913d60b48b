"""The names in braces with which a command asks for its piece: ``{chunk.index}``, ``{batch.output}``."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace

from ...plan.model import Command, Main


def filled(main: Main, values: Mapping[str, str]) -> Main:
    """A main whose command and arguments name their piece.

    Args:
        values: by the names that stand in braces, ``chunk.index`` for example.
    """
    command = None if main.command is None else filled_command(main.command, values)
    return replace(main, command=command, args=tuple(_in_word(word, values) for word in main.args))


def filled_command(command: Command, values: Mapping[str, str]) -> Command:
    """A command with its placeholders replaced; for a shell, each value is quoted as its place needs it."""
    if isinstance(command, str):
        return _in_shell(command, values)
    return tuple(_in_word(word, values) for word in command)


_PLACEHOLDER = r"\{([a-z]+\.[a-z]+)\}"


def _in_word(word: str, values: Mapping[str, str]) -> str:
    return re.sub(_PLACEHOLDER, lambda found: values.get(found[1], found[0]), word)


def _in_shell(text: str, values: Mapping[str, str]) -> str:
    quote = ""

    def replaced(found: re.Match[str]) -> str:
        nonlocal quote
        token, value = found[0], values.get(found[1] or "")
        if value is not None:
            if quote == "'":
                return value.replace("'", "'\\''")
            return re.sub(r'([\\"$`])', r"\\\1", value) if quote else shlex.quote(value)
        # Within single quotes a backslash is a character like any other.
        mark = token[-1] if quote == "'" else token
        if mark in ("'", '"') and quote in ("", mark):
            quote = "" if quote else mark
        return token

    return re.sub(rf"""\\.|['"]|{_PLACEHOLDER}""", replaced, text, flags=re.DOTALL)
