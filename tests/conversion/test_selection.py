"""The network is found among the tensors of a state dict; every other tensor is dropped with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from deepresidual.conversion.detect import recognize
from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.selection import Selection, select_network
from deepresidual.conversion.translation import read_tensors
from deepresidual.errors import ModelFileError
from deepresidual.models import create
from deepresidual.nn import empty_network
from deepresidual.spec import ResNetSpec

SPEC = ResNetSpec(unit="basic", depths=(1, 1, 1), widths=(4, 8, 16), stem="cifar", num_classes=3)
State = dict[str, Tensor]


def state(seed: int = 0) -> State:
    return create(SPEC, seed=seed).state_dict()


def backbone() -> State:
    return {name: tensor for name, tensor in state().items() if not name.startswith("fc.")}


def under(prefix: str, tensors: State) -> State:
    return {prefix + name: tensor for name, tensor in tensors.items()}


def select(tensors: State, state_dict: str = "") -> Selection:
    return select_network(ForeignCheckpoint(Path("x.pth"), "torch", tensors, ""), state_dict)


def network_of(selection: Selection) -> State:
    """The state dict that the ecosystems read strictly from a selection."""
    origin, recognition = recognize(selection.checkpoint)
    target = empty_network(recognition.spec).state_dict()
    translation = origin.translation(recognition.spec, selection.checkpoint)
    return read_tensors(translation, selection.checkpoint.tensors, target, "x.pth")


def assert_same(found: State, expected: State) -> None:
    assert list(found) == list(expected)
    for name, tensor in found.items():
        assert torch.equal(tensor, expected[name]), name


def reasons(selection: Selection) -> set[str]:
    return set(selection.dropped.values())


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "module.", "model.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model.module."),
        *("backbone.", "net.", "encoder.", "module.model._orig_mod.", "a.very.long.way.in."),
    ],
)
def test_any_prefix_is_found(prefix: str) -> None:
    selection = select(under(prefix, state()))
    assert (selection.prefix, selection.dropped, selection.assumed) == (prefix, {}, ())
    assert_same(network_of(selection), state())


def test_the_same_names_in_safetensors_are_found() -> None:
    tensors = under("model.", state())
    selection = select_network(ForeignCheckpoint(Path("x"), "safetensors", tensors, ""))
    assert_same(network_of(selection), state())


def test_other_formats_are_left_alone() -> None:
    tensors = under("model.", state())
    assert select_network(ForeignCheckpoint(Path("x"), "keras", tensors, "")).checkpoint.tensors is tensors
    with pytest.raises(ModelFileError, match="is a keras file, which has one set of weights; leave out"):
        select_network(ForeignCheckpoint(Path("x"), "keras", tensors, ""), "state_dict_ema")


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["criterion.weight"], "of a loss (criterion)"),
        (["loss_fn.weight", "loss_fn.pos_weight"], "of a loss (loss_fn)"),
        (["val_acc.tp", "val_acc.fp"], "of a metric (val_acc)"),
        (["train_acc1.total"], "of a metric (train_acc1)"),
        (["scores.confmat"], "of a metric (scores)"),
    ],
)
def test_a_loss_and_a_metric_are_dropped_beside_and_inside(
    prefix: str, names: list[str], reason: str
) -> None:
    for place in {prefix, ""}:
        extra = {place + name: torch.ones(3) for name in names}
        selection = select({**under(prefix, state()), **extra})
        assert_same(network_of(selection), state())
        assert set(selection.dropped) == set(extra)
        (found,) = reasons(selection)
        assert found == reason if place == "" else found.startswith(reason.partition(" (")[0])


def test_an_averaged_model_of_torch_is_read() -> None:
    network = create(SPEC)
    for wrapped in (network, torch.nn.DataParallel(network)):
        selection = select(dict(AveragedModel(wrapped).state_dict()))
        assert_same(network_of(selection), state())
        assert selection.dropped == {"n_averaged": "a counter of training (n_averaged)"}


def test_what_lies_outside_the_prefix_is_dropped_by_name() -> None:
    tensors = {**under("model.", state()), "normalizer.mean": torch.ones(3), "extra": torch.ones(2, 2)}
    selection = select(tensors)
    assert_same(network_of(selection), state())
    assert reasons(selection) == {"outside the network, which is under model. (normalizer, extra)"}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("conv2.weight", r"a tensor that its networks do not have \(conv2.weight\)"),  # CLIP's stem
        ("attnpool.weight", r"a tensor that its networks do not have \(attnpool.weight\)"),
        ("layer1.0.se.fc.weight", r"do not have \(layer1.0.se.fc.weight\)"),
        ("layer1.0.tp", r"do not have \(layer1.0.tp\)"),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_what_may_be_of_the_network_is_in_the_way(extra: str, message: str, whole: bool) -> None:
    tensors = {**(state() if whole else backbone()), extra: torch.ones(2, 2)}
    with pytest.raises(ModelFileError, match=message):
        network_of(select(under("model.", tensors)))


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias"], "fc.0, fc.2"),
        (["projection_head.0.weight", "prototypes.weight"], "projection_head.0, prototypes"),
        (["projector.weight", "projector.bias"], "projector"),
        (["head.mlp.0.weight", "head.last_layer.weight_g"], "head.mlp, head.last_layer"),
        (["classifier.weight"], "classifier"),
    ],
)
def test_a_head_that_is_no_linear_classifier_is_dropped(names: list[str], shown: str) -> None:
    extra = {f"module.{name}": torch.ones(16, 16) for name in names if not name.endswith("bias")}
    extra |= {f"module.{name}": torch.ones(16) for name in names if name.endswith("bias")}
    selection = select({**under("module.", backbone()), **extra})
    assert_same(network_of(selection), backbone())
    (reason,) = reasons(selection)
    expected = ", ".join(f"module.{module}" for module in shown.split(", "))
    assert reason == f"of a head that is no linear classifier ({expected})"


@pytest.mark.parametrize(
    ("prefix", "module"),
    [
        ("", "fc.1"),
        ("model.", "model.fc.0"),
        ("", "classifier"),
        ("", "last_linear"),
        ("backbone.", "classifier"),
        ("model.backbone.", "model.head.1"),
    ],
)
def test_one_linear_layer_is_the_classifier_whatever_its_name(prefix: str, module: str) -> None:
    whole = state()
    head = {f"{module}.weight": whole["fc.weight"], f"{module}.bias": whole["fc.bias"]}
    selection = select({**under(prefix, backbone()), **head})
    assert_same(network_of(selection), whole)
    inside = module.removeprefix(prefix) if module.startswith(prefix) else module
    assert selection.assumed == (f"the linear layer {inside} is the classifier",)
    assert not selection.dropped


def test_a_linear_layer_of_other_features_is_no_classifier() -> None:
    selection = select({**backbone(), "fc.1.weight": torch.ones(3, 20), "fc.1.bias": torch.ones(3)})
    assert_same(network_of(selection), backbone())
    assert len(selection.dropped) == 2


def test_a_second_head_beside_the_classifier_is_dropped() -> None:
    selection = select({**state(), "projection_head.weight": torch.ones(8, 16)})
    assert_same(network_of(selection), state())
    assert reasons(selection) == {"of a second head (projection_head)"}


def test_moco_gives_its_query_encoder_without_the_projection() -> None:
    tensors = {
        **under("module.encoder_k.", state(1)),
        **under("module.encoder_q.", state()),
        "module.queue": torch.ones(4, 8),
        "module.queue_ptr": torch.zeros(1),
    }
    selection = select(tensors)
    assert selection.prefix == "module.encoder_q."
    assert_same(network_of(selection), backbone())
    assert list(selection.alternatives) == ["module.encoder_k."]
    assert set(selection.dropped) == set(tensors) - set(under("module.encoder_q.", backbone()))
    assert selection.dropped["module.encoder_q.fc.weight"].startswith("of a head that is no linear")
    assert (
        "another network, which is under module.encoder_k." in selection.dropped["module.encoder_k.bn1.bias"]
    )
    for name in ("module.encoder_k.", "module.encoder_k"):
        asked = select(tensors, name)
        assert torch.equal(asked.checkpoint.tensors["conv1.weight"], state(1)["conv1.weight"])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("model.", "model_ema."),
        ("model.", "ema_model.module."),
        ("teacher_backbone.", "student_backbone."),
        ("backbone.", "backbone_momentum."),
        ("online.", "target."),
        ("", "ema."),
        ("module.", "module.ema."),
    ],
)
def test_of_two_networks_the_usual_one_is_taken_and_the_other_named(first: str, second: str) -> None:
    for tensors in (
        {**under(first, state()), **under(second, state(1))},
        {**under(second, state(1)), **under(first, state())},
    ):
        selection = select(tensors)
        assert_same(network_of(selection), state())
        assert list(selection.alternatives) == [second]
        assert set(selection.dropped) == set(under(second, state(1)))
        assert_same(network_of(select(tensors, second)), state(1))


def test_two_networks_of_unknown_names_are_not_chosen_from() -> None:
    tensors = {**under("left.", state()), **under("right.", state(1))}
    with pytest.raises(ModelFileError, match=r"holds 2 networks, 'left\.', 'right\.'; expected one; say"):
        select(tensors)
    assert_same(network_of(select(tensors, "right.")), state(1))
    with pytest.raises(ModelFileError, match=r"no network called 'wrong'; expected one of left\., right\.$"):
        select(tensors, "wrong")
    with pytest.raises(ModelFileError, match="holds 51 networks; expected at most 50"):
        select({f"net{n}.layer1.0.conv1.weight": torch.ones(1) for n in range(51)})


def test_the_same_network_twice_is_no_choice() -> None:
    selection = select({**under("module.attacker.model.", state()), **under("module.model.", state())})
    assert selection.prefix == "module.model."
    assert_same(network_of(selection), state())


@pytest.mark.parametrize("prefix", ["", "backbone.", "0."])
def test_numbered_modules_of_a_sequential_are_read(prefix: str) -> None:
    numbers = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6"}
    renamed = {}
    for name, tensor in backbone().items():
        first, _, rest = name.partition(".")
        renamed[f"{prefix}{numbers[first]}.{rest}"] = tensor
    head = {"1.4.weight": torch.ones(8, 32), "1.8.weight": torch.ones(3, 8)} if prefix == "0." else {}
    selection = select({**renamed, **head})
    assert_same(network_of(selection), backbone())
    assert selection.assumed[0] == "its numbered modules are those of torchvision's ResNet, in their order"
    assert set(selection.dropped) == set(head)


def test_the_backbone_of_a_segmentation_network_is_taken_and_said() -> None:
    decoder = {"decoder.blocks.0.weight": torch.ones(4, 4, 3, 3), "segmentation_head.0.weight": torch.ones(2)}
    selection = select({**under("encoder.", backbone()), **decoder})
    assert_same(network_of(selection), backbone())
    assert "a dilated" not in str(selection.dropped)
    assert any("dilated backbone" in clause for clause in selection.assumed)
    assert set(selection.dropped) == set(decoder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"conv1.weight": None},
            "nearest is torchvision's and timm's resnet, of which conv1.weight is missing",
        ),
        (
            {"layer1.0.conv1.weight": None, "bn1.weight": None},
            "of which model.bn1.weight and model.layer1.0.conv1.weight are missing",
        ),
    ],
)
def test_what_is_missing_is_named(change: dict[str, None], message: str) -> None:
    tensors = under("model.", state())
    for name in change:
        del tensors[f"model.{name}"]
    with pytest.raises(ModelFileError, match=message):
        network_of(select(tensors))


def test_a_missing_tensor_of_a_unit_is_named() -> None:
    tensors = under("module.", state())
    del tensors["module.layer2.0.bn2.bias"]
    with pytest.raises(ModelFileError, match=r"does not fit the network .*− layer2\.0\.bn2\.bias"):
        network_of(select(tensors))


def test_names_of_a_file_without_a_network_are_shown() -> None:
    with pytest.raises(ModelFileError, match=r"it has 1 tensors \(features.0.weight\); expected a network"):
        network_of(select({"features.0.weight": torch.ones(4, 3, 3, 3)}))
