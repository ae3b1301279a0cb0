"""TensorFlow's checkpoints, written by TensorFlow in a process of its own."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepresidual.conversion.readers import read, tensorflow_checkpoint
from deepresidual.errors import MissingDependencyError, ModelFileError

WRITE = """
import sys, numpy, tensorflow as tf
v1, graph = tf.compat.v1, tf.Graph()
with graph.as_default():
    kernel = v1.get_variable("resnet/conv1/weights", [3, 3, 2, 4])
    mean = v1.get_variable("resnet/conv1/BatchNorm/moving_mean", [4], trainable=False)
    v1.get_variable("scalar", [], initializer=v1.constant_initializer(0.25))
    v1.get_variable("half", [], tf.bfloat16, initializer=v1.constant_initializer(0.5))
    float8 = tf.dtypes.experimental.float8_e4m3fn
    v1.get_variable("small", [2], float8, initializer=v1.constant_initializer(0.5))
    v1.get_variable("flag", [2], tf.bool, initializer=v1.constant_initializer(True))
    v1.get_variable("text", [], tf.string, initializer=v1.constant_initializer("x"))
    loss = tf.reduce_sum(kernel * kernel)
    v1.train.MomentumOptimizer(0.1, 0.9).minimize(loss, global_step=v1.train.get_or_create_global_step())
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, sys.argv[1] + "/model.ckpt")
        numpy.save(sys.argv[1] + "/kernel.npy", session.run(kernel))
"""
needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="tensorflow is not installed"
)


@pytest.fixture(scope="module", params=["stored", pytest.param("fresh", marks=pytest.mark.test_all)])
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the program above, as it lies beside this file, or written now."""
    if request.param == "stored":
        return Path(__file__).parent / "written" / "tensorflow"
    folder = tmp_path_factory.mktemp("tensorflow")
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(
        [sys.executable, "-c", WRITE, str(folder)],
        env=environment,
        check=True,
        capture_output=True,
        timeout=120,
    )
    return folder


@needs_tensorflow
def test_variables_come_back_and_what_training_needed_is_left_out(written: Path) -> None:
    checkpoint = read(written / "model.ckpt")
    assert checkpoint.format == "tensorflow"
    assert {name: str(tensor.dtype) for name, tensor in checkpoint.tensors.items()} == {
        "resnet/conv1/weights": "torch.float32",
        "resnet/conv1/BatchNorm/moving_mean": "torch.float32",
        "scalar": "torch.float32",
        "half": "torch.bfloat16",
        "small": "torch.float8_e4m3fn",
        "flag": "torch.bool",
    }
    assert checkpoint.tensors["scalar"].shape == ()
    assert [checkpoint.tensors[name].item() for name in ("scalar", "half")] == [0.25, 0.5]
    assert checkpoint.tensors["small"].float().tolist() == [0.5, 0.5]
    found = checkpoint.tensors["resnet/conv1/weights"].numpy()
    np.testing.assert_array_equal(found, np.load(written / "kernel.npy"))
    assert checkpoint.metadata["not_weights"] == {
        "global_step": "the optimizer's; not used at inference",
        "resnet/conv1/weights/Momentum": "the optimizer's; not used at inference",
        "text": "no numbers",
    }


def test_other_files_of_a_checkpoint_are_refused(written: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written, tmp_path / "copy")
    with pytest.raises(ModelFileError, match=r"a part of a TensorFlow checkpoint; .*; give .*model\.ckpt$"):
        read(folder / "model.ckpt.data-00000-of-00001")
    if not (folder / "model.ckpt.meta").exists():
        # A graph, which begins with the versions that it was made by.
        (folder / "model.ckpt.meta").write_bytes(b"\x0a\xb5\x43\x0a\xa9\x1a\x0a\x19\x0a\x03Add\x12")
    with pytest.raises(ModelFileError, match=r"model\.ckpt\.meta is of no known format"):
        read(folder / "model.ckpt.meta")


@needs_tensorflow
@pytest.mark.test_all  # TensorFlow cannot read beside torch, and takes its time to start
def test_a_damaged_checkpoint_is_refused(written: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(written, tmp_path / "copy")
    (folder / "checkpoint").write_text('model_checkpoint_path: "model.ckpt"')
    index = folder / "model.ckpt.index"
    content = bytearray(index.read_bytes())
    content[len(content) // 3] ^= 255
    index.write_bytes(bytes(content))
    # The folder leads to the checkpoint that its file `checkpoint` names.
    with pytest.raises(ModelFileError, match="is damaged|holds no weights"):
        read(folder)


def test_a_checkpoint_without_its_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.ckpt.index").write_bytes(b"\x57\xfb\x80\x8b\x24\x75\x47\xdb")
    for path in (tmp_path / "x.ckpt", tmp_path / "x.ckpt.index"):
        with pytest.raises(ModelFileError, match=r"x\.ckpt\.data-00000-of-00001 is missing"):
            read(path)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (
            'model_checkpoint_path: "../../elsewhere/x.ckpt"',
            r"tensorflow/x\.ckpt is no TensorFlow",
        ),
        ("nothing", "names no checkpoint"),
    ],
)
def test_the_file_checkpoint_does_not_lead_out_of_the_folder(tmp_path: Path, text: str, match: str) -> None:
    folder = tmp_path / "tensorflow"
    folder.mkdir()
    (folder / "checkpoint").write_text(text)
    with pytest.raises(ModelFileError, match=match):
        read(folder)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("resnet/conv1/weights", ""),
        ("resnet/conv1/weights/Momentum", "optimizer"),
        ("dense/kernel/Adam_1", "optimizer"),
        ("train/dense/kernel/Adam_3", "optimizer"),
        ("beta1_power", "optimizer"),
        ("train/beta2_power_1", "optimizer"),
        ("Adam", ""),
        ("conv_1/kernel_1", ""),
        ("bn/bn/moving_mean/biased", "before their correction"),
        ("bn/bn/moving_mean/biased_2", "before their correction"),
        ("bn/bn/moving_mean/local_step", "count the updates"),
        ("conv/kernel/ExponentialMovingAverage", "exponential moving averages"),
        ("layer/kernel/.ATTRIBUTES/VARIABLE_VALUE", ""),
        ("layer/kernel/.OPTIMIZER_SLOT/optimizer/momentum/.ATTRIBUTES/VARIABLE_VALUE", "optimizer"),
        ("save_counter/.ATTRIBUTES/VARIABLE_VALUE", "optimizer"),
        ("optimizer/_iterations/.ATTRIBUTES/VARIABLE_VALUE", "optimizer"),
    ],
)
def test_what_only_training_needed_is_known_by_name(name: str, reason: str) -> None:
    found = tensorflow_checkpoint.reason_left_out(name)
    assert reason in found
    assert bool(found) is bool(reason)


def test_without_tensorflow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingDependencyError, match=r"run: pip install 'deepresidual\[tensorflow\]'"):
        tensorflow_checkpoint.require()
