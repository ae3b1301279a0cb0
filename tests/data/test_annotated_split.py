"""Data with boxes is divided, grouped, held out, recorded and resumed as data with labels is."""

from __future__ import annotations

import dataclasses
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest

from deepresidual.data.shard_writer import write_shards
from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.annotated.split import AnnotatedSplit, objects_of
from deepresidual.data.source.base import fingerprint_of, names_of, stamps_of
from deepresidual.data.source.division import as_recorded
from deepresidual.data.source.validation import hold_out
from deepresidual.errors import DataError
from deepresidual.runs.samples import first_difference, record_samples, recorded_splits
from tests.data.annotations import coco_document, coco_file, image, voc_xml, voc_year, yolo_split

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def _beside(root: Path, *, count: int = 20, splits: Sequence[str] = ("",)) -> Path:
    """Write images with XML beside them: of 20 eight show a cat, eight a dog, and every fifth nothing."""
    for split in splits:
        for number in range(count):
            name = "cat" if number % 2 else "dog"
            objects = [] if number % 5 == 0 else [(name, (1 + number, 2, 22, 20))]
            path = image(root / split / f"{split or 'photo'}_{number // 4}_{number}.jpg")
            path.with_suffix(".xml").write_text(voc_xml(*objects))
    return root


def _sides(source: SampleSource) -> dict[str, set[str]]:
    return {name: set(names_of(split)) for name, split in source.splits.items()}


def test_a_fifth_of_each_class_and_of_the_empty_images_is_held_out(tmp_path: Path) -> None:
    source = open_source(_beside(tmp_path))
    assert source.whole is not None
    assert source.held_out.startswith("a fifth of each class is held out")
    assert np.bincount(source.whole.labels).tolist() == [8, 8, 4]
    test = source.splits["test"]
    assert np.bincount(test.labels).tolist() == [2, 2, 1]
    for index in range(len(test)):
        assert len(objects_of(test, index)) == (0 if test.labels[index] == 2 else 1)
        assert test.read(index).target.labels.tolist() == (
            [] if test.labels[index] == 2 else [test.labels[index]]
        )


def test_groups_stay_together(tmp_path: Path) -> None:
    source = open_source(_beside(tmp_path), group=r"photo_(\d+)_")
    groups = [{name.split("_")[1] for name in names} for names in _sides(source).values()]
    assert not groups[0] & groups[1]
    tuned = hold_out(source, 0.3)
    assert set(tuned.splits) == {"train", "val", "test"}
    assert sum(map(len, tuned.splits.values())) == 20


def test_fingerprints_and_stamps_tell_of_every_change(tmp_path: Path) -> None:
    source = open_source(_beside(tmp_path, splits=("train", "test")))
    split = source.splits["train"]
    assert fingerprint_of(split) == fingerprint_of(open_source(tmp_path).splits["train"])
    stamps = stamps_of(split)
    assert stamps is not None
    path = tmp_path / "train" / "train_0_1.jpg"
    path.write_bytes(path.read_bytes() + b"\0")
    changed = stamps_of(split)
    assert changed is not None
    assert [old != new for old, new in zip(stamps, changed, strict=True)].count(True) == 1
    assert fingerprint_of(split) != fingerprint_of(source.splits["test"])
    path.unlink()
    assert stamps_of(split) is None
    with pytest.raises(DataError, match=r"^train/train_0_1\.jpg cannot be read \(No such file"):
        fingerprint_of(split)
    with pytest.raises(DataError, match=r"^train/train_0_1\.jpg cannot be read \(No such file"):
        split.read(names_of(split).index("train/train_0_1.jpg"))


def test_a_run_keeps_its_sides_and_names_a_changed_box(tmp_path: Path) -> None:
    data, run = _beside(tmp_path / "data"), tmp_path / "run"
    source = hold_out(open_source(data), 0.25)
    record_samples(run, source)
    image(data / "photo_9_99.jpg").with_suffix(".xml").write_text(voc_xml(("cat", (1, 1, 9, 9))))
    again = as_recorded(open_source(data), recorded_splits(run))
    assert {name: sides - {"photo_9_99.jpg"} for name, sides in _sides(again).items()} == _sides(source)
    assert first_difference(run, source) == ""
    (data / "photo_9_99.jpg").unlink()
    (data / "photo_9_99.xml").unlink()
    (data / "photo_0_1.xml").write_text(voc_xml(("cat", (2, 2, 23, 20))))
    changed = as_recorded(open_source(data), recorded_splits(run))
    assert first_difference(run, changed).endswith("photo_0_1.jpg has other labels or boxes")


