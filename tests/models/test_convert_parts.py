"""``convert`` takes the network out of a checkpoint, says what it left, and adds a classifier on demand."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import deepresidual
from deepresidual.cli import main
from deepresidual.conversion.certificate import Certificate
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.models import create, load, save
from deepresidual.models.convert import convert
from deepresidual.spec import ResNetSpec
from tests.conversion.in_process import read_in_this_process
from tests.on_demand import OnDemand
from tests.parity.agreement import TINY, randomize
from tests.suites import short

torchvision: Any = OnDemand("torchvision")

SPEC = ResNetSpec(unit="basic", depths=(1, 1, 1), widths=(4, 8, 16), stem="cifar", num_classes=3)
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    read_in_this_process(monkeypatch)


def state(seed: int = 0) -> State:
    return create(SPEC, seed=seed).state_dict()


def under(prefix: str, tensors: State) -> State:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def backbone() -> State:
    return {name: tensor for name, tensor in state().items() if not name.startswith("fc.")}


def saved(document: object, folder: Path) -> Path:
    torch.save(document, folder / "w.pth.tar")
    return folder / "w.pth.tar"


def weights_of(folder: Path) -> State:
    return load(folder).network.state_dict()


def assert_same(found: State, expected: State) -> None:
    assert list(found) == list(expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def test_what_was_taken_and_what_was_left_is_printed_and_on_the_card(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {
        "epoch": 3,
        "arch": "resnet",
        "args": argparse.Namespace(lr=0.1),
        "metric": np.float64(70.0),
        "state_dict": {**under("module.", state()), "module.criterion.weight": torch.ones(3)},
        "state_dict_ema": under("module.", state(1)),
    }
    source, target = saved(document, tmp_path), tmp_path / "m"
    assert main(["convert", str(source), str(target)]) == 0
    printed = capsys.readouterr().out
    assert "  state dict  state_dict.module.\n" in printed
    assert (
        f"  not taken   state_dict_ema: averaged weights of {len(state())} tensors, not taken "
        "(--state-dict state_dict_ema takes them)\n"
    ) in printed
    assert "  beside      epoch, arch, args, metric: not weights, left out\n" in printed
    assert "  dropped     1 tensor: of a loss (module.criterion)\n" in printed
    assert_same(weights_of(target), state())
    card = (target / "README.md").read_text()
    assert f"averaged weights of {len(state())} tensors, not taken" in card
    assert main(["convert", str(source), str(target), "--state-dict", "state_dict_ema", "--json"]) == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (told["state_dict"], told["num_classes"]) == ("state_dict_ema.module.", 3)
    assert told["not_taken"] == {"state_dict": f"other weights of {len(state()) + 1} tensors, not taken"}
    assert told["beside"]["args"] == "beside the weights (a Namespace)"
    assert told["dropped"] == {}
    assert_same(weights_of(target), state(1))


def test_a_prefix_can_be_asked_for(tmp_path: Path) -> None:
    document = {"state_dict": {**under("module.encoder_q.", state()), **under("module.encoder_k.", state(1))}}
    source = saved(document, tmp_path)
    done = convert(source, tmp_path / "q")
    assert (done.state_dict, done.num_classes) == ("state_dict.module.encoder_q.", 0)
    assert list(done.not_taken) == ["module.encoder_k."]
    convert(source, tmp_path / "k", state_dict="module.encoder_k.")
    assert torch.equal(weights_of(tmp_path / "k")["conv1.weight"], state(1)["conv1.weight"])
    with pytest.raises(
        ModelFileError,
        match=r"no network called 'ema'; expected one of state_dict, module\.encoder_q\., module",
    ):
        convert(source, tmp_path / "no", state_dict="ema")
    assert not (tmp_path / "no").exists()


def test_a_model_folder_has_one_state_dict(tmp_path: Path) -> None:
    save(create(SPEC), tmp_path / "m")
    with pytest.raises(ConfigurationError, match="says itself what it is; leave out --state-dict"):
        convert(tmp_path / "m", tmp_path / "n", state_dict="model")


def test_a_backbone_is_a_model_of_no_classes_or_gets_a_new_classifier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(backbone(), tmp_path)
    assert main(["convert", str(source), str(tmp_path / "bare")]) == 0
    printed = capsys.readouterr().out
    assert "there is no classifier: the network is a backbone of 0 classes" in printed
    assert f"classes     none: a backbone, to train from (residual train DATA --weights {tmp_path}" in printed
    assert_same(weights_of(tmp_path / "bare"), backbone())
    assert load(tmp_path / "bare").label_names == ()
    assert main(["convert", str(source), str(tmp_path / "five"), "--num-classes", "5"]) == 0
    assert "a new classifier of 5 rows, randomly initialized, where there was none" in capsys.readouterr().out
    five = load(tmp_path / "five")
    assert (five.label_names, five.network.fc.weight.shape) == (tuple("01234"), (5, 16))
    assert five.network.fc.weight.std() > 0
    assert torch.equal(five.network.conv1.weight, backbone()["conv1.weight"])
    assert "a new classifier of 5 rows" in (tmp_path / "five" / "README.md").read_text()
    again = convert(tmp_path / "bare", tmp_path / "two", num_classes=2)
    assert again.changed == ("a new classifier of 2 rows, randomly initialized, where there was none",)
    assert convert(tmp_path / "bare", tmp_path / "same", num_classes=0).changed == ()


def test_a_classifier_can_be_taken_off(tmp_path: Path) -> None:
    done = convert(saved(state(), tmp_path), tmp_path / "bare", num_classes=0)
    assert (done.changed, done.num_classes) == (("the classifier of 3 rows taken off",), 0)
    assert_same(weights_of(tmp_path / "bare"), backbone())
    with pytest.raises(ConfigurationError, match="num_classes holds -1; expected 0 to"):
        convert(tmp_path / "w.pth.tar", tmp_path / "no", num_classes=-1)


@pytest.mark.parametrize("to", short(["torchvision", "timm"], "torchvision"))
def test_a_backbone_goes_out_and_comes_back(tmp_path: Path, to: str) -> None:
    # timm's depths are those of its names.
    depths = (2, 2, 2, 2) if to == "timm" else TINY
    network = torchvision.models.ResNet(torchvision.models.resnet.BasicBlock, depths)
    randomize(network, seed=1)
    network.fc = torch.nn.Identity()
    done = convert(saved(network.state_dict(), tmp_path), tmp_path / "m")
    assert done.certificate.largest_difference is not None
    assert done.certificate.largest_difference <= 1e-4
    assert isinstance(done.certificate, Certificate)
    assert not done.certificate.is_of_logits
    assert "largest difference of features" in load(tmp_path / "m").provenance["certificate"]
    there = tmp_path / ("there.pth" if to == "torchvision" else "there")
    assert convert(tmp_path / "m", there, to=to).num_classes == 0
    assert convert(there, tmp_path / "back").from_ecosystem == to
    assert_same(weights_of(tmp_path / "back"), weights_of(tmp_path / "m"))


@pytest.mark.parametrize("to", ["transformers", "keras"])
def test_a_backbone_is_refused_where_nobody_reads_it(tmp_path: Path, to: str) -> None:
    spec = dataclasses.replace(SPEC, depths=TINY, widths=(4, 8, 16, 32), stem="imagenet", shortcut="B")
    save(create(spec, num_classes=0), tmp_path / "m")
    with pytest.raises(ConfigurationError, match="is a backbone without a classifier, which is not written"):
        convert(tmp_path / "m", tmp_path / "there.keras", to=to)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_the_bare_model_of_transformers_is_a_backbone(tmp_path: Path) -> None:
    import transformers

    config = transformers.ResNetConfig(
        depths=[1, 1],
        hidden_sizes=[8, 16],
        embedding_size=8,
        layer_type="basic",
        id2label={0: "a", 1: "b", 2: "c"},
    )
    network = transformers.ResNetModel(config)
    randomize(network, seed=3)
    network.save_pretrained(tmp_path / "theirs")
    done = convert(tmp_path / "theirs", tmp_path / "m")
    assert (done.from_ecosystem, done.num_classes) == ("transformers", 0)
    assert done.certificate.largest_difference is not None
    assert done.certificate.largest_difference <= 1e-4


@pytest.mark.parametrize("name", short(["resnet18", "resnetv2_18"], "resnetv2_18"))
def test_a_folder_of_timm_without_a_classifier_is_a_backbone(tmp_path: Path, name: str) -> None:
    import timm
    from timm.models import save_for_hf

    theirs = timm.create_model(name, num_classes=0)
    randomize(theirs, seed=4)
    save_for_hf(theirs, str(tmp_path / "theirs"), safe_serialization=True)
    done = convert(tmp_path / "theirs", tmp_path / "m")
    assert (done.from_ecosystem, done.num_classes) == ("timm", 0)
    assert done.certificate.largest_difference is not None
    assert done.certificate.largest_difference <= 1e-4


def test_files_of_old_torch_without_counters_are_read_under_prefixes(tmp_path: Path) -> None:
    old = {name: tensor for name, tensor in state().items() if not name.endswith(".num_batches_tracked")}
    convert(saved(under("_orig_mod.module.", old), tmp_path), tmp_path / "m")
    assert_same(weights_of(tmp_path / "m"), state())


def test_a_classifier_of_another_name_becomes_fc(tmp_path: Path) -> None:
    head = {"model.fc.1.weight": state()["fc.weight"], "model.fc.1.bias": state()["fc.bias"]}
    done = convert(saved({**under("model.", backbone()), **head}, tmp_path), tmp_path / "m")
    assert "the linear layer fc.1 is the classifier" in done.assumed
    assert_same(weights_of(tmp_path / "m"), state())


def test_the_python_api_returns_features(tmp_path: Path) -> None:
    deepresidual.convert(saved({"teacher": under("backbone.", backbone())}, tmp_path), tmp_path / "m")
    model = deepresidual.load(tmp_path / "m")
    whole = create(SPEC).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(whole.fc(model.network(images)), whole(images))
