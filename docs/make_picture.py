"""Makes ``docs/run.svg``: the quick start of the README, run for real, with its terminal text as a picture.

Usage, where the plugin is installed::

    python docs/make_picture.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

HERE = Path(__file__).parent
README = HERE.parent / "README.md"
PICTURE = HERE / "run.svg"

COMMAND = ("pytest", "--steps", "all", "--no-header")
ALONE = ("-p", "pytest_tinker_steps.plugin", "-p", "xdist.plugin", "-p", "pytest_timeout")
"""The plugins that come with ours, and none that happen to be installed beside them."""
COLUMNS = 92
CHARACTER = 7.83
"""Width of a character in pixels; every run of text is set to its width, whatever font there is."""
LINE = 18
MARGIN = 16
BAR = 34
COLOURS = {"31": "#ff7b72", "32": "#7ee787", "33": "#e3b341", "35": "#d2a8ff", "36": "#76e3ea"}
PLAIN = "#d0d7de"

_FENCE = re.compile(r"^```(?P<info>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_ESCAPE = re.compile(r"\x1b\[([\d;]*)m")


@dataclass(frozen=True, slots=True)
class Fence:
    """A fenced block of a Markdown file: the words behind the fence, and what stands inside."""

    info: tuple[str, ...]
    body: str


@dataclass(frozen=True, slots=True)
class Piece:
    """Text in one colour, and the column where it begins."""

    column: int
    text: str
    colour: str
    bold: bool


def fences(markdown: str) -> list[Fence]:
    """The fenced blocks of a page, in its order."""
    return [Fence(tuple(found["info"].split()), found["body"]) for found in _FENCE.finditer(markdown)]


def write_quick_start(folder: Path) -> None:
    """Write the files of the README's examples: the blocks that carry a file name."""
    for fence in fences(README.read_text(encoding="utf-8")):
        if len(fence.info) == 2:
            path = folder / fence.info[1]
            path.parent.mkdir(exist_ok=True)
            path.write_text(fence.body, encoding="utf-8")


def plain_environment() -> dict[str, str]:
    """An environment in which a run prints the same everywhere; ``pytest`` is that of this interpreter."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("CI", "NO_COLOR", "FORCE_COLOR", "PUBLISH_TO")
        and not name.startswith(("PYTEST", "TINKER_", "PY_COLORS"))
    }
    path = str(Path(sys.executable).parent) + os.pathsep + kept.get("PATH", os.defpath)
    return {**kept, "PATH": path, "COLUMNS": str(COLUMNS)}


def terminal_text() -> str:
    """Run the quick start in a folder of its own; what a terminal would show, with its colours."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_quick_start(folder)
        ended = subprocess.run(
            [sys.executable, "-m", *COMMAND, "--color=yes", *ALONE],
            cwd=folder,
            env={**plain_environment(), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            timeout=120,
            check=False,
        )
        ticked = (folder / "tasks.md").read_text(encoding="utf-8")
    return f"$ {' '.join(COMMAND)}\n{ended.stdout.rstrip()}\n$ cat tasks.md\n{ticked.rstrip()}\n"


def pieces(line: str) -> Iterator[Piece]:
    """One line of terminal text as coloured pieces."""
    colour, bold, column, position = PLAIN, False, 0, 0
    for found in [*_ESCAPE.finditer(line), None]:
        text = line[position : found.start()] if found else line[position:]
        if text:
            yield Piece(column, text, colour, bold)
        column += len(text)
        if found is None:
            return
        position = found.end()
        for code in found[1].split(";"):
            if code in ("", "0"):
                colour, bold = PLAIN, False
            elif code == "1":
                bold = True
            else:
                colour = COLOURS.get(code, colour)


def svg(text: str) -> str:
    """A picture of a terminal that shows ``text``."""
    lines = text.splitlines()
    widest = max(sum(len(piece.text) for piece in pieces(line)) for line in lines)
    width = round(widest * CHARACTER + 2 * MARGIN)
    height = BAR + len(lines) * LINE + MARGIN
    shapes = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="terminal output of {" ".join(COMMAND)}">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
        *(
            f'<circle cx="{18 + 20 * index}" cy="17" r="6" fill="{colour}"/>'
            for index, colour in enumerate(("#ff5f56", "#ffbd2e", "#27c93f"))
        ),
        '<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="13" '
        'xml:space="preserve">',
    ]
    for number, line in enumerate(lines):
        y = BAR + (number + 0.75) * LINE
        prompt = line.startswith("$ ")
        for piece in pieces(line):
            x = MARGIN + piece.column * CHARACTER
            weight = ' font-weight="bold"' if piece.bold or prompt else ""
            shapes.append(
                f'<text x="{x:.2f}" y="{y:.1f}" fill="{piece.colour}"{weight} '
                f'textLength="{len(piece.text) * CHARACTER:.2f}" lengthAdjust="spacingAndGlyphs">'
                f"{escape(piece.text)}</text>"
            )
    return "\n".join([*shapes, "</g>", "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(svg(terminal_text()), encoding="utf-8")
    print(f"{PICTURE.relative_to(HERE.parent)} written")
