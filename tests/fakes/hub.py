"""A Hugging Face Hub on the loopback interface, with switches for all that goes wrong with one.

It answers as the Hub does: weights and large files are redirected to a storage on another host (``localhost``
redirects to ``127.0.0.1``) and have a SHA-256, the others are answered at once and have git's SHA-1. It also
serves plain files by URL, with ``ETag`` and ``Range``, as a web server does.

Example::

    def test_a_repository_is_fetched(hub: FakeHub) -> None:
        hub.add_timm("timm/resnet18.a1_in1k", "resnet18", num_classes=4)
        folder = fetch(HubId("timm/resnet18.a1_in1k")).folder
        hub.fault("cut", file="model.safetensors", after=1000, times=2)
        environment = hub.environment()  # for a child process
"""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import tempfile
import threading
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest

from tests.on_demand import OnDemand

timm: Any = OnDemand("timm")
timm_models: Any = OnDemand("timm.models")
transformers: Any = OnDemand("transformers")

_LFS_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
_LARGE_BYTES = 1 << 20
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")
_LOGIN_PAGE = b"<!DOCTYPE html><html><title>Welcome to the hotel</title></html>"


@dataclass(frozen=True)
class Asked:
    """A request that the server had.

    Attributes:
        method: ``HEAD`` or ``GET``.
        path: Path with query.
        range: Its ``Range``.
        headers: All of them.
    """

    method: str
    path: str
    range: str
    headers: Mapping[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.path}" + (f" {self.range}" if self.range else "")


@dataclass
class Fault:
    """What goes wrong with requests for a file, and how often.

    The kinds that concern an answer: ``silent`` (none comes), ``hang up``, ``not found`` (401, as the Hub
    says it), ``gated``, ``no file``, ``no revision``, ``too many`` (429), ``status``, ``redirect loop``,
    ``login page``, ``no etag``, ``no commit``. Those of a body: ``cut`` (the connection breaks off),
    ``short`` (it is shorter than the Hub says, honestly), ``stall`` (silence in the middle), ``wrong`` (other
    bytes, right size), ``no range`` (``Range`` is ignored), ``slow``, ``storage status``.

    Attributes:
        kind: One of these.
        file: The last part of the path; empty: any.
        times: How many requests meet it; ``None``: all.
        after: Bytes that are sent before a body breaks off or stalls; of a slow one, those of a piece.
        seconds: How long a silence or the wait after a piece lasts; of ``too many`` the wait asked for.
        status: Of ``status`` and ``storage status``.
        met: How many requests have met it.
    """

    kind: str
    file: str = ""
    times: int | None = None
    after: int = 0
    seconds: float = 60.0
    status: int = 503
    met: int = 0


