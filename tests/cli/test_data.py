"""``residual data`` as a user calls it: shards, and training on them; boxes in another format."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from deepresidual.cli import main
from deepresidual.data.source import open_source
from tests.data.annotations import voc_xml, voc_year

if TYPE_CHECKING:
    from pathlib import Path

Capture = pytest.CaptureFixture[str]


def test_shards_are_written_and_listed(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["data", "shard", str(photos), str(tmp_path / "out"), "--max-samples", "20"]) == 0
    out = capsys.readouterr().out
    names = [f"train-{number:06d}.tar" for number in range(3)] + ["test-000000.tar"]
    assert [line.split()[:2] for line in out.splitlines() if ".tar" in line] == [
        [name, count] for name, count in zip(names, ("20", "20", "8", "15"), strict=True)
    ]
    assert out.splitlines()[-1] == f"wrote {tmp_path / 'out'}"
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([*names, "classes.json"])


def test_the_json_document_lists_the_shards(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert main(["data", "shard", str(photos), str(out), "--max-mb", "1", "--in-order", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema_version"], document["data"]) == (1, str(photos))
    assert document["destination"] == str(out)
    assert document["shards"] == [
        {"name": name, "samples": count, "bytes": (out / name).stat().st_size}
        for name, count in (("train-000000.tar", 48), ("test-000000.tar", 15))
    ]
    ours, theirs = open_source(out).splits["train"], open_source(photos).splits["train"]
    assert [ours.read(index).content for index in range(48)] == [
        theirs.read(index).content for index in range(48)
    ]


def test_the_seed_decides_the_order(photos: Path, tmp_path: Path) -> None:
    for name, options in (("a", ["--seed", "1"]), ("b", ["--seed", "1"]), ("c", ["--seed", "2"])):
        assert main(["data", "shard", str(photos), str(tmp_path / name), *options]) == 0
    a, b, c = ((tmp_path / name / "train-000000.tar").read_bytes() for name in "abc")
    assert a == b != c


def test_training_on_shards_gives_the_figures_of_training_on_the_folder(
    photos: Path, tmp_path: Path, capsys: Capture
) -> None:
    shards = tmp_path / "shards"
    assert main(["data", "shard", str(photos), str(shards), "--in-order", "--max-samples", "9"]) == 0
    options = ["--model", "resnet20", "--image-px", "8", "--batch-size", "10"]
    options += ["--precision", "fp32", "--steps", "3"]
    figures = []
    for number, data in enumerate((str(photos), f"shards:{shards}/{{train,test}}-*.tar", str(shards))):
        capsys.readouterr()
        assert main(["train", data, *options, "--out", str(tmp_path / f"run{number}"), "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        figures.append({name: document[name] for name in ("top1", "top5", "loss", "count")})
    assert figures[0] == figures[1] == figures[2]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["DATA", "DATA"], 2, "error: DATA is not empty; expected a new or an empty folder\n"),
        (["gone", "OUT"], 3, "error: gone does not exist; expected 'digits', 'digit-scenes', a folder"),
        (
            ["DATA", "OUT", "--max-samples", "0"],
            2,
            "error: max_samples is 0; expected a whole number from 1 on\n",
        ),
        (["DATA", "OUT", "--max-mb", "0"], 2, "error: max_mb is 0; expected a whole number from 1 on\n"),
        (
            ["DATA", "OUT", "--seed", "-1"],
            2,
            "error: seed is -1; expected a whole number from 0 to 2^63 - 1\n",
        ),
    ],
)
def test_what_cannot_be_done(
    photos: Path, tmp_path: Path, capsys: Capture, arguments: list[str], code: int, message: str
) -> None:
    places = {"DATA": str(photos), "OUT": str(tmp_path / "out")}
    assert main(["data", "shard", *(places.get(argument, argument) for argument in arguments)]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(message.replace("DATA", str(photos)))
    assert not (tmp_path / "out").exists()


def test_a_bad_image_leaves_nothing_behind(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    (photos / "train" / "red" / "letter.png").write_text("Dear reader,")
    assert main(["data", "shard", str(photos), str(tmp_path / "out")]) == 3
    message = (
        "error: train/red/letter.png is not an image that can be used (found text); expected JPEG, PNG, W"
    )
    assert capsys.readouterr().err.startswith(message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_an_unknown_action_is_usage(photos: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["data", "shrad", str(photos), str(tmp_path / "out")]) == 2
    assert "'shrad'; expected one of convert, shard" in capsys.readouterr().err


# -- boxes in another format -----------------------------------------------------------------------------


@pytest.fixture
def boxes(tmp_path: Path) -> Path:
    """Return a year of Pascal VOC with two photos, one of which has a difficult object."""
    xml = {"a": voc_xml(("cat", (3, 4, 20, 25)), extra="<difficult>1</difficult>")}
    return voc_year(tmp_path / "boxes", {"train": ["a"], "val": ["b"]}, xml)


def test_boxes_are_converted_and_what_is_lost_is_said_first(
    boxes: Path, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "out"
    assert main(["data", "convert", str(boxes), str(out), "--to", "coco"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "warning: COCO does not mark difficult objects: the mark of 1 object is left out\n"
    rows = [line.split() for line in captured.out.splitlines() if line.strip()]
    assert [rows[0], *rows[2:4]] == [["split", "images", "objects"], ["train", "1", "1"], ["val", "1", "1"]]
    assert captured.out.splitlines()[-1] == f"wrote {out}"
    assert main(["check", str(out), "--json"]) == 0
    kinds = {finding["kind"] for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert kinds <= {"few-samples"}


def test_the_json_document_says_what_is_lost(boxes: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert main(["data", "convert", str(boxes), str(out), "--to", "yolo", "--link", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "schema_version": 1,
        "data": str(boxes),
        "destination": str(out),
        "to": "yolo",
        "classes": ["cat"],
        "splits": [
            {"split": "train", "images": 1, "objects": 1},
            {"split": "val", "images": 1, "objects": 1},
        ],
        "linked": 2,
        "losses": ["YOLO does not mark difficult objects: the mark of 1 object is left out"],
        "notes": [],
    }


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["convert", "DATA", "OUT"], 2, "there is no format to convert to; expected --to coco, voc or yolo"),
        (["convert", "DATA", "OUT", "--to", "kitti"], 2, "'kitti'; expected one of coco, voc, yolo"),
        (["convert", "DATA", "DATA", "--to", "voc"], 2, "is not empty; expected a new or an empty folder"),
        (
            ["convert", "DATA", "OUT", "--to", "voc", "--seed", "3"],
            2,
            "residual data convert has no option --seed; it is one of 'residual data shard'",
        ),
        (
            ["shard", "DATA", "OUT", "--link"],
            2,
            "residual data shard has no option --link; it is one of 'residual data convert'",
        ),
        (
            ["convert", "DATA", "OUT", "--format", "voc"],
            2,
            "data has no option --format; here it is --to voc",
        ),
        (["shard", "DATA", "OUT"], 3, "boxes has boxes of objects; expected one class an image"),
        (["convert", "digits", "OUT", "--to", "voc"], 3, "digits has one class an image; expected boxes"),
    ],
)
def test_what_cannot_be_converted(
    boxes: Path, tmp_path: Path, capsys: Capture, arguments: list[str], code: int, message: str
) -> None:
    places = {"DATA": str(boxes), "OUT": str(tmp_path / "out")}
    assert main(["data", *(places.get(argument, argument) for argument in arguments)]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


# -- bad inputs through the commands ---------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "train", "evaluate", "shard"])
@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (
            "pipe",
            2,
            "'pipe:touch marker' is a command or an address; expected tars on this machine; download the",
        ),
        (
            "outside",
            3,
            "member '../outside.png' leads out of the archive; expected plain files; make the tar aga",
        ),
        ("link", 3, "member 'etc' is a link; expected plain files; make the tar again"),
        (
            "column",
            3,
            "the header (row 1) has no column for the label ('path', 'kind'); expected one called label",
        ),
        (
            "formula",
            3,
            "row 2 has the label '=cmd()', which spreadsheets take for a formula; expected the name of",
        ),
        ("cifar", 3, "has the MD5 "),
    ],
)
def test_bad_data_is_one_sentence_whatever_the_command(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    command: str,
    data: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = _bad_data(tmp_path, data)
    arguments = {
        "check": ["check", given],
        "train": ["train", given, "--out", "run"],
        "evaluate": ["evaluate", _model(tmp_path), given],
        "shard": ["data", "shard", given, "out"],
    }[command]
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert main(arguments) == code
    captured = capsys.readouterr()
    # What check finds is its result; of the others it is the complaint.
    text = captured.out if command == "check" and code == 3 else captured.err
    assert text.startswith("error: ")
    assert message in text
    assert text.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def _bad_data(folder: Path, kind: str) -> str:
    match kind:
        case "pipe":
            return "shards:pipe:touch marker"
        case "outside" | "link":
            member = tarfile.TarInfo("../outside.png" if kind == "outside" else "etc")
            member.type, member.linkname = (b"0", "") if kind == "outside" else (tarfile.SYMTYPE, "/etc")
            with tarfile.open(folder / "train.tar", "w") as archive:
                archive.addfile(member, io.BytesIO())
            return str(folder / "train.tar")
        case "column" | "formula":
            text = "path,kind\na.png,cat\n" if kind == "column" else "path,label\na.png,=cmd()\n"
            (folder / "table.csv").write_text(text)
            return f"csv:{folder / 'table.csv'}"
        case _:
            (folder / "cifar-10-python.tar.gz").write_bytes(b"\x1f\x8b not the archive")
            return f"cifar10:{folder}"


def _model(folder: Path) -> str:
    from deepresidual.models import TorchClassifier, create, save
    from tests.conftest import COLORS, SMALL_INPUT, TINY

    save(TorchClassifier(create(TINY), tuple(COLORS), SMALL_INPUT), folder / "model")
    return str(folder / "model")
