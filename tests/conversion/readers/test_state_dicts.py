"""Where training programs put the state dict, and what they keep beside it; nothing of it runs."""

from __future__ import annotations

import argparse
import collections
import datetime as dt
import pathlib
import pickle
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deepresidual.conversion.readers import torch_file
from deepresidual.conversion.readers.stand_ins import STAND_INS
from deepresidual.errors import ModelFileError
from tests.conversion.readers.writers import Touch

FORMS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
WEIGHTS = {"conv1.weight": torch.ones(2, 3, 3, 3), "fc.weight": torch.ones(2, 2), "fc.bias": torch.ones(2)}
AVERAGE = {name: tensor + 1 for name, tensor in WEIGHTS.items()}


def save(document: object, path: Path, *, zipped: bool = True) -> Path:
    torch.save(document, path, _use_new_zipfile_serialization=zipped)
    return path


def parse(document: object, folder: Path, state_dict: str = "", *, zipped: bool = True) -> Any:
    return torch_file.parse(save(document, folder / "x.pt", zipped=zipped), state_dict)


@pytest.mark.parametrize(
    ("beside", "keys", "others"),
    [
        # PyTorch's ImageNet example, torchvision's references, timm, Lightning, DeepSpeed, Composer, fastai.
        ({"state_dict": WEIGHTS, "best_acc1": torch.tensor(71.2), "epoch": 3}, "state_dict", []),
        ({"model": WEIGHTS, "model_ema": AVERAGE, "epoch": 1}, "model", ["model_ema"]),
        ({"state_dict_ema": AVERAGE, "state_dict": WEIGHTS}, "state_dict", ["state_dict_ema"]),
        ({"state_dict": WEIGHTS, "current_model_state": AVERAGE}, "state_dict", ["current_model_state"]),
        ({"module": WEIGHTS, "global_steps": 3, "ds_version": "0.1"}, "module", []),
        ({"state": {"model": WEIGHTS, "rng": 3}, "rng": []}, "state.model", []),
        ({"model": WEIGHTS, "opt": {"state": [{"mom": torch.ones(3)}]}}, "model", []),
        (
            {"meta": {"epoch": 1}, "state_dict": WEIGHTS, "ema_state_dict": AVERAGE},
            "state_dict",
            ["ema_state_dict"],
        ),
        ({"student": AVERAGE, "teacher": WEIGHTS}, "teacher", ["student"]),
        ({"ema": {"module": AVERAGE}, "net": WEIGHTS}, "net", ["ema.module"]),
        ({"weights": WEIGHTS, "swa": AVERAGE}, "weights", ["swa"]),
        ({"anything": WEIGHTS}, "anything", []),
        ({"model_ema": WEIGHTS, "epoch": 1}, "model_ema", []),
        ({**WEIGHTS, "state_dict_ema": AVERAGE}, "", ["state_dict_ema"]),
    ],
)
def test_the_state_dict_is_found_and_others_are_named(
    tmp_path: Path, beside: dict[str, Any], keys: str, others: list[str]
) -> None:
    for document in (beside, dict(reversed(beside.items()))):
        tensors, metadata = parse(document, tmp_path)
        assert ".".join(metadata["unwrapped"]) == keys
        assert all(torch.equal(tensors[name], tensor) for name, tensor in WEIGHTS.items())
        assert list(metadata["alternatives"]) == others
        assert not set(others) & set(metadata["ignored"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("state_dict_ema", "averaged weights of 3 tensors, not taken"),
        ("swa.model", "averaged weights of 3 tensors, not taken"),
        ("current_model_state", "other weights of 3 tensors, not taken"),
    ],
)
def test_other_weights_can_be_asked_for(tmp_path: Path, name: str, said: str) -> None:
    other: Any = AVERAGE
    for key in reversed(name.split(".")):
        other = {key: other}
    document = {"state_dict": WEIGHTS, **other}
    assert parse(document, tmp_path)[1]["alternatives"] == {name: said}
    tensors, metadata = parse(document, tmp_path, name)
    assert torch.equal(tensors["fc.bias"], AVERAGE["fc.bias"])
    assert metadata["alternatives"] == {"state_dict": "other weights of 3 tensors, not taken"}


