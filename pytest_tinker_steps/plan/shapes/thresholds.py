"""Limits on a number, as people write them: ``loss > 10``, ``loss is nan``."""

from __future__ import annotations

import math
import re
from typing import Any

from pytest_tinker_steps.plan.model import Threshold

_NAN = re.compile(r"\s*(\S.*?)\s+is\s+nan\s*", re.IGNORECASE)
_COMPARISON = re.compile(
    r"\s*([^\s<>=!](?:[^<>=!]*[^\s<>=!])?)\s*(>=|<=|==|!=|>|<)\s*"
    r"([-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)\s*"
)


def parse(text: str) -> Threshold | None:
    """Read a limit.

    Returns:
        None where the text is no comparison of a name with a finite number.
    """
    found = _NAN.fullmatch(text)
    if found:
        return Threshold(found[1], "nan")
    found = _COMPARISON.fullmatch(text)
    if found is None or not math.isfinite(float(found[3])):
        return None
    operator: Any = found[2]
    return Threshold(found[1], operator, float(found[3]))
