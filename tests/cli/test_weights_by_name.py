"""The natural ways to ask for learned weights: each works, or is answered with a sentence that leads on."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

import deepresidual
from deepresidual.cli import main
from deepresidual.zoo.released import num_released
from tests.conversion.in_process import read_in_this_process
from tests.fakes.hub import FakeHub
from tests.fakes.releases import TINY, add_rows, small_checkpoint

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def tiny(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """A Hub with a small network that the table of released weights knows."""
    hub.add_transformers("someone/tiny", layer_type="basic")
    add_rows(monkeypatch, TINY)
    return hub


@pytest.fixture
def photo(photos: Path) -> str:
    return str(next((photos / "test").rglob("*.png")))


def test_train_pretrained_is_answered_with_the_option(capsys: Capture) -> None:
    assert main(["train", "digits", "--model", "resnet50", "--pretrained"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: residual train has no option --pretrained; leave it out: photos begin")
    assert "--weights NAME names others" in said


@pytest.mark.parametrize("given", ["tiny", pytest.param("someone/tiny", marks=pytest.mark.test_all)])
def test_train_takes_what_load_takes(
    tiny: FakeHub, photos: Path, tmp_path: Path, capsys: Capture, given: str
) -> None:
    out = tmp_path / "run"
    options = "--recipe finetune --steps 1 --batch-size 8 --image-px 32 --precision fp32 --workers 0"
    assert main(["train", str(photos), "--weights", given, *options.split(), "--out", str(out)]) == 0
    assert "tiny.tv_in1k (torchvision V1, BSD-3-Clause, ImageNet-1k, 69.76 %)" in capsys.readouterr().err
    model = deepresidual.load(out)
    assert sorted(model.label_names) == sorted(path.name for path in (photos / "test").iterdir())
    record = model.provenance
    assert (record["began with"], record["licence of the weights"]) == ("tiny.tv_in1k", "BSD-3-Clause")
    assert "commercial use" not in record


@pytest.mark.test_all
def test_a_run_and_what_begins_with_it_keep_the_licence(
    tiny: FakeHub, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    add_rows(monkeypatch, dataclasses.replace(TINY, licence="CC-BY-NC-4.0", commercial="no"))
    options = "--recipe finetune --steps 1 --batch-size 8 --image-px 32 --precision fp32 --workers 0"
    for given, out in (("tiny.tv_in1k", "first"), (str(tmp_path / "first"), "second")):
        run = tmp_path / out
        assert main(["train", str(photos), "--weights", given, *options.split(), "--out", str(run)]) == 0
        assert f"{given} is CC-BY-NC-4.0: not for commercial use" in capsys.readouterr().err
        assert deepresidual.load(run).provenance["commercial use"] == "no"
        assert "does not allow commercial use" in (run / "model" / "README.md").read_text()


def test_train_without_a_network_is_one_sentence(
    hub: FakeHub, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["train", str(photos), "--weights", "resnet50", "--out", str(tmp_path / "run")]) == 4
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        "error: resnet50.tv_in1k (102 MB) is not in the cache and the Hugging Face Hub cannot"
    )
    assert not (tmp_path / "run").exists()


def test_convert_by_name(tiny: FakeHub, tmp_path: Path, capsys: Capture) -> None:
    assert main(["convert", "tiny", str(tmp_path / "r"), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["from_ecosystem"], done["num_classes"]) == ("transformers", 3)
    assert deepresidual.load(tmp_path / "r").provenance["weights"] == "tiny.tv_in1k"
    assert main(["convert", "tiny", str(tmp_path / "two"), "--num-classes", "2", "--half"]) == 0


def test_convert_and_load_by_url(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    read_in_this_process(monkeypatch)
    url = hub.serve("resnet-small.pth", small_checkpoint())
    assert main(["convert", url, str(tmp_path / "r")]) == 0
    assert f"{url}: custom, from torchvision" in capsys.readouterr().out
    assert deepresidual.load(url).spec.num_classes == 3


@pytest.mark.parametrize("given", ["someone/tiny", "hf:someone/tiny", "tiny.tv_in1k", "tiny"])
def test_every_command_takes_what_load_takes(
    tiny: FakeHub, photo: str, photos: Path, tmp_path: Path, capsys: Capture, given: str
) -> None:
    assert deepresidual.load(given).spec.num_classes == 3
    assert main(["predict", given, photo, "--json"]) == 0
    assert main(["explain", given, photo, "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["evaluate", given, str(photos), "--json"]) in (0, 3)  # its classes have other names
    assert "Traceback" not in capsys.readouterr().err


def test_create_takes_them_as_timm_does(tiny: FakeHub) -> None:
    network = deepresidual.create("tiny.tv_in1k", num_classes=2)
    assert network.spec.num_classes == 2
    assert deepresidual.create("resnet56-cifar10").spec.num_classes == 10


@pytest.mark.parametrize("command", ["predict", "explain", "evaluate", "convert", "fetch"])
def test_a_mistyped_name_is_one_sentence(command: str, tmp_path: Path, capsys: Capture) -> None:
    words = [] if command == "fetch" else [str(tmp_path / "x")]
    assert main([command, "resnet50.a9_in1k", *words]) == 3
    error = capsys.readouterr().err
    assert error.startswith(
        "error: there is no folder, and there are no weights, 'resnet50.a9_in1k'; nearest: "
    )
    assert error.endswith(f"; 'residual models --weights' lists {num_released()}\n")


def test_a_model_without_classifier_leads_to_training(
    tiny: FakeHub, photo: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    tiny.add_timm("someone/backbone", "resnet18", num_classes=0)
    assert main(["predict", "someone/backbone", photo]) == 3
    assert "'residual train DATA --weights someone/backbone'" in capsys.readouterr().err


def test_fetch_writes_a_folder_to_carry_over(tiny: FakeHub, tmp_path: Path, capsys: Capture) -> None:
    assert main(["fetch", "tiny", "--to", str(tmp_path / "carried")]) == 0
    out = capsys.readouterr().out
    assert out.startswith("tiny.tv_in1k (torchvision V1, BSD-3-Clause, ImageNet-1k, 69.76 %)\n")
    assert "  licence     BSD-3-Clause\n" in out
    assert "  certificate largest difference of logits" in out
    assert f"  model       {tmp_path / 'carried'}\n" in out
    shutil.rmtree(tmp_path / "residual-cache")
    tiny.asked.clear()
    model = deepresidual.load(tmp_path / "carried")
    assert (model.provenance["licence"], tiny.asked) == ("BSD-3-Clause", [])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert main(["fetch", "tiny", "--to", str(tmp_path / "full")]) == 2
    assert main(["fetch"]) == 2
    assert main(["fetch", "tiny", "resnet18", "--to", "x"]) == 2
    assert capsys.readouterr().err.endswith("error: --to is given for 2 names; expected one name\n")


def test_fetch_without_a_network_is_one_sentence(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["fetch", "resnet18"]) == 4
    assert capsys.readouterr().err.startswith(
        "error: resnet18.tv_in1k (47 MB) is not in the cache and the Hugg"
    )


def test_models_lists_weights(tiny: FakeHub, capsys: Capture) -> None:
    assert main(["models", "--weights", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["weights"]
    assert [row["name"] for row in rows[:3]] == ["resnet20-cifar10", "resnet20-digits", "resnet56-cifar10"]
    assert len(rows) == 3 + num_released()
    assert {row["name"] for row in rows if row["here"]} == {row["name"] for row in rows[:3]}
    assert main(["fetch", "tiny"]) == 0
    capsys.readouterr()
    assert main(["models", "tiny", "--weights", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["weights"]
    assert (row["here"], row["licence"], row["top1"], row["commercial"]) == (
        True,
        "BSD-3-Clause",
        0.69758,
        "yes",
    )
    assert main(["models", "resnet50*", "--weights"]) == 0
    out = capsys.readouterr().out
    assert "resnet50.fb_swsl_ig1b_ft_in1k" in out
    assert "CC-BY-NC-4.0" in out
    assert main(["models", "maskrcnn_resnet50_fpn"]) == 0
    out = capsys.readouterr().out
    assert "maskrcnn_resnet50_fpn.tv_coco" in out
    assert "AP 37.9%" in out
    assert main(["models", "resnt50*", "--weights"]) == 2
    assert main(["models", "resnet50"]) == 0
    assert "  weights     resnet50.tv_in1k (torchvision V1" in capsys.readouterr().out
