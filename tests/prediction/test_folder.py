"""Folders of predictions: shards by any number of processes, frozen lists of files, refusals."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from deepresidual import prediction
from deepresidual.backends import Classifier
from deepresidual.backends.images import ImageFile
from deepresidual.backends.thresholds import MULTILABEL
from deepresidual.cli import main
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.models import TorchClassifier, create, save
from deepresidual.prediction.file_list import FileList
from deepresidual.prediction.folder import FolderSummary, PredictionFolder
from deepresidual.prediction.outputs import ClassOutputs
from deepresidual.runtime.shard_folder import Share
from tests.conftest import SMALL_INPUT, TINY

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def model(tmp_path: Path, tiny_model: TorchClassifier, photos: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a model folder in the current folder, which holds 15 files in ``photos/test``."""
    monkeypatch.chdir(tmp_path)
    save(tiny_model, "model")
    return "model"


def predict(*options: str) -> int:
    return main(["predict", "model", "photos/test", "--workers", "0", *options])


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def table(folder: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder).to_pylist()
    return rows


def test_shards_hold_the_rows_of_one_file_and_are_read_as_one_table(model: str, capsys: Capture) -> None:
    assert predict("--out", "whole.parquet", "--top-k", "2") == 0
    assert predict("--out", "parts", "--shard-size", "4", "--top-k", "2") == 0
    assert capsys.readouterr().out.endswith("parts: 15 rows in 4 shards\n")
    assert names("parts") == [
        "_SUCCESS",
        "_manifest",
        *(f"part-0000{number}.parquet" for number in range(4)),
    ]
    assert [row["path"] for row in table("parts")] == [row["path"] for row in table("whole.parquet")]
    for part, whole in zip(table("parts"), table("whole.parquet"), strict=True):
        assert part["class_2"] == whole["class_2"]
        # Batches end with a shard, and another batch may give other last digits.
        assert part["probability"] == pytest.approx(whole["probability"], abs=1e-6)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_shards_have_the_format_that_is_asked_for(model: str, kind: str) -> None:
    assert predict("--out", "parts/", "--shard-size", "8", "--format", kind) == 0
    files = sorted(Path("parts").glob("part-*"))
    assert [file.name for file in files] == [f"part-00000.{kind}", f"part-00001.{kind}"]
    if kind == "csv":
        rows = [row for file in files for row in csv.DictReader(file.read_text().splitlines())]
    else:
        rows = [json.loads(line) for file in files for line in file.read_text().splitlines()]
    assert len(rows) == 15
    assert set(rows[0]) == {"path", "class", "probability", "error"}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_processes_with_shares_do_it_together(model: str, capsys: Capture, order: tuple[int, ...]) -> None:
    for count, index in enumerate(order, start=1):
        assert predict("--out", "parts", "--shard-size", "2", "--shard", f"{index}/3") == 0
        assert Path("parts/_SUCCESS").exists() == (count == 3)
    out = capsys.readouterr().out.splitlines()
    assert out[1] in ("parts: 5 of 8 shards are done", "parts: 6 of 8 shards are done")
    assert out[2] == "parts: 15 rows in 8 shards"
    assert [row["path"] for row in table("parts")] == sorted(row["path"] for row in table("parts"))


def test_shards_are_small_enough_for_every_process(model: str) -> None:
    assert predict("--out", "parts", "--shard", "0/5") == 0
    assert json.loads(Path("parts/_manifest/manifest.json").read_text())["num_shards"] == 5


def test_more_processes_than_shards_have_nothing_to_do(model: str, capsys: Capture) -> None:
    assert predict("--out", "parts", "--shard-size", "15", "--shard", "3/4") == 0
    out, err = capsys.readouterr()
    assert out == "parts: 0 of 1 shard is done\n"
    assert err == "nothing to do: there are fewer shards (1) than processes (4)\n"


def test_who_finishes_counts_the_errors_of_all(model: str, capsys: Capture) -> None:
    Path("photos/test/blue/blue-002.png").write_bytes(b"")
    assert predict("--out", "parts", "--shard", "0/2") == 3
    assert capsys.readouterr().out == "parts: 1 of 2 shards are done, 1 error in those of this process\n"
    assert predict("--out", "parts", "--shard", "1/2") == 0  # the exit code is about its own
    assert capsys.readouterr().out == "parts: 15 rows in 2 shards, 1 error\n"
    for share, own in (("0/2", 1), ("1/2", 0)):
        predict("--out", "parts", "--shard", share, "--json")
        document = json.loads(capsys.readouterr().out)
        assert (document["num_errors"], document["num_errors_total"]) == (own, 1)