def test_state_dicts_of_unknown_names_are_not_chosen_from(tmp_path: Path) -> None:
    for document, names in (
        ({"left": WEIGHTS, "right": AVERAGE}, "left, right"),
        ({"a": {"state_dict": WEIGHTS}, "b": {"state_dict": AVERAGE}}, r"a\.state_dict, b\.state_dict"),
    ):
        with pytest.raises(ModelFileError, match=rf"holds 2 state dicts \({names}\); expected one, or"):
            parse(document, tmp_path)
    tensors, _ = parse({"left": WEIGHTS, "right": AVERAGE}, tmp_path, "right")
    assert torch.equal(tensors["fc.bias"], AVERAGE["fc.bias"])


def test_what_an_optimizer_keeps_is_never_the_network(tmp_path: Path) -> None:
    network = torch.nn.Linear(4, 4)
    optimizer = torch.optim.Adam(network.parameters())
    network(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    by_name = {"exp_avg": dict(network.named_parameters()), "exp_avg_sq": dict(network.named_parameters())}
    for kept in (optimizer.state_dict(), by_name):
        tensors, metadata = parse({"optimizer": kept, "mine": network.state_dict()}, tmp_path)
        assert (list(tensors), metadata["unwrapped"]) == (["weight", "bias"], ["mine"])


def odd_things() -> dict[str, Any]:
    """What training programs keep beside the weights, by how the report calls it."""
    return {
        "a Namespace": argparse.Namespace(
            lr=0.1, milestones=[30, 60], data=Path("/data"), inner=argparse.Namespace()
        ),
        "a NumPy number": np.float64(71.2),
        "a NumPy array": np.arange(6, dtype=np.int64).reshape(2, 3),
        "a NumPy type": np.dtype("float32"),
        "a path": pathlib.PurePosixPath("/data/x"),
        "a date": dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC),
        "a version": torch.torch_version.TorchVersion("2.0"),
        "a dict": collections.defaultdict(list, {"a": [1, 2]}),
        "a list": collections.deque([1, 2]),
        "an OrderedDict": collections.OrderedDict(a=1),
        "a device": torch.device("cpu"),
        "a Size": torch.Size([1, 2]),
        "a dtype": torch.float32,
    }


@FORMS
@pytest.mark.parametrize("described", list(odd_things()))
def test_what_programs_keep_beside_the_weights_is_read_as_a_stand_in(
    tmp_path: Path, described: str, zipped: bool
) -> None:
    document = {"args": odd_things()[described], "state_dict": WEIGHTS, "more": [odd_things()[described]]}
    tensors, metadata = parse(document, tmp_path, zipped=zipped)
    assert list(tensors) == list(WEIGHTS)
    assert metadata["ignored"]["args"] == f"beside the weights ({described})"


def test_objects_of_numpy_and_types_as_values_are_read(tmp_path: Path) -> None:
    args = argparse.Namespace(
        kind=np.float32, path=Path("x"), objects=np.array([{"a": 1}, None], dtype=object)
    )
    args.itself = args
    tensors, _ = parse({"args": args, "metric": [np.float32(1), np.bool_(True)], "model": WEIGHTS}, tmp_path)
    assert list(tensors) == list(WEIGHTS)


def test_hyperparameters_of_lightning_are_read_as_a_dict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = "lightning.fabric.utilities.data"
    attribute_dict = type("AttributeDict", (dict,), {"__module__": home})
    module = types.ModuleType(home)
    module.AttributeDict = attribute_dict  # type: ignore[attr-defined]
    with monkeypatch.context() as installed:
        parts = home.split(".")
        for depth in range(1, len(parts)):
            installed.setitem(sys.modules, ".".join(parts[:depth]), types.ModuleType(parts[depth - 1]))
        installed.setitem(sys.modules, home, module)
        path = save({"hyper_parameters": attribute_dict(lr=0.1), "state_dict": WEIGHTS}, tmp_path / "x.ckpt")
    assert torch_file.parse(path)[1]["ignored"] == {"hyper_parameters": "beside the weights (a dict)"}


class Pickled:
    """Pickles as a call or a state of whatever it is told to."""

    def __init__(self, *reduced: Any) -> None:
        self.reduced = reduced

    def __reduce__(self) -> tuple[Any, ...]:
        return self.reduced


