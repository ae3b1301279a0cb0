"""Make README.md fit for the page of a package index, where relative links lead nowhere.

``repository`` in ``[tool.hatch.metadata.hooks.custom]`` of pyproject.toml is the one setting: with the public
address of the repository links and pictures become absolute and the project has URLs; while it is empty, as
there is no such address, links become plain text and pictures are left out.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PICTURE = re.compile(r"!\[([^\]]*)\]\((?![a-z]+:)([^)\s]+)\)\n*", re.DOTALL)
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?![a-z]+:)([^)\s]+)\)", re.DOTALL)


class ReadmeHook(MetadataHookInterface):
    """Set ``readme`` and ``urls`` of the project."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Add both to the metadata of the project."""
        repository = str(self.config.get("repository", "")).rstrip("/")
        text = (Path(self.root) / "README.md").read_text("utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": linked(text, repository)}
        if repository:
            metadata["urls"] = {
                "Repository": repository,
                "Documentation": f"{repository}/blob/HEAD/docs/index.md",
                "Changelog": f"{repository}/blob/HEAD/CHANGELOG.md",
            }


def linked(text: str, repository: str) -> str:
    """Return a page with absolute links; without the address of a repository, with none that are relative."""
    if repository:
        text = _PICTURE.sub(rf"![\1]({repository}/raw/HEAD/\2)\n\n", text)
        return _LINK.sub(rf"[\1]({repository}/blob/HEAD/\2)", text)
    return _LINK.sub(r"\1", _PICTURE.sub("", text))
