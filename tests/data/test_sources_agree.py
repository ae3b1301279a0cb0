"""One data set in four forms: the same pixels, labels and batches, from any number of workers."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from deepresidual.data.decode import decode
from deepresidual.data.loader import Batch, evaluation_batches, training_batches
from deepresidual.data.sampler import TrainingOrder
from deepresidual.data.shard_writer import write_shards
from deepresidual.data.source import SampleSource, open_source
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Augment
from tests.data.pictures import encode, noise

if TYPE_CHECKING:
    from pathlib import Path

_FORMS = ("folder", "csv", "parquet", "shards")
_CLASSES = ("ant", "bee", "cow")
_KINDS = {"PNG": "png", "JPEG": "jpg", "WEBP": "webp", "BMP": "bmp"}
_RECORD = Preprocess(16, 18, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, SampleSource]:
    """The same pictures, opened from every form."""
    root = tmp_path_factory.mktemp("forms")
    seed = 0
    for split, count in (("train", 5), ("val", 2)):
        for name in _CLASSES:
            (root / "folder" / split / name).mkdir(parents=True)
            for number in range(count):
                seed += 1
                kind, extension = list(_KINDS.items())[seed % 4]
                picture = encode(noise(20 + seed % 7, 17 + seed % 5, seed=seed), kind)
                (root / "folder" / split / name / f"{number:02d}.{extension}").write_bytes(picture)
    folder = open_source(root / "folder")
    _write_csv(folder, root)
    _write_parquet(folder, root / "parquet")
    write_shards(folder, root / "shards", max_samples=4, seed=None)
    return {
        "folder": folder,
        "csv": open_source(f"csv:{root / 'table.csv'}"),
        "parquet": open_source(root / "parquet"),
        "shards": open_source(f"shards:{root / 'shards'}"),
    }


def _write_csv(folder: SampleSource, root: Path) -> None:
    with (root / "table.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for name, split in folder.splits.items():
            writer.writerows(
                (f"folder/{split.key(index)}", folder.classes[label], name)
                for index, label in enumerate(split.labels)
            )


def _write_parquet(folder: SampleSource, root: Path) -> None:
    root.mkdir()
    feature = {"_type": "ClassLabel", "names": list(folder.classes)}
    metadata = {"huggingface": json.dumps({"info": {"features": {"label": feature}}})}
    for name, split in folder.splits.items():
        samples = [split.read(index) for index in range(len(split))]
        images = [{"bytes": sample.content, "path": sample.key} for sample in samples]
        table = pa.table({"image": images, "label": [sample.target for sample in samples]})
        pq.write_table(table.replace_schema_metadata(metadata), root / f"{name}.parquet")


def _training(source: SampleSource, num_workers: int) -> list[Batch]:
    split = source.splits["train"]
    order = TrainingOrder(3, len(split), 4, 2, 9)
    augment = Augment("random-resized", flip=True)
    return list(training_batches(split, _RECORD, augment, order, num_workers=num_workers))


def _same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        torch.equal(one.pixels, other.pixels)
        and torch.equal(one.targets, other.targets)
        and torch.equal(one.indices, other.indices)
        for one, other in zip(first, second, strict=True)
    )


@pytest.mark.parametrize("form", _FORMS)
def test_every_form_has_the_same_classes_labels_bytes_and_pixels(
    forms: dict[str, SampleSource], form: str
) -> None:
    source, reference = forms[form], forms["folder"]
    assert source.classes == reference.classes == _CLASSES
    assert list(source.splits) == ["train", "val"]
    for name, split in source.splits.items():
        assert split.labels == reference.splits[name].labels
        assert len(split) == len(reference.splits[name]) == {"train": 15, "val": 6}[name]
        for index in range(len(split)):
            sample, expected = split.read(index), reference.splits[name].read(index)
            assert (sample.content, sample.target) == (expected.content, expected.target)
            assert sample.key == split.key(index)
            np.testing.assert_array_equal(decode(sample.content), decode(expected.content))


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("form", _FORMS)
def test_every_form_gives_the_same_training_batches(
    forms: dict[str, SampleSource], form: str, num_workers: int
) -> None:
    batches = _training(forms[form], num_workers)
    assert [len(batch) for batch in batches] == [4] * 7
    assert _same(batches, _training(forms["folder"], 0))


@pytest.mark.parametrize("form", _FORMS)
def test_every_form_gives_the_same_evaluation_batches(forms: dict[str, SampleSource], form: str) -> None:
    def evaluated(name: str, num_workers: int) -> list[Batch]:
        split = forms[name].splits["val"]
        return list(evaluation_batches(split, _RECORD, batch_size=4, num_workers=num_workers))

    assert _same(evaluated(form, 2), evaluated("folder", 0))


def test_the_batches_of_another_order_differ(forms: dict[str, SampleSource]) -> None:
    split = forms["shards"].splits["train"]
    order = TrainingOrder(4, len(split), 4, 2, 9)
    augment = Augment("random-resized", flip=True)
    other = list(training_batches(split, _RECORD, augment, order, num_workers=0))
    assert not _same(other, _training(forms["shards"], 0))


def test_resuming_shards_at_a_step_gives_the_same_batches(forms: dict[str, SampleSource]) -> None:
    split = forms["shards"].splits["train"]
    augment = Augment("random-resized", flip=True)

    def steps(first: int) -> list[Batch]:
        order = TrainingOrder(3, len(split), 4, first, 9)
        return list(training_batches(split, _RECORD, augment, order, num_workers=2))

    assert _same(steps(0)[5:], steps(5))
