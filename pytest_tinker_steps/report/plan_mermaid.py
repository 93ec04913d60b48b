"""A plan as a picture: a flowchart in Mermaid's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..plan.model import Need
from ..run.expectations import one_line
from .plan_view import STATUSES, PlannedStep, PlanView, Status, place_name

LONGEST_LABEL = 100
MOST_EDGES = 500
"""Mermaid draws no more unless the page that shows the picture is set up to."""

PLAIN = frozenset(" _-.,/()'")
"""What a label may have besides letters and digits. All else could end it, or mean something in it."""

COLOURS: Mapping[Status, str] = {
    "done": "fill:#d4edda,stroke:#2e7d32,color:#1b1b1b",
    "run": "fill:#cfe2ff,stroke:#1565c0,color:#1b1b1b",
    "blocked": "fill:#fff3cd,stroke:#b26a00,color:#1b1b1b",
    "refused": "fill:#f8d7da,stroke:#b71c1c,color:#1b1b1b",
    "skipped": "fill:#eeeeee,stroke:#757575,color:#1b1b1b",
}


def of(view: PlanView) -> list[str]:
    """The flowchart, line by line: a node for each step, an edge for each need."""
    lines = ["flowchart TD", *_nodes(view), *_edges(view)]
    for status in STATUSES:
        names = [_node(one) for one in view.steps if one.status == status]
        if names:
            lines += [f"  classDef {status} {COLOURS[status]}", f"  class {','.join(names)} {status}"]
    return lines


def label(text: str) -> str:
    """Text for between the quotes of a label, whatever it has in it."""
    short = one_line(text, LONGEST_LABEL)
    return "".join(char if char.isalnum() or char in PLAIN else f"#{ord(char)};" for char in short)


def _node(one: PlannedStep) -> str:
    return f"s{one.step.index}"


def _nodes(view: PlanView) -> Iterator[str]:
    layers: dict[str, dict[str, list[PlannedStep]]] = {}
    for one in view.steps:
        layers.setdefault(one.step.layer, {}).setdefault(one.step.track, []).append(one)
    boxes = 0
    for layer, tracks in layers.items():
        indent = "  "
        if layer:
            boxes += 1
            yield f'  subgraph g{boxes}["{label(place_name(layer, ""))}"]'
            indent = "    "
        for track, steps in tracks.items():
            inner = indent
            if track:
                boxes += 1
                yield f'{indent}subgraph g{boxes}["{label(place_name("", track))}"]'
                inner += "  "
            for one in steps:
                yield f'{inner}{_node(one)}["{label(f"{one.step.node_name}: {one.step.title}")}"]'
            if track:
                yield f"{indent}end"
        if layer:
            yield "  end"


def _edges(view: PlanView) -> Iterator[str]:
    needs = {_node(one): one.needs for one in view.steps}
    nodes: dict[str, str] = {}
    for one in view.steps:
        nodes.setdefault(one.step.id, _node(one))
    joints: dict[tuple[Need, ...], str] = {}
    if sum(map(len, needs.values())) > MOST_EDGES:
        shared: dict[tuple[Need, ...], int] = {}
        for wanted in needs.values():
            shared[wanted] = shared.get(wanted, 0) + 1
        for wanted, count in shared.items():
            if len(wanted) > 2 and count > 2:
                # Where many wait for the same many, all of it goes through one point.
                joints[wanted] = f"j{len(joints) + 1}"
    for wanted, joint in joints.items():
        yield f'  {joint}((" "))'
        for need in wanted:
            yield f"  {nodes[need.step]} {_arrow(need)} {joint}"
    for node, wanted in needs.items():
        if wanted in joints:
            yield f"  {joints[wanted]} --> {node}"
            continue
        for need in wanted:
            yield f"  {nodes[need.step]} {_arrow(need)} {node}"


def _arrow(need: Need) -> str:
    return {"passed": "-->", "started": "-. started .->", "ended": "-- ended -->"}[need.state]
