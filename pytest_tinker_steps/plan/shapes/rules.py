"""Rules of a definitions file that hold between keys, not within one.

They look at what stands in the file before the fields are checked, so that a wrong field does not hide them.
What is found goes to the ``Rules`` that travel as the context of the validation.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_tinker_steps.plan.model import PROBES
from pytest_tinker_steps.plan.shapes import thresholds
from pytest_tinker_steps.plan.shapes.yaml_source import Map, Problem, Seq

STEP_KEY = re.compile(r"^step_([^_\s]+)(?:_.*)?$")
"""A key that defines a step: its id is what follows ``step_``, up to the next ``_``."""

PROSE = ("explore", "verify", "estimate")
CHECK_KINDS = ("command", *PROBES, *PROSE)
MONITOR_KINDS = ("command", "monitor", "check", "alert")
MAIN_KINDS = ("command", "script", "python")
WATCHES = ("stall", "threshold", "metric")
"""What a monitor without a command looks at."""

_FILE_KEYS = ("steps", "defaults", "secrets", "pools", "runners")
_SECRET_NAME = re.compile(r".*(?:_KEY|_TOKEN|_SECRET)|.*PASSWORD.*", re.IGNORECASE)


@dataclass(slots=True)
class Rules:
    """What the rules need to know of the whole file, and where they write.

    Attributes:
        secrets: names of variables that the file calls secret.
        pools: what there is only so much of, as far as the file says it well.
        runners: names of the runners.
        problems: what was found so far.
    """

    secrets: frozenset[str] = frozenset()
    pools: Mapping[str, int] = field(default_factory=dict)
    runners: Collection[str] = ()
    problems: list[Problem] = field(default_factory=list)

    def report(self, line: int, text: str) -> None:
        self.problems.append(Problem(line, text))


def apply(rule: Callable[..., None], value: object, context: object, *more: Any) -> object:
    """Hold ``rule`` against a mapping that knows its lines; anything else is for the fields to judge."""
    if isinstance(value, Map) and isinstance(context, Rules):
        rule(value, context, *more)
    return value


def did_you_mean(key: str, allowed: Collection[str]) -> str:
    """A hint for an unknown key: the nearest allowed one, or all of them."""
    near = difflib.get_close_matches(key.lower().replace("-", "_"), allowed, 1, 0.7)
    return f"did you mean '{near[0]}'?" if near else "allowed are " + ", ".join(allowed)


def check_kinds(value: Map) -> list[str]:
    """The keys that say what a check does; an ``env`` mapping is the environment, not a probe."""
    return [
        key
        for key in value
        if key in CHECK_KINDS
        and value[key] is not None
        and not (key == "env" and isinstance(value[key], Map))
    ]


def check(value: Map, context: Rules, allowed: Collection[str]) -> None:
    kinds = check_kinds(value)
    _one_name(value, context)
    not_two(value, kinds, context, "stand in one check; make a check of each")
    if not kinds and not value.keys() - allowed:
        text = "this check has nothing to run; give it a 'command' or a probe: " + ", ".join(PROBES)
        context.report(value.line, text)
    if len(kinds) == 1 and kinds[0] != "command":
        for key in ("expect", "metric"):
            if value.get(key) is not None:
                text = f"'{key}' looks at the output of a command, and '{kinds[0]}' has none; use a 'command'"
                context.report(value.lines[key], text)


def monitor(value: Map, context: Rules, allowed: Collection[str]) -> None:
    kinds = [key for key in value if key in MONITOR_KINDS and value[key] is not None]
    _one_name(value, context)
    not_two(value, kinds, context, "stand in one monitor; make a monitor of each")
    looks = [key for key in WATCHES if value.get(key) is not None]
    if not kinds and not looks and not value.keys() - allowed:
        text = "this monitor has nothing to do; give it a 'command', a 'stall', a 'threshold' or a 'metric'"
        context.report(value.line, text)
    if not kinds and looks and value.get("alert_on") is not None:
        text = "'alert_on' looks at the output of a command; give the monitor a 'command'"
        context.report(value.lines["alert_on"], text)
    if isinstance(value.get("metric"), Map):
        _one_number(value, context)


def _one_number(value: Map, context: Rules) -> None:
    """A monitor that finds a number is about that number."""
    name = value["metric"].get("name")
    stall, threshold = value.get("stall"), value.get("threshold")
    limit = thresholds.parse(threshold) if isinstance(threshold, str) else None
    named = {
        "threshold": limit.metric if limit else None,
        "stall": stall.get("metric") if isinstance(stall, Map) else None,
    }
    for key, other in named.items():
        if isinstance(name, str) and isinstance(other, str) and other != name:
            text = (
                f"'{key}' is about '{other}', and the metric of this monitor is '{name}'; "
                "write the same name, or a monitor of its own"
            )
            context.report(value.lines[key], text)


def metric(value: Map, context: Rules) -> None:
    low, high = value.get("min"), value.get("max")
    if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
        context.report(
            value.lines["min"], f"'min' is {low} and 'max' is {high}; nothing can pass, swap the two"
        )


def step(value: Map, context: Rules) -> None:
    """Hold what a step takes and is handed to against what the file has of it."""
    taken = value.get("resources")
    if not isinstance(taken, Map):
        taken = Map(value.line)
    for name, amount in taken.items():
        line = taken.lines[name]
        if name not in context.pools:
            context.report(line, f"there is no pool '{name}'; {_or_add(name, context.pools, 'pools')}")
        elif isinstance(amount, int) and amount > context.pools[name]:
            text = f"the step takes {amount} of '{name}', and the pool has {context.pools[name]}"
            context.report(line, f"{text}; it would wait for ever, so take less or enlarge the pool")
    below = value.get("main")
    runner = below.get("runner") if isinstance(below, Map) else None
    if isinstance(below, Map) and isinstance(runner, str) and runner not in context.runners:
        text = f"there is no runner '{runner}'; {_or_add(runner, context.runners, 'runners')}"
        context.report(below.lines["runner"], text)


def _or_add(name: str, known: Collection[str], key: str) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.7)
    return f"did you mean '{near[0]}'?" if near else f"add it to '{key}' at the top of the file"


def identity(value: Map, context: Rules) -> None:
    name, given = value.get("env"), value.keys() & {"value", "env"}
    if len(given) != 1 and value.keys() <= {"name", "value", "env", "set", "unset"}:
        context.report(value.line, "an identity is a constant or an 'env'; write one of the two")
    if not isinstance(name, str):
        return
    if (name in context.secrets or _SECRET_NAME.fullmatch(name)) and value.get("set") is None:
        text = f"the value of {name} looks secret and would be stored; add 'set: <word>', which stands for it"
        context.report(value.lines["env"], text)


def identity_entries(value: object) -> object:
    """The entries of an identity as mappings; a bare constant becomes a ``value``."""
    if isinstance(value, Map):
        return [_named(key, below, value.lines[key]) for key, below in value.items()]
    if isinstance(value, list):
        return [entry if isinstance(entry, dict) else {"value": entry} for entry in value]
    return [{"value": value}]


def _named(name: str, value: object, line: int) -> Map:
    entry = Map(line)
    given = value if isinstance(value, Map) else {"value": value}
    entry.update({"name": name, **given})
    entry.lines = {"name": line, "value": line, **(value.lines if isinstance(value, Map) else {})}
    return entry


def steps(value: Map) -> Iterator[tuple[str, str, int, object]]:
    """All steps of a file, in its order: key as it stands, id, line, what stands below."""
    for key, below in value.items():
        found = STEP_KEY.match(key)
        if found:
            yield key, found[1], value.lines[key], below
        elif key == "steps" and isinstance(below, Seq):
            for entry, line in zip(below, below.lines, strict=True):
                if isinstance(entry, Map) and isinstance(entry.get("step"), str):
                    yield f"step: {entry['step']}", entry["step"], line, entry


def file(value: Map, context: Rules) -> Map:
    """Report unknown keys and steps that are defined twice.

    Returns:
        The file without its unknown keys, so that they are not taken for steps; a step of which nothing is
        said is an empty one.
    """
    first: dict[str, tuple[str, int]] = {}
    for key, step, line, _ in steps(value):
        if step in first:
            other, at = first[step]
            text = f"step {step} is defined twice, by '{other}' on line {at} and by '{key}' here; keep one"
            context.report(line, text)
        else:
            first[step] = (key, line)
    known = Map(value.line)
    for key, below in value.items():
        if key in _FILE_KEYS or STEP_KEY.match(key):
            known[key] = Map(value.lines[key]) if below is None and key not in _FILE_KEYS else below
            known.lines[key] = value.lines[key]
        else:
            context.report(value.lines[key], f"unknown key '{key}'; {_file_key_hint(key)}")
    return known


def _file_key_hint(key: str) -> str:
    word, _, rest = key.replace("-", "_").replace(" ", "_").partition("_")
    if rest.strip("_") and difflib.get_close_matches(word.lower(), ["step"], 1, 0.7):
        return f"did you mean 'step_{rest.strip('_')}'?"
    if difflib.get_close_matches(key.lower(), _FILE_KEYS, 1, 0.7):
        return did_you_mean(key, _FILE_KEYS)
    return "a step is step_<id>, for example step_13_training; others are " + ", ".join(_FILE_KEYS)


def _one_name(value: Map, context: Rules) -> None:
    not_two(value, [key for key in ("task", "name") if key in value], context, "mean the same; keep one")


def not_two(value: Map, keys: list[str], context: Rules, advice: str) -> None:
    """Report keys that exclude each other, on the line of the second one."""
    if len(keys) > 1:
        shown = ", ".join(f"'{key}'" for key in keys[:-1]) + f" and '{keys[-1]}'"
        context.report(value.lines[keys[1]], f"{shown} {advice}")
