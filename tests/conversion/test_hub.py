"""Hub ids through huggingface_hub's own cache, offline: what is there is used, what is damaged refused."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest

from deepresidual.conversion.hub import HubId, hub_id
from deepresidual.conversion.hub import fetch as fetch_repository
from deepresidual.errors import ModelFileError, UnreachableError
from deepresidual.models.convert import convert
from tests.fakes.hub import FakeHub


def fetch(name: str) -> Path:
    return fetch_repository(HubId(name)).folder


COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


def store(cache: Path, files: dict[str, bytes], *, damaged: str = "", commit: str = COMMIT) -> None:
    """Lay files out as huggingface_hub caches them: blobs under their hashes, links beside a commit."""
    repository = cache / "models--someone--resnet"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    (repository / "blobs").mkdir()
    for name, content in files.items():
        large = name.endswith(".safetensors")
        git = hashlib.sha1(b"blob %d\0" % len(content) + content)  # noqa: S324  # git's own
        blob = repository / "blobs" / (hashlib.sha256(content) if large else git).hexdigest()
        blob.write_bytes(content + b"!" if name == damaged else content)
        (snapshot / name).symlink_to(blob)


@pytest.mark.parametrize(
    ("source", "repository"),
    [
        ("timm/resnet18.a1_in1k@main", "timm/resnet18.a1_in1k"),
        ("timm/resnet18.a1_in1k@v1.0", "timm/resnet18.a1_in1k@v1.0"),
        ("hf:timm/resnet18.a1_in1k@refs/pr/1", "timm/resnet18.a1_in1k@refs/pr/1"),
        ("hf:here/there", "here/there"),
        ("hf:weights/missing.pth", "weights/missing.pth"),
        ("weights/missing.pth@v1", None),
        ("timm/resnet18@", None),
        ("timm/resnet18@../../other", None),
        ("timm/resnet18@a//b", None),
        ("timm/resnet18@/a", None),
        ("timm/resnet18.a1_in1k", "timm/resnet18.a1_in1k"),
        ("hf-hub:timm/resnet18.a1_in1k", "timm/resnet18.a1_in1k"),
        ("hf-hub:someone/weights.pth", "someone/weights.pth"),
        ("resnet18", None),
        ("resnet18.pth", None),
        # A file's name or a place on this machine never leaves it.
        ("weights/missing.pth", None),
        ("weights/missing.SAFETENSORS", None),
        ("runs/model.keras", None),
        ("here/there", None),
        ("./timm/resnet18", None),
        ("../weights/resnet18", None),
        ("~/resnet18", None),
        ("/weights/resnet18", None),
        ("a/b/c", None),
        ("timm/", None),
        ("a/" + "b" * 5000, "a/" + "b" * 5000),
        ("here/model", None),
        ("a/b\0", None),
        ("hf-hub:a", None),
    ],
)
def test_what_is_a_hub_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, repository: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "model").touch()
    found = hub_id(source)
    assert (str(found) if found else None) == repository


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


def share(cache: Path, content: bytes, payload: bytes) -> Path:
    """Move a blob into the store that repositories share, as the library does with files from Xet."""
    shared = cache / "blobs" / "9a" / ("9a" + "0" * 62)  # another kind of hash
    shared.parent.mkdir(parents=True)
    shared.write_bytes(payload)
    blob = cache / "models--someone--resnet" / "blobs" / hashlib.sha256(content).hexdigest()
    blob.unlink()
    blob.symlink_to(Path("..", "..", shared.relative_to(cache)))
    return shared


def test_a_shared_blob_is_held_against_the_hash_of_the_repository_s_link(cache: Path) -> None:
    store(cache, {"config.json": b"{}", "model.safetensors": b"weights"})
    shared = share(cache, b"weights", b"weights")
    assert (fetch("someone/resnet") / "model.safetensors").read_bytes() == b"weights"
    shared.write_bytes(b"damaged")
    with pytest.raises(ModelFileError, match=f"model.safetensors .* has checksum .*; delete {shared}, which"):
        fetch("someone/resnet")
    assert shared.exists()
    assert sorted(path.name for path in (cache / "models--someone--resnet").rglob("*.safetensors")) == []


@pytest.mark.parametrize("damaged", [False, True])
def test_a_cache_without_links_is_held_against_what_the_hub_states(hub: FakeHub, damaged: bool) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    commit = hub.add("someone/resnet", files)
    store(hub.cache, files, commit=commit)
    for path in (hub.cache / "models--someone--resnet" / "snapshots" / commit).iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[::-1] if damaged and path.suffix == ".safetensors" else content)
    shutil.rmtree(hub.cache / "models--someone--resnet" / "blobs")
    assert (fetch("someone/resnet") / "model.safetensors").read_bytes() == b"weights"
    assert bool(hub.requests("model.safetensors", "GET")) is damaged


def test_without_a_network_the_message_says_so(cache: Path) -> None:
    with pytest.raises(
        UnreachableError,
        match=r"^there is no folder someone/resnet, it is not in the cache, and the Hugging Face Hub "
        r"cannot be reached "
        r"\(HF_HUB_OFFLINE is set\); connect once and run 'residual fetch someone/resnet', or copy",
    ):
        fetch("someone/resnet")


def test_a_mistyped_path_does_not_exist_and_nobody_is_asked(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    for source in ("weights/missing.pth", "other/missing.pth", "weights/missing", "./a/b", "~/a/b"):
        with pytest.raises(ModelFileError, match="(missing|missing.pth|a/b) does not exist") as caught:
            convert(source, tmp_path / "out")
        assert ("hf:weights/missing" in str(caught.value)) is (source == "weights/missing")
    assert hub.asked == []


def test_a_mistyped_path_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom deepresidual.cli import main\n"
        "code = main(['convert', 'weights/missing.pth', 'out'])\n"
        "sys.exit(code + 100 * ('torch' in sys.modules))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        timeout=120,
        check=False,
    )
    assert ended.returncode == 3
    assert ended.stderr.startswith("error: weights/missing.pth does not exist; ")
