"""torchvision's own Faster and Mask R-CNN, saved by torch.save and read here, and the other way."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepresidual.backends.detector import TorchDetector
from deepresidual.cli import main
from deepresidual.conversion import detections_certificate
from deepresidual.conversion.batch_norm_eps import with_eps
from deepresidual.conversion.detect import find_detector
from deepresidual.conversion.detections_certificate import DetectionsCertificate, certify_detections
from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.torchvision_detection import TorchVisionDetection, coco_names
from deepresidual.conversion.translation import read_tensors
from deepresidual.data.bundled_photos import bundled_photos
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.models import load_detector, load_network, save
from deepresidual.models.convert import Conversion, convert
from deepresidual.models.weights import detects_objects, resolve_weights
from deepresidual.nn.detection import Detector
from deepresidual.zoo.released import list_released, released
from tests.conversion.in_process import read_in_this_process
from tests.detectors import tiny_detector, write_shapes
from tests.fakes.hub import FakeHub
from tests.fakes.releases import add_rows
from tests.on_demand import OnDemand

detection: Any = OnDemand("torchvision.models.detection")
resnet: Any = OnDemand("torchvision.models.resnet")

# The other two have the same layers.
KINDS = (
    *("mask", "faster_v2"),
    *(pytest.param(kind, marks=pytest.mark.test_all) for kind in ("faster", "mask_v2")),
)
CHANNELS, CLASSES = 16, 3


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in this process, and compare on small parts of the two photos."""

    def parts() -> Iterator[tuple[str, NDArray[np.uint8]]]:
        for name, photo in bundled_photos():
            yield name, photo[100:196, 200:340]

    read_in_this_process(monkeypatch)
    monkeypatch.setattr(detections_certificate, "bundled_photos", parts)


def tiny(kind: str, norm: Any = nn.BatchNorm2d, num_classes: int = CLASSES) -> Any:
    """Return torchvision's detector of few and narrow layers, with weights that find something."""
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.models.detection.rpn import RPNHead

    second = kind.endswith("_v2")
    norms = nn.BatchNorm2d if second else None
    backbone = BackboneWithFPN(
        resnet.ResNet(resnet.BasicBlock, [1, 1, 1, 1], norm_layer=norm),
        {f"layer{stage}": str(stage - 1) for stage in range(1, 5)},
        [64, 128, 256, 512],
        CHANNELS,
        norm_layer=norms,
    )
    head = TwoMLPHead(CHANNELS * 49, 24)
    if second:
        head = FastRCNNConvFCHead((CHANNELS, 7, 7), [CHANNELS] * 2, [24], norm_layer=norms)
    parts = {
        "rpn_head": RPNHead(CHANNELS, 3, 2 if second else 1),
        "box_head": head,
        "box_predictor": FastRCNNPredictor(24, num_classes + 1),
    }
    if kind.startswith("mask"):
        masks = {
            "mask_head": MaskRCNNHeads(CHANNELS, [12, 12], 1, norm_layer=norms),
            "mask_predictor": MaskRCNNPredictor(12, 12, num_classes + 1),
        }
        network = detection.MaskRCNN(backbone, **parts, **masks)
    else:
        network = detection.FasterRCNN(backbone, **parts)
    return lively(network)


def lively(network: Any) -> Any:
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if hasattr(module, "running_var"):
            for tensor, low, high in (
                (module.weight, 0.4, 0.8),
                (module.bias, -0.2, 0.2),
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.7, 1.5),
            ):
                nn.init.uniform_(tensor, low, high, generator=generator)
    for module in (*network.rpn.modules(), *network.roi_heads.box_predictor.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, std=0.08, generator=generator)
    return network.eval()


def saved(network: Any, path: Path) -> Path:
    torch.save(network.state_dict(), path)
    return path


def in_memory(state: dict[str, Tensor]) -> ForeignCheckpoint:
    return ForeignCheckpoint(Path("file.pth"), "torch", state, "")