@dataclass
class FakeHub:
    """The server, what it serves and what it was asked.

    Attributes:
        cache: Folder that is the Hub's cache, ``HF_HUB_CACHE``, of this process and of children.
        asked: Every request but those of the client's own housekeeping (``/api/``).
        faults: What goes wrong.
        commits: Files of each repository by commit.
        branches: Commit of each repository by branch.
        web: Files that are served by URL.
        xet: Whether it offers its large files by the Xet protocol as well, as the Hub does.
    """

    cache: Path
    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    commits: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    branches: dict[str, dict[str, str]] = field(default_factory=dict)
    web: dict[str, bytes] = field(default_factory=dict)
    xet: bool = False
    closing: threading.Event = field(default_factory=threading.Event)

    @property
    def address(self) -> str:
        """What ``HF_ENDPOINT`` is."""
        return f"http://localhost:{self.port}"

    # -- what it serves ----------------------------------------------------------------------------------

    def add(self, repository: str, files: Mapping[str, bytes], *, branch: str = "main") -> str:
        """Publish files as a commit of ``repository``, the newest of ``branch``, and return the commit."""
        digest = hashlib.sha1(repr(sorted(files.items())).encode(), usedforsecurity=False)
        self.commits.setdefault(repository, {})[digest.hexdigest()] = dict(files)
        self.branches.setdefault(repository, {})[branch] = digest.hexdigest()
        return digest.hexdigest()

    def add_folder(self, repository: str, folder: Path, *, branch: str = "main") -> str:
        """Publish what lies in ``folder``, and return the commit."""
        files = {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
        return self.add(repository, files, branch=branch)

    def add_timm(
        self, repository: str, network: str, *, safe: bool = True, seed: int = 0, **options: Any
    ) -> str:
        """Publish a network of timm with random weights, written by timm itself, and return the commit.

        Args:
            repository: ``owner/name``.
            network: timm's name of it.
            safe: Whether as ``model.safetensors``, else ``pytorch_model.bin``.
            seed: Seed of the weights.
            options: Of ``timm.create_model``, as ``num_classes``.
        """
        import torch

        with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(seed)
            model = timm.create_model(network, **options)
            timm_models.save_for_hf(model, folder, safe_serialization=safe)
            return self.add_folder(repository, Path(folder))

    def add_transformers(
        self, repository: str, *, seed: int = 0, shard_size: str = "5GB", **config: Any
    ) -> str:
        """Publish a ResNet of transformers with random weights, written by it, and return the commit.

        Args:
            repository: ``owner/name``.
            seed: Seed of the weights.
            shard_size: Most bytes of a file of weights, for example ``"50KB"``; beyond it there are several.
            config: Of its ``ResNetConfig``. Default: four small stages of one unit, 3 classes.
        """
        import torch

        small = {
            "embedding_size": 8,
            "hidden_sizes": [8, 16, 24, 32],
            "depths": [1, 1, 1, 1],
            "num_labels": 3,
        }
        with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(seed)
            model = transformers.ResNetForImageClassification(
                transformers.ResNetConfig(**{**small, **config})
            )
            model.save_pretrained(folder, max_shard_size=shard_size)
            transformers.ConvNextImageProcessor(size={"shortest_edge": 32}).save_pretrained(folder)
            return self.add_folder(repository, Path(folder))

    def serve(self, name: str, content: bytes) -> str:
        """Serve a file by URL, and return the URL."""
        self.web[name] = content
        return f"http://127.0.0.1:{self.port}/web/{name}"

    # -- what goes wrong ---------------------------------------------------------------------------------

    def fault(self, kind: str, **options: Any) -> Fault:
        """Let something go wrong from now on; see :class:`Fault`."""
        fault = Fault(kind, **options)
        self.faults.append(fault)
        return fault

    def take(self, name: str, *kinds: str) -> Fault | None:
        """Return the fault of one of these kinds that a request for ``name`` meets."""
        for fault in self.faults:
            if (
                fault.kind in kinds
                and name.endswith(fault.file)
                and (fault.times is None or fault.met < fault.times)
            ):
                fault.met += 1
                return fault
        return None

    # -- who talks to it ---------------------------------------------------------------------------------

    def environment(self) -> dict[str, str]:
        """Return the variables of a child process that is to ask this Hub, with those of this process."""
        kept = {name: value for name, value in os.environ.items() if name.lower() not in _PROXIES}
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
            kept.pop(name, None)
        return {
            **kept,
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(self.cache.parent),
            "HF_HUB_CACHE": str(self.cache),
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def requests(self, file: str = "", method: str = "") -> list[str]:
        """Return what was asked of a file, in order: method, path and range."""
        return [str(each) for each in self.asked if file in each.path and each.method.startswith(method)]


class _Handler(http.server.BaseHTTPRequestHandler):
    hub: ClassVar[FakeHub]
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = urllib.parse.unquote(self.path)
        self.close_connection = True
        if path.startswith("/api/"):
            self._send(404)
            return
        headers = dict(self.headers.items())
        self.hub.asked.append(Asked(self.command, self.path, headers.get("Range", ""), headers))
        name = path.rsplit("/", 1)[-1]
        if path.startswith("/storage/"):
            content = self._content(path.removeprefix("/storage/"))
            self._send_body(name, content, {"ETag": f'"{hashlib.md5(content).hexdigest()}"'})  # noqa: S324
        elif self._meets_a_fault(name):
            pass
        elif path.startswith("/web/"):
            self._serve(path.removeprefix("/web/"))
        else:
            self._resolve(path)

    def _meets_a_fault(self, name: str) -> bool:
        """Answer a request that meets one of the faults of an answer."""
        refusals = {
            "not found": (401, "RepoNotFound"),
            "wrong token": (401, ""),
            "gated": (403, "GatedRepo"),
            "no file": (404, "EntryNotFound"),
            "no revision": (404, "RevisionNotFound"),
        }
        others = ("silent", "hang up", "too many", "status", "redirect loop", "login page")
        fault = self.hub.take(name, *refusals, *others)
        if fault is None:
            return False
        match fault.kind:
            case "silent":
                self.hub.closing.wait(fault.seconds)
            case "hang up":
                pass
            case "too many":
                self._send(429, {"Retry-After": f"{fault.seconds:.0f}"})
            case "status":
                self._send(fault.status)
            case "redirect loop":
                self._send(302, {"Location": self.path})
            case "login page":
                self._send(200, {"Content-Type": "text/html; charset=utf-8"}, _LOGIN_PAGE)
            case kind:
                status, code = refusals[kind]
                message = "" if code else "Invalid credentials in Authorization header"
                self._send(status, {"X-Error-Code": code} if code else {"X-Error-Message": message})
        return True

    def _resolve(self, path: str) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/(.+)", path)
        commits = self.hub.commits.get(match[1]) if match else None
        if match is None or commits is None:
            self._send(401, {"X-Error-Code": "RepoNotFound"})
            return
        # A branch may have slashes within, which the client escapes.
        revision = urllib.parse.unquote(self.path.split("/resolve/")[1].split("/")[0])
        name = match[2].removeprefix(f"{revision}/")
        commit = self.hub.branches[match[1]].get(revision, revision)
        if commit not in commits:
            self._send(404, {"X-Error-Code": "RevisionNotFound"})
            return
        headers = {} if self.hub.take(name, "no commit") else {"X-Repo-Commit": commit}
        content = commits[commit].get(name)
        if content is None:
            self._send(404, {**headers, "X-Error-Code": "EntryNotFound"})
            return
        has_tag = self.hub.take(name, "no etag") is None
        if name.endswith(_LFS_SUFFIXES) or len(content) > _LARGE_BYTES:
            if has_tag:
                headers["X-Linked-Etag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            headers["X-Linked-Size"] = str(len(content))
            if self.hub.xet:
                headers["X-Xet-Hash"] = hashlib.sha256(b"xet" + content).hexdigest()
                headers["X-Xet-Refresh-Route"] = f"{self.hub.address}/api/xet"
            place = f"/storage/{match[1]}/{commit}/{name}"
            self._send(302, {**headers, "Location": f"http://127.0.0.1:{self.hub.port}{place}"})
            return
        if has_tag:
            git = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False)
            headers["ETag"] = f'"{git.hexdigest()}"'
        self._send_body(name, content, headers)

    def _content(self, place: str) -> bytes:
        owner, name, commit, file = place.split("/", 3)
        return self.hub.commits[f"{owner}/{name}"][commit][file]

    def _serve(self, name: str) -> None:
        content = self.hub.web.get(name)
        if content is None:
            self._send(404, {"Content-Type": "text/html"}, b"<html>Not found</html>")
            return
        has_tag = self.hub.take(name, "no etag") is None
        tag = {"ETag": f'"{hashlib.md5(content).hexdigest()}"'} if has_tag else {}  # noqa: S324
        self._send_body(name, content, tag)

    def _send_body(self, name: str, content: bytes, headers: Mapping[str, str]) -> None:
        """Send a file, or the part of it that is asked for, and let go wrong what a body's faults say."""
        if fault := self.hub.take(name, "storage status"):
            self._send(fault.status)
            return
        headers = {**headers, "Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if self.command == "GET" and self.hub.take(name, "wrong"):
            content = bytes(byte ^ 1 for byte in content[:8]) + content[8:]
        if self.command == "GET" and (fault := self.hub.take(name, "short")):
            content = content[: fault.after]
        status, total = 200, len(content)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        holds = self.headers.get("If-Range", headers.get("ETag")) == headers.get("ETag")
        if asked and holds and not self.hub.take(name, "no range"):
            start = int(asked[1])
            if start >= total:
                self._send(416, {"Content-Range": f"bytes */{total}"})
                return
            status, content = 206, content[start:]
            headers["Content-Range"] = f"bytes {start}-{total - 1}/{total}"
        fault = self.hub.take(name, "cut", "stall", "slow") if self.command == "GET" else None
        self._send(status, headers, content, fault)

    def _send(
        self,
        status: int,
        headers: Mapping[str, str] | None = None,
        content: bytes = b"",
        fault: Fault | None = None,
    ) -> None:
        self.send_response(status)
        for key, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault is None:
            self.wfile.write(content)
        elif fault.kind == "slow":
            for start in range(0, len(content), fault.after):
                self.wfile.write(content[start : start + fault.after])
                if self.hub.closing.wait(fault.seconds):
                    return
        else:
            self.wfile.write(content[: fault.after])
            if fault.kind == "stall":
                self.wfile.flush()
                self.hub.closing.wait(fault.seconds)

    def log_request(self, *_: object) -> None:
        """Say nothing on stderr."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that leave in the middle."""


class Running:
    """A fake Hub that runs until the block ends.

    Args:
        folder: Where the Hub's cache will be.
    """

    def __init__(self, folder: Path) -> None:
        self.hub = FakeHub(folder / "hub")

    def __enter__(self) -> FakeHub:
        handler = type("Handler", (_Handler,), {"hub": self.hub})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.hub.port = self._server.server_port
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self.hub

    def __exit__(self, *_error: object) -> None:
        self.hub.closing.set()
        self._server.shutdown()
        self._server.server_close()


def point_to(hub: FakeHub, patch: pytest.MonkeyPatch, *, address: str = "") -> None:
    """Let the client of this process ask ``hub``; it has read its variables when it was imported.

    Args:
        hub: The fake Hub.
        patch: Undoes it.
        address: Ask there instead, where perhaps nobody is.
    """
    from huggingface_hub import close_session, constants

    address = address or hub.address
    for name, value in {
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(hub.cache),
        "HF_HOME": str(hub.cache.parent),
        "ENDPOINT": address,
        "HUGGINGFACE_CO_URL_TEMPLATE": address + "/{repo_id}/resolve/{revision}/{filename}",
    }.items():
        patch.setattr(constants, name, value)
    for proxy in _PROXIES:
        patch.delenv(proxy, raising=False)
        patch.delenv(proxy.upper(), raising=False)
    patch.setenv("HF_ENDPOINT", address)
    patch.setenv("HF_HUB_CACHE", str(hub.cache))
    patch.setenv("HF_HOME", str(hub.cache.parent))
    close_session()  # the next one reads the variables of proxies anew