@FORMS
def test_nothing_is_called_by_way_of_a_stand_in(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "marker"
    hostile = (
        argparse.Namespace(run=Touch(marker)),
        Pickled(argparse.Namespace, (), {"a": Touch(marker)}),
        Pickled(np.dtype, (Touch(marker),)),
        Pickled(collections.defaultdict, (list, {"a": Touch(marker)})),
        Pickled(collections.defaultdict, (Touch(marker),)),
        {Path("x"): Touch(marker)},
    )
    for thing in hostile:
        with pytest.raises(ModelFileError, match=r"holds more than tensors \((posix|nt)\.system\)"):
            parse({"args": thing, "state_dict": WEIGHTS}, tmp_path, zipped=zipped)
        assert not marker.exists()


def test_a_stand_in_takes_a_state_and_nothing_real_is_changed(tmp_path: Path) -> None:
    before = dict(vars(argparse.Namespace))
    state = {"__class__": "x", "__init__": "y", "__setstate__": 1, "__dict__": {"a": 1}}
    for reduced in (
        (argparse.Namespace, (), state),
        (argparse.Namespace, (), (state, {"__class__": 3})),
        (argparse.Namespace, (1, 2, 3), [1]),
        (np.dtype, ("f8", False, True), (3, "<", None, None, None, -1, -1, 0)),
    ):
        tensors, _ = parse({"args": Pickled(*reduced), "state_dict": WEIGHTS}, tmp_path)
        assert list(tensors) == list(WEIGHTS)
    assert dict(vars(argparse.Namespace)) == before


@pytest.mark.parametrize(
    "thing",
    [
        Pickled(getattr, (argparse.Namespace, "__init__")),
        Pickled(eval, ("1",)),
        Pickled(__import__, ("os",)),
        Pickled(np.load, ("x.npy",)),
        Pickled(pickle.loads, (b"x",)),
        pytest.param(argparse.ArgumentParser, id="a class that is not listed"),
    ],
)
def test_names_that_are_not_listed_are_refused(tmp_path: Path, thing: Any) -> None:
    with pytest.raises(ModelFileError, match=r"holds more than tensors \([\w.]+\)"):
        parse({"args": thing, "state_dict": WEIGHTS}, tmp_path)


def test_torch_forgets_the_stand_ins_after_reading(tmp_path: Path) -> None:
    before = torch.serialization.get_safe_globals()
    parse({"args": argparse.Namespace(), "state_dict": WEIGHTS}, tmp_path)
    with pytest.raises(ModelFileError, match="holds more than tensors"):
        parse({"args": Touch(tmp_path / "x"), "state_dict": WEIGHTS}, tmp_path)
    assert torch.serialization.get_safe_globals() == before


def test_no_stand_in_is_the_thing_itself() -> None:
    for name, kind in STAND_INS.items():
        assert kind.__module__ == "deepresidual.conversion.readers.stand_ins", name
        assert not name.startswith(("os.", "sys.", "builtins.eval", "builtins.exec", "posix."))


@FORMS
def test_the_log_of_mmengine_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    class HistoryBuffer:
        def __init__(self) -> None:
            self._log_history = np.ones(3)
            self._statistics_methods = collections.OrderedDict(mean=HistoryBuffer.mean)

        def mean(self) -> float:
            return 0.0

    HistoryBuffer.__qualname__ = "HistoryBuffer"
    HistoryBuffer.mean.__qualname__ = "HistoryBuffer.mean"
    for part in (HistoryBuffer, HistoryBuffer.mean):
        part.__module__ = "mmengine.logging.history_buffer"
    module = types.ModuleType("mmengine.logging.history_buffer")
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    for name in ("mmengine", "mmengine.logging"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    document = {"state_dict": WEIGHTS, "message_hub": {"log_scalars": {"loss": HistoryBuffer()}}}
    file = save(document, tmp_path / "epoch_1.pth", zipped=zipped)
    monkeypatch.undo()
    tensors, metadata = torch_file.parse(file)
    assert set(tensors) == set(WEIGHTS)
    assert metadata["ignored"] == {"message_hub": "beside the weights (a dict)"}


def test_arrays_instead_of_tensors_are_no_state_dict(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="without tensors; expected a state dict, or one under"):
        parse({"state_dict": {"conv1.weight": np.ones((2, 3))}}, tmp_path)


def test_a_pickle_that_nests_in_itself_ends(tmp_path: Path) -> None:
    document: dict[str, Any] = {"a": {}}
    document["a"]["b"] = document
    with pytest.raises(ModelFileError, match="holds a dict without tensors"):
        parse(document, tmp_path)


def test_names_of_control_characters_are_shown_harmlessly(tmp_path: Path) -> None:
    _, metadata = parse({"state_dict": WEIGHTS, "x\033[2J\n": 1, "ema\033": AVERAGE}, tmp_path)
    assert list(metadata["ignored"]) == ["x\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}"]
    assert list(metadata["alternatives"]) == ["ema\N{REPLACEMENT CHARACTER}"]
