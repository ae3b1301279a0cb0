"""Bad input: one clear sentence, the right exit code, no traceback, nothing half-written."""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from deepresidual.cli import main
from deepresidual.models import TorchClassifier, save

Capture = pytest.CaptureFixture[str]
Damage = Callable[[Path], None]


@pytest.fixture
def model(tmp_path: Path, tiny_model: TorchClassifier) -> Path:
    save(tiny_model, tmp_path / "model")
    return tmp_path / "model"


def complaint(capsys: Capture) -> str:
    """Return the one line on stderr that begins with ``error:``."""
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    return line.removeprefix("error: ")


def train(data: Path | str, out: Path, *more: str) -> int:
    return main(["train", str(data), "--model", "resnet20", "--image-px", "8", "--out", str(out), *more])


def test_unknown_model(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["train", str(photos), "--model", "resnet21", "--out", str(tmp_path / "run")]) == 2
    assert complaint(capsys).startswith("unknown model 'resnet21' (nearest: ")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train", "evaluate", "predict"])
def test_missing_folder(model: Path, tmp_path: Path, capsys: Capture, command: str) -> None:
    gone = str(tmp_path / "gone")
    arguments = {"train": ["train", gone], "evaluate": ["evaluate", str(model), gone]}
    assert main(arguments.get(command, ["predict", str(model), gone])) == 3
    assert complaint(capsys).startswith(f"{gone} does not exist; expected ")


def test_missing_model(tmp_path: Path, capsys: Capture) -> None:
    assert main(["evaluate", str(tmp_path / "gone"), "digits"]) == 3
    assert "gone does not exist; expected a folder with config.json and model.safetensors" in complaint(
        capsys
    )


