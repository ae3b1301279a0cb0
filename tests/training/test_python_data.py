"""Runs on data that is a Python object: the bits of a run on files, and no other data on resuming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder

import deepresidual
from deepresidual.cli import main
from deepresidual.errors import ConfigurationError, DataError
from tests.conftest import TINY
from tests.training.parts import weights_of

pytestmark = pytest.mark.usefixtures("no_report")


def trained(data: Any, out: Path, **options: Any) -> dict[str, torch.Tensor]:
    """Train for three steps, and return the weights."""
    changes = {"steps": 3, "batch_size": 16, "warmup_epochs": 0}
    deepresidual.train(data, TINY, out, **{"changes": changes, "image_px": 8, "weights": "none", **options})
    return weights_of(out)


def parts_of(photos: Path) -> dict[str, list[tuple[Path, int]]]:
    """Return files and labels of both splits."""
    return {
        name: [(Path(path), label) for path, label in ImageFolder(str(photos / name)).samples]
        for name in ("train", "test")
    }


def as_hugging_face(files: list[tuple[Path, int]]) -> datasets.Dataset:
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["blue", "green", "red"])}
    )
    rows = {
        "image": [{"bytes": path.read_bytes(), "path": None} for path, _ in files],
        "label": [label for _, label in files],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_the_same_images_in_any_form_give_the_same_bits(photos: Path, tmp_path: Path) -> None:
    parts = parts_of(photos)
    arrays = {
        name: [(np.asarray(Image.open(path).convert("RGB")), label) for path, label in files]
        for name, files in parts.items()
    }
    forms: dict[str, Any] = {
        "files": parts,
        "arrays": arrays,
        "folders": {name: ImageFolder(str(photos / name)) for name in parts},
        "rows": datasets.DatasetDict({name: as_hugging_face(files) for name, files in parts.items()}),
    }
    expected = trained(photos, tmp_path / "folder")
    for name, form in forms.items():
        found = trained(form, tmp_path / name, num_workers=3)
        assert all(torch.equal(tensor, found[key]) for key, tensor in expected.items()), name


def test_other_images_are_not_resumed_with(photos: Path, tmp_path: Path) -> None:
    files = parts_of(photos)["train"]
    pairs = [(np.asarray(Image.open(path).convert("RGB")), label) for path, label in files]
    trained(pairs, tmp_path / "run")
    trained(pairs, tmp_path / "run", resume=True)
    for index, other, message in (
        (4, (255 - pairs[4][0], pairs[4][1]), "sample 4 has another image"),
        (5, (pairs[5][0], (pairs[5][1] + 1) % 3), "sample 5 has the label 1 and had 0"),
    ):
        changed = [*pairs[:index], other, *pairs[index + 1 :]]
        with pytest.raises(ConfigurationError, match=message):
            trained(changed, tmp_path / "run", resume=True)


class VariedLater:
    """Samples that are varied at random from the time on when all have been read once."""

    def __init__(self, files: list[tuple[Path, int]]) -> None:
        self._samples = [(np.asarray(Image.open(path).convert("RGB")), label) for path, label in files]
        self.targets = [label for _, label in files]
        self._num_read: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        pixels, label = self._samples[index]
        count = self._num_read[index] = self._num_read.get(index, 0) + 1
        return (255 - pixels if count > 6 else pixels), label


def test_images_that_change_while_it_trains_stop_the_run(photos: Path, tmp_path: Path) -> None:
    varied = VariedLater(parts_of(photos)["train"])
    changes = {"steps": 90, "batch_size": 16, "warmup_epochs": 0, "crop": "random-resized"}
    with pytest.raises(DataError, match="its image is not the one that it was before; .*num_workers=0"):
        trained({"train": varied, "test": varied}, tmp_path / "run", changes=changes)


def test_the_command_line_says_that_no_name_opens_the_data(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    data = deepresidual.open_dataset(parts_of(photos), class_names=["blue", "green", "red"])
    trained(data, run)
    assert json.loads((run / "run.json").read_text())["data_location"] == ""
    assert main(["evaluate", str(run)]) == 2
    assert "was trained from Python, on data that no name opens (" in capsys.readouterr().err
    assert main(["evaluate", str(run), str(photos)]) == 0
    assert deepresidual.evaluate(run, data).count == 15
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text("utf-8")
    assert "residual train DATA" in page


def test_samples_in_both_splits_are_counted(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = parts_of(photos)
    pairs = [(np.asarray(Image.open(path).convert("RGB")), label) for path, label in files["train"]]
    for name, data, said in (
        ("files", {"train": files["train"], "test": files["train"][:7] + files["test"]}, "7 of 22 samples"),
        (
            "arrays",
            {"train": pairs, "test": pairs},
            f"{len(pairs)} of {len(pairs)} samples of test are in tr",
        ),
    ):
        trained(data, tmp_path / name)
        assert said in capsys.readouterr().err
    trained(pairs, tmp_path / "divided")
    assert "in train as well" not in capsys.readouterr().err