def certificate_of(done: Conversion) -> DetectionsCertificate:
    assert isinstance(done.certificate, DetectionsCertificate)
    return done.certificate


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_finds_the_same_here_and_goes_back_to_the_bit(kind: str, tmp_path: Path) -> None:
    network = tiny(kind)
    done = convert(saved(network, tmp_path / "net.pth"), tmp_path / "model")
    assert (done.from_ecosystem, done.num_classes) == ("torchvision", CLASSES)
    certificate = certificate_of(done)
    assert (certificate.boxes, certificate.scores, certificate.num_missing) == (0.0, 0.0, 0)
    assert certificate.masks == (0.0 if kind.startswith("mask") else None)
    assert certificate.num_compared > 20
    model = load_network(tmp_path / "model")
    assert isinstance(model, TorchDetector)
    spec, second = model.spec, kind.endswith("_v2")
    assert (spec.fpn_channels, spec.fpn_norm, spec.rpn_convs) == (CHANNELS, second, 2 if second else 1)
    assert (spec.regions.convs, spec.regions.hidden, spec.regions.bins) == (2 if second else 0, 24, 7)
    assert (spec.masks is not None) == kind.startswith("mask")
    assert model.preprocess.to_dict()["fit"] == "whole"
    assert (model.preprocess.resize_px, model.preprocess.crop_px) == (800, 1333)
    assert "detections boxes differ by at most 0 px" in str(model.provenance["certificate"])

    back = convert(tmp_path / "model", tmp_path / "back.pth", to="torchvision")
    assert certificate_of(back).num_compared == certificate.num_compared
    state = torch.load(tmp_path / "back.pth", weights_only=True)
    tiny(kind).load_state_dict(state)  # strictly
    assert all(torch.equal(state[name], tensor) for name, tensor in network.state_dict().items())


def test_whole_images_find_what_torchvision_finds_of_the_same_pixels(tmp_path: Path) -> None:
    """What a user calls: of an image that neither side resizes, boxes, labels and scores are the same."""
    network = tiny("faster")
    convert(saved(network, tmp_path / "net.pth"), tmp_path / "model")
    model = load_detector(tmp_path / "model")
    photo = next(bundled_photos())[1][100:196, 200:340]
    height, width = photo.shape[:2]
    record = dataclasses.replace(model.preprocess, resize_px=height, crop_px=width)
    (ours,) = model.with_preprocess(record).predict(photo, 0.05)
    network.transform.min_size, network.transform.max_size = (height,), width
    with torch.inference_mode():
        theirs = network([torch.from_numpy(photo.copy()).permute(2, 0, 1) / 255])[0]
    assert len(theirs["boxes"]) > 5
    assert ours.objects.labels.tolist() == (theirs["labels"] - 1).tolist()
    np.testing.assert_allclose(ours.objects.boxes, theirs["boxes"].numpy(), atol=0.01)
    assert ours.objects.scores is not None
    np.testing.assert_allclose(ours.objects.scores, theirs["scores"].numpy(), atol=1e-5)


@pytest.mark.parametrize("name", list_released("*rcnn*"))
def test_the_networks_of_its_functions_are_recognized(name: str) -> None:
    release = released(name)
    with torch.device("meta"):
        theirs = getattr(detection, release.network)(weights=None, weights_backbone=None)
    checkpoint = in_memory(theirs.state_dict())
    recognized = TorchVisionDetection().recognize(checkpoint)
    assert recognized is not None
    spec = recognized.spec
    assert (spec.num_classes, spec.num_parameters) == (release.num_classes, release.num_parameters)
    assert recognized.label_names == coco_names()
    assert recognized.preprocess == release.preprocess
    with torch.device("meta"):
        ours = Detector(spec).state_dict()
    translation = TorchVisionDetection().translation(spec, checkpoint)
    assert {(rule.source, checkpoint.tensors[rule.source].shape) for rule in translation.rules} == {
        (name, tensor.shape) for name, tensor in checkpoint.tensors.items()
    }
    assert {rule.target for rule in translation.rules} == set(ours)
    call = TorchVisionDetection().to_load(spec)
    assert call == f"{release.network}(weights=None, weights_backbone=None, num_classes=91)"


@pytest.mark.parametrize("name", ["resnet18", "resnet34", "resnet101", "resnext50_32x4d", "wide_resnet50_2"])
@pytest.mark.parametrize("layers", [None, [2, 3, 4], [1, 2, 3]])
def test_any_resnet_that_its_function_makes_is_a_backbone(name: str, layers: list[int] | None) -> None:
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    with torch.device("meta"):
        backbone = resnet_fpn_backbone(backbone_name=name, weights=None, returned_layers=layers)
        sizes = tuple((8 * 2.0**level,) for level in range(2, 3 + len(layers or [0] * 4)))
        anchors = AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * len(sizes))
        theirs = detection.FasterRCNN(backbone, num_classes=5, rpn_anchor_generator=anchors)
    state = theirs.state_dict()
    recognized = TorchVisionDetection().recognize(in_memory(state))
    assert recognized is not None
    spec = recognized.spec
    assert (spec.num_classes, spec.fpn_stages) == (4, len(layers or [0] * 4))
    with torch.device("meta"):
        ours = Detector(spec).state_dict()
    # Its frozen BN counts no batches.
    assert set(state) == {name for name in ours if not name.endswith("num_batches_tracked")}
    assert all(ours[name].shape == tensor.shape for name, tensor in state.items())
    assert any("frozen BN adds 1e-5" in clause for clause in recognized.assumed)
    if layers is None:
        assert f'resnet_fpn_backbone(backbone_name="{name}"' in TorchVisionDetection().to_load(spec)


