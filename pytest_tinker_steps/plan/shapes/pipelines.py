"""Shell commands whose exit code says nothing.

A shell gives a pipeline the exit code of its last element. ``cat config.yaml | head`` passes without the
file: ``head`` is content with anything. ``... | grep x`` is not, and so is no filter here.
"""

from __future__ import annotations

import re

FILTERS = frozenset(
    (
        *(
            "awk",
            "cat",
            "column",
            "cut",
            "expand",
            "fmt",
            "fold",
            "gawk",
            "head",
            "hexdump",
            "less",
            "mawk",
            "more",
        ),
        *(
            "nl",
            "od",
            "paste",
            "pr",
            "rev",
            "sed",
            "sort",
            "tac",
            "tail",
            "tee",
            "tr",
            "unexpand",
            "uniq",
            "wc",
        ),
        "xxd",
    )
)
"""Programs that exit with 0 whatever they are fed."""

_TOKEN = re.compile(
    r"""
      (?P<space>(?:[ \t]|\\\n)+)
    | (?P<comment>\#[^\n]*)
    | (?P<redirection>[0-9]*(?:&>>?|[<>]+[&|]?)[ \t]*)
    | (?P<end>&&|\|\||;+|\n|&)
    | (?P<pipe>\|&?\s*)
    | (?P<open>\()
    | (?P<close>\))
    | (?P<word>(?:
          \\. | '[^']*' | "(?:\\.|[^"\\])*" | `(?:\\.|[^`\\])*` | [^\s\\'"`|&;()<>]
      )+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=")


def ending_filter(command: str) -> str | None:
    """The filter at the end of the last pipeline of a shell command, if there is one.

    Quotes, comments, redirections and substitutions are read as a shell does. Where the command judges in
    another way (a here-document, ``pipefail``, an ``exit`` in awk or sed), the answer is None.
    """
    if "|" not in command or "<<" in command or "pipefail" in command:
        return None
    elements = _last_pipeline(command)
    if len(elements) < 2:
        return None
    words = elements[-1]
    while words and _ASSIGNMENT.match(words[0]):
        words = words[1:]
    program = words[0].rpartition("/")[2] if words else ""
    if program not in FILTERS or _can_fail(program, words[1:]):
        return None
    return program


def _last_pipeline(command: str) -> list[list[str]]:
    """The words of each element of the last pipeline; a subshell counts as what stands in it."""
    elements: list[list[str]] = [[]]
    ended = target = False
    inside = 0
    for token in _TOKEN.finditer(command):
        kind, before = token.lastgroup, command[token.start() - 1 : token.start()]
        if inside:
            inside += (kind == "open") - (kind == "close")
        elif kind == "open" and before and before in "$<>":
            inside = 1
        elif kind == "end":
            ended = True
        elif kind == "redirection":
            target = True
        elif kind == "word" and target:
            target = False
        elif kind in ("word", "open") and ended:
            elements, ended = [[token[0]] if kind == "word" else []], False
        elif kind == "word":
            elements[-1].append(token[0])
        elif kind == "pipe":
            elements.append([])
    return elements


def _can_fail(program: str, arguments: list[str]) -> bool:
    if program in ("awk", "gawk", "mawk"):
        return any("exit" in argument for argument in arguments)
    if program == "sed":
        return any(re.search(r"[qQ][ \t]*[0-9]", argument) for argument in arguments)
    if program == "sort":
        return any(argument in ("-c", "-C") or argument.startswith("--check") for argument in arguments)
    return False