def test_a_damaged_shard_of_another_process_is_told(model: str, capsys: Capture) -> None:
    assert predict("--out", "parts", "--shard", "0/2") == 0
    Path("parts/part-00000.parquet").write_bytes(b"")
    assert predict("--out", "parts", "--shard", "1/2") == 3
    assert "error: parts/part-00000.parquet is damaged (" in capsys.readouterr().err
    assert not Path("parts/_SUCCESS").exists()


def test_another_number_of_processes_is_told_and_taken(model: str, capsys: Capture) -> None:
    assert predict("--out", "parts", "--shard", "0/4") == 0
    assert predict("--out", "parts", "--shard", "1/4") == 0
    assert "begun" not in capsys.readouterr().err
    assert predict("--out", "parts", "--shard", "1/3") == 0
    resuming, other = capsys.readouterr().err.splitlines()
    assert resuming.startswith("resuming   1 of 1 shard is done; the list")
    assert other.startswith("the folder was begun with --shard I/4 and this is 1/3: shards stay right")
    assert predict("--out", "parts") == 0  # who takes all leaves none out
    assert "begun" not in capsys.readouterr().err


def test_one_row_in_one_shard_is_no_plural(model: str, capsys: Capture) -> None:
    photo = "photos/test/blue/blue-000.png"
    assert main(["predict", model, photo, "--out", "parts"]) == 0
    assert main(["predict", model, photo, "--out", "one.csv"]) == 0
    assert capsys.readouterr().out == "parts: 1 row in 1 shard\none.csv: 1 row\n"


def test_a_folder_goes_on_where_shards_are_missing(model: str, capsys: Capture) -> None:
    assert predict("--out", "parts", "--shard-size", "4") == 0
    before = Path("parts/part-00001.parquet").stat().st_mtime_ns
    Path("parts/part-00002.parquet").unlink()
    Path("parts/_SUCCESS").unlink()
    capsys.readouterr()
    assert predict("--out", "parts", "--json") == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "schema_version": 1,
        "out": "parts",
        "count": 15,
        "num_shards": 4,
        "num_shards_done": 4,
        "num_errors": 0,
        "num_errors_total": 0,
        "fast_decode": False,
    }
    assert err.startswith("resuming   3 of 4 shards are done; the list of files is of 20")
    assert Path("parts/part-00001.parquet").stat().st_mtime_ns == before
    assert len(table("parts")) == 15


def test_files_that_vanished_or_changed_since_are_rows_with_an_error(model: str, capsys: Capture) -> None:
    assert predict("--out", "parts", "--shard-size", "5", "--shard", "1/3") == 0
    Path("photos/test/blue/blue-000.png").unlink()
    with Path("photos/test/blue/blue-001.png").open("ab") as file:
        file.write(b"more")
    shutil.copy("photos/test/red/red-000.png", "photos/test/blue/blue-0005.png")  # is none of the list
    capsys.readouterr()
    assert predict("--out", "parts") == 3
    out, err = capsys.readouterr()
    assert out == "parts: 15 rows in 3 shards, 2 errors\n"
    assert err.splitlines()[-1] == "error: 2 of 15 files could not be used, as named above"
    size = Path("photos/test/blue/blue-001.png").stat().st_size
    assert [row["error"] for row in table("parts")[:3]] == [
        "the file cannot be read (No such file or directory)",
        f"the file has changed since it was listed ({size - 4:,} bytes then, {size:,} now)",
        "",
    ]
    assert predict("--out", "parts") == 3  # who asks again is told again
    assert "warning: photos/test/blue/blue-000.png: the file cannot be read" in capsys.readouterr().err


def test_what_stands_for_nothing_is_told_again_when_a_folder_goes_on(model: str, capsys: Capture) -> None:
    for _ in range(2):
        assert main(["predict", model, "photos/test", "x/*.png", "--out", "parts"]) == 3
        assert "warning: the pattern x/*.png matches no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--top-k", "2"], r"parts was begun with something else: top_k was 1 and is 2; repeat the command"),
        (["--min-probability", "0.5"], r"else: min_probability was none and is 0.5;"),
        (["--precision", "bf16"], r"else: precision was fp32 and is bf16;"),
        (
            ["--shard-size", "3"],
            "with something else: the size of shards was 5 and is 3; repeat",
        ),
        (
            ["--format", "csv"],
            "with something else: the format was .parquet and is .csv; repeat",
        ),
    ],
)
def test_other_options_than_those_it_was_begun_with_are_named(
    model: str, capsys: Capture, options: list[str], message: str
) -> None:
    assert predict("--out", "parts", "--shard-size", "5") == 0
    capsys.readouterr()
    assert predict("--out", "parts", *options) == 2
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(capsys.readouterr().err)


