"""Files by URL: kept once, held against the hash in their name, and one sentence for what a server does."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import huggingface_hub
import pytest

from deepresidual.conversion.download import cached_url, fetch_url, is_url
from deepresidual.errors import ConfigurationError, ModelFileError, ResidualError, RunError, UnreachableError
from tests.fakes.hub import FakeHub

CONTENT = bytes(range(256)) * 2000
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = f"resnet18-{SHA256[:8]}.pth"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepresidual.conversion.transfer._WAITS", (0.0,))


def kept() -> list[str]:
    import os

    return sorted(path.name for path in Path(os.environ["RESIDUAL_CACHE"]).rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("source", "expected"), [("https://a/b", True), ("HTTP://a", True), ("file:///a", False), ("a/b", False)]
)
def test_what_is_a_url(source: str, expected: bool) -> None:
    assert is_url(source) is expected


def test_a_file_is_fetched_once(hub: FakeHub) -> None:
    url = hub.serve(NAME, CONTENT)
    assert cached_url(url) is None
    path = fetch_url(url)
    assert (path.name, path.read_bytes()) == (NAME, CONTENT)
    hub.asked.clear()
    assert fetch_url(url) == cached_url(url) == path
    assert hub.asked == []
    assert kept() == [NAME]


def test_a_kept_file_that_is_damaged_is_fetched_anew(hub: FakeHub) -> None:
    path = fetch_url(hub.serve(NAME, CONTENT))
    path.write_bytes(CONTENT[::-1])
    assert fetch_url(hub.serve(NAME, CONTENT)).read_bytes() == CONTENT


def test_a_name_without_a_hash_is_said_to_be_unchecked(
    hub: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("resnet18.pth", "resnet18-20240131.pth"):
        fetch_url(hub.serve(name, CONTENT))
        assert f"{name} is not checked: its name has no hash" in capsys.readouterr().err
    fetch_url(hub.serve("resnet50.pth", CONTENT), SHA256)
    assert "not checked" not in capsys.readouterr().err


@pytest.mark.parametrize("sha256", ["", "0" * 64])
def test_another_file_than_the_hash_says_is_fetched_twice_and_removed(hub: FakeHub, sha256: str) -> None:
    url = hub.serve("resnet18-00000000.pth" if sha256 else "resnet18-0000000a.pth", CONTENT)
    with pytest.raises(
        ModelFileError, match=f"came twice with checksum {SHA256[:12]}…; expected 0000000.*; it was"
    ):
        fetch_url(url, sha256)
    assert len(hub.requests(method="GET")) == 2
    assert kept() == []


def test_a_file_whose_name_says_its_hash_is_continued(hub: FakeHub) -> None:
    hub.fault("cut", after=200_000, times=1)
    assert fetch_url(hub.serve(NAME, CONTENT)).read_bytes() == CONTENT
    assert hub.requests(method="GET")[1].endswith("bytes=200000-")


@pytest.mark.parametrize("has_changed", [False, True])
def test_a_file_without_a_hash_is_continued_by_its_etag(hub: FakeHub, has_changed: bool) -> None:
    fault = hub.fault("cut", after=50_000)
    with pytest.raises(UnreachableError, match="broke off after .*; it is kept: run the same command again"):
        fetch_url(hub.serve("resnet18.pth", CONTENT))
    fault.times = 0
    hub.asked.clear()
    content = CONTENT[::-1] if has_changed else CONTENT
    assert fetch_url(hub.serve("resnet18.pth", content)).read_bytes() == content
    assert hub.requests(method="GET")[0].endswith("bytes=250000-")


def test_without_hash_and_etag_a_file_is_begun_anew(hub: FakeHub) -> None:
    hub.fault("no etag")
    hub.fault("cut", after=200_000, times=1)
    assert fetch_url(hub.serve("resnet18.pth", CONTENT)).read_bytes() == CONTENT
    assert not any("bytes=" in each for each in hub.requests())


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (
            "login page",
            UnreachableError,
            "^http://127.0.0.1:[0-9]+ answered with a web page, not with a model; the",
        ),
        (
            "hang up",
            UnreachableError,
            r"its server cannot be reached \(it hangs up\); connect to the network, or",
        ),
        ("silent", UnreachableError, r"its server cannot be reached \(it does not answer\); connect"),
        ("redirect loop", UnreachableError, r"its server cannot be reached \(it redirects in a circle\)"),
        ("no file", RunError, r"resnet18.pth does not exist \(404\); check the address"),
        ("gated", RunError, r"resnet18.pth is not given to everybody \(403\); download it with a browser"),
        ("too many", UnreachableError, r"the server of .*resnet18.pth asks to wait \(429, 60 s\); try again"),
        (
            "status",
            UnreachableError,
            r"resnet18.pth cannot be fetched from its server, 5 times \(it answers 503\)",
        ),
    ],
)
def test_an_answer_that_is_no_file_is_told_in_one_sentence(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, fault: str, kind: type[ResidualError], message: str
) -> None:
    monkeypatch.setattr("deepresidual.conversion.http_errors._SECONDS", 0.3 if fault == "silent" else 60)
    hub.fault(fault)
    with pytest.raises(kind, match=message):
        fetch_url(hub.serve("resnet18.pth", CONTENT))
    assert not any(name.endswith(".pth") for name in kept())


def test_a_web_page_that_calls_itself_a_file_is_refused(hub: FakeHub) -> None:
    with pytest.raises(UnreachableError, match="answered with a web page, not with a model"):
        fetch_url(hub.serve("resnet18.pth", b"\n<!doctype HTML><html>log in</html>"))


def test_a_disk_without_room_is_told_before(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    full = type("usage", (), {"free": 1000})
    monkeypatch.setattr("deepresidual.runtime.files.shutil.disk_usage", lambda _: full)
    with pytest.raises(
        RunError, match="it needs 512,000 bytes, .*; free some space, or set RESIDUAL_CACHE to another folder"
    ):
        fetch_url(hub.serve(NAME, CONTENT))
    assert not hub.requests(method="GET")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "file:///tmp/x.pth",
            "'file:///tmp/x.pth' is no address of a file; expected https://…; give the path",
        ),
        ("ftp://host/x.pth", "is no address of a file; expected https"),
        ("https://", "is no address of a file"),
        ("https://host:99999999/x", "is no address"),
        ("https://[::1/x", "is no address"),
    ],
)
def test_what_is_no_address_is_refused(url: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        fetch_url(url)


def test_offline_nobody_is_asked_and_what_is_kept_is_used(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = hub.serve(NAME, CONTENT)
    path = fetch_url(url)
    hub.asked.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert fetch_url(url) == path
    with pytest.raises(UnreachableError, match=r"cannot be reached \(HF_HUB_OFFLINE is set\)"):
        fetch_url(hub.serve("other.pth", CONTENT))
    assert hub.asked == []


def test_neither_a_password_nor_a_signature_is_shown(hub: FakeHub) -> None:
    url = hub.serve("resnet18.pth", CONTENT).replace("http://", "http://me:secret@") + "?signature=secret"
    hub.web.clear()
    with pytest.raises(RunError, match="does not exist") as caught:
        fetch_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "path", ["a/..%2F..%2Fevil.pth", "a/.hidden", "a/x%00y.pth", "a/%0a.pth", "a/" + "b" * 300 + ".pth"]
)
def test_a_name_stays_in_the_cache(hub: FakeHub, path: str) -> None:
    import os
    import urllib.parse

    hub.serve(urllib.parse.unquote(path), CONTENT)
    found = fetch_url(f"http://127.0.0.1:{hub.port}/web/{path}")
    assert found.parent.parent == Path(os.environ["RESIDUAL_CACHE"]) / "downloads"
    assert found.read_bytes() == CONTENT
