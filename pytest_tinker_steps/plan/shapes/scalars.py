"""The small values of the definitions as types: durations, sizes, names, patterns, commands.

Each is an annotated type that pydantic checks at the boundary. A message goes on after the name of the key
(``'timeout' must be ...``) and ends with a hint after a semicolon.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from pytest_tinker_steps.plan.model import RetryCause

LONGEST = 30 * 24 * 3600.0
"""Seconds; what waits longer than a month waits for ever."""

SMALLEST_LOG = 1000
"""Bytes."""

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) *(ms|s|m|min|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, None: 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]+)?|\.[0-9]+) *(b|[kmgt]i?b)?", re.ASCII)
_BYTES: dict[str | None, int] = {None: 1, "b": 1} | {
    f"{letter}{i}b": base**power
    for power, letter in enumerate("kmgt", 1)
    for i, base in (("", 1000), ("i", 1024))
}

NOT_BLANK = r"\S"
VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
MODULE = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
FUNCTION = (
    r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
)
URL = r"^https?://[^\s/]+\S*$"

PATTERN_WORDS = {
    NOT_BLANK: "is empty; write something, or remove the key",
    VARIABLE: "must be the name of an environment variable, not {found}; use letters, digits and _",
    MODULE: "must be the name of a module, not {found}; write it as in an import: package.module",
    FUNCTION: "must name a function, not {found}; write module:function",
    URL: "must be a URL, not {found}; start it with http:// or https://",
}
"""What is said when a text does not match; ``{found}`` is what stands there."""


def wrong(message: str) -> PydanticCustomError:
    """An error whose message stands as it is: ``must be ...; hint``."""
    return PydanticCustomError("definition", "{message}", {"message": message})


def describe(value: object) -> str:
    """What stands in the file, in words for a message; long text is cut."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text '{value[:37]}...'" if len(value) > 40 else f"the text '{value}'"
    return "a mapping" if isinstance(value, dict) else "a list"


def _duration(value: object) -> float:
    hint = "write seconds, or text like 90s, 5m or 2h"
    if isinstance(value, str):
        found = _DURATION.fullmatch(value.strip())
        if found is None:
            raise wrong(f"must be a duration, not {describe(value)}; {hint}")
        return float(found[1]) * _SECONDS[found[2]]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(f"must be a duration, not {describe(value)}; {hint}")
    if not math.isfinite(value):
        raise wrong(f"must be a finite duration, not {value}; {hint}")
    return float(value)


def _timeout(value: object) -> float:
    seconds = _duration(value)
    if seconds <= 0:
        raise wrong(f"must be more than 0 seconds, not {value}; write seconds, or text like 90s, 5m or 2h")
    return _bounded(seconds)


def _delay(value: object) -> float:
    seconds = _duration(value)
    if seconds < 0:
        raise wrong(f"must not be negative, but is {value}; write 0 for none")
    return _bounded(seconds)


def _bounded(seconds: float) -> float:
    if seconds > LONGEST:
        raise wrong(f"must be at most 30 days, not {seconds:.0f} seconds; everything has an end here")
    return seconds


def _size(value: object) -> int:
    hint = "write bytes, or text like 500 MB or 2 GiB"
    if isinstance(value, str):
        found = _SIZE.fullmatch(value.strip().lower())
        if found is None:
            raise wrong(f"must be a size, not {describe(value)}; {hint}")
        return math.ceil(float(found[1]) * _BYTES[found[2]])
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise wrong(f"must be a size, not {describe(value)}; {hint}")
    return value


