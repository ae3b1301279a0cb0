"""README.md as the page of a package index: no link or picture that leads nowhere there."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

import pytest

from tests.docs.pages import ROOT

RELATIVE = re.compile(r"\]\((?![a-z]+:)([^)\s]+)\)")
README = (ROOT / "README.md").read_text("utf-8")


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def metadata(build: ModuleType, repository: str) -> dict[str, object]:
    made: dict[str, object] = {}
    build.ReadmeHook(str(ROOT), {"repository": repository}).update(made)
    return made


def page(made: dict[str, object]) -> str:
    readme = made["readme"]
    assert isinstance(readme, dict)
    assert readme["content-type"] == "text/markdown"
    return str(readme["text"])


def test_without_an_address_links_are_text_and_pictures_are_left_out(build: ModuleType) -> None:
    made = metadata(build, "")
    text = page(made)
    assert "urls" not in made
    assert RELATIVE.findall(text) == []
    assert "![" not in text
    assert "Getting started" in text
    assert "(https://arxiv.org/abs/1512.03385)" in text


def test_with_an_address_links_and_pictures_are_absolute(build: ModuleType) -> None:
    made = metadata(build, "https://example.org/residual/")
    text = page(made)
    assert RELATIVE.findall(text) == []
    for link in RELATIVE.findall(README):
        kind = "raw" if link.endswith((".png", ".svg")) else "blob"
        assert f"](https://example.org/residual/{kind}/HEAD/{link})" in text
    assert made["urls"] == {
        "Repository": "https://example.org/residual",
        "Documentation": "https://example.org/residual/blob/HEAD/docs/index.md",
        "Changelog": "https://example.org/residual/blob/HEAD/CHANGELOG.md",
    }


def test_code_and_text_stay_as_they_are(build: ModuleType) -> None:
    for repository in ("", "https://example.org/r"):
        text = build.linked("a [b](c.md) and ![d\ne](f.png)\n\n[x](https://y.z) `g[0](1)`\n", repository)
        assert "[x](https://y.z)" in text
        assert text.startswith(
            "a b and " if not repository else "a [b](https://example.org/r/blob/HEAD/c.md) and"
        )
