"""A run keeps its split: one by the rule of an earlier version goes on to the same bits."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import deepresidual
from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.division import as_recorded
from deepresidual.data.source.validation import Subset
from deepresidual.errors import ConfigurationError
from deepresidual.evaluation import EvaluationSetup
from deepresidual.runs.samples import recorded_splits
from tests.conftest import write_photos
from tests.training.parts import a_run, changed, record_of, rows, stop_after, weights_of

pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture
def unsorted(tmp_path: Path) -> Path:
    """A folder of 3 × 21 pictures without splits."""
    return write_photos(tmp_path / "photos", 21)


def by_the_earlier_rule(folder: Path, share: float = 0.0) -> SampleSource:
    """Divide as versions up to 30 November 2026 did: by the first byte of a hash, and by a permutation."""
    source = open_source(folder)
    whole = source.whole
    assert whole is not None
    names = [whole.key(index).rsplit("/")[-1] for index in range(len(whole))]
    test = np.array([hashlib.sha256(name.encode()).digest()[0] < 51 for name in names])
    train, parts = np.flatnonzero(~test), {}
    if share:
        order = np.random.Generator(np.random.PCG64(0)).permutation(len(train))
        count = round(share * len(train))
        parts["val"] = Subset(whole, train[np.sort(order[:count])])
        train = train[np.sort(order[count:])]
    splits = {"train": Subset(whole, train), **parts, "test": Subset(whole, np.flatnonzero(test))}
    return dataclasses.replace(source, splits=splits)


def keys(source: SampleSource) -> dict[str, list[str]]:
    return {name: [split.key(index) for index in range(len(split))] for name, split in source.splits.items()}


@pytest.mark.parametrize("share", [None, 0.25])
def test_a_run_by_the_earlier_rule_goes_on_to_the_same_bits(
    unsorted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, share: float | None
) -> None:
    earlier = by_the_earlier_rule(unsorted, share or 0.0)
    assert {name: set(names) for name, names in keys(earlier).items()} != {
        name: set(names) for name, names in keys(open_source(unsorted)).items()
    }
    with monkeypatch.context() as patch:
        # What held out by the permutation was the split that the earlier version gave.
        patch.setattr("deepresidual.training.launch.with_held_out", lambda source, *_: source)
        patch.setattr("deepresidual.training.launch.as_source", lambda *_, **__: earlier)
        a_run(unsorted, tmp_path / "whole", validation=share)
        stop_after(patch, 3)
        a_run(unsorted, tmp_path / "parts", validation=share)
    assert a_run(unsorted, tmp_path / "parts", validation=share, resume=True).status == "finished"
    assert changed(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")) == set()
    assert record_of(tmp_path / "whole")["plan"] == record_of(tmp_path / "parts")["plan"]
    assert [row["loss"] for row in rows(tmp_path / "whole")] == [
        row["loss"] for row in rows(tmp_path / "parts")
    ]


def test_images_that_came_since_are_named_when_the_run_is_to_go_on(
    unsorted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        a_run(unsorted, tmp_path / "run")
    picture = (unsorted / "blue" / "blue-000.png").read_bytes()
    (unsorted / "blue" / "new.png").write_bytes(picture)
    with pytest.raises(
        ConfigurationError,
        match=r"the data have changed since the run in \S+ began \(t\w+: blue/new.png is there\)",
    ):
        a_run(unsorted, tmp_path / "run", resume=True)


def test_old_images_stay_where_the_run_had_them_and_new_ones_follow_the_rule(
    unsorted: Path, tmp_path: Path
) -> None:
    earlier = by_the_earlier_rule(unsorted, 0.25)
    recorded = {name: list(split.rows()) for name, split in earlier.splits.items()}
    write_photos(unsorted, 30)
    now = open_source(unsorted)
    source = as_recorded(now, recorded)
    for name, names in keys(earlier).items():
        assert keys(source)[name][: len(names)] == names
    new = {key for names in keys(source).values() for key in names} - {
        key for names in keys(earlier).values() for key in names
    }
    assert len(new) == 27
    for name in ("train", "test"):
        assert new & set(keys(source)[name]) == new & set(keys(now)[name])


def test_other_data_are_divided_by_the_rule(unsorted: Path, tmp_path: Path) -> None:
    other = {"train": [("a.png", 0, 1)], "test": [("b.png", 0, 1)]}
    source = open_source(unsorted)
    assert as_recorded(source, other) is source
    assert recorded_splits(tmp_path / "nothing") == {}


# -- in an evaluation ------------------------------------------------------------------------------------


def test_an_evaluation_of_a_run_is_of_the_images_that_the_run_held_out(
    unsorted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = by_the_earlier_rule(unsorted, 0.25)
    with monkeypatch.context() as patch:
        patch.setattr("deepresidual.training.launch.with_held_out", lambda source, *_: source)
        patch.setattr("deepresidual.training.launch.as_source", lambda *_, **__: earlier)
        result = a_run(unsorted, tmp_path / "run", validation=0.25)
    assert result.evaluation is not None
    measured = deepresidual.evaluate(tmp_path / "run", unsorted, num_workers=0)
    assert measured.summary() == result.evaluation.summary()
    val = deepresidual.evaluate(tmp_path / "run", unsorted, split="val", num_workers=0)
    assert val.count == len(earlier.splits["val"])
    # The share of the run, said once more, and another one.
    for share, count in ((0.25, val.count), (0.1, 5)):
        again = deepresidual.evaluate(
            tmp_path / "run" / "model",
            unsorted,
            split="val",
            validation=share,
            keep_training_images=True,
            num_workers=0,
        )
        assert again.count == count


def test_groups_are_recorded_and_taken_from_the_record(
    unsorted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = r"(.*)\d\.png"  # ten pictures each
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        a_run(unsorted, tmp_path / "run", group=group)
    assert record_of(tmp_path / "run")["group"] == group
    sides = [
        {key[:-5] for key, _, _ in rows} for rows in recorded_splits(tmp_path / "run" / "samples").values()
    ]
    assert not sides[0] & sides[1]
    with pytest.raises(
        ConfigurationError, match=r"was started differently \(group: \S+ → -\(\.\*\)\); resume wi"
    ):
        a_run(unsorted, tmp_path / "run", group="-(.*)", resume=True)
    assert a_run(unsorted, tmp_path / "run", resume=True).status == "finished"
    # A new picture of an object goes to its side.
    write_photos(unsorted, 22)
    setup = EvaluationSetup.open([tmp_path / "run"], unsorted, num_workers=0)
    units = {name: set(setup.source.groups[name]) for name in ("train", "test")}
    assert not units["train"] & units["test"]
    # Other data have no such groups, and need none.
    other = write_photos(tmp_path / "other", 10, seed=9)
    for number, path in enumerate(sorted(other.rglob("*.png"))):
        path.rename(path.with_name(f"{'abcdefghijklmnopqrstuvwxyzäöüß'[number]}.png"))
    assert EvaluationSetup.open([tmp_path / "run"], other, num_workers=0).evaluate().count == 6


def test_rows_without_paths_go_on_as_an_earlier_version_divided_them(
    unsorted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = sorted(unsorted.rglob("*.png"))
    columns = {"image": [file.read_bytes() for file in files], "label": [file.parent.name for file in files]}
    pq.write_table(pa.table(columns), tmp_path / "photos.parquet")
    source = open_source(tmp_path / "photos.parquet")
    whole = source.whole
    assert whole is not None
    test = np.array([hashlib.sha256(str(number).encode()).digest()[0] < 51 for number in range(len(whole))])
    sides = {"train": np.flatnonzero(~test), "test": np.flatnonzero(test)}
    rows_of_all = list(whole.rows())
    # Each side counted its rows anew.
    recorded = {
        name: [(f"{name}/{number}", *rows_of_all[row][1:]) for number, row in enumerate(side)]
        for name, side in sides.items()
    }
    again = as_recorded(source, recorded)
    for name, side in sides.items():
        assert list(again.splits[name].rows()) == recorded[name]
        assert keys(again)[name] == [whole.key(row) for row in side.tolist()]
