"""A page as a browser would read it, by html5lib, which follows the rules that browsers follow."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element

import html5lib

_LOADING = ("src", "href", "srcset", "poster", "data", "action", "background", "xlink:href")


class Page:
    """A parsed page.

    Args:
        text: The page; it has to be without a parse error.
    """

    def __init__(self, text: str) -> None:
        parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
        self.root: Element = parser.parse(text)

    def all(self, tag: str, name: str = "") -> list[Element]:
        """Return the elements of a kind, in order, that have a class."""
        found = [element for element in self.root.iter() if _tag(element) == tag]
        return [element for element in found if not name or name in element.get("class", "").split()]

    @property
    def text(self) -> str:
        """All that is written, with single spaces."""
        return _text(self.root)

    def texts(self, tag: str) -> list[str]:
        """Return what is written in each element of a kind."""
        return [_text(element) for element in self.all(tag)]

    def rows(self, table: Element) -> list[list[str]]:
        """Return the cells of a table."""
        rows = [element for element in table.iter() if _tag(element) == "tr"]
        return [[_text(cell) for cell in row if _tag(cell) in ("td", "th")] for row in rows]

    def loads(self) -> list[str]:
        """Return everything that a browser would fetch from elsewhere: by attribute, in styles, by tag."""
        found = []
        for element in self.root.iter():
            for name, value in element.attrib.items():
                plain = str(name).rsplit("}", 1)[-1].casefold()
                if plain in _LOADING and not value.startswith(("data:image/png;base64,", "#")):
                    found.append(f"{_tag(element)} {plain} {value}")
                found += _addresses(value) if plain != "src" else []
            if _tag(element) in (
                "link",
                "iframe",
                "object",
                "embed",
                "base",
                "frame",
                "image",
                "audio",
                "video",
            ):
                found.append(_tag(element))
            if _tag(element) == "style":
                found += _addresses(element.text or "")
        return found

    def scripts(self) -> list[str]:
        """Return everything that would run."""
        found = [_tag(element) for element in self.root.iter() if _tag(element) == "script"]
        for element in self.root.iter():
            found += [
                f"{_tag(element)} {name}"
                for name, value in element.attrib.items()
                if str(name).casefold().startswith("on") or value.strip().casefold().startswith("javascript:")
            ]
        return found


def _addresses(style: str) -> list[str]:
    inside = re.findall(r"url\(\s*['\"]?(?!#)([^)]*)\)", style)  # url(#…) is a part of the page itself
    return inside + re.findall(r"@import[^;]*", style)


def _tag(element: Element) -> str:
    return element.tag.rsplit("}", 1)[-1] if isinstance(element.tag, str) else ""


def _text(element: Element) -> str:
    return " ".join("".join(_pieces(element)).split())


def _pieces(element: Element) -> list[str]:
    if _tag(element) in ("style", "title"):
        return []
    pieces = [element.text or ""] if isinstance(element.tag, str) else []
    for child in element:
        pieces += [*_pieces(child), child.tail or ""]
    return pieces
