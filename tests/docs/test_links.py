"""Every relative link of README, change log, contributing guide and documentation leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.docs.pages import DOCS, LETTERS_TO_READERS, PAGES, ROOT, anchors, links, name_of

LARGEST_PICTURE = 2_000_000


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_pictures_and_anchors_resolve(page: Path) -> None:
    broken = []
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = unquote(link).partition("#")
        path = page if not target else (page.parent / target).resolve()
        if not path.is_file() or not path.is_relative_to(ROOT) or (anchor and anchor not in anchors(path)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize(
    "page", [page for page in PAGES if page not in LETTERS_TO_READERS], ids=lambda page: name_of(page)
)
def test_pages_are_in_a_table_of_contents(page: Path) -> None:
    name = page.relative_to(DOCS).with_suffix("").as_posix()
    if name == "index":
        return
    listed = set()
    for index in DOCS.rglob("index.md"):
        folder = index.parent.relative_to(DOCS)
        for tree in re.findall(
            r"^```\{toctree\}\n(.*?)^```", index.read_text("utf-8"), re.MULTILINE | re.DOTALL
        ):
            entries = [line.strip() for line in tree.splitlines() if line and not line.startswith(":")]
            listed |= {(folder / entry).as_posix() for entry in entries}
    assert name in listed


def test_pictures_are_small_and_in_use() -> None:
    used = {
        (page.parent / unquote(link)).resolve()
        for page in PAGES
        for link in links(page)
        if not re.match(r"[a-z]+:", link) and not link.startswith("#")
    }
    pictures = [path for path in (DOCS / "images").rglob("*") if path.is_file()]
    assert pictures
    assert [path.name for path in pictures if path.stat().st_size > LARGEST_PICTURE] == []
    assert [path.name for path in pictures if path not in used] == []


def test_links_of_every_form_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A `name` (of) two\n\n(by-hand)=\n[](a.md) ![p](b.png) `[](no.md)` [x](#y)\n"
        "```text\n[](no.md)\n```\n```{note}\n[n](c.md)\n```\n   ```bash\n   # no heading\n   ```\n"
    )
    assert sorted(links(page)) == ["#y", "a.md", "b.png", "c.md"]
    assert anchors(page) == {"a-name-of-two", "by-hand"}
