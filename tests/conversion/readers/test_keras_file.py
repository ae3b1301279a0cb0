"""Keras's three kinds of file, written by Keras itself; and HDF5 files that lead elsewhere or swell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from deepresidual.conversion.readers import keras_file, read
from deepresidual.conversion.values import type_name
from deepresidual.errors import MissingDependencyError, ModelFileError

if TYPE_CHECKING:
    from collections.abc import Callable

h5py = pytest.importorskip("h5py")

WRITE_WITH_KERAS = """
import sys, warnings, numpy, keras
warnings.simplefilter("ignore")
inputs = keras.Input((8, 8, 3), name="image")
x = keras.layers.Conv2D(4, 3, name="conv1_conv")(inputs)
x = keras.layers.BatchNormalization(name="conv1_bn")(x)
model = keras.Model(inputs, keras.layers.Dense(2, name="head")(keras.layers.Flatten()(x)))
model.compile("adam", "mse")
model.save(sys.argv[1] + "/model.keras")
model.save(sys.argv[1] + "/model.h5")
model.save_weights(sys.argv[1] + "/model.weights.h5")
weights = {weight.path: numpy.array(weight) for weight in model.weights}
numpy.savez(sys.argv[1] + "/expected.npz", **weights)
"""


@pytest.fixture(scope="module", params=["stored", pytest.param("fresh", marks=pytest.mark.test_all)])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of the program above, as they lie beside this file, or written now."""
    if request.param == "stored":
        return Path(__file__).parent / "written" / "keras"
    folder = tmp_path_factory.mktemp("keras")
    ended = subprocess.run(
        [sys.executable, "-c", WRITE_WITH_KERAS, str(folder)],
        env=os.environ | {"KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": ""},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "No module named 'keras'" in ended.stderr:
        pytest.skip("keras is not installed")
    assert ended.returncode == 0, ended.stderr
    return folder


def expected(folder: Path) -> dict[str, Any]:
    with np.load(folder / "expected.npz") as file:
        return dict(file)


def test_a_whole_model_of_the_old_form_is_read(written: Path) -> None:
    checkpoint = read(written / "model.h5")
    assert checkpoint.format == "keras"
    assert checkpoint.metadata["layer_names"] == ["image", "conv1_conv", "conv1_bn", "flatten", "head"]
    assert checkpoint.metadata["config"]["class_name"] == "Functional"
    names = checkpoint.metadata["weight_names"]["model_weights/conv1_bn"]
    assert len(names) == 4
    for layer in ("conv1_conv", "conv1_bn", "head"):
        for name in checkpoint.metadata["weight_names"][f"model_weights/{layer}"]:
            found = checkpoint.tensors[f"model_weights/{layer}/{name}"]
            assert found.dtype == torch.float32
            np.testing.assert_array_equal(found.numpy(), expected(written)[name])
    assert not [name for name in checkpoint.tensors if "optimizer" in name]


@pytest.mark.parametrize("name", ["model.keras", "model.weights.h5"])
def test_the_files_of_keras_3_are_read(written: Path, name: str) -> None:
    tensors, metadata = keras_file.parse(written / name)
    by_values = expected(written)
    np.testing.assert_array_equal(tensors["layers/conv2d/vars/0"].numpy(), by_values["conv1_conv/kernel"])
    np.testing.assert_array_equal(
        tensors["layers/batch_normalization/vars/3"].numpy(), by_values["conv1_bn/moving_variance"]
    )
    assert len(tensors) == len(by_values)
    assert all(entry.startswith("optimizer/") for entry in metadata["not_weights"])
    if name == "model.keras":
        assert metadata["config"]["class_name"] == "Functional"


@pytest.mark.child
def test_a_keras_archive_goes_the_whole_way(written: Path) -> None:
    assert len(read(written / "model.keras").tensors) == 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.h5"


def write(path: Path, fill: Callable[[Any], object], elements: int = 100) -> Path:
    with h5py.File(path, "w") as file:
        file.create_dataset("layer/kernel:0", data=np.arange(elements, dtype="f4"))
        fill(file)
    return path


def test_types_byte_orders_and_split_names_are_read(path: Path) -> None:
    def fill(file: Any) -> None:
        file.create_dataset("half", data=np.ones((2, 3), "f2"))
        file.create_dataset("big", data=np.arange(3, dtype=">f8"), compression="gzip")
        file.create_dataset("scalar", data=np.int64(3))
        file.create_dataset("empty", data=np.zeros((0, 3), "f4"))
        file.create_dataset("text", data=b"x")
        file.create_dataset("flag", data=np.array([True, False]))
        file.create_dataset("count", data=np.array([2**62]))
        file.create_dataset("huge", data=np.array([1e300]))
        brain = file.create_dataset("brain", data=np.array([0x3F80, 0xC000], "<u2").view("V2"))
        brain.attrs["dtype"] = "bfloat16"
        file.create_dataset("bytes", data=np.array([0x3F80], "<u2").view("V2"))
        file.create_dataset("optimizer_weights/m", data=np.ones(2))
        file.attrs["layer_names0"], file.attrs["layer_names1"] = [b"a"], ["b"]

    tensors, metadata = keras_file.parse(write(path, fill))
    assert {name: type_name(tensor.dtype) for name, tensor in tensors.items()} == {
        "layer/kernel:0": "float32",
        "half": "float16",
        "big": "float64",
        "scalar": "int64",
        "empty": "float32",
        "flag": "bool",
        "count": "int64",
        "huge": "float64",
        "brain": "bfloat16",
    }
    assert tensors["brain"].tolist() == [1, -2]
    assert tensors["huge"].tolist() == [1e300]
    assert tensors["big"].tolist() == [0, 1, 2]
    assert (tensors["scalar"].shape, tensors["empty"].shape) == ((), (0, 3))
    assert metadata["layer_names"] == ["a", "b"]
    assert metadata["not_weights"] == {
        "bytes": "no numbers",
        "optimizer_weights/m": "the optimizer's; not used at inference",
        "text": "no numbers",
    }


def assign(value: object) -> Callable[[Any], object]:
    return lambda file: file.__setitem__("x", value)


def create(**how: Any) -> Callable[[Any], object]:
    return lambda file: file.create_dataset("x", **how)


def nothing(file: Any) -> None:
    """Add nothing."""


def virtual(file: Any) -> None:
    layout = h5py.VirtualLayout(shape=(4,), dtype="f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", shape=(4,))
    file.create_virtual_dataset("v", layout)


def circle(file: Any) -> None:
    file["layer/again"] = file["layer"]


@pytest.mark.parametrize(
    ("fill", "text"),
    [
        (
            assign(h5py.ExternalLink("/etc/other.h5", "/a")),
            "'x' is a link that leads",
        ),
        (assign(h5py.SoftLink("/layer")), "'x' is a link that leads elsewhere"),
        (
            create(shape=(4,), dtype="u1", external=[("/etc/passwd", 0, 4)]),
            "the values of 'x' lie in another file",
        ),
        (virtual, "the values of 'v' lie in another file"),
        (
            create(data=np.zeros(100), compression="lzf"),
            r"has the HDF5 filters \[32000\]",
        ),
        (
            create(data=np.zeros(10**6), compression="gzip"),
            "is larger than the file",
        ),
        (
            create(shape=(10**6, 10**6)),
            r"'x' of shape \(1000000, 1000000\) is larger",
        ),
        (
            create(shape=(2,), chunks=(2**29,), maxshape=(None,), compression="gzip"),
            "is larger than the file",
        ),
        (circle, "the group 'layer/again' leads in a circle"),
        (assign(np.dtype("f4")), "'x' is neither a group nor an array"),
        (lambda file: file.attrs.__setitem__("model_config", '{"a":1,"a":2}'), "the name 'a' is there twice"),
        (lambda file: file.attrs.__setitem__("model_config", "[" * 60_000), "is not plain JSON"),
    ],
)
def test_hdf5_that_leads_elsewhere_or_swells_is_refused(
    path: Path, fill: Callable[[Any], object], text: str
) -> None:
    with pytest.raises(ModelFileError, match=text):
        keras_file.parse(write(path, fill))


def test_a_file_cut_short_is_refused(path: Path) -> None:
    write(path, nothing, elements=10_000)
    path.write_bytes(path.read_bytes()[:-8000])
    with pytest.raises(ModelFileError, match=r"x\.h5 is damaged"):
        read(path)


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_a_configuration_is_kept_as_text_and_nothing_of_it_is_imported(tmp_path: Path) -> None:
    weights = write(tmp_path / "w.h5", nothing).read_bytes()
    config = {
        "module": "residual_no_such_module",
        "class_name": "Lambda",
        "config": {"function": ["4wEAAA==", None, None]},
    }
    path = archive(
        tmp_path / "x.keras",
        {"metadata.json": b"{}", "config.json": json.dumps(config).encode(), "model.weights.h5": weights},
    )
    tensors, metadata = keras_file.parse(path)
    assert list(tensors) == ["layer/kernel:0"]
    assert metadata["config"] == config


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"model.weights.h5": bytes(50_000_000)}, r"has [\d,]+ bytes and unpacks to 50,000,000"),
        ({"model.weights.h5": b"x", "../../x": b"x"}, r"'\.\./\.\./x' leads out of the archive"),
        ({"config.json": b"{}"}, r"is a zip file without model\.weights\.h5"),
        ({"config.json": b"\xff", "model.weights.h5": b"x"}, r"config\.json is not JSON in UTF-8"),
        ({"config.json": b"[" * 100_000, "model.weights.h5": b"x"}, r"config\.json is not plain JSON"),
        ({"model.weights.h5": b"x" * 1000}, "is damaged or no HDF5 file"),
    ],
)
def test_an_archive_that_swells_or_leads_elsewhere_is_refused(
    tmp_path: Path, members: dict[str, bytes], text: str
) -> None:
    with pytest.raises(ModelFileError, match=text):
        keras_file.parse(archive(tmp_path / "x.keras", members, zipfile.ZIP_DEFLATED))


def test_without_h5py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingDependencyError, match=r"needs h5py; run: pip install 'deepresidual\[keras\]'"):
        keras_file.require()
