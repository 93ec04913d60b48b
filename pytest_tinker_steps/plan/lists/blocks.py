"""Where the blocks of a Markdown file begin and end: items with boxes, headings, and what hides boxes.

markdown-it does the block structure, by the rules of CommonMark. Two of its rules are changed,
because people do not mean what CommonMark reads: ``[x]: text`` in a list is a box, no link target,
and ``---`` right below a paragraph is a line, no underline that makes a heading of the paragraph.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..values import value
from .tickline import BOM, BOX_LINE, LINE, readable

if TYPE_CHECKING:
    from markdown_it.token import Token

_NESTING = 100  # levels of blocks; a list takes two. Enough for people, too few for a recursion error
_FRONT_MATTER = {"---": ("---", "..."), "+++": ("+++",)}
_HIDING = {"fence", "code_block", "html_block", "blockquote_open"}
_FIELD = re.compile(r"[\w\"'][^:=]*[:=](?:\s|$)")
_LOOKALIKE = re.compile(
    r"\ufeff?[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)+(?P<box>\[(?:\s*[xX]?\s*|[^\w\s\[\]]{1,2})\])(?!\()"
)


@value
class Item:
    """A list item that begins with a box.

    Attributes:
        line: index of its line, from 0; ``end`` is the index behind its last.
        list: number of the list that it stands in.
        parent: index of the nearest item around it that begins with a box.
        more: the other lines of its first paragraph.
    """

    line: int
    end: int
    list: int
    parent: int | None
    more: str


@value
class Heading:
    """A heading outside of lists and quotes; ``line`` from 0, ``level`` from 1."""

    line: int
    level: int
    text: str


@dataclass(slots=True)
class Blocks:
    """What was found in a file.

    Attributes:
        lines: without line endings and BOM.
        offsets: of their first bytes.
        announced: by number of the list, the last line of the paragraph right above it.
        hidden: lines of code, HTML, quotes and front matter, as first and behind the last, from 0.
        warnings: ``path:line: ...`` lines.
    """

    path: str
    lines: list[str] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    headings: list[Heading] = field(default_factory=list)
    announced: dict[int, str] = field(default_factory=dict)
    hidden: list[tuple[int, int]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def scan(data: bytes, path: str) -> Blocks:
    """Find the blocks of a file.

    Args:
        data: any bytes without NUL.
        path: for the warnings.
    """
    blocks = Blocks(path)
    position = len(BOM) if data.startswith(BOM) else 0
    while position < len(data):
        line = LINE.match(data, position)
        assert line is not None  # the pattern matches the empty string
        blocks.lines.append(readable(line.group()))
        blocks.offsets.append(position)
        position = line.end()
    shown = blocks.lines.copy()
    matter = _front_matter(shown)
    shown[:matter] = [""] * matter
    blocks.hidden.append((0, matter))
    _walk(_tokens("\n".join(shown) + "\n"), blocks)
    return blocks


def _tokens(text: str) -> list[Token]:
    from markdown_it import MarkdownIt  # workers read no list

    markdown = MarkdownIt("commonmark", {"maxNesting": _NESTING})
    markdown.core.ruler.enableOnly(["normalize", "block"])
    markdown.block.ruler.disable(["reference"])
    return markdown.parse(text)


def _front_matter(lines: list[str]) -> int:
    """Count the lines of the front matter; a rule at the top of a file is none."""
    ends = _FRONT_MATTER.get(lines[0].rstrip()) if lines else None
    if not ends or len(lines) < 2 or not (_FIELD.match(lines[1]) or lines[1].rstrip() in ends):
        return 0
    for number, line in enumerate(lines[1:], start=2):
        if line.rstrip() in ends:
            return number
    return 0


def _walk(tokens: list[Token], blocks: Blocks) -> None:
    around: list[int | None] = []  # per open list item: its index among the items, if it has a box
    lists: list[int] = []
    count = quotes = 0
    for index, token in enumerate(tokens):
        if token.type in _HIDING:
            blocks.hidden.append(_span(token))
        match token.type:
            case "bullet_list_open" | "ordered_list_open":
                lists.append(count)
                # the paragraph of a box is its own text and announces nothing
                before = tokens[max(0, index - 3) : index]
                if before and before[-1].type == "paragraph_close" and not _is_box(before[0], blocks):
                    blocks.announced[count] = before[1].content.rpartition("\n")[2]
                count += 1
            case "bullet_list_close" | "ordered_list_close":
                lists.pop()
            case "list_item_open":
                around.append(None)
                item = None if quotes else _item(token, tokens[index + 1 : index + 3], blocks)
                if item is not None:
                    parent = next((outer for outer in reversed(around) if outer is not None), None)
                    around[-1] = len(blocks.items)
                    line, end, more = item
                    blocks.items.append(Item(line, end, lists[-1], parent, more))
            case "list_item_close":
                around.pop()
            case "blockquote_open":
                quotes += 1
            case "blockquote_close":
                quotes -= 1
            case "heading_open" if token.level == 0:
                _heading(token, tokens[index + 1].content, blocks)
            case "fence" | "html_block":
                _hidden(token, blocks)


def _item(token: Token, inside: list[Token], blocks: Blocks) -> tuple[int, int, str] | None:
    """Read a list item: first line, end, rest of its first paragraph; None if it has no box."""
    line, end = _span(token)
    first = inside[0]
    # a paragraph underlined by mistake is a heading to markdown-it, and still the text of the item
    if first.type not in ("paragraph_open", "heading_open") or _span(first)[0] != line:
        return None
    if BOX_LINE.fullmatch(blocks.lines[line]):
        return line, end, inside[1].content.partition("\n")[2]
    odd = _LOOKALIKE.match(blocks.lines[line])
    if odd:
        blocks.warnings.append(
            f"{blocks.path}:{line + 1}: {odd.group('box')} is not a checkbox, so this is no step; "
            "write [ ] or [x]"
        )
    return None


def _is_box(paragraph: Token, blocks: Blocks) -> bool:
    return bool(blocks.items) and blocks.items[-1].line == _span(paragraph)[0]


def _heading(token: Token, text: str, blocks: Blocks) -> None:
    line, end = _span(token)
    underlined = not token.markup.startswith("#")
    if underlined and ("\n" in text or blocks.lines[end - 1].strip() == "---"):
        return
    blocks.headings.append(Heading(line, int(token.tag[1:]), text))


def _hidden(token: Token, blocks: Blocks) -> None:
    """Warn of boxes that stand in a block by accident."""
    line, end = _span(token)
    boxes = sum(1 for text in token.content.split("\n") if BOX_LINE.fullmatch(text))
    hides = f"and hides {boxes} box{'es' if boxes != 1 else ''}" if boxes else "and hides no box"
    place = f"{blocks.path}:{line + 1}"
    if token.type == "fence":
        if end - line - 1 <= token.content.count("\n"):
            blocks.warnings.append(
                f"{place}: code fence is never closed {hides}; put {token.markup} on a line of its own"
            )
    elif token.content.lstrip().startswith("<!--"):
        if "-->" not in token.content:
            blocks.warnings.append(f"{place}: HTML comment is never closed {hides}; close it with -->")
    elif boxes:
        blocks.warnings.append(
            f"{place}: HTML block is not read as Markdown {hides}; put an empty line behind the HTML tag"
        )


def _span(token: Token) -> tuple[int, int]:
    assert token.map is not None  # markdown-it gives one to every block that opens
    return token.map[0], token.map[1]
