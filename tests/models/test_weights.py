"""From what a user calls a model to a model folder: names, the Hub, URLs and files, each converted once."""

from __future__ import annotations

import dataclasses
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deepresidual import zoo
from deepresidual.errors import ModelFileError, UnreachableError
from deepresidual.models import TorchClassifier, cached_weights, load, resolve_weights, save, weights
from deepresidual.models.fetching import fetch_source
from deepresidual.models.foreign import read_foreign
from deepresidual.models.source import find_source
from deepresidual.zoo.released import released
from tests.conversion.in_process import read_in_this_process
from tests.fakes.hub import FakeHub
from tests.fakes.releases import TINY, add_rows, small_checkpoint


@pytest.fixture
def tiny(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """A Hub with a network of four small stages, which the table of released weights knows."""
    hub.add_transformers("someone/tiny", layer_type="basic")
    add_rows(monkeypatch, TINY)
    return hub


def conversions(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "residual-cache" / "models" / "v1").glob("[!.]*"))


def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a foreign file is read")

    monkeypatch.setattr(weights, "read_foreign", fail)


def test_released_weights_are_fetched_and_converted_once(
    tiny: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cached_weights("tiny.tv_in1k") is None
    assert tiny.asked == []
    first = resolve_weights("tiny.tv_in1k")
    assert (first.name, first.kind, first.licence, first.released) == (
        "tiny.tv_in1k",
        "released",
        "BSD-3-Clause",
        TINY,
    )
    assert first.description == "tiny.tv_in1k (torchvision V1, BSD-3-Clause, ImageNet-1k, 69.76 %)"
    commit = tiny.branches["someone/tiny"]["main"]
    assert conversions(tmp_path) == [f"tiny.tv_in1k@commit-{commit[:24]}"]
    # Without a network, without the cache of the Hub, without reading it again; by any of its names.
    shutil.rmtree(tiny.cache)
    tiny.asked.clear()
    forbid_reading(monkeypatch)
    for name in ("tiny.tv_in1k", "tiny.V1", "tiny", "someone/tiny", "hf:someone/tiny"):
        assert resolve_weights(name).path == first.path
        assert cached_weights(name) is not None
    model = load("tiny")
    assert "weights    tiny.tv_in1k (torchvision V1" in capsys.readouterr().err
    load("tiny.tv_in1k")
    assert capsys.readouterr().err == ""
    assert tiny.asked == []
    record = model.provenance
    assert (record["weights"], record["licence"], record["trained on"], record["commit"]) == (
        "tiny.tv_in1k",
        "BSD-3-Clause",
        "ImageNet-1k",
        commit,
    )
    assert record["source"] == f"someone/tiny@{commit[:12]}"
    assert record["certificate"].startswith("largest difference of logits")
    assert record["fetched"].startswith("20")


def test_weights_that_were_fetched_by_another_program_need_no_network(tiny: FakeHub) -> None:
    import huggingface_hub

    for file in ("config.json", "model.safetensors", "preprocessor_config.json"):
        huggingface_hub.hf_hub_download("someone/tiny", file)
    tiny.asked.clear()
    found = cached_weights("tiny")
    assert found is not None
    assert load(found.path).spec.num_classes == 3
    assert tiny.asked == []


def test_a_repository_is_converted_by_commit(tiny: FakeHub, tmp_path: Path) -> None:
    tiny.add_transformers("other/net", layer_type="basic", seed=1)
    first = resolve_weights("other/net")
    old = tiny.branches["other/net"]["main"]
    new = tiny.add_transformers("other/net", layer_type="basic", seed=2)
    second = resolve_weights("other/net")
    assert [path.name for path in (first.path, second.path)] == [
        f"other--net@commit-{commit[:24]}" for commit in (old, new)
    ]
    assert not torch.equal(load(first.path).network.fc.weight, load(second.path).network.fc.weight)
    tiny.asked.clear()
    assert resolve_weights(f"other/net@{old}").path == first.path
    assert tiny.asked == []


def test_another_revision_of_released_weights_is_not_what_their_name_means(tiny: FakeHub) -> None:
    old = tiny.branches["someone/tiny"]["main"]
    new = tiny.add_transformers("someone/tiny", layer_type="basic", seed=3)
    at_revision = resolve_weights(f"someone/tiny@{old}")
    assert at_revision.licence == "BSD-3-Clause"
    by_name = resolve_weights("tiny.tv_in1k")
    assert (at_revision.version, by_name.version) == (f"commit-{old[:24]}", f"commit-{new[:24]}")
    assert resolve_weights("tiny").path == by_name.path != at_revision.path


def test_a_model_folder_on_the_hub_is_taken_as_it_is(
    tiny: FakeHub, tmp_path: Path, tiny_model: TorchClassifier
) -> None:
    save(tiny_model, tmp_path / "mine")
    tiny.add_folder("me/mine", tmp_path / "mine")
    assert load("me/mine").label_names == tiny_model.label_names


def test_a_file_is_converted_once_by_its_content(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_transformers("a/b", layer_type="basic")
    folder = tmp_path / "theirs"
    folder.mkdir()
    for name, content in hub.commits["a/b"][hub.branches["a/b"]["main"]].items():
        (folder / name).write_bytes(content)
    first = resolve_weights(folder)
    assert (first.kind, first.name) == ("file", str(folder))
    renamed = folder.rename(tmp_path / "renamed")
    forbid_reading(monkeypatch)
    assert resolve_weights(renamed).path == first.path
    (renamed / "preprocessor_config.json").write_text("{}")
    with pytest.raises(AssertionError, match="a foreign file is read"):
        resolve_weights(renamed)


def test_a_cache_that_cannot_be_written_is_gone_without(
    tiny: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "file" / "below"))
    assert load("tiny.tv_in1k").spec.num_classes == 3
    assert "warning: the converted model is not kept: " in capsys.readouterr().err


def test_a_damaged_conversion_is_made_again(tiny: FakeHub) -> None:
    path = resolve_weights("tiny.tv_in1k").path
    for damage in ("model.safetensors", "config.json"):
        (path / damage).write_bytes(b"{}")
        assert load("tiny.tv_in1k").spec.num_classes == 3
    (path / "model.safetensors").unlink()
    assert load("tiny.tv_in1k").spec.num_classes == 3


def test_the_conversion_of_a_faster_process_is_taken(
    tiny: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save_twice(model: TorchClassifier, path: Path) -> None:
        save(model, path)
        # Another process has ended in the meantime.
        save(model, path.parent.parent / path.name)
        (path.parent.parent / path.name / "theirs").touch()

    monkeypatch.setattr(weights, "save", save_twice)
    resolved = resolve_weights("tiny.tv_in1k")
    assert (resolved.path / "theirs").exists()
    assert [path.name for path in resolved.path.parent.iterdir()] == [resolved.path.name]


def test_weights_that_cannot_be_had_are_named_with_their_size(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UnreachableError) as caught:
        load("resnet18")
    assert str(caught.value) == (
        "resnet18.tv_in1k (47 MB) is not in the cache and the Hugging Face Hub cannot be reached; with a "
        "network 'residual fetch resnet18.tv_in1k --to FOLDER' writes a folder, here or elsewhere, whose "
        "path can be given in place of the name"
    )
    assert hub.asked == []


@pytest.fixture
def small_file(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a torch file of four small stages and 3 classes."""
    read_in_this_process(monkeypatch)
    return hub.serve("small.pth", small_checkpoint())


def test_a_url_is_fetched_and_converted_once(
    hub: FakeHub, small_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = resolve_weights(small_file)
    assert (first.kind, first.released) == ("url", None)
    assert load(small_file).provenance["source"] == small_file
    assert [name.partition("@")[0][:4] for name in conversions(tmp_path)] == ["url-"]
    hub.asked.clear()
    shutil.rmtree(tmp_path / "residual-cache" / "downloads")
    forbid_reading(monkeypatch)
    assert resolve_weights(Path(small_file)).path == first.path  # pathlib makes one slash of two
    assert hub.asked == []


def test_a_file_of_released_weights_is_prepared_as_its_publisher_says(
    hub: FakeHub, small_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = dataclasses.replace(TINY, hub_id="", url=small_file)
    add_rows(monkeypatch, row)
    for given in ("tiny.tv_in1k", small_file):
        resolved = resolve_weights(given)
        assert (resolved.name, resolved.licence) == ("tiny.tv_in1k", "BSD-3-Clause")
        assert load(resolved.path).preprocess == TINY.preprocess
    assert "released as tiny.tv_in1k" in load("tiny").provenance["recognized by"]


@pytest.mark.parametrize("fault", ["not found", "hang up", "login page"])
def test_where_the_hub_cannot_be_had_the_publisher_s_file_is_taken(
    hub: FakeHub, small_file: str, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    add_rows(monkeypatch, dataclasses.replace(TINY, url=small_file))
    hub.fault(fault, file="config.json")
    assert load("tiny.tv_in1k").provenance["source"] == small_file


def test_a_publisher_that_cannot_be_reached_is_named(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    address = closed_port()
    add_rows(monkeypatch, dataclasses.replace(TINY, hub_id="", url=f"http://{address}/tiny-01234567.pth"))
    with pytest.raises(
        UnreachableError, match=r"tiny.tv_in1k \(0 MB\) is not in the cache and 127.0.0.1 cannot be reached; "
    ):
        load("tiny")


def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"


def test_a_licence_is_said_aloud_and_recorded(
    tiny: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bound = dataclasses.replace(
        TINY, name="tiny.fb_ssl", aliases=(), licence="CC-BY-NC-4.0", commercial="no", network="bound"
    )
    add_rows(monkeypatch, bound)
    with pytest.raises(ModelFileError, match="there are no weights, 'bound'|bound does not exist"):
        load("bound")  # never by default
    resolved = resolve_weights("tiny.fb_ssl")
    assert resolved.notes == ("tiny.fb_ssl is CC-BY-NC-4.0: not for commercial use",)
    model = load("tiny.fb_ssl")
    assert "note: tiny.fb_ssl is CC-BY-NC-4.0: not for commercial use" in capsys.readouterr().err
    assert model.provenance["commercial use"] == "no"
    card = (resolved.path / "README.md").read_text()
    assert "\nlicense: cc-by-nc-4.0\n" in card
    assert "does not allow commercial use" in card


def test_a_file_of_another_network_is_not_taken_for_released_weights(
    tiny: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_rows(monkeypatch, dataclasses.replace(TINY, name="resnet18.x", network="resnet18"))
    with pytest.raises(
        ModelFileError, match="is another network with 3 classes; expected resnet18 with 3 as resnet18.x"
    ):
        load("resnet18.x")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "resnet50.a9_in1k",
            "there are no weights, 'resnet50.a9_in1k'; nearest: .*; 'residual models --weig",
        ),
        ("resnt56", "'resnt56'; nearest: resnet56-cifar10, resnet50"),
        ("resnet50.v1", "'resnet50.v1' is a network without released weights"),
        ("weights/gone.pth", "weights/gone.pth does not exist; expected a folder with config.json"),
        ("gone.safetensors", "gone.safetensors does not exist; expected"),
        ("./timm/resnet", "./timm/resnet does not exist; expected"),
        ("here/resnet", "here/resnet does not exist; for a repository .* write hf:here/resnet"),
        ("s3://bucket/net.pth", "s3://bucket/net.pth is a s3 address; expected http or https"),
        ("file:///tmp/net.pth", "is a file address; expected http or https"),
        (
            "timm/resnet50d.ra2_in1k",
            "timm/resnet50d.ra2_in1k has a deep stem of three convolutions, .*: resnet50.tv_in1k",
        ),
        ("seresnet50", "seresnet50 has channel attention, which Residual does not have"),
        ("empty", "empty is not a model; expected"),
    ],
)
def test_what_stands_for_nothing_is_answered_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFileError, match=message):
        find_source(given)


def test_what_is_here_goes_before_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_source("resnet50").kind == "released"
    assert find_source("resnet20-cifar10").kind == "bundled"
    assert find_source("timm/resnet50.a1_in1k").kind == "hub"
    for name in ("resnet50", "resnet20-cifar10", "timm/resnet50.a1_in1k"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text('{"model_type": "resnet"}')
        assert find_source(name).kind == "file"
    assert find_source(Path("https://example.org/net.pth")).url == "https://example.org/net.pth"


@pytest.mark.test_all
def test_two_processes_at_once_leave_one_conversion(hub: FakeHub, tmp_path: Path) -> None:
    hub.add_transformers("someone/tiny", layer_type="basic")
    command = [sys.executable, "-m", "deepresidual", "fetch", "someone/tiny"]
    both = [
        subprocess.Popen(
            command, env=hub.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(list((tmp_path / "residual-cache" / "models" / "v1").iterdir())) == 1
    assert said[0][0] == said[1][0]


@pytest.mark.test_all
@pytest.mark.parametrize("name", ["resnet18.tv_in1k", "resnet18.a3_in1k", "resnetv2_18.ra4_e3600_r224_in1k"])
def test_a_folder_that_timm_wrote_is_what_the_row_says(hub: FakeHub, name: str) -> None:
    row = released(name)
    hub.add_timm(row.hub_id, name)
    model = load(name)
    assert model.preprocess == row.preprocess
    assert zoo.name_of(model.spec) == row.network
    assert (len(model.label_names), model.label_names[207]) == (1000, "golden retriever")
    assert "against timm" in model.provenance["certificate"]
    # The file alone, from the publisher's server, is the same function.
    weights = hub.commits[row.hub_id][hub.branches[row.hub_id]["main"]]["model.safetensors"]
    url = hub.serve("alone.safetensors", weights)
    alone = read_foreign(fetch_source(find_source(url)), release=row).model
    assert alone.preprocess == row.preprocess
    theirs = alone.network.state_dict()
    assert all(torch.equal(tensor, theirs[key]) for key, tensor in model.network.state_dict().items())
