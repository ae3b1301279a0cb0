"""Hub ids through huggingface_hub's own cache, offline: what is there is used, what is damaged refused."""

from __future__ import annotations

import hashlib
import http.server
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import huggingface_hub.constants
import pytest

from deepresidual.conversion.hub import HubId, hub_id
from deepresidual.conversion.hub import fetch as fetch_repository
from deepresidual.errors import ModelFileError, RunError
from deepresidual.models.convert import convert


def fetch(name: str) -> Path:
    return fetch_repository(HubId(name)).folder


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
def test_a_cache_without_links_is_held_against_what_the_hub_states(
    hub: list[str], cache: Path, damaged: bool
) -> None:
    store(cache, dict(FakeHub.files))
    for path in (cache / "models--someone--resnet" / "snapshots" / COMMIT).iterdir():
        content = path.read_bytes()
        path.unlink()
        path.write_bytes(content[::-1] if damaged and path.suffix == ".safetensors" else content)
    if not damaged:
        assert (fetch("someone/resnet") / "model.safetensors").read_bytes() == b"weights"
        return
    with pytest.raises(ModelFileError, match="has checksum .*; it was removed from the cache"):
        fetch("someone/resnet")
    assert (fetch("someone/resnet") / "model.safetensors").read_bytes() == b"weights"


def test_without_a_network_the_message_says_so(cache: Path) -> None:
    with pytest.raises(
        RunError,
        match=r"someone/resnet does not exist here, is not in the cache of the Hugging Face Hub, and the Hub "
        r"cannot be reached \(HF_HUB_OFFLINE is set\); connect",
    ):
        fetch("someone/resnet")


class FakeHub(http.server.BaseHTTPRequestHandler):
    """A Hub on the loopback interface: a repository, one that is gated, and one that the server fails at."""

    files: ClassVar[dict[str, bytes]] = {"config.json": b"{}", "model.safetensors": b"weights"}
    asked: ClassVar[list[str]] = []

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        owner, name = self.path.split("/resolve/")[0], self.path.rsplit("/", maxsplit=1)[-1]
        status, headers, content = 200, {}, b""
        if owner == "/someone/gated":
            status, headers = 403, {"X-Error-Code": "GatedRepo"}
        elif owner == "/someone/broken":
            status = 503
        elif owner != "/someone/resnet":
            status, headers = 401, {"X-Error-Code": "RepoNotFound"}
        elif name not in self.files:
            status, headers = 404, {"X-Error-Code": "EntryNotFound"}
        else:
            content = self.files[name]
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_request(self, *_: object) -> None:
        """Say nothing on stderr."""


def point_to(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)


@pytest.fixture
def hub(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A fake Hub; gives the list of what it was asked."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), FakeHub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        point_to(monkeypatch, f"http://127.0.0.1:{server.server_port}")
        FakeHub.asked.clear()
        yield FakeHub.asked
        server.shutdown()


def test_a_repository_is_fetched_with_what_it_has(hub: list[str]) -> None:
    folder = fetch("someone/resnet")
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert (folder / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "someone/nothing",
            "someone/nothing does not exist, here or on the Hugging Face Hub; check the name",
        ),
        ("someone/gated", "the Hugging Face Hub gives someone/gated only to those who accepted its terms"),
        ("someone/broken", r"does not exist here, .* the Hub cannot be reached \(it answers 503\); connect"),
    ],
)
def test_the_hub_is_asked_once_and_its_answer_told_in_one_sentence(
    hub: list[str], name: str, message: str
) -> None:
    with pytest.raises(RunError, match=message):
        fetch(name)
    assert len(hub) == 1


def test_a_hub_that_is_not_there_is_given_up_at_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    point_to(monkeypatch, f"http://127.0.0.1:{port}")
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited to try again"))
    with pytest.raises(
        RunError, match=r"someone/resnet does not exist here, .* cannot be reached \(.+\); connect"
    ):
        fetch("someone/resnet")


@pytest.mark.parametrize("answers", [False, True])
def test_a_hub_that_says_nothing_is_given_up_within_seconds(
    cache: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setattr("deepresidual.conversion.hub._SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        point_to(monkeypatch, f"http://127.0.0.1:{silent.getsockname()[1]}")
        if not answers:
            # As a look-up of a name, which no timeout ends.
            monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: time.sleep(20))
        start = time.monotonic()
        with pytest.raises(RunError, match=r"cannot be reached \(.+\); connect"):
            fetch("someone/resnet")
        assert time.monotonic() - start < 5


def test_what_is_cached_is_used_where_the_hub_does_not_answer(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store(cache, {"config.json": b"{}", "model.safetensors": b"weights"})
    point_to(monkeypatch, "http://127.0.0.1:9")
    assert (fetch("someone/resnet") / "model.safetensors").read_bytes() == b"weights"


def test_a_mistyped_path_does_not_exist_and_nobody_is_asked(
    hub: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").mkdir()
    for source in ("weights/missing.pth", "other/missing.pth", "weights/missing", "./a/b", "~/a/b"):
        with pytest.raises(ModelFileError, match="(missing|missing.pth|a/b) does not exist") as caught:
            convert(source, tmp_path / "out")
        assert ("hf:weights/missing" in str(caught.value)) is (source == "weights/missing")
    assert hub == []


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
        timeout=120,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (3, "error: weights/missing.pth does not exist\n")