def test_names_of_before_are_read_as_those_of_today() -> None:
    """torchvision's released files have them."""
    state = tiny("mask").state_dict()
    former = dict(state)
    for name in state:
        new = re.sub(r"(_blocks\.\d)\.0\.", r"\1.", name).replace("rpn.head.conv.0.0.", "rpn.head.conv.")
        if match := re.fullmatch(r"roi_heads\.mask_head\.(\d)\.0\.(\w+)", new):
            new = f"roi_heads.mask_head.mask_fcn{int(match[1]) + 1}.{match[2]}"
        former[new] = former.pop(name)
    assert len(set(state) - set(former)) == 16 + 2 + 4
    source, checkpoint = TorchVisionDetection(), in_memory(former)
    old, today = source.recognize(checkpoint), source.recognize(in_memory(state))
    assert old is not None
    assert old == today
    read = read_tensors(
        source.translation(old.spec, checkpoint), former, Detector(old.spec).state_dict(), "file"
    )
    assert all(torch.equal(read[name], tensor) for name, tensor in state.items())


# -- epsilon -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "eps"), [(None, 1e-5), ("fasterrcnn_resnet50_fpn.COCO_V1", 0.0)])
def test_what_frozen_batch_normalization_adds_is_as_said(
    model: str | None, eps: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.ops import FrozenBatchNorm2d

    network = tiny("faster", norm=partial(FrozenBatchNorm2d, eps=0.0))
    path = saved(network, tmp_path / "net.pth")
    seen: list[float] = []

    def watched(state: dict[str, Tensor], there: float, here: float, where: str) -> dict[str, Tensor]:
        seen.append(there)
        return with_eps(state, there, here, where)

    monkeypatch.setattr("deepresidual.models.foreign_detector.with_eps", watched)
    done = convert(path, tmp_path / "model", model=model)
    assert seen == [eps]
    assert any("frozen BN adds 1e-5" in clause for clause in done.assumed) == (model is None)
    assert load_detector(tmp_path / "model").spec.backbone.bn_eps == 1e-5


def test_another_epsilon_is_the_same_function() -> None:
    norm = nn.BatchNorm2d(4, eps=0.0)
    assert norm.running_var is not None
    nn.init.uniform_(norm.running_var, 1e-6, 1e-3, generator=torch.Generator().manual_seed(0))
    norm.eval()
    other = nn.BatchNorm2d(4, eps=1e-5)
    state = {f"bn.{name}": tensor for name, tensor in norm.state_dict().items()}
    carried = with_eps(state, 0.0, 1e-5, "file")
    other.load_state_dict({name.removeprefix("bn."): tensor for name, tensor in carried.items()})
    x = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(other.eval()(x), norm(x), rtol=1e-5, atol=1e-5)
    state["bn.running_var"][1] = 0.0
    with pytest.raises(ModelFileError, match=r"file: bn.running_var has variances of 0"):
        with_eps(state, 0.0, 1e-5, "file")


# -- what a file may hold beside -----------------------------------------------------------------------------


def test_a_prefix_is_taken_off_and_what_is_beside_is_named(tmp_path: Path) -> None:
    state = {f"model.detector.{name}": tensor for name, tensor in tiny("faster").state_dict().items()}
    torch.save(
        {"state_dict": {**state, "model.loss.weight": torch.ones(3)}, "epoch": 3}, tmp_path / "net.ckpt"
    )
    done = convert(tmp_path / "net.ckpt", tmp_path / "model")
    assert done.state_dict == "state_dict.model.detector."
    assert list(done.dropped) == ["outside the detector, which is under model.detector."]
    assert list(done.beside) == ["epoch"]


@pytest.mark.test_all
def test_of_two_detectors_one_is_named(tmp_path: Path) -> None:
    one, other = tiny("faster").state_dict(), tiny("faster", num_classes=2).state_dict()
    both = {f"a.{name}": tensor for name, tensor in one.items()}
    both |= {f"b.{name}": tensor for name, tensor in other.items()}
    torch.save(both, tmp_path / "net.pth")
    with pytest.raises(ModelFileError, match=r"holds 2 networks, 'a\.', 'b\.'"):
        convert(tmp_path / "net.pth", tmp_path / "model")
    done = convert(tmp_path / "net.pth", tmp_path / "model", state_dict="b")
    assert (done.num_classes, done.state_dict) == (2, "b.")
    assert list(done.not_taken) == []


def test_the_backbone_alone_is_had_by_its_prefix(tmp_path: Path) -> None:
    path = saved(tiny("faster"), tmp_path / "net.pth")
    assert find_detector(in_memory(torch.load(path, weights_only=True)), "backbone.body") is None
    done = convert(path, tmp_path / "model", state_dict="backbone.body")
    assert (done.num_classes, done.state_dict) == (0, "backbone.body.")


def test_coco_s_rows_without_a_class_stay_with_their_number() -> None:
    names = coco_names()
    assert (len(names), len(set(names)), names[0], names[11], names[-1]) == (
        *(90, 90),
        *("person", "N/A 12", "toothbrush"),
    )
    assert sum(name.startswith("N/A") for name in names) == 10


# -- by name -------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_release(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A detector of three classes on a server, which the table of released weights knows."""
    content = saved(tiny("faster"), tmp_path / "net.pth").read_bytes()
    recognized = TorchVisionDetection().recognize(in_memory(tiny("faster").state_dict()))
    assert recognized is not None
    row = dataclasses.replace(
        released("fasterrcnn_resnet50_fpn.tv_coco"),
        name="tiny_fpn.tv_coco",
        aliases=("tiny_fpn.COCO_V1",),
        network="tiny_fpn",
        url=hub.serve("net.pth", content),
        num_classes=CLASSES,
        num_parameters=recognized.spec.num_parameters,
    )
    add_rows(monkeypatch, row)
    return row.name


def test_released_detectors_are_fetched_and_converted_once(tiny_release: str, hub: FakeHub) -> None:
    assert detects_objects(tiny_release)
    found = resolve_weights(tiny_release)
    line = "tiny_fpn.tv_coco (torchvision, BSD-3-Clause, COCO, box AP 37 %)"
    assert (found.licence, found.description) == ("BSD-3-Clause", line)
    model = load_detector("tiny_fpn")
    record = model.provenance
    assert (record["weights"], record["published accuracy"], record["trained on"]) == (
        "tiny_fpn.tv_coco",
        "box AP 37 % on COCO val2017",
        "COCO",
    )
    assert "assumed" not in record
    hub.asked.clear()
    assert resolve_weights("tiny_fpn.COCO_V1").path == found.path
    assert hub.asked == []


def test_a_file_of_another_detector_is_refused(tiny_release: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = dataclasses.replace(released(tiny_release), num_classes=90)
    add_rows(monkeypatch, row)
    with pytest.raises(ModelFileError, match=r"is a detector of 3 classes with .* expected 90 and"):
        resolve_weights(tiny_release)


@pytest.mark.test_all
def test_training_begins_with_them_by_name(
    tiny_release: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_shapes(tmp_path / "data", 4, 2)
    words = [
        "--weights",
        tiny_release,
        "--steps",
        "1",
        "--batch-size",
        "2",
        "--image-px",
        "64",
        "--workers",
        "0",
    ]
    assert main(["train", str(data), *words, "--precision", "fp32", "--out", str(tmp_path / "run")]) == 0
    assert "begins with tiny_fpn.tv_coco (torchvision, BSD-3-Clause, COCO, box" in capsys.readouterr().err
    model = load_detector(tmp_path / "run")
    assert (model.label_names, model.provenance["began with"]) == (("disc", "square"), "tiny_fpn.tv_coco")


# -- refused -------------------------------------------------------------------------------------------------


def test_a_conversion_that_finds_something_else_is_refused() -> None:
    network = tiny("mask")
    source, checkpoint = TorchVisionDetection(), in_memory(network.state_dict())
    recognized = source.recognize(checkpoint)
    assert recognized is not None
    ours = Detector(recognized.spec)
    ours.load_state_dict(network.state_dict())
    assert certify_detections(ours.eval(), source, checkpoint, recognized).boxes == 0.0
    with torch.no_grad():
        ours.roi_heads.box_predictor.bbox_pred.bias.add_(0.5)
    with pytest.raises(ModelFileError, match=r"is not the function of torchvision \S+ MaskRCNN: of \d+ det"):
        certify_detections(ours, source, checkpoint, recognized)
    with torch.no_grad():
        ours.roi_heads.box_predictor.bbox_pred.bias.fill_(float("nan"))
    with pytest.raises(ModelFileError, match=r"the scores for china.jpg are not finite"):
        certify_detections(ours, source, checkpoint, recognized)


def test_scores_that_are_all_one_are_compared_by_smaller_logits() -> None:
    network = tiny("mask")
    with torch.no_grad():
        network.roi_heads.box_predictor.cls_score.bias[1] = 100  # the score of all boxes is 1 in float32
    source, checkpoint = TorchVisionDetection(), in_memory(network.state_dict())
    recognized = source.recognize(checkpoint)
    assert recognized is not None
    ours = Detector(recognized.spec)
    ours.load_state_dict(network.state_dict())
    certificate = certify_detections(ours.eval(), source, checkpoint, recognized)
    assert certificate.boxes == certificate.scores == certificate.masks == 0.0
    assert re.search(r"logits of the classes divided by 100?, since scores are equal", certificate.input)
    predictor = ours.roi_heads.box_predictor
    for bias, by in ((predictor.bbox_pred.bias, 0.5), (predictor.cls_score.bias[2:3], 0.05)):
        with torch.no_grad():
            bias.add_(by)
        with pytest.raises(ModelFileError, match=r"is not the function of torchvision"):
            certify_detections(ours, source, checkpoint, recognized)
        with torch.no_grad():
            bias.sub_(by)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"roi_heads.keypoint_predictor.kps_score_lowres.weight": (1,)}, "torchvision's Keypoint R-CNN"),
        ({"rpn.head.cls_logits.weight": (15, CHANNELS, 1, 1)}, "there are 15 anchors at each place"),
        ({"backbone.fpn.extra_blocks.p6.weight": (1,)}, r"its pyramid has backbone.fpn.extra_blocks.p6"),
        (
            {"backbone.fpn.inner_blocks.3.0.weight": (CHANNELS, 99, 1, 1)},
            r"reads maps of \[64, 128, 256, 99\]",
        ),
        ({"roi_heads.box_head.fc6.weight": None}, "its head of the boxes has no layer called fc6"),
        ({"backbone.body.layer1.0.strange": (1,)}, "a tensor that its networks do not have"),
    ],
)
def test_what_no_detector_here_has_is_named(changes: dict[str, Any], message: str) -> None:
    state = tiny("faster").state_dict()
    for name, shape in changes.items():
        state[name] = torch.zeros(shape or 0)
        if shape is None:
            del state[name]
    with pytest.raises(ModelFileError, match=message):
        TorchVisionDetection().recognize(in_memory(state))


