"""Evaluation counts every sample once and matches classes by name; prediction streams and names bad files."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

import deepresidual
from deepresidual.backends import find_images, predict_files
from deepresidual.data.loader import Readable
from deepresidual.data.source import open_source
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.evaluation import evaluate, evaluate_split
from deepresidual.models import TorchClassifier, create, save
from deepresidual.runtime.signals import StopRequest, StopRequested
from tests.conftest import SMALL_INPUT, TINY


def brute_force_top1(model: TorchClassifier, photos: Path) -> float:
    files = sorted(photos.glob("test/*/*.png"))
    return float(np.mean([model.predict(file)[0].classes[0] == file.parent.name for file in files]))


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_every_sample_is_counted_once_whatever_the_batch(
    photos: Path, tiny_model: TorchClassifier, batch_size: int
) -> None:
    measured = evaluate(tiny_model, photos, batch_size=batch_size, num_workers=0)
    assert (measured.split, measured.count) == ("test", 15)
    assert measured.top1 == brute_force_top1(tiny_model, photos)
    assert sum(n for _, _, n in measured.confusions) == 15
    right = sum(n for true, predicted, n in measured.confusions if true == predicted)
    assert right == round(measured.top1 * 15)
    assert len(measured.mistakes) == 15 - right
    losses = [mistake.loss for mistake in measured.mistakes]
    assert losses == sorted(losses, reverse=True)


def test_workers_do_not_change_the_figures(photos: Path, tiny_model: TorchClassifier) -> None:
    assert evaluate(tiny_model, photos, num_workers=0) == evaluate(tiny_model, photos, num_workers=2)


def test_evaluate_takes_folders_by_path(photos: Path, tiny_model: TorchClassifier, tmp_path: Path) -> None:
    save(tiny_model, tmp_path / "model")
    assert deepresidual.evaluate(tmp_path / "model", photos, num_workers=0) == evaluate(
        tiny_model, photos, num_workers=0
    )


def test_classes_are_matched_by_name_not_by_position(photos: Path) -> None:
    network = create(TINY)
    model = TorchClassifier(network, ("blue", "green", "red"), SMALL_INPUT)
    turned = TorchClassifier(create(TINY), ("red", "green", "blue"), SMALL_INPUT)
    weight, bias = turned.network.fc.weight.data, turned.network.fc.bias.data
    weight.copy_(network.fc.weight.data.flip(0))
    bias.copy_(network.fc.bias.data.flip(0))
    assert evaluate(turned, photos).top1 == evaluate(model, photos).top1


def test_a_data_set_with_fewer_classes_can_be_evaluated(
    photos: Path, tiny_model: TorchClassifier, capsys: pytest.CaptureFixture[str]
) -> None:
    for part in ("train", "test"):
        shutil.rmtree(photos / part / "blue")
    assert evaluate(tiny_model, photos).count == 10
    assert "no samples of 1 of the model's 3 classes" in capsys.readouterr().err


def test_classes_that_the_model_does_not_know_are_named(photos: Path) -> None:
    model = TorchClassifier(create(TINY), ("blue", "green", "pink"), SMALL_INPUT)
    with pytest.raises(DataError, match=r"1 of 3 classes that the model does not know \(red\)"):
        evaluate(model, photos)


def test_a_class_is_known_in_every_unicode_form(photos: Path) -> None:
    network = create(TINY)
    before = evaluate(TorchClassifier(network, ("blue", "green", "red"), SMALL_INPUT), photos)
    for part in ("train", "test"):
        (photos / part / "red").rename(photos / part / "re\u0301d")
    after = evaluate(TorchClassifier(network, ("blue", "green", "r\u00e9d"), SMALL_INPUT), photos)
    assert (after.count, after.loss) == (before.count, before.loss)


def test_a_bad_sample_stops_the_evaluation_and_is_named(photos: Path, tiny_model: TorchClassifier) -> None:
    (photos / "test" / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 nothing")
    with pytest.raises(DataError, match=r"test/red/broken\.jpg: damaged JPEG"):
        evaluate(tiny_model, photos)


def test_a_part_is_never_returned_as_the_whole_where_another_request_hears_the_signal(
    photos: Path, tiny_model: TorchClassifier
) -> None:
    split = open_source(str(photos)).split("test")

    class Stopping:
        """The split, with Ctrl-C while an image of the second batch is read."""

        def __getattr__(self, name: str) -> Any:
            return getattr(split, name)

        def __len__(self) -> int:
            return len(split)

        def read(self, index: int) -> Any:
            if index == 12:
                signal.raise_signal(signal.SIGINT)
            return split.read(index)

    with StopRequest() as stop, pytest.raises(StopRequested) as request, stop.at_once():
        evaluate_split(tiny_model, cast("Readable", Stopping()), "test", num_workers=0)
    assert request.value.exit_code == 130


def test_a_signal_in_a_decoder_is_no_damaged_image(
    photos: Path, tiny_model: TorchClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("deepresidual.data.readers.to_rgb", interrupted)
    with StopRequest() as stop, pytest.raises(StopRequested) as request:
        evaluate_split(tiny_model, open_source(str(photos)).split("test"), "test", stop=stop)
    assert request.value.exit_code == 143


def test_an_unknown_split_is_named(photos: Path, tiny_model: TorchClassifier) -> None:
    with pytest.raises(
        ConfigurationError, match="has no split 'val'; .*of train, test; train with --validation"
    ):
        evaluate(tiny_model, photos, split="val")


def test_a_held_out_fifth_is_told(
    photos: Path, tiny_model: TorchClassifier, capsys: pytest.CaptureFixture[str]
) -> None:
    train: Any = ImageFolder(str(photos / "train"))
    measured = evaluate(tiny_model, train).count
    assert (
        f"note: the data set names no split: a fifth, {measured} of {len(train)} images, is measured; "
        "{'test': dataset} measures all" in capsys.readouterr().err
    )
    assert evaluate(tiny_model, {"test": train}).count == len(train)
    assert evaluate(tiny_model, photos).count == 15
    assert "names no split" not in capsys.readouterr().err


@pytest.mark.parametrize("batch_size", [0, -3])
def test_a_batch_size_below_one_is_refused(
    photos: Path, tiny_model: TorchClassifier, batch_size: int
) -> None:
    with pytest.raises(ConfigurationError, match=f"batch_size is {batch_size}"):
        evaluate(tiny_model, photos, batch_size=batch_size)


# -- prediction --------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_workers", [0, 2])
def test_files_are_predicted_in_order_and_bad_ones_reported_in_place(
    photos: Path, tiny_model: TorchClassifier, num_workers: int
) -> None:
    good = sorted(str(path) for path in photos.glob("test/*/*.png"))[:5]
    (photos / "text.jpg").write_text("hello")
    files = [*good[:2], str(photos / "text.jpg"), *good[2:], str(photos / "gone.png")]
    results = list(predict_files(tiny_model, files, batch_size=3, num_workers=num_workers))
    assert [result.path for result in results] == files
    assert [result.error for result in results if result.error] == [
        "not an image that can be used (found text); expected JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC",
        "the file cannot be read (No such file or directory)",
    ]
    for path in good:
        (result,) = (result for result in results if result.path == path)
        assert result.prediction is not None
        assert result.prediction.classes == tiny_model.predict(path)[0].classes


def test_prediction_streams(photos: Path, tiny_model: TorchClassifier) -> None:
    files = [str(path) for path in sorted(photos.glob("test/*/*.png"))]
    stream = predict_files(tiny_model, files, batch_size=2, num_workers=0)
    assert next(stream).path == files[0]
    for path in files[4:]:
        Path(path).unlink()  # what comes later is read later
    assert sum(bool(result.error) for result in stream) == len(files) - 4


def test_find_images_expands_folders_and_patterns(tmp_path: Path) -> None:
    for name in ("b.png", "a.jpg", "sub/c.webp", "note.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("note")
        else:
            Image.new("RGB", (2, 2)).save(path)
    found = find_images([str(tmp_path)])
    assert [str(Path(file).relative_to(tmp_path)) for file in found.files] == ["a.jpg", "b.png", "sub/c.webp"]
    assert [Path(file.path).name for file in found.ignored] == ["note.txt"]
    assert find_images([str(tmp_path / "*.png")]).files == [str(tmp_path / "b.png")]
    assert len(find_images([str(tmp_path / "**" / "*.webp")]).files) == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing.jpg", r"missing\.jpg does not exist; expected an image file, a folder or a pattern"),
        ("*.tif", r"the pattern .*\*\.tif matches no file"),
        ("empty", "empty holds no images; expected JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC files"),
    ],
)
def test_paths_that_stand_for_nothing_are_named(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        find_images([str(tmp_path / path)])
