"""Reports that are packed for their way."""

from __future__ import annotations

import copy
from enum import IntEnum
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pytest_tinker_steps.parcels import packed, unpack

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=4), plain, max_size=5))
def test_what_arrives_is_what_was_sent_with_its_types(data: dict[str, Any]) -> None:
    before = copy.deepcopy(data)
    parcel = packed(data)
    assert len(parcel) == 1
    parcel["added"] = 3
    unpack(parcel)
    assert data == before
    assert repr(parcel) == repr({"added": 3} | {name: before[name] for name in before})


def test_what_is_not_plain_goes_as_it_is() -> None:
    class Level(IntEnum):
        HIGH = 1

    data = {"level": Level.HIGH, "text": "a"}
    assert packed(data) is data
    unpack(data)
    assert data == {"level": Level.HIGH, "text": "a"}
