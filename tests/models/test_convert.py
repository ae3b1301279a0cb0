"""``convert``: in and out, asked for and refused; what it writes is whole or absent."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import deepresidual
from deepresidual import zoo
from deepresidual.cli import main
from deepresidual.conversion.ecosystem import Reference
from deepresidual.conversion.torchvision import TorchVision
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.models import create, load, save
from deepresidual.models.convert import convert
from tests.conversion.in_process import in_a_child_where_marked
from tests.on_demand import OnDemand
from tests.parity.agreement import TINY, randomize

torchvision: Any = OnDemand("torchvision")


@pytest.fixture(autouse=True)
def _in_a_child_where_marked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    in_a_child_where_marked(request, monkeypatch)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A torchvision checkpoint of one unit a stage and 7 classes."""
    network = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, TINY, num_classes=7)
    randomize(network, seed=1)
    path = tmp_path_factory.mktemp("torchvision") / "tiny.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.mark.child
def test_a_checkpoint_becomes_a_model_folder_with_its_certificate(theirs: Path, tmp_path: Path) -> None:
    done = convert(theirs, tmp_path / "model")
    assert (done.network, done.from_ecosystem, done.to_ecosystem) == ("custom", "torchvision", "residual")
    assert done.certificate.reference.startswith("torchvision 0.")
    assert done.certificate.largest_difference is not None
    assert done.certificate.largest_difference <= 1e-5
    model = load(tmp_path / "model")
    assert model.label_names == tuple("0123456")
    assert len(model.provenance["sha256"]) == 64
    assert "against torchvision" in model.provenance["certificate"]
    assert "against torchvision" in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    "to",
    # timm's depths are those of its names.
    ["torchvision", pytest.param("timm", marks=pytest.mark.test_all), "transformers"],
)
def test_out_and_back_is_the_same_to_the_bit(theirs: Path, tmp_path: Path, to: str) -> None:
    if to == "timm":
        save(create("resnet18", num_classes=7), tmp_path / "model")
    else:
        convert(theirs, tmp_path / "model")
    there = tmp_path / ("there.pth" if to == "torchvision" else "there")
    out = convert(tmp_path / "model", there, to=to)
    assert out.certificate.largest_difference is not None
    assert out.certificate.largest_difference <= 1e-5
    back = convert(there, tmp_path / "back")
    assert (back.from_ecosystem, back.network) == (to, "resnet18" if to == "timm" else "custom")
    before, after = (load(tmp_path / name).network.state_dict() for name in ("model", "back"))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "conv1.weight",
            lambda t: torch.full_like(t, 1e300, dtype=torch.float64),
            r"has values up to 1e\+300",
        ),
        (
            "fc.weight",
            lambda t: t.to(torch.float8_e4m3fn),
            "is of type float8_e4m3fn; expected float16, bfloat16",
        ),
        ("fc.weight", lambda t: t.to(torch.complex64), "is of type complex64; expected float16"),
        ("fc.bias", lambda t: t > 0, "is of type bool"),
        ("fc.bias", lambda t: torch.full_like(t, 2**62, dtype=torch.int64), "is of type int64"),
        ("fc.bias", lambda t: t.abs().to(torch.uint64), "is of type uint64"),
        ("bn1.running_var", lambda t: -t, "has 64 negative values; expected a variance of 0 or more"),
        ("bn1.num_batches_tracked", lambda t: t.float(), "is of type float32; expected whole numbers"),
    ],
)
def test_values_that_no_network_has_are_refused_before_anything_is_written(
    theirs: Path,
    tmp_path: Path,
    suffix: str,
    name: str,
    change: Callable[[torch.Tensor], torch.Tensor],
    message: str,
) -> None:
    state = torch.load(theirs, weights_only=True)
    state[name] = change(state[name])
    path = tmp_path / f"x.{suffix}"
    torch.save(state, path) if suffix == "pth" else save_file(state, path)
    with pytest.raises(ModelFileError, match=f"x.{suffix}: tensor {name} {message}"):
        convert(path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_weights_whose_logits_are_not_finite_are_refused(theirs: Path, tmp_path: Path) -> None:
    state = torch.load(theirs, weights_only=True)
    state["fc.weight"].fill_(3e38)
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ModelFileError, match=r"x\.pth: the logits for random images of .* are not finite"):
        convert(tmp_path / "x.pth", tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_become_float32(theirs: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    state = torch.load(theirs, weights_only=True)
    state["fc.weight"] = state["fc.weight"].to(dtype)
    torch.save(state, tmp_path / "x.pth")
    convert(tmp_path / "x.pth", tmp_path / "model")
    assert torch.equal(load(tmp_path / "model").network.fc.weight, state["fc.weight"].float())


def test_the_asked_for_network_replaces_the_assumed_one(tmp_path: Path) -> None:
    torch.save(create("plain20", num_classes=3).state_dict(), tmp_path / "p20.pth")
    done = convert(tmp_path / "p20.pth", tmp_path / "model")
    assert done.network == "resnet20"
    assert any("plain ones look the same" in clause for clause in done.assumed)
    done = convert(tmp_path / "p20.pth", tmp_path / "plain", model="plain20")
    assert (done.network, done.assumed) == ("plain20", ())
    assert "shortcut is 'none' and there 'B'" in done.certificate.reason
    assert load(tmp_path / "plain").spec.shortcut == "none"
    with pytest.raises(ModelFileError, match=r"does not fit the network .*− layer1.3.bn1.bias"):
        convert(tmp_path / "p20.pth", tmp_path / "p56", model="plain56")


@pytest.mark.test_all
def test_the_asked_for_stride_replaces_the_assumed_one(tmp_path: Path) -> None:
    network = torchvision.models.resnet50(num_classes=3)
    randomize(network, seed=2)
    torch.save(network.state_dict(), tmp_path / "r50.pth")
    assert any("3×3" in clause for clause in convert(tmp_path / "r50.pth", tmp_path / "model").assumed)
    done = convert(tmp_path / "r50.pth", tmp_path / "v1", model="resnet50.v1")
    assert (done.network, done.assumed) == ("resnet50.v1", ())
    assert done.certificate.reason == "torchvision has no such network: stride_on is '1x1' and there '3x3'"
    assert load(tmp_path / "v1").spec.stride_on == "1x1"
    with pytest.raises(ModelFileError, match=r"does not fit the network .*− layer3.10.bn1.bias"):
        convert(tmp_path / "r50.pth", tmp_path / "r101", model="resnet101")


def test_a_new_head_is_made_only_when_asked_for(theirs: Path, tmp_path: Path) -> None:
    done = convert(theirs, tmp_path / "model", num_classes=5)
    assert done.changed == ("a new classifier of 5 rows, randomly initialized, for 7",)
    model = load(tmp_path / "model")
    assert model.network.fc.weight.shape == (5, 512)
    assert "a new classifier" in model.provenance["changed after the comparison"]
    original = torch.load(theirs, weights_only=True)
    assert torch.equal(model.network.conv1.weight, original["conv1.weight"])
    assert convert(theirs, tmp_path / "same", num_classes=7).changed == ()


def test_gray_input_gives_what_three_equal_colours_gave(theirs: Path, tmp_path: Path) -> None:
    convert(theirs, tmp_path / "rgb")
    assert convert(theirs, tmp_path / "gray", in_channels=1).changed == (
        "conv1 adapted from 3 input channels to 1",
    )
    rgb, gray = load(tmp_path / "rgb"), load(tmp_path / "gray")
    images = torch.randn(2, 1, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(
            gray.network(images), rgb.network(images.expand(-1, 3, -1, -1)), atol=1e-4, rtol=1e-4
        )
    assert (gray.preprocess.channels, len(gray.preprocess.mean)) == ("gray", 1)
    with pytest.raises(ConfigurationError, match="in_channels is 2; expected 1 or 3"):
        convert(theirs, tmp_path / "two", in_channels=2)


def test_what_a_library_lacks_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    save(create("resnet20"), tmp_path / "model")
    for to in ("torchvision", "timm", "transformers", "keras"):
        with pytest.raises(ConfigurationError, match="stem"):
            convert(tmp_path / "model", tmp_path / "there.weights.h5", to=to)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    with pytest.raises(ConfigurationError, match="nothing can be written for caffe"):
        convert(tmp_path / "model", tmp_path / "there", to="caffe")


def test_an_export_replaces_nothing_and_fails_whole(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(theirs, tmp_path / "model")
    (tmp_path / "mine.pth").write_text("mine")
    with pytest.raises(ConfigurationError, match="mine.pth exists; choose another path"):
        convert(tmp_path / "model", tmp_path / "mine.pth", to="torchvision")
    assert (tmp_path / "mine.pth").read_text() == "mine"
    liar = Reference("liar 1.0", lambda images: torch.ones(len(images), 7))
    monkeypatch.setattr(TorchVision, "reference", lambda *_: liar)
    with pytest.raises(ModelFileError, match="is not the function of liar 1.0"):
        convert(tmp_path / "model", tmp_path / "out.pth", to="torchvision")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.pth", "model"]


def test_a_configuration_that_nobody_reads_is_not_ignored(tmp_path: Path) -> None:
    torch.save(create("resnet20").state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text('{"_target_": "os.system"}')
    with pytest.raises(ModelFileError, match="tensor names and a config.json that is not timm's"):
        convert(tmp_path, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_state_dict_cannot_say_how_it_dilates(tmp_path: Path) -> None:
    spec = dataclasses.replace(zoo.entry("resnet18").spec, depths=TINY, num_classes=3, output_stride=8)
    save(create(spec), tmp_path / "model")
    with pytest.raises(ConfigurationError, match="output_stride is 8"):
        convert(tmp_path / "model", tmp_path / "out.pth", to="torchvision")
    assert not (tmp_path / "out.pth").exists()


def test_a_destination_with_something_else_in_it_is_refused_first(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="exists and is no model folder"):
        convert(theirs, tmp_path / "notes.txt")
    with pytest.raises(ConfigurationError, match="exists and is no model folder"):
        convert(theirs, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_model_folder_says_itself_what_it_is(theirs: Path, tmp_path: Path) -> None:
    convert(theirs, tmp_path / "model")
    with pytest.raises(
        ConfigurationError, match="is a model folder and says itself what it is; leave out --model"
    ):
        convert(tmp_path / "model", tmp_path / "copy", model="resnet20")
    done = deepresidual.convert(tmp_path / "model", tmp_path / "copy")
    assert done.certificate.reason == "both sides are the same implementation"


def test_the_command_prints_what_it_did(
    theirs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(theirs), str(tmp_path / "model")]) == 0
    printed = capsys.readouterr().out
    assert "custom, from torchvision, recognized by " in printed
    assert "certificate logits differ by at most " in printed
    assert printed.endswith(f"wrote {tmp_path / 'model'}\n")
    assert main(["convert", str(theirs), str(tmp_path / "model"), "--num-classes", "2", "--json"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    assert set(document) - {"schema_version"} == set(deepresidual.Conversion.__dataclass_fields__)


def test_a_network_of_nobody_is_refused(tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.ones(2, 2)}, tmp_path / "vit.pth")
    with pytest.raises(
        ModelFileError, match=r"of no known residual network: it has 1 tensors \(encoder.weight\)"
    ):
        convert(tmp_path / "vit.pth", tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_certificate_that_fails_leaves_nothing(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar = Reference("liar 1.0", lambda images: torch.ones(len(images), 7))
    monkeypatch.setattr(TorchVision, "reference", lambda *_: liar)
    with pytest.raises(ModelFileError, match="is not the function of liar 1.0: its logits differ by"):
        convert(theirs, tmp_path / "model")
    assert not (tmp_path / "model").exists()