@lru_cache(maxsize=1024)
def _groups(pattern: str) -> int | str:
    """How many groups a pattern has, or why it does not compile."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(pattern).groups
    except re.error as error:
        at = f" at character {error.pos + 1}" if error.pos is not None else ""
        return (
            f"is not a regular expression: {error.msg}{at}; put a backslash before a character meant as such"
        )
    except (OverflowError, RecursionError):
        return "is not a regular expression that can be used; make it smaller"


def _regex(pattern: str) -> str:
    groups = _groups(pattern)
    if isinstance(groups, str):
        raise wrong(groups)
    return pattern


def _regex_with_group(pattern: str) -> str:
    if _groups(_regex(pattern)) == 0:
        raise wrong("has no group; put the part that is the number in brackets: (\\d+)")
    return pattern


def _regex_of_progress(pattern: str) -> str:
    groups = _groups(_regex(pattern))
    if groups not in (1, 2):
        raise wrong(
            f"has {groups or 'no'} groups; put what is done and of how much in brackets, (\\d+) of (\\d+), "
            "and group other parts with (?:...)"
        )
    return pattern


def _log_size(size: int) -> int:
    if size < SMALLEST_LOG:
        raise wrong(f"must be at least {SMALLEST_LOG} bytes, not {size}; the end of a log has to fit in")
    return size


def _file_name(path: str) -> str:
    """Refuse what cannot be the one file that is written."""
    if not is_one_file(path):
        raise wrong(
            f"must be one file, not {describe(path)}; write a path without *, ?, [ and without / at its end"
        )
    return path


def _no_glob(path: str) -> str:
    if _is_glob(path):
        raise wrong(f"must be one path, not {describe(path)}; write it without *, ? and [")
    return path


def is_one_file(path: str) -> bool:
    """Say whether a path names one file: it is no glob, and does not end like that of a folder."""
    return not path.endswith("/") and not _is_glob(path)


def _is_glob(path: str) -> bool:
    return any(magic in path for magic in "*?[")


def _command(value: object) -> str | tuple[str, ...]:
    if isinstance(value, str):
        if not value.strip():
            raise wrong("is empty; write a command, or remove the key")
        _without_nul(value)
        return value
    if not isinstance(value, list):
        raise wrong(
            f"must be a command, not {describe(value)}; write text for the shell, or a list without one"
        )
    if not value or not isinstance(value[0], str) or not value[0].strip():
        raise wrong("starts with nothing; the first entry of the list is the program")
    for number, item in enumerate(value, 1):
        if not isinstance(item, str):
            raise wrong(
                f"must be a list of texts, but entry {number} is {describe(item)}; write text in its place"
            )
        _without_nul(item)
    return tuple(value)


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise wrong("holds a NUL character, which no process can be given; remove it")
    return text


def one_or_list(value: object) -> object:
    """Read a bare text as a list of one."""
    return [value] if isinstance(value, str) else value


def _needs(value: Any) -> Any:
    """Refuse an empty ``needs``: it may mean that the step waits for none, or that nothing is said."""
    if value is None:
        raise wrong("says nothing; write [] for a step that waits for none, or remove the key")
    return one_or_list(value)


def _need(text: str) -> str:
    """Refuse an edge with an unknown state."""
    step, at, state = text.rpartition("@")
    if at and (state not in ("passed", "started", "ended") or not step.strip()):
        raise wrong(f"must be a step, or a step and a state, not '{text}'; write 13, 13@started or 13@ended")
    return text


def shorthand(key: str, kind: type | tuple[type, ...], expected: str) -> Callable[[object], object]:
    """A validator that reads a bare value of ``kind`` as ``{key: value}`` and lets mappings pass."""

    def expand(value: object) -> object:
        if isinstance(value, dict):
            return value
        if isinstance(value, kind) and not isinstance(value, bool):
            return {key: value}
        raise wrong(f"must be {expected} or a mapping, not {describe(value)}; write one of these")

    return expand


_DurationInput = float | str

Argument = Annotated[
    str,
    AfterValidator(_without_nul),
    # What is typed without quotes is taken as it stands, so an editor need not complain of it.
    WithJsonSchema({"type": ["string", "number", "boolean", "null"]}),
]
Timeout = Annotated[float, BeforeValidator(_timeout, json_schema_input_type=_DurationInput)]
Delay = Annotated[float, BeforeValidator(_delay, json_schema_input_type=_DurationInput)]
Size = Annotated[int, BeforeValidator(_size, json_schema_input_type=int | str)]
LogSize = Annotated[Size, AfterValidator(_log_size)]
Dollars = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(pattern=NOT_BLANK)]
Path = Annotated[str, Field(pattern=NOT_BLANK), AfterValidator(_without_nul)]
FileName = Annotated[Path, AfterValidator(_file_name)]
OnePath = Annotated[Path, AfterValidator(_no_glob)]
VariableName = Annotated[str, Field(pattern=VARIABLE)]
ModuleName = Annotated[str, Field(pattern=MODULE)]
FunctionName = Annotated[str, Field(pattern=FUNCTION)]
Url = Annotated[str, Field(pattern=URL)]
Regex = Annotated[str, AfterValidator(_regex)]
RegexWithGroup = Annotated[str, AfterValidator(_regex_with_group)]
RegexOfProgress = Annotated[str, AfterValidator(_regex_of_progress)]
CommandLine = Annotated[
    str | tuple[str, ...], PlainValidator(_command, json_schema_input_type=str | list[Argument])
]
Environment = dict[VariableName, Argument]
Texts = Annotated[list[Text], BeforeValidator(one_or_list, json_schema_input_type=Text | list[Text])]
Paths = Annotated[list[Path], BeforeValidator(one_or_list, json_schema_input_type=Path | list[Path])]
VariableNames = Annotated[
    list[VariableName],
    Field(min_length=1),
    BeforeValidator(one_or_list, json_schema_input_type=VariableName | list[VariableName]),
]
ModuleNames = Annotated[
    list[ModuleName],
    Field(min_length=1),
    BeforeValidator(one_or_list, json_schema_input_type=ModuleName | list[ModuleName]),
]
Programs = Annotated[
    list[Path],
    Field(min_length=1),
    BeforeValidator(one_or_list, json_schema_input_type=Path | list[Path]),
]
RetryCauses = Annotated[
    list[RetryCause], BeforeValidator(one_or_list, json_schema_input_type=RetryCause | list[RetryCause])
]


Needs = Annotated[
    list[Annotated[Text, AfterValidator(_need)]] | None,
    BeforeValidator(_needs, json_schema_input_type=str | int | float | list[str | int | float]),
]
