"""transformers' own ResNets, saved by ``save_pretrained`` and read here, and the other way."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deepresidual import zoo
from deepresidual.conversion.ecosystem import Exported, Recognition
from deepresidual.conversion.readers import read
from deepresidual.conversion.transformers import Transformers
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.models import create
from deepresidual.nn import ResNet
from deepresidual.preprocess import Preprocess
from deepresidual.spec import ResNetSpec
from tests.on_demand import OnDemand
from tests.parity.agreement import (
    TINY,
    check_both_ways,
    check_names_and_shapes,
    converted,
    largest_difference,
    randomize,
)
from tests.parity.conftest import Parity
from tests.suites import short

transformers: Any = OnDemand("transformers")

VIT = {"image_processor_type": "ViTImageProcessor"}
CONVNEXT = {"image_processor_type": "ConvNextImageProcessor", "do_center_crop": False}
NAMES = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnet50.v1", "resnet101.v1", "resnet152.v1"),
)
PREPROCESS = Preprocess(
    crop_px=64, resize_px=73, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4), interpolation="bicubic"
)


@pytest.fixture(autouse=True)
def _no_progress_bar() -> None:
    transformers.utils.logging.disable_progress_bar()


def read_here(path: Path) -> tuple[ResNet, Recognition]:
    return converted(Transformers(), read(path))


def config_of(spec: ResNetSpec) -> Any:
    return transformers.ResNetConfig(
        embedding_size=spec.widths[0],
        depths=list(spec.depths),
        hidden_sizes=[width * spec.expansion for width in spec.widths],
        layer_type=spec.unit,
        downsample_in_bottleneck=spec.stride_on == "1x1",
        num_labels=7,
    )


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnet50.v1"])
def test_tiny_networks_are_the_same_here_and_there(name: str) -> None:
    spec = dataclasses.replace(zoo.entry(name).spec, depths=TINY, widths=(16, 32, 64, 128), num_classes=7)
    theirs = transformers.ResNetForImageClassification(config_of(spec))
    check_both_ways(Transformers(), spec, theirs, lambda images: theirs(images).logits)


@pytest.mark.parametrize("name", short(NAMES, "resnet18", "resnet50", "resnet50.v1"))
def test_every_network_has_the_names_and_shapes_of_transformers(name: str) -> None:
    spec = dataclasses.replace(zoo.entry(name).spec, num_classes=7)
    with torch.device("meta"):
        check_names_and_shapes(
            Transformers(), spec, transformers.ResNetForImageClassification(config_of(spec))
        )


FULL = short(NAMES, "resnet18")


@pytest.mark.parametrize("name", FULL)
def test_networks_of_transformers_are_the_same_here(name: str, tmp_path: Path, parity: Parity) -> None:
    theirs: Any = randomize(
        transformers.ResNetForImageClassification(config_of(zoo.entry(name).spec)), seed=1
    )
    theirs.save_pretrained(tmp_path / "theirs")
    ours, recognition = read_here(tmp_path / "theirs")
    assert zoo.name_of(ours.spec) == name
    assert recognition.label_names == tuple(f"LABEL_{row}" for row in range(7))
    for size in ((64, 64), (75, 97)):
        parity(name, "transformers", "in", largest_difference(ours, lambda x: theirs(x).logits, size), 1e-5)


@pytest.mark.parametrize("name", FULL)
def test_what_is_written_transformers_opens(name: str, tmp_path: Path, parity: Parity) -> None:
    ours = randomize(create(name, num_classes=7), seed=2)
    assert isinstance(ours, ResNet)
    Transformers().write(
        Exported(ours.spec, ours.state_dict(), PREPROCESS, tuple("abcdefg")), tmp_path / "out"
    )
    theirs = transformers.ResNetForImageClassification.from_pretrained(tmp_path / "out").eval()
    parity(name, "transformers", "out", largest_difference(ours, lambda x: theirs(x).logits), 1e-5)
    assert theirs.config.id2label[3] == "d"
    back, recognition = read_here(tmp_path / "out")
    assert (back.spec, recognition.preprocess) == (ours.spec, PREPROCESS)
    assert all(torch.equal(back.state_dict()[key], tensor) for key, tensor in ours.state_dict().items())


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        ({"size": {"shortest_edge": 224}, "crop_pct": 0.875, "resample": 3}, (224, 256, "bicubic")),
        ({"size": 224, "resample": 2}, (224, 256, "bilinear")),
        ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 384, "bicubic")),
        (
            {
                "size": {"shortest_edge": 256},
                "do_center_crop": True,
                "crop_size": {"height": 224, "width": 224},
            },
            (224, 256, "bicubic"),
        ),
    ],
)
def test_preprocessing_comes_along(
    folder: Path, tmp_path: Path, processor: dict[str, Any], expected: tuple[int, int, str]
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    recognition = Transformers().recognize(read(tmp_path))
    assert recognition is not None
    preprocess = recognition.preprocess
    assert (preprocess.crop_px, preprocess.resize_px, preprocess.interpolation) == expected


@pytest.mark.parametrize(
    ("kind", "size"),
    [("ConvNext", 224), ("ConvNext", 160), ("Bit", 224)],
)
def test_pixels_are_those_of_their_processor(folder: Path, tmp_path: Path, kind: str, size: int) -> None:
    processor = getattr(transformers, f"{kind}ImageProcessor")(size={"shortest_edge": size})
    processor.save_pretrained(tmp_path)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    recognition = Transformers().recognize(read(tmp_path))
    assert recognition is not None
    assert recognition.assumed == ()
    preprocess = recognition.preprocess
    noise = np.random.default_rng(0).integers(0, 256, (30, 41, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((410, 300), Image.Resampling.BICUBIC)
    ours = preprocess.normalize(torch.from_numpy(preprocess.center_view(np.asarray(image))[None].copy()))
    theirs = processor(image, return_tensors="pt")["pixel_values"]
    assert theirs.std() > 0.1
    # torchvision's resize of tensors rounds otherwise than Pillow's: two of 255 levels.
    assert (ours - theirs).abs().max() <= 2.1 / 255 / min(preprocess.std)


@pytest.mark.parametrize(
    "processor", [{"size": {"shortest_edge": 384}}, {"size": {"height": 224, "width": 224}, **VIT}]
)
def test_squashing_is_told(folder: Path, tmp_path: Path, processor: dict[str, Any]) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
    recognition = Transformers().recognize(read(tmp_path))
    assert recognition is not None
    assert "cropped here, where transformers squashes them" in recognition.assumed[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auto_map": {"AutoImageProcessor": "x.Y"}}, "unknown key 'auto_map'"),
        ({"image_processor_type": "os.system"}, "image_processor_type is 'os.system'"),
        ({"image_processor_type": ["Bit"]}, "image_processor_type is "),
        ({"resample": [2]}, r"resample is \[2\]; expected 0, 1, 2, 3"),
        ({"resample": True}, "resample is True"),
        ({"do_normalize": False}, "do_normalize is False; expected true"),
        ({"rescale_factor": 1.0}, "rescale_factor is 1.0; expected 1/255"),
        ({"size": {"shortest_edge": 0}}, "size is .*; expected a side in pixels"),
        (
            {"size": {"height": 224, "width": 100}},
            "size is .*; expected a side in pixels, or two that are equal",
        ),
        ({"crop_size": {"height": 512, "width": 512}}, "crop_px is 512 and resize_px is 256"),
        ({"size": 10**6}, "resize_px is 1000000"),
        ({"image_std": [0, 1, 1]}, r"std is \[0.0, 1.0, 1.0\]; expected numbers above 0"),
        ({"image_mean": [0.1] * 4}, "mean is .*; expected 3 finite numbers"),
        ({**CONVNEXT, "crop_pct": 0}, "crop_pct is 0; expected 0.05 to 1"),
    ],
)
def test_hostile_processors_are_refused_by_field(
    folder: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    plain = {
        "size": 256,
        "do_center_crop": True,
        "crop_size": 224,
        "image_processor_type": "BitImageProcessor",
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**plain, **change}))
    with pytest.raises(ModelFileError, match=f"preprocessor_config.json: .*{message}"):
        Transformers().recognize(read(tmp_path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("transformers") / "resnet18"
    network = create("resnet18", num_classes=3)
    Transformers().write(Exported(network.spec, network.state_dict(), PREPROCESS, ("a", "b", "c")), path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"auto_map": {"AutoModel": "x.Y"}}, "config.json has the unknown key 'auto_map'"),
        ({"_attn_implementation_internal": "x"}, "unknown key '_attn_implementation_internal'"),
        ({"trust_remote_code": True}, "unknown key 'trust_remote_code'"),
        ({"model_type": "vit"}, "model_type is 'vit'; expected 'resnet'"),
        ({"depths": [0, 0, 0, 0]}, "depths holds 0; expected 1 to 10,000"),
        ({"hidden_sizes": []}, r"hidden_sizes is \[\]; expected a list of whole numbers"),
        ({"depths": []}, r"depths is \[\]; expected a list of whole numbers"),
        ({"depths": "2222"}, "depths is 2222; expected a list of whole numbers"),
        ({"hidden_sizes": [10**9] * 4, "embedding_size": 10**9}, "widths holds 1000000000"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu'; expected relu"),
        ({"layer_type": "x"}, "layer_type is 'x'"),
        ({"downsample_in_first_stage": True}, "downsample_in_first_stage is set; expected false"),
        ({"embedding_size": 32}, "embedding_size is 32; expected 64"),
        ({"id2label": {"0": "a"}}, "id2label does not name each of the 3 rows of the classifier once"),
        ({"id2label": {"0": "a", "1": 2, "2": "c"}}, "id2label holds names that are no strings"),
        ({"id2label": {"0": "a", "1": "a", "2": "c"}}, "id2label has 2 distinct names; expected 3"),
        ({"num_labels": 9}, "num_labels is 9; expected 3"),
        ({"num_channels": 4}, "num_channels is 4; expected 3"),
    ],
)
def test_hostile_configurations_are_refused_by_field(
    folder: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    config = {**json.loads((folder / "config.json").read_text()), **change}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    with pytest.raises(ModelFileError, match=message):
        Transformers().recognize(read(tmp_path))


def test_without_its_configuration_a_file_does_not_say_where_it_strides(folder: Path) -> None:
    with pytest.raises(ModelFileError, match="no config.json, which says where it strides"):
        Transformers().recognize(read(folder / "model.safetensors"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("resnext50_32x4d", "no ResNeXt and no Wide ResNet"),
        ("resnet50.preact", "arrangement is 'full-preactivation'"),
        ("resnet20", "stem is 'cifar'"),
    ],
)
def test_what_transformers_lacks_is_named(name: str, message: str, tmp_path: Path) -> None:
    model = Exported(zoo.entry(name).spec, {}, PREPROCESS, ())
    with pytest.raises(ConfigurationError, match=message):
        Transformers().write(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()
