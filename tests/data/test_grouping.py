"""Samples of one group stand on one side, whatever says what belongs together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deepresidual.data.source import SampleSource, as_source, open_source
from deepresidual.data.source.validation import hold_out
from deepresidual.errors import ConfigurationError
from tests.data.pictures import encode, noise

_PNG = encode(noise(4, 5), "PNG")


def fill(root: Path, groups: int = 10) -> Path:
    """Write two classes of ``groups`` objects with three pictures each."""
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for group in range(groups):
            for number in range(3):
                (root / name / f"{name}{group}_{number}.png").write_bytes(_PNG)
    return root


def objects(source: SampleSource) -> dict[str, set[str]]:
    """Return the objects of which there are pictures in every split."""
    return {
        name: {split.key(index).rsplit("/")[-1].split("_")[0] for index in range(len(split))}
        for name, split in source.splits.items()
    }


def require_apart(source: SampleSource) -> None:
    seen = list(objects(source).values())
    assert sum(map(len, seen)) == len(set().union(*seen))


@pytest.mark.parametrize("pattern", [r"(.*)_\d+", r"^([a-z]+\d+)", r"cat/(.*)_|dog/"])
def test_a_pattern_finds_the_group_in_the_name(tmp_path: Path, pattern: str) -> None:
    source = open_source(fill(tmp_path / "pets"), group=pattern)
    cats = {
        name: {item for item in found if item.startswith("cat")} for name, found in objects(source).items()
    }
    assert not cats["train"] & cats["test"]
    assert {name: len(found) for name, found in cats.items()} == {"train": 8, "test": 2}
    assert source.held_out == (
        "a fifth of each class is held out by the hash of the file name; "
        f"{10 if '/' in pattern else 20} groups stay whole"
    )


def test_what_is_held_out_of_the_rest_keeps_groups_whole_as_well(tmp_path: Path) -> None:
    source = hold_out(open_source(fill(tmp_path / "pets"), group=r"(.*)_\d+"), 0.25)
    require_apart(source)
    assert len(objects(source)["val"]) == 4


def test_groups_hold_where_the_data_names_its_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        fill(tmp_path / split)
    source = hold_out(open_source(tmp_path, group=r"(.*)_\d+"), 0.2)
    kept, held = (objects(source)[name] for name in ("train", "val"))
    assert (len(kept), len(held)) == (16, 4)
    assert not kept & held


def test_a_column_of_a_table_says_it(tmp_path: Path) -> None:
    fill(tmp_path / "pets")
    lines = ["path,label,Photo of"]
    for path in sorted((tmp_path / "pets").rglob("*.png")):
        # Of the last object nothing is said: its pictures stand alone.
        of = path.stem.split("_")[0]
        lines.append(f"pets/{path.parent.name}/{path.name},{path.parent.name},{'' if of == 'dog9' else of}")
    (tmp_path / "pets.csv").write_text("\n".join(lines))
    source = open_source(tmp_path / "pets.csv", group="Photo of")
    named = {name: found - {"dog9"} for name, found in objects(source).items()}
    assert not named["train"] & named["test"]
    assert "19 groups stay whole" in source.held_out


@pytest.mark.parametrize("kind", [str, int])
def test_a_column_of_parquet_says_it(tmp_path: Path, kind: type) -> None:
    images = [{"bytes": _PNG, "path": f"{number:03}.png"} for number in range(60)]
    columns = {"image": images, "label": [0, 1] * 30, "patient": [kind(number // 6) for number in range(60)]}
    pq.write_table(pa.table(columns), tmp_path / "scans.parquet")
    source = open_source(tmp_path / "scans.parquet", group="patient")
    patients = {
        name: {int(split.key(index)[:3]) // 6 for index in range(len(split))}
        for name, split in source.splits.items()
    }
    # Of ten patients with pictures of both classes two are for testing.
    assert {name: len(found) for name, found in patients.items()} == {"train": 8, "test": 2}
    assert not patients["train"] & patients["test"]


def test_python_objects_of_files_are_grouped_by_their_names(tmp_path: Path) -> None:
    fill(tmp_path / "pets")
    pairs = [(str(path), path.parent.name) for path in sorted(tmp_path.rglob("*.png"))]
    source = as_source(pairs, group=r"(.*)_\d+")
    require_apart(source)
    require_apart(as_source(open_source(tmp_path / "pets"), group=r"(.*)_\d+"))


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (
            "patient",
            r"^group is 'patient', which is no column of the data and a pattern with 0 parts in parenth",
        ),
        ("(a)(b)", r"^group is '\(a\)\(b\)', which is no column of the data and a pattern with 2 parts in"),
        ("(a", r"^group is '\(a', which is no column of the data and no pattern \(missing \)"),
        (
            "(x)_",
            r"^the pattern '\(x\)_' finds no group in the names of pets, such as 'cat/cat0_0.png'; expect",
        ),
    ],
)
def test_what_says_nothing_is_refused(tmp_path: Path, group: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        open_source(fill(tmp_path / "pets"), group=group)


def test_a_class_whose_images_all_belong_together_is_for_training(tmp_path: Path) -> None:
    fill(tmp_path / "pets")
    (tmp_path / "pets" / "emu").mkdir()
    for number in range(9):
        (tmp_path / "pets" / "emu" / f"emu_{number}.png").write_bytes(_PNG)
    source = open_source(tmp_path / "pets", group=r"(.*)_\d+")
    assert source.notes == (
        "all images of emu belong together: they are used for training and cannot be tested",
    )
    assert np.bincount(source.split("test").labels, minlength=3).tolist() == [6, 6, 0]
