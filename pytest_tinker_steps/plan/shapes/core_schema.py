"""Scalars of YAML without quotes, by the core schema of YAML 1.2 or as they were typed.

The rules are those of https://yaml.org/spec/1.2.2/#103-core-schema.
"""

from __future__ import annotations

import re
from typing import Any, Literal

Mode = Literal["typed", "text", "items", "deep", "raw"]
"""How the scalars below a key are taken.

``typed``: numbers, booleans and nulls by the core schema. ``text``: as typed by the user, also the items of
a list; an empty value and ``null`` stay nothing. ``items``: the value itself typed, the items of a list as
text. ``deep``: as ``text``, and everything below is ``raw``: as it stands, with no exception.
"""

_NULLS = frozenset(("", "~", "null", "Null", "NULL"))
_BOOLEANS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER = re.compile(r"[-+]?[0-9]+\Z")
_BASED_INTEGER = re.compile(r"0(?:o[0-7]+|x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_INFINITY = re.compile(r"[-+]?\.(?:inf|Inf|INF)\Z|\.(?:nan|NaN|NAN)\Z")


def plain_scalar(text: str, mode: Mode) -> Any:
    """A scalar without quotes, in the core schema where ``mode`` asks for it."""
    if mode == "raw":
        return text
    if text in _NULLS:
        return None
    if mode == "text" or mode == "deep":
        return text
    if text in _BOOLEANS:
        return _BOOLEANS[text]
    if _FLOAT.match(text):
        # Python refuses to read integers of thousands of digits; no setting is that large.
        return int(text) if _INTEGER.match(text) and len(text) < 100 else float(text)
    if _BASED_INTEGER.match(text) and len(text) < 100:
        return int(text, 0)
    if _INFINITY.match(text):
        return float(text.replace(".", ""))
    return text