def test_what_is_not_for_detectors_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(saved(tiny("faster"), tmp_path / "net.pth"))
    model = str(tmp_path / "model")
    assert main(["convert", path, model, "--num-classes", "4"]) == 2
    assert "detects objects, and --num-classes is given" in capsys.readouterr().err
    assert main(["convert", path, model, "--model", "resnet18"]) == 2
    assert (
        "the file is a detector, and --model is resnet18; expected released weights"
        in capsys.readouterr().err
    )
    assert not Path(model).exists()
    save(tiny_detector(), tmp_path / "own")
    assert main(["convert", str(tmp_path / "own"), str(tmp_path / "x"), "--to", "timm"]) == 2
    assert "no detector can be written for timm; expected torchvision" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="torchvision has no such network"):
        convert(tmp_path / "own", tmp_path / "x", to="torchvision")
    assert not (tmp_path / "x").exists()


@pytest.mark.test_all
def test_the_command_prints_and_stores_the_certificate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tiny("mask"), tmp_path / "net.pth")
    assert main(["convert", str(path), str(tmp_path / "model")]) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"\n  certificate of \d+ detections boxes differ by at most 0 px, scores by 0 and masks", out
    )
    assert main(["convert", str(tmp_path / "model"), str(tmp_path / "b.pth"), "--to", "torchvision"]) == 0
    assert "  changed     to load it: MaskRCNN with a backbone, anchors and heads" in capsys.readouterr().out