def test_another_model_other_paths_and_other_versions_are_named(
    model: str, tiny_model: TorchClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    def opened(network: TorchClassifier, paths: str = "photos/test") -> PredictionFolder[Any]:
        return PredictionFolder.open(ClassOutputs(network), [paths], "parts")

    opened(tiny_model)
    other = TorchClassifier(create(TINY, seed=1), tiny_model.label_names, tiny_model.preprocess)
    with pytest.raises(
        ConfigurationError, match=r"parts was begun with something else: weights was \w{12}… and is"
    ):
        opened(other)
    with pytest.raises(ConfigurationError, match=r"else: labels was \w{12}… and is \w{12}…;"):
        opened(dataclasses.replace(tiny_model, label_names=("a", "b", "c")))
    smaller = dataclasses.replace(tiny_model.preprocess, crop_px=7)
    with pytest.raises(ConfigurationError, match=r"else: preprocess.crop_px was 8 and is 7;"):
        opened(dataclasses.replace(tiny_model, preprocess=smaller))
    with pytest.raises(ConfigurationError, match=r"else: paths was \[.*test'\] and is \[.*train'\];"):
        opened(tiny_model, "photos/train")
    monkeypatch.setattr("deepresidual.backends.fingerprint.version_of", lambda _name: "0.1")
    with pytest.raises(ConfigurationError, match=r"versions.numpy was \S+ and is 0.1"):
        opened(tiny_model)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--out", "photos"],
            "photos holds other files (test, train); expected an empty folder, or one that",
        ),
        (["--out", "model.txt"], "--out is 'model.txt'; expected a name in .csv, .jsonl, .parquet, or one"),
        (["--shard", "0/2"], "--shard is given without a folder; add --out FOLDER"),
        (["--shard-size", "2", "--out", "a.csv"], "--shard-size is given without a folder; add --out FOLDER"),
        (["--out", "parts", "--shard", "2/2"], "--shard is '2/2'; expected I/N with I from 0 to N − 1"),
        (["--out", "parts", "--shard", "-1/2"], "--shard is '-1/2'; expected I/N"),
        (["--out", "parts", "--shard-size", "0"], "--shard-size is 0; expected 1 or more"),
        (["--out", "parts", "--format", "table"], "--format is table, and --out a folder; expected csv or"),
        (["--format", "parquet"], "--format is parquet without a file; add --out FILE.parquet"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_nothing_written(
    model: str, capsys: Capture, options: list[str], message: str
) -> None:
    assert predict(*options) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert names(".") == ["model", "photos"]


def test_an_image_from_stdin_is_for_no_folder(model: str, capsys: Capture) -> None:
    assert main(["predict", model, "-", "--out", "parts"]) == 2
    assert capsys.readouterr().err.startswith("error: - is given with a folder; expected files, folders and")


def test_a_mistyped_path_leaves_no_folder(model: str, capsys: Capture) -> None:
    assert main(["predict", model, "phots", "--out", "parts"]) == 3
    assert capsys.readouterr().err == "error: phots does not exist; did you mean photos?\n"
    assert not Path("parts").exists()


@pytest.mark.parametrize("damage", ["shard", "list", "manifest"])
def test_damage_is_named(model: str, capsys: Capture, damage: str) -> None:
    assert predict("--out", "parts", "--shard-size", "5") == 0
    place = {
        "shard": "part-00001.parquet",
        "list": "_manifest/files.parquet",
        "manifest": "_manifest/manifest.json",
    }
    Path("parts", place[damage]).write_bytes(b"{")
    capsys.readouterr()
    assert predict("--out", "parts") == 3
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: parts/{place[damage]} is damaged (")


@pytest.mark.parametrize("name", ["files.parquet", "manifest.json"])
def test_what_is_missing_of_a_folder_is_said_to_be(model: str, capsys: Capture, name: str) -> None:
    assert predict("--out", "parts") == 0
    Path("parts/_manifest", name).unlink()
    capsys.readouterr()
    assert predict("--out", "parts") == 3
    error = f"error: parts/_manifest/{name} is missing; choose another folder\n"
    assert capsys.readouterr().err == error


def test_a_manifest_without_its_fields_is_damaged(model: str, capsys: Capture) -> None:
    assert predict("--out", "parts") == 0
    manifest = Path("parts/_manifest/manifest.json")
    document = json.loads(manifest.read_text())
    del document["shard_size"]
    manifest.write_text(json.dumps(document))
    assert predict("--out", "parts") == 3
    assert "manifest.json is damaged (shard_size is missing)" in capsys.readouterr().err


def test_another_list_than_that_of_the_manifest_is_damage(model: str, capsys: Capture) -> None:
    assert predict("--out", "parts") == 0
    FileList.of(["a.png"]).write(Path("parts/_manifest"))
    assert predict("--out", "parts") == 3
    assert "error: parts/_manifest lists 1 file and its manifest says 15; choose" in capsys.readouterr().err


class Choosing(Classifier):
    """A backend that chooses by the number of images, as engines do."""

    label_names = ("red", "green", "blue")
    preprocess = SMALL_INPUT
    expected = 0

    @property
    def backend(self) -> str:  # type: ignore[override]  # which is known later
        return "slow" if self.expected < 10 else "fast"

    def expect(self, num_images: int) -> Choosing:
        self.expected = max(self.expected, num_images)
        return self

    def logits(self, pixels: Any) -> Any:
        return pixels.mean(axis=(1, 2), dtype=np.float32)


def test_a_backend_chooses_by_all_files_and_not_by_those_of_a_shard(model: str) -> None:
    for _ in range(2):
        folder = PredictionFolder.open(ClassOutputs(Choosing()), ["photos/test"], "parts", shard_size=4)
        assert folder.shards.manifest.fingerprint["backend"] == "fast"
    assert folder.run().is_complete


def test_an_interrupt_leaves_shards_that_are_whole(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    errors = ClassOutputs.results

    def interrupted(self: ClassOutputs, files: list[ImageFile | bytes]) -> Any:
        if "red" in str(files[0]):
            raise KeyboardInterrupt
        return errors(self, files)

    with monkeypatch.context() as patch:
        patch.setattr(ClassOutputs, "results", interrupted)
        assert predict("--out", "parts", "--shard-size", "5") == 130
    assert names("parts") == ["_manifest", "part-00000.parquet", "part-00001.parquet"]
    assert predict("--out", "parts") == 0


def test_names_that_are_no_text_come_back(tmp_path: Path) -> None:
    paths = [os.fsdecode(b"caf\xe9.png"), "a.png"]
    (tmp_path / "a.png").write_bytes(b"12")
    files = FileList.of([*paths, str(tmp_path / "a.png")])
    files.write(tmp_path)
    again = FileList.read(tmp_path)
    assert again.part(range(2)) == [ImageFile(paths[0]), ImageFile("a.png")]
    assert again.part(range(2, 3)) == [ImageFile(str(tmp_path / "a.png"), 2)]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_several_labels_have_folders_too(model: str, tiny_model: TorchClassifier, suffix: str) -> None:
    several = dataclasses.replace(tiny_model, task=MULTILABEL)
    summary = PredictionFolder.open(
        ClassOutputs(several), ["photos/test"], "parts", suffix=suffix, shard_size=6, share=Share(1, 2)
    ).run()
    assert summary == FolderSummary(Path("parts"), num_files=15, num_shards=3, num_done=1, num_errors=0)
    assert [path.name for path in Path("parts").glob("part-*")] == [f"part-00001{suffix}"]


def test_a_folder_in_the_api_names_its_errors(model: str, tiny_model: TorchClassifier) -> None:
    Path("photos/test/blue/blue-002.png").write_bytes(b"")
    seen: list[tuple[str, str]] = []
    counts: list[int] = []
    folder = PredictionFolder.open(ClassOutputs(tiny_model), ["photos/test"], "parts", shard_size=10)
    summary = folder.run(counts.append, lambda path, reason: seen.append((path, reason)))
    assert summary.num_errors == 1
    assert summary.is_complete
    assert seen == [("photos/test/blue/blue-002.png", "the file is empty (0 bytes)")]
    assert counts[-1] == 15
    with pytest.raises(DataError, match="phots does not exist"):
        PredictionFolder.open(ClassOutputs(tiny_model), ["phots"], "others")
    with pytest.raises(ConfigurationError, match="the format of the shards is npy; expected csv or jsonl or"):
        PredictionFolder.open(ClassOutputs(tiny_model), ["photos"], "others", suffix=".npy")


def test_the_names_of_the_room_are_there() -> None:
    for name in prediction.__all__:
        assert getattr(prediction, name).__name__ == name
