"""Hub ids through huggingface_hub's own cache, offline: what is there is used, what is damaged refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import huggingface_hub.constants
import pytest

from residual.conversion.hub import fetch, is_hub_id
from residual.errors import ModelFileError, RunError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def store(cache: Path, files: dict[str, bytes], *, damaged: str = "") -> None:
    """Lay files out as huggingface_hub caches them: blobs under their hashes, links beside a commit."""
    repository = cache / "models--someone--resnet"
    snapshot = repository / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "blobs").mkdir()
    for name, content in files.items():
        large = name.endswith(".safetensors")
        git = hashlib.sha1(b"blob %d\0" % len(content) + content)  # noqa: S324  # git's own
        blob = repository / "blobs" / (hashlib.sha256(content) if large else git).hexdigest()
        blob.write_bytes(content + b"!" if name == damaged else content)
        (snapshot / name).symlink_to(blob)


def test_what_is_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert is_hub_id("timm/resnet18.a1_in1k")
    assert not is_hub_id("resnet18.pth")
    assert not is_hub_id("../weights/resnet18.pth")
    assert not is_hub_id("/weights/resnet18")
    (tmp_path / "timm").mkdir()
    (tmp_path / "timm" / "resnet18").touch()
    assert not is_hub_id("timm/resnet18")


def test_a_cached_repository_is_found_without_a_network(cache: Path) -> None:
    store(cache, {"config.json": b"{}", "model.safetensors": b"weights"})
    folder = fetch("someone/resnet")
    assert (folder / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_wrong_checksum_is_refused_and_removed(cache: Path, name: str) -> None:
    store(cache, {"config.json": b"{}", "model.safetensors": b"weights"}, damaged=name)
    with pytest.raises(
        ModelFileError, match=f"{name} of someone/resnet has checksum .*; expected .*; it was removed"
    ):
        fetch("someone/resnet")
    left = [path.read_bytes() for path in (cache / "models--someone--resnet" / "blobs").iterdir()]
    assert not any(content.endswith(b"!") for content in left)


def test_without_a_network_the_message_says_so(cache: Path) -> None:
    with pytest.raises(
        RunError, match="someone/resnet is not in the local cache and .* cannot be reached; connect"
    ):
        fetch("someone/resnet")
