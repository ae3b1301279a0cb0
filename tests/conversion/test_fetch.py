"""Fetching from a fake Hub: what is kept, what is asked, and what is said where something goes wrong."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from deepresidual.conversion.hub import HubId, cached, fetch
from deepresidual.errors import ModelFileError, ResidualError, RunError, UnreachableError
from tests.fakes.hub import FakeHub, point_to
from tests.on_demand import OnDemand

timm: Any = OnDemand("timm")


def test_the_fake_hub_is_one_to_timm(hub: FakeHub) -> None:
    hub.add_timm("timm/resnet18.tiny", "resnet18", num_classes=4)
    network = timm.create_model("hf-hub:timm/resnet18.tiny", pretrained=True, cache_dir=hub.cache)
    assert network.fc.weight.shape == (4, 512)
    assert hub.requests("model.safetensors")[0] == "HEAD /timm/resnet18.tiny/resolve/main/model.safetensors"


def test_a_repository_is_fetched_and_found_again(hub: FakeHub) -> None:
    commit = hub.add_transformers("microsoft/resnet-tiny")
    wanted = HubId("microsoft/resnet-tiny")
    assert cached(wanted) is None
    fetched = fetch(wanted)
    assert (fetched.commit, fetched.from_cache) == (commit, False)
    assert {path.name for path in fetched.folder.iterdir()} == {
        "config.json",
        "preprocessor_config.json",
        "model.safetensors",
    }
    again = cached(wanted, verify=True)
    assert again is not None
    assert (again.folder, again.from_cache) == (fetched.folder, True)
    assert huggingface_hub.try_to_load_from_cache(wanted.name, "config.json", cache_dir=hub.cache) == str(
        fetched.folder / "config.json"
    )


# -- without a network -------------------------------------------------------------------------------

WANTED = HubId("someone/resnet")
WEIGHTS = bytes(range(256)) * 2000  # half a megabyte, so that a body has several pieces
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS}


@pytest.fixture
def files(hub: FakeHub) -> FakeHub:
    """A Hub with a repository of configuration and weights."""
    hub.add("someone/resnet", FILES)
    return hub


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepresidual.conversion.transfer._WAITS", (0.0,))


def weights_of(wanted: HubId) -> bytes:
    return (fetch(wanted).folder / "model.safetensors").read_bytes()


def left(hub: FakeHub) -> set[str]:
    """What lies among the blobs that is no whole file."""
    return {path.name for path in hub.cache.rglob("*") if "incomplete" in path.name}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_what_is_there_of_a_commit_needs_nobody(files: FakeHub) -> None:
    commit = fetch(WANTED).commit
    files.asked.clear()
    found = fetch(HubId("someone/resnet", commit))
    assert (found.from_cache, files.asked) == (True, [])


def test_of_a_branch_the_hub_is_asked_once(files: FakeHub) -> None:
    fetch(WANTED)
    files.asked.clear()
    assert fetch(WANTED).from_cache
    assert files.requests() == ["HEAD /someone/resnet/resolve/main/config.json"]


def test_a_branch_that_moved_is_followed_and_what_is_equal_not_fetched_again(files: FakeHub) -> None:
    old = fetch(WANTED)
    files.add("someone/resnet", {**FILES, "config.json": b'{"a": 1}'})
    files.asked.clear()
    new = fetch(WANTED)
    assert (new.folder / "config.json").read_bytes() == b'{"a": 1}'
    assert new.commit != old.commit
    assert not any("model.safetensors" in each for each in files.requests(method="GET"))
    assert weights_of(HubId("someone/resnet", old.commit)) == WEIGHTS


def test_a_newer_commit_that_cannot_be_fetched_leaves_the_older_one(
    files: FakeHub, capsys: pytest.CaptureFixture[str]
) -> None:
    old = fetch(WANTED)
    files.add("someone/resnet", {**FILES, "model.safetensors": b"newer"})
    fault = files.fault("storage status", file="model.safetensors")
    assert fetch(WANTED).commit == old.commit
    assert "is older and is used" in capsys.readouterr().err
    fault.times = 0
    assert weights_of(WANTED) == b"newer"


def test_a_mirror_that_says_404_alone_lacks_the_file(files: FakeHub) -> None:
    files.fault("status", file="preprocessor_config.json", status=404)
    files.fault("status", file="model.safetensors", status=404)
    files.add("someone/resnet", {"config.json": b"{}", "pytorch_model.bin": b"weights"})
    assert (fetch(WANTED).folder / "pytorch_model.bin").read_bytes() == b"weights"


def test_another_revision_is_another_snapshot(files: FakeHub) -> None:
    files.add("someone/resnet", {**FILES, "model.safetensors": b"other"}, branch="refs/pr/1")
    assert weights_of(HubId("someone/resnet", "refs/pr/1")) == b"other"
    assert weights_of(WANTED) == WEIGHTS


@pytest.mark.parametrize("fault", ["refused", "hang up", "status", "too many", "login page", "silent"])
def test_what_is_cached_is_used_where_the_hub_does_not_answer(
    files: FakeHub, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    fetch(WANTED)
    monkeypatch.setattr("deepresidual.conversion.http_errors._SECONDS", 0.2)
    if fault == "refused":
        point_to(files, monkeypatch, address=f"http://127.0.0.1:{free_port()}")
    else:
        files.fault(fault)
    assert weights_of(WANTED) == WEIGHTS


def test_offline_what_is_cached_is_used_and_nobody_asked(
    files: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(WANTED)
    files.asked.clear()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert weights_of(WANTED) == WEIGHTS
    with pytest.raises(UnreachableError, match=r"cannot be reached \(HF_HUB_OFFLINE is set\); connect once"):
        fetch(HubId("someone/other"))
    assert files.asked == []


# -- answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (
            "hang up",
            UnreachableError,
            r"^there is no folder someone/resnet, it is not in .* \(it hangs up\); connect",
        ),
        (
            "silent",
            UnreachableError,
            r"cannot be reached \(it does not answer\); connect once and run 'residual",
        ),
        (
            "not found",
            RunError,
            "^someone/resnet does not exist on the Hugging Face Hub or needs a token; check",
        ),
        (
            "wrong token",
            RunError,
            "^the Hugging Face Hub does not accept the token; set HF_TOKEN to a valid one",
        ),
        ("gated", RunError, "gives someone/resnet only to those who accepted its terms; accept them"),
        (
            "no revision",
            RunError,
            "^someone/resnet has no revision main on the Hugging Face Hub; check the name",
        ),
        (
            "too many",
            UnreachableError,
            r"^the Hugging Face Hub asks to wait \(429, 60 s\); try again later, or set",
        ),
        (
            "status",
            UnreachableError,
            r"the Hugging Face Hub cannot be reached \(it answers 503\); connect once",
        ),
        ("redirect loop", UnreachableError, r"cannot be reached \(it redirects in a circle\); connect once"),
        ("login page", UnreachableError, "perhaps a web page; the network may want you to log in first"),
        ("no commit", UnreachableError, "perhaps a web page; the network may want you to log in first"),
        ("no etag", RunError, r"states no checksum of config.json of someone/resnet \(no ETag\); a proxy"),
    ],
)
def test_an_answer_that_is_none_is_told_at_once_in_one_sentence(
    files: FakeHub, monkeypatch: pytest.MonkeyPatch, fault: str, kind: type[ResidualError], message: str
) -> None:
    # What answers may take its time on a busy machine.
    monkeypatch.setattr("deepresidual.conversion.http_errors._SECONDS", 0.3 if fault == "silent" else 60)
    monkeypatch.setattr("deepresidual.conversion.transfer.time.sleep", lambda _: pytest.fail("tried again"))
    files.fault(fault)
    start = time.monotonic()
    with pytest.raises(kind, match=message):
        fetch(WANTED)
    assert fault != "silent" or time.monotonic() - start < 5
    assert len(files.asked) == (20 if fault == "redirect loop" else 1)
    assert left(files) == set()


def test_a_hub_that_is_not_there_is_given_up_at_once(files: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(files, monkeypatch, address=f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("waited to try again"))
    with pytest.raises(UnreachableError, match=r"cannot be reached \(Connection refused\); connect once"):
        fetch(WANTED)


def test_a_proxy_that_is_not_there_is_named(files: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("no_proxy", "")
    huggingface_hub.close_session()
    try:
        with pytest.raises(
            UnreachableError, match=r"refused; HTTP_PROXY may name a proxy that is not there\)"
        ):
            fetch(WANTED)
    finally:
        huggingface_hub.close_session()


def test_looking_up_a_name_may_take_no_longer(files: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepresidual.conversion.http_errors._SECONDS", 0.1)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda *_, **__: time.sleep(20))
    start = time.monotonic()
    with pytest.raises(UnreachableError, match=r"cannot be reached \(it does not answer\)"):
        fetch(WANTED)
    assert time.monotonic() - start < 5


def test_a_token_that_no_header_takes_is_not_shown(files: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret€")
    with pytest.raises(UnreachableError, match=r"^[^\n]*HF_TOKEN may be damaged\); connect once") as caught:
        fetch(WANTED)
    assert "secret" not in str(caught.value)


def test_the_token_stays_with_the_hub(files: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(WANTED)
    to_storage = [asked for asked in files.asked if asked.path.startswith("/storage/")]
    assert to_storage
    for asked in files.asked:
        assert ("hf_secret" in str(asked.headers)) is (asked not in to_storage), str(asked)


# -- files of a repository ---------------------------------------------------------------------------


def test_a_repository_without_config_has_a_commit_too(hub: FakeHub) -> None:
    commit = hub.add("someone/bare", {"pytorch_model.bin": b"weights"})
    assert fetch(HubId("someone/bare")).commit == commit


def test_a_repository_without_weights_is_refused(hub: FakeHub) -> None:
    hub.add("someone/words", {"config.json": b"{}"})
    with pytest.raises(RunError, match=r"^someone/words has no weights that are read here; expected model"):
        fetch(HubId("someone/words"))


def test_weights_in_several_files_are_fetched(hub: FakeHub) -> None:
    hub.add_transformers("microsoft/sharded", shard_size="20KB")
    fetched = fetch(HubId("microsoft/sharded"))
    shards = sorted(path.name for path in fetched.folder.glob("*.safetensors"))
    assert len(shards) > 1
    again = cached(HubId("microsoft/sharded"), verify=True)
    assert again is not None
    (fetched.folder / shards[0]).unlink()
    assert cached(HubId("microsoft/sharded")) is None


def test_weights_too_large_are_refused_before_they_are_fetched(
    files: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepresidual.conversion.hub.MAX_FILE_BYTES", 100_000)
    with pytest.raises(
        ModelFileError, match=r"^someone/resnet has 0.5 MB or more to fetch; expected at most"
    ):
        fetch(WANTED)
    assert not files.requests("model.safetensors", "GET")


def test_other_tools_of_the_hub_find_what_was_fetched(files: FakeHub) -> None:
    fetch(WANTED)
    files.asked.clear()
    path = huggingface_hub.hf_hub_download(
        WANTED.name, "model.safetensors", cache_dir=files.cache, local_files_only=True
    )
    assert Path(path).read_bytes() == WEIGHTS
    (repository,) = huggingface_hub.scan_cache_dir(files.cache).repos
    assert {file.file_name for revision in repository.revisions for file in revision.files} == set(FILES)


def test_a_file_of_the_xet_store_is_fetched_by_plain_http(files: FakeHub) -> None:
    files.xet = True
    path = fetch(WANTED).folder / "model.safetensors"
    assert path.read_bytes() == WEIGHTS
    assert path.readlink().name == hashlib.sha256(WEIGHTS).hexdigest()


def test_without_links_a_snapshot_holds_the_files(files: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_SYMLINKS", True)
    fetched = fetch(WANTED)
    assert not (fetched.folder / "model.safetensors").is_symlink()
    assert fetch(WANTED).from_cache
    assert list((files.cache / "models--someone--resnet" / "blobs").iterdir()) == []


# -- bodies ------------------------------------------------------------------------------------------


def test_a_body_that_breaks_off_is_continued(files: FakeHub) -> None:
    files.fault("cut", file="model.safetensors", after=200_000, times=1)
    assert weights_of(WANTED) == WEIGHTS
    assert files.requests("/storage/")[1].endswith("bytes=200000-")
    assert len(files.requests("/resolve/", "HEAD")) == 3  # one a file, of which the first tells the commit


def test_a_server_that_ignores_ranges_is_noticed(files: FakeHub) -> None:
    files.fault("cut", file="model.safetensors", after=200_000, times=1)
    files.fault("no range", file="model.safetensors")
    assert weights_of(WANTED) == WEIGHTS


def test_a_body_that_always_breaks_off_is_given_up_and_kept_for_the_next_time(files: FakeHub) -> None:
    fault = files.fault("cut", file="model.safetensors", after=50_000)
    with pytest.raises(
        UnreachableError,
        match=r"^model.safetensors of someone/resnet broke off after 0.2 MB of 0.5 MB, several times "
        r"\(it hangs up\); it is kept: run the same command again and go on$",
    ):
        fetch(WANTED)
    assert len(left(files)) == 2  # the file and the note of its server
    assert cached(WANTED) is None
    fault.times = 0
    files.asked.clear()
    assert weights_of(WANTED) == WEIGHTS
    assert files.requests("/storage/")[0].endswith("bytes=250000-")
    assert left(files) == set()


def test_a_body_too_short_is_refused_at_once(files: FakeHub) -> None:
    files.fault("short", file="model.safetensors", after=1000)
    with pytest.raises(
        ModelFileError, match="^model.safetensors of someone/resnet has 1,000 bytes where it is"
    ):
        fetch(WANTED)
    assert len(files.requests("/storage/", "GET")) == 1


def test_silence_in_the_middle_is_given_up(files: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DOWNLOAD_TIMEOUT", 0.2)
    files.fault("stall", file="model.safetensors", after=1000)
    with pytest.raises(
        UnreachableError, match=r"broke off after 0.0 MB of 0.5 MB, .* \(it does not answer\)"
    ):
        fetch(WANTED)


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (
            503,
            UnreachableError,
            r"cannot be fetched from its server, 5 times \(it answers 503\); try again later",
        ),
        (
            403,
            RunError,
            r"the Hugging Face Hub refuses model.safetensors of someone/resnet \(403\); check your",
        ),
    ],
)
def test_a_storage_that_refuses(files: FakeHub, status: int, kind: type[ResidualError], message: str) -> None:
    files.fault("storage status", file="model.safetensors", status=status)
    with pytest.raises(kind, match=message):
        fetch(WANTED)
    assert cached(WANTED) is None


def test_wrong_bytes_are_fetched_once_more(files: FakeHub) -> None:
    files.fault("wrong", file="model.safetensors", times=1)
    assert weights_of(WANTED) == WEIGHTS


def test_wrong_bytes_twice_are_refused_and_removed(files: FakeHub) -> None:
    files.fault("wrong", file="model.safetensors")
    digest = hashlib.sha256(WEIGHTS).hexdigest()
    with pytest.raises(
        ModelFileError,
        match=f"^model.safetensors of .* came twice with checksum .*; expected {digest[:12]}…; it was",
    ):
        fetch(WANTED)
    assert left(files) == set()
    assert cached(WANTED) is None


def test_a_part_of_another_file_is_begun_anew(files: FakeHub) -> None:
    fault = files.fault("cut", file="model.safetensors", after=50_000)
    with pytest.raises(UnreachableError, match="broke off"):
        fetch(WANTED)
    fault.times = 0
    files.add("someone/resnet", {**FILES, "model.safetensors": WEIGHTS[::-1]})
    assert weights_of(WANTED) == WEIGHTS[::-1]


def test_a_cached_file_that_is_damaged_is_fetched_anew(files: FakeHub) -> None:
    path = fetch(WANTED).folder / "model.safetensors"
    path.resolve().write_bytes(WEIGHTS[::-1])
    assert weights_of(WANTED) == WEIGHTS


def test_a_damaged_file_of_another_commit_is_not_taken(files: FakeHub) -> None:
    path = fetch(WANTED).folder / "model.safetensors"
    path.resolve().write_bytes(WEIGHTS[::-1])
    files.add("someone/resnet", {**FILES, "config.json": b'{"a": 1}'})
    assert weights_of(WANTED) == WEIGHTS


def test_a_disk_without_room_is_told_before(files: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    full = type("usage", (), {"free": 1000})
    monkeypatch.setattr("deepresidual.runtime.files.shutil.disk_usage", lambda _: full)
    with pytest.raises(
        RunError,
        match=r"cannot write .* \(No space left on device; it needs 512,000 bytes, 1,000 bytes are free "
        r"there\); free some space, or set HF_HUB_CACHE to another folder",
    ):
        fetch(WANTED)
    assert not files.requests("/storage/")


def test_a_disk_that_becomes_full_keeps_nothing(files: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = os.write, 0

    def write_until_full(descriptor: int, content: Any) -> int:
        nonlocal written
        written += len(content)
        if written > 300_000:
            raise OSError(28, "No space left on device")
        return write(descriptor, content)

    monkeypatch.setattr("deepresidual.runtime.partial_file.os.write", write_until_full)
    with pytest.raises(RunError, match="No space left on device; .*; free some space, or set HF_HUB_CACHE"):
        fetch(WANTED)
    assert left(files) == set()


def test_a_cache_that_cannot_be_written_is_told_and_read(
    files: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(WANTED)
    files.add("someone/other", FILES)

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    for name in ("mkdir", "touch", "write_text", "unlink", "symlink_to"):
        monkeypatch.setattr(Path, name, refuse)
    assert weights_of(WANTED) == WEIGHTS
    with pytest.raises(
        RunError, match=r"cannot write .* \(Read-only file system\); free some space, or set HF"
    ):
        fetch(HubId("someone/other"))


def test_a_file_system_without_locks_is_written_by_each_process_alone(
    files: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lock(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", lock)
    fault = files.fault("cut", file="model.safetensors", after=50_000)
    with pytest.raises(
        UnreachableError, match="broke off after .*; nothing was kept: run the same command again$"
    ):
        fetch(WANTED)
    assert not any(name.endswith(".incomplete") for name in left(files))
    fault.times = 0
    assert weights_of(WANTED) == WEIGHTS


# -- several processes -------------------------------------------------------------------------------

FETCH = "from deepresidual.conversion.hub import HubId, fetch\nprint(fetch(HubId('someone/resnet')).folder)"


def begin(hub: FakeHub) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FETCH],
        env=hub.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_body(hub: FakeHub, size: int) -> None:
    end = time.monotonic() + 60
    while not any(path.stat().st_size >= size for path in hub.cache.rglob("*.incomplete")):
        assert time.monotonic() < end, hub.requests()
        time.sleep(0.02)


def test_a_killed_process_is_continued_by_the_next_and_two_fetch_once(files: FakeHub) -> None:
    slow = files.fault("slow", file="model.safetensors", after=40_000, seconds=0.3, times=1)
    first = begin(files)
    wait_for_body(files, 80_000)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    assert cached(WANTED) is None
    files.asked.clear()
    slow.times = None
    slow.seconds = 0.1
    both = [begin(files), begin(files)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    folder = Path(said[0][0].strip())
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    (body,) = files.requests("/storage/", "GET")
    assert int(body.rpartition("bytes=")[2].removesuffix("-")) >= 80_000
    assert left(files) == set()
