"""The pages that people read, taken apart: code blocks, links, headings."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LETTERS_TO_READERS = tuple(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"))
PAGES = (
    *LETTERS_TO_READERS,
    *sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.relative_to(DOCS).parts),
)

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<marks>`{3,})(?P<kind>[^\n`]*)\n(?P<text>.*?)^(?P=indent)(?P=marks) *$",
    re.MULTILINE | re.DOTALL,
)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_INLINE_CODE = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
# [text](target) and ![text](target); the text may be empty, as MyST fills in titles.
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: The page, from the root of the repository, with ``/``.
        kind: What stands behind the fence: ``bash``, ``python``, ``text``, ``{note}``.
        text: What is in it, without the indentation of a list.
    """

    page: str
    kind: str
    text: str


def name_of(path: Path) -> str:
    """Return how tests call a page."""
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path) -> list[Block]:
    """Return the fenced blocks of a page, in order."""
    return [
        Block(name_of(path), match["kind"].strip(), textwrap.dedent(match["text"]))
        for match in _FENCE.finditer(path.read_text("utf-8"))
    ]


def prose(path: Path) -> str:
    """Return a page without its code; notes are prose, and stay."""
    text = _FENCE.sub(
        lambda match: match["text"] if match["kind"].startswith("{note}") else "", path.read_text("utf-8")
    )
    return _COMMENT.sub("", text)


def links(path: Path) -> list[str]:
    """Return the targets of a page's links and pictures."""
    return _LINK.findall(_INLINE_CODE.sub("`code`", prose(path)))


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page: its headings as GitHub and MyST make them, and ``(name)=`` of MyST."""
    text = prose(path)
    found = set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
        found.add(re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-"))
    return found
