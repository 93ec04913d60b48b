"""The grammar of ``alert_on``: words, or a regular expression between slashes.

``error|out of memory`` are words. Case is ignored. A word is found whole, also in its plural: it ends at
everything that is no letter (at ``_`` and at a digit too), and at a change of case as in ``RuntimeError``.
``/loss=(nan|inf)/`` is a regular expression as it is written; ``/.../i`` ignores case.
"""

from __future__ import annotations

import re
import warnings

_LETTER = r"[^\W\d_]"
_SLASHED = re.compile(r"/(.*)/(i?)", re.DOTALL)
_META = re.compile(r"[\\^$*+?()\[\]{}]")
_HISSING = ("s", "x", "z", "ch", "sh")
# In ranges, which compile fast: ASCII, Latin-1, Greek, Russian. Elsewhere no change of case is seen.
_UPPER = "(?-i:[A-ZÀ-ÖØ-ÞΑ-ΩЀ-Я])"
_LOWER = "(?-i:[a-zß-öø-ÿα-ωа-џ])"
_CAMEL = f"(?<={_LOWER})(?={_UPPER})"  # Runtime|Error
_INITIALS = f"(?<={_UPPER})(?={_UPPER}{_LOWER})"  # HTTP|Error
_END_OF_WORD = f"(?:(?<!{_LETTER})|(?!{_LETTER})|{_CAMEL}|{_INITIALS})"
"""Matches between two characters that do not belong to the same word."""


def problem(text: str) -> str:
    """Why a text cannot be used as ``alert_on``.

    Returns:
        One line that goes on after the name of the key, with a hint after a semicolon; empty when it can.
    """
    text = text.strip()
    if not text:
        return "is empty; write words separated by |, or a /regular expression/"
    if text.startswith("/"):
        return _problem_of_slashed(text)
    for word in text.split("|"):
        if not word.strip():
            return "has nothing on one side of a |; write a word there, or remove the |"
        if found := _META.search(word):
            return (
                f"has {found[0]!r} in the word {_shown(word)!r}, which is no regular expression; "
                f"write /{_shown(text)}/i to make it one"
            )
        if word.strip().startswith("/"):
            return f"mixes words with {_shown(word)!r}; write all of it as one /regular expression/"
    return ""


def pattern(text: str) -> re.Pattern[str]:
    """What to look for (``search``) in an output; ``^`` and ``$`` also stand for the ends of its lines.

    Raises:
        ValueError: the text has a `problem`.
    """
    text = text.strip()
    if why := problem(text):
        raise ValueError(f"{_shown(text)!r} {why}")
    if found := _SLASHED.fullmatch(text):
        return _compiled(found[1], ignore_case=bool(found[2]))
    return _compiled("|".join(_word(word.split()) for word in text.split("|")), ignore_case=True)


def _problem_of_slashed(text: str) -> str:
    found = _SLASHED.fullmatch(text)
    if found is None:
        return "begins with / and does not end with / or /i; end it so, or leave the first / out"
    if not found[1]:
        return "has nothing between its slashes; write a regular expression there"
    if "/|/" in found[1]:
        return "has several regular expressions; write one, with | inside of it: /this|that/"
    try:
        _compiled(found[1], ignore_case=False)
    except re.error as error:
        at = f" at character {error.pos + 1} behind the slash" if error.pos is not None else ""
        return (
            f"is not a regular expression: {error.msg}{at}; put a backslash before a character meant as such"
        )
    except (OverflowError, RecursionError):
        return "is not a regular expression that can be used; make it smaller"
    return ""


def _compiled(regex: str, *, ignore_case: bool) -> re.Pattern[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what may mean something else in a later Python
        return re.compile(regex, re.MULTILINE | (re.IGNORECASE if ignore_case else 0))


def _word(parts: list[str]) -> str:
    """One alternative: words with any white space between them, the last of them in any number."""
    body = r"\s+".join([*map(re.escape, parts[:-1]), _in_any_number(parts[-1])])
    return _edge(parts[0][0], before=True) + body + _edge(parts[-1][-1], before=False)


def _edge(character: str, *, before: bool) -> str:
    """What must hold beside the first or the last character of a word."""
    if re.match(_LETTER, character):
        return _END_OF_WORD
    if re.match(r"\d", character):
        return r"(?<!\d)" if before else r"(?!\d)"
    return ""


def _in_any_number(word: str) -> str:
    """A word or its plural: errors, crashes, retries."""
    low = word.lower()
    whole = re.escape(word)
    if not re.match(_LETTER, low[-1]):
        return whole
    if low.endswith(_HISSING):
        return f"{whole}(?:es)?"
    if low.endswith("o"):
        return f"{whole}(?:e?s)?"
    if low.endswith("y"):
        return f"(?:{whole}s?|{re.escape(word[:-1])}ies)"
    return f"{whole}s?"


def _shown(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 40 else f"{line[:37]}..."
