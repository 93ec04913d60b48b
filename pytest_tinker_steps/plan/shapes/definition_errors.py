"""What pydantic says about a definitions file, in plain words and with the line."""

from __future__ import annotations

import typing
from typing import Any

from pydantic import BaseModel, ValidationError

from pytest_tinker_steps.plan.schema import File, StepShape
from pytest_tinker_steps.plan.shapes.check_shapes import shape_keys
from pytest_tinker_steps.plan.shapes.rules import STEP_KEY, did_you_mean
from pytest_tinker_steps.plan.shapes.scalars import PATTERN_WORDS, describe
from pytest_tinker_steps.plan.shapes.yaml_source import Map, Problem, Seq

_EXPECTED = {
    "string_type": ("text", "put quotes around it"),
    "string_unicode": ("text", "remove the half characters"),
    "bool_type": ("true or false", "write true or false without quotes"),
    "int_type": ("a whole number", "write digits only"),
    "int_from_float": ("a whole number", "write digits without a dot"),
    "float_type": ("a number", "write digits without quotes"),
    "finite_number": ("a finite number", "write digits"),
    "list_type": ("a list", "start each entry with '- '"),
    "dict_type": ("a mapping", "write 'key: value' lines"),
    "model_type": ("a mapping", "write 'key: value' lines"),
}
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than_equal": ("at most", "le"),
}


def problems(error: ValidationError, value: Map) -> list[Problem]:
    """One problem for each error, with the line in the file that ``value`` was read from."""
    return [_problem(dict(detail), value) for detail in error.errors(include_url=False)]


def _problem(detail: dict[str, Any], value: Map) -> Problem:
    loc: tuple[str | int, ...] = detail["loc"]
    kind: str = detail["type"]
    line, subject = _place(loc, value)
    if kind == "extra_forbidden":
        allowed = _allowed(loc[:-1])
        return Problem(line, f"unknown key '{loc[-1]}'; {did_you_mean(str(loc[-1]), allowed)}")
    if kind == "missing":
        return Problem(line, f"{subject} needs '{loc[-1]}'; add it")
    return Problem(line, f"{subject} {_words(kind, detail)}")


def _words(kind: str, detail: dict[str, Any]) -> str:
    found, context = describe(detail["input"]), detail.get("ctx", {})
    if kind == "definition":
        return str(context["message"])
    if kind in _EXPECTED:
        expected, hint = _EXPECTED[kind]
        if kind == "string_type" and isinstance(detail["input"], dict | list):
            hint = "write one text in its place"
        return f"must be {expected}, not {found}; {hint}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"must be {words} {context[bound]:g}, not {detail['input']}; change the number"
    if kind == "string_pattern_mismatch":
        return PATTERN_WORDS[context["pattern"]].format(found=found)
    if kind == "literal_error":
        return f"must be {context['expected']}, not {found}; choose one of these"
    if kind == "too_short":
        return "is an empty list; write at least one entry, or remove the key"
    return f"does not fit: {detail['msg']}; see the documentation of the key"


def _place(loc: tuple[str | int, ...], value: Map) -> tuple[int, str]:
    """The line of the innermost part of ``loc`` that stands in the file, and how to call it.

    Shorthands make parts that stand nowhere (``file: x`` has no ``path``); a number in a mapping is the place
    of a key, because an identity is checked as a list in either form.
    """
    here: Any = value
    line, subject, key = value.line, "the file", ""
    for part in loc:
        if isinstance(here, Map) and isinstance(part, int) and part < len(here):
            name = list(here)[part]
            line, here, subject = here.lines[name], here[name], f"'{name}' in '{key}'"
        elif isinstance(here, Map) and part in here:
            key = str(part)
            line, here, subject = here.lines[key], here[key], f"'{key}'"
        elif isinstance(here, Seq) and isinstance(part, int) and part < len(here):
            line, here, subject = here.lines[part], here[part], f"entry {part + 1} of '{key}'"
    return line, subject


def _allowed(loc: tuple[str | int, ...]) -> tuple[str, ...]:
    """The keys of the shape at ``loc``."""
    shape: type[BaseModel] = File
    for part in loc:
        fields = dict(zip(shape_keys(shape), shape.model_fields.values(), strict=True))
        if shape is File and isinstance(part, str) and STEP_KEY.match(part):
            shape = StepShape
        elif part in fields:
            shape = _shape_in(fields[str(part)].annotation) or shape
    return shape_keys(shape)


def _shape_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in typing.get_args(annotation):
        found = _shape_in(part)
        if found is not None:
            return found
    return None