def test_a_split_goes_to_another_process_whole(tmp_path: Path) -> None:
    split = open_source(_beside(tmp_path, splits=("train", "test"))).splits["train"]
    copy = pickle.loads(pickle.dumps(split))  # noqa: S301  # made here
    assert isinstance(copy, AnnotatedSplit)
    assert fingerprint_of(copy) == fingerprint_of(split)
    assert copy.counts().tolist() == [8, 8]
    assert copy.num_empty == 4


@pytest.mark.parametrize("labels", ["one", "several"])
def test_there_are_no_labels_of_images_to_ask_for(tmp_path: Path, labels: str) -> None:
    _beside(tmp_path, splits=("train", "test"))
    with pytest.raises(
        DataError, match=rf"has boxes instead of labels of whole images; leave out --labels {labels}"
    ):
        open_source(tmp_path, labels=labels)  # type: ignore[arg-type]


def test_shards_hold_no_boxes(tmp_path: Path) -> None:
    source = open_source(_beside(tmp_path / "data", splits=("train", "test")))
    with pytest.raises(
        DataError, match=r"^data has boxes of objects; expected one class an image, which is all"
    ):
        write_shards(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_path_behind_a_prefix_that_does_not_exist_gets_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(
        DataError, match=r"photo does not exist; expected coco:PATH; did you mean .*photos\?$"
    ):
        open_source(f"coco:{tmp_path / 'photo'}")


def test_two_formats_in_one_folder_are_told_apart_by_the_user(tmp_path: Path) -> None:
    _beside(tmp_path, splits=("train", "test"))
    for split in ("train", "test"):
        for file in sorted((tmp_path / split).glob("*.xml")):
            file.with_suffix(".txt").write_text("0 0.5 0.5 0.1 0.1")
    (tmp_path / "data.yaml").write_text("train: train\ntest: test\nval: test\nnames: [emu]\n")
    with pytest.raises(DataError, match=r"in 2 formats \(voc, yolo\); say which: voc:.* or yolo:"):
        open_source(tmp_path)
    assert open_source(f"voc:{tmp_path}").classes == ("cat", "dog")
    assert open_source(f"yolo:{tmp_path}").classes == ("emu",)


def test_location_opens_the_same_data_again(tmp_path: Path) -> None:
    _beside(tmp_path, splits=("train", "test"))
    source = open_source(f"voc:{tmp_path}")
    assert source.location == f"voc:{tmp_path}"
    again = open_source(source.location)
    assert dataclasses.replace(again, splits={}) == dataclasses.replace(source, splits={})


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo"])
def test_changed_bytes_are_a_data_set_or_a_sentence(tmp_path: Path, kind: str) -> None:
    if kind == "voc":
        voc_year(tmp_path, {"train": ["a"], "val": ["b"]})
        files = [tmp_path / "Annotations" / "a.xml", tmp_path / "ImageSets" / "Main" / "train.txt"]
    elif kind == "coco":
        files = [coco_file(tmp_path / split / "x.coco.json", coco_document()) for split in ("train", "val")]
    else:
        for split in ("train", "val"):
            yolo_split(tmp_path, {"a": "1 0.5 0.5 0.25 0.5\n"}, split)
        files = [tmp_path / "data.yaml", tmp_path / "labels" / "train" / "a.txt"]
        files[0].write_text("train: images/train\nval: images/val\nnames: [cat, dog]\nnc: 2\n")
    random = np.random.default_rng(0)
    refused = 0
    for file in files:
        content = file.read_bytes()
        for _ in range(60):
            changed = bytearray(content)
            place = int(random.integers(len(content)))
            changed[place : place + int(random.integers(4))] = random.bytes(int(random.integers(3)))
            file.write_bytes(changed)
            try:
                source = open_source(f"{kind}:{tmp_path}")
                for samples in source.splits.values():
                    assert [len(objects_of(samples, index)) for index in range(len(samples))]
            except DataError:
                refused += 1
        file.write_bytes(content)
    assert 20 < refused < 120
