"""The page about scale; its commands are run by the tests of workers and of Ray."""

from __future__ import annotations

import re
from pathlib import Path

from pytest_tinker_steps.plan import definitions

PAGE = (Path(__file__).parents[1] / "docs" / "scale.md").read_text(encoding="utf-8")


def test_the_runners_of_the_page_load() -> None:
    examples = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert examples
    for example in examples:
        definitions.load(example.encode(), "step_definitions.yaml")


def test_every_line_of_the_table_has_its_section() -> None:
    sections = {
        f"#{title.lower().replace(' ', '-')}" for title in re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    }
    linked = set(re.findall(r"\]\((#[\w-]+)\)", PAGE))
    assert linked == sections