def test_empty_class(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    for file in (photos / "train" / "green").iterdir():
        file.unlink()
    assert train(photos, tmp_path / "run") == 3
    assert complaint(capsys).startswith("class 'green' has no images in ")
    assert not (tmp_path / "run").exists()


def test_one_class_only(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    for part in ("train", "test"):
        shutil.rmtree(photos / part / "green")
        shutil.rmtree(photos / part / "red")
    assert train(photos, tmp_path / "run") == 3
    assert (
        complaint(capsys)
        == f"{photos} has only one class (blue); expected at least 2; add a folder for another class"
    )


def test_corrupt_jpeg(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    file = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(file, "JPEG")
    content = bytearray(file.getvalue())
    content[len(content) // 2 :] = b"\xff\xd9"
    (photos / "train" / "red" / "bad.jpg").write_bytes(content[: len(content) // 2])
    assert train(photos, tmp_path / "run") == 3
    assert complaint(capsys).startswith("train/red/bad.jpg: damaged JPEG (")


def test_truncated_png(photos: Path, tmp_path: Path, capsys: Capture, damage: Damage) -> None:
    damage(photos / "test" / "red" / "red-001.png")
    assert train(photos, tmp_path / "run", "--epochs", "1") == 3
    assert complaint(capsys).startswith("test/red/red-001.png: damaged PNG (")


def test_text_named_jpg(model: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "letter.jpg").write_text("Dear reader,")
    assert main(["predict", str(model), str(tmp_path / "letter.jpg")]) == 3
    err = capsys.readouterr().err
    reason = (
        "not an image that can be used (found text); expected JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC"
    )
    assert f"{tmp_path / 'letter.jpg'}: {reason}" in err
    assert "Traceback" not in err


def test_image_bomb(model: Path, tmp_path: Path, capsys: Capture) -> None:
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    content = file.getvalue()
    at = content.index(b"\xff\xc0") + 5  # the frame header: length, precision, height, width
    content = content[:at] + struct.pack(">HH", 65500, 65500) + content[at + 4 :]
    (tmp_path / "bomb.jpg").write_bytes(content)
    assert main(["predict", str(model), str(tmp_path / "bomb.jpg")]) == 3
    err = capsys.readouterr().err
    assert "the image is too large (65500×65500 px = 4,290 MP); expected at most 128 MP" in err


def test_wrong_class_count_in_config(model: Path, photos: Path, capsys: Capture) -> None:
    config = json.loads((model / "config.json").read_text())
    config["num_classes"] = 10
    (model / "config.json").write_text(json.dumps(config))
    assert main(["evaluate", str(model), str(photos)]) == 3
    assert complaint(capsys).endswith("num_classes is 10 and the spec says 3; expected the same")


def test_truncated_safetensors(model: Path, photos: Path, capsys: Capture, damage: Damage) -> None:
    damage(model / "model.safetensors")
    assert main(["predict", str(model), str(photos / "test")]) == 3
    assert "model.safetensors is damaged or no safetensors file (" in complaint(capsys)


def test_nan_in_weights(model: Path, photos: Path, capsys: Capture) -> None:
    state = load_file(model / "model.safetensors")
    torch.nn.init.constant_(state["fc.bias"], float("nan"))
    save_file(state, model / "model.safetensors")
    assert main(["predict", str(model), str(photos / "test")]) == 3
    assert complaint(capsys).endswith("tensor fc.bias has 3 values that are not finite")


@pytest.fixture
def bound_by_permissions() -> Iterator[None]:
    """Lay down Linux's CAP_DAC_OVERRIDE for the test, so that permissions bind root, too."""
    if os.geteuid() != 0:
        yield
        return
    system = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice
    assert system.capget(header, sets) == 0
    effective = sets[0]
    sets[0] &= ~(1 << 1)
    assert system.capset(header, sets) == 0
    yield
    sets[0] = effective
    assert system.capset(header, sets) == 0


def test_read_only_output_folder(tmp_path: Path, capsys: Capture, bound_by_permissions: None) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    assert train("digits", locked / "run", "--steps", "1") == 1
    message = f"cannot write {locked / 'run'} (Permission denied); choose another folder"
    assert complaint(capsys).startswith(message)


def test_output_folder_that_cannot_be_made(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert train(photos, tmp_path / "file" / "run") == 1
    assert complaint(capsys).startswith(
        f"cannot write {tmp_path / 'file' / 'run'} (Not a directory); choose another folder"
    )


def test_output_folder_that_holds_another_run(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    assert train(photos, tmp_path / "run") == 2
    assert complaint(capsys) == (
        f"{tmp_path / 'run'} already holds a run; continue it with --resume, or choose another --out"
    )


def test_negative_learning_rate(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    assert train(photos, tmp_path / "run", "--learning-rate", "-1") == 2
    assert complaint(capsys) == "learning_rate is -1.0; expected a number above 0 to 1000"
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="needs a limit of file sizes")
def test_weights_that_do_not_fit_on_the_disk(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        assert train(photos, tmp_path / "run", "--steps", "2", "--batch-size", "8") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert complaint(capsys).startswith(f"cannot write {tmp_path / 'run'}")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"
    assert not (tmp_path / "run" / "model").exists()


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_a_negative_number_of_workers(model: Path, photos: Path, capsys: Capture, command: str) -> None:
    assert main([command, str(model), str(photos), "--workers", "-1"]) == 2
    captured = capsys.readouterr()
    assert "error: num_workers is -1; expected 0 to 256" in captured.err
    assert captured.out == ""


def test_too_many_classes_are_refused_before_a_header_is_printed(
    model: Path, photos: Path, capsys: Capture
) -> None:
    assert main(["predict", str(model), str(photos), "--top-k", "4", "--format", "csv"]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: top_k is 4; expected 1 to 3\n")


def test_an_empty_path(model: Path, capsys: Capture) -> None:
    assert main(["predict", str(model), ""]) == 2
    assert complaint(capsys) == "a PATH is empty; expected an image file, a folder or a pattern"


def test_an_empty_out(photos: Path, capsys: Capture) -> None:
    assert main(["train", str(photos), "--out", ""]) == 2
    assert complaint(capsys) == "--out is empty; expected the name of a folder"


def test_control_characters_in_names_reach_no_terminal(model: Path, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "evil\x1b[2J\nline.jpg").write_text("text")
    assert main(["predict", str(model), str(tmp_path / "photos")]) == 3
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert r"evil\x1b[2J\nline.jpg: not an image" in err


def test_a_word_for_a_number(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    assert train(photos, tmp_path / "run", "--epochs", "many") == 2
    assert capsys.readouterr().err == "error: --epochs is 'many'; expected a number\n"


def test_a_loss_that_is_not_finite(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    options = ["--learning-rate", "1000", "--momentum", "0.99", "--warmup-epochs", "0", "--batch-size", "10"]
    assert train(photos, tmp_path / "run", *options, "--epochs", "200", "--precision", "fp32") == 5
    assert "lower" in complaint(capsys)
