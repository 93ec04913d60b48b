"""A plan as a picture: a flowchart that Mermaid can read, whatever the titles are."""

from __future__ import annotations

import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_tinker_steps.record.frozen import Wishes
from pytest_tinker_steps.report import plan_mermaid, plan_view
from pytest_tinker_steps.report.plan_mermaid import label

from ..record.sessions import a_list, a_plan, a_session, decide, true_steps
from . import golden
from .plans import with_tracks

LABEL = r'"(?:[^\W#]|[ _\-.,/()\']|#\d+;)*"'
"""Letters, digits, harmless signs, and everything else as its number."""

LINES = tuple(
    re.compile(rf" *(?:{pattern})")
    for pattern in (
        r"flowchart TD",
        rf"subgraph g\d+\[{LABEL}\]",
        r"end",
        rf"s\d+\[{LABEL}\]",
        r'j\d+\(\(" "\)\)',
        r"[sj]\d+ (?:-->|-\. started \.->|-- ended -->) [sj]\d+",
        r"classDef [a-z]+ fill:#[0-9a-f]{6},stroke:#[0-9a-f]{6},color:#[0-9a-f]{6}",
        r"class s\d+(?:,s\d+)* [a-z]+",
    )
)


def check_grammar(lines: list[str]) -> None:
    """Each line is one that Mermaid reads, each subgraph ends, and each name is introduced once."""
    assert lines[0] == "flowchart TD"
    depth = 0
    names: list[str] = []
    used: set[str] = set()
    for line in lines:
        assert any(pattern.fullmatch(line) for pattern in LINES), line
        words = line.split()
        depth += (words[0] == "subgraph") - (words[0] == "end")
        assert depth >= 0
        node = re.match(r" *([sj]\d+)[\[(]", line)
        if node:
            names.append(node[1])
        elif words[0] == "class":
            used.update(words[1].split(","))
        elif re.match(r" *[sj]\d+ -", line):
            used.update((words[0], words[-1]))
    assert depth == 0
    assert len(set(names)) == len(names)
    assert used <= set(names)


def edges(lines: list[str]) -> list[str]:
    return [line.strip() for line in lines if re.match(r" *[sj]\d+ -", line)]


def test_a_plan_with_tracks_and_a_job() -> None:
    lines = plan_mermaid.of(with_tracks())
    check_grammar(lines)
    golden.check("plan_mermaid", lines)


def test_steps_that_cannot_run_have_classes_of_their_own() -> None:
    plan = a_plan(a_list("First", "Second", "Third", "Fourth", ticked=(1,)), true_steps(4))
    lines = plan_mermaid.of(plan_view.make(a_session(plan, decide(plan, Wishes("3-4")))))
    check_grammar(lines)
    classes = {line.split()[2]: line.split()[1] for line in lines if line.split()[0] == "class"}
    assert classes == {"done": "s0", "skipped": "s1", "refused": "s2", "blocked": "s3"}


def test_tracks_stand_inside_their_layers() -> None:
    yaml = "".join(
        f"step_{n}: {{main: 'true', layer: '{1 + n // 4}', track: {'AB'[n % 2]}}}\n" for n in range(1, 7)
    )
    plan = a_plan(a_list(*map(str, range(6))), yaml)
    lines = plan_mermaid.of(plan_view.make(a_session(plan)))
    check_grammar(lines)
    boxes = [re.sub(r"g\d+", "", line) for line in lines if "subgraph" in line]
    assert boxes == [
        '  subgraph ["Layer 1"]',
        '    subgraph ["Track B"]',
        '    subgraph ["Track A"]',
        '  subgraph ["Layer 2"]',
        '    subgraph ["Track A"]',
        '    subgraph ["Track B"]',
    ]


def test_a_need_of_a_start_is_dotted_and_one_of_any_end_says_so() -> None:
    yaml = (
        "step_1: {main: {command: serve, mode: background}}\n"
        "step_2: {main: 'true', needs: ['1@started']}\n"
        "step_3: {main: 'true', needs: ['1@ended', 2]}\n"
        "step_4: {main: 'true', needs: [1]}\n"
    )
    plan = a_plan(a_list("a", "b", "c", "d"), yaml)
    assert edges(plan_mermaid.of(plan_view.make(a_session(plan)))) == [
        "s0 -. started .-> s1",
        "s0 -- ended --> s2",
        "s1 --> s2",
        "s0 --> s3",
    ]


def test_where_many_wait_for_the_same_many_the_edges_go_through_one_point() -> None:
    def of(width: int) -> list[str]:
        yaml = "".join(
            f"step_{n + 1}: {{main: 'true', layer: '{1 + n // width}'}}\n" for n in range(2 * width)
        )
        plan = a_plan(a_list(*map(str, range(2 * width))), yaml)
        lines = plan_mermaid.of(plan_view.make(a_session(plan)))
        check_grammar(lines)
        return edges(lines)

    assert len(of(20)) == 400, "as they are, while Mermaid draws them"
    assert len(of(30)) == 60


def test_ids_that_repeat_are_nodes_of_their_own() -> None:
    plan = a_plan("- [ ] 1. One\n- [ ] 2. Two\n- [ ] 1. One again\n- [ ] 3. Three\n")
    lines = plan_mermaid.of(plan_view.make(a_session(plan, decide(plan, Wishes("2")))))
    check_grammar(lines)
    assert sum(bool(re.match(r" *s\d+\[", line)) for line in lines) == 4


@settings(deadline=None, max_examples=300)
@given(st.text(max_size=150))
@example('"] end %%{init: {}}%% `md` <b> & #35; ; { } | \\ \n\r\u2028 subgraph x')
@example("style:#fff;")
@example("\x1b[31mred\x1b[0m \x00 ‮ 🚀 ﬂ°°35¶ß")
def test_a_label_is_safe_and_says_what_the_title_says(title: str) -> None:
    made = label(title)
    assert re.fullmatch(LABEL, f'"{made}"')
    shown = re.sub(r"#(\d+);", lambda found: chr(int(found[1])), made)
    assert len(shown) <= plan_mermaid.LONGEST_LABEL
    if title.isprintable() and title == " ".join(title.split()) and len(title) <= 100:
        assert shown == title


def test_titles_that_would_break_a_picture_do_not() -> None:
    odd = ('end "] --> x', "%%{init: {}}%%", "subgraph a", "click s0 `b` <script>", "style:#fff; class")
    plan = a_plan(a_list(*odd), true_steps(5))
    check_grammar(plan_mermaid.of(plan_view.make(a_session(plan))))
