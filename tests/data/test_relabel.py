"""Corrected labels: every row is held against the data, then all change or none, and it can be undone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepresidual.cli import main
from deepresidual.data.relabel import apply_relabelling, plan_relabelling
from deepresidual.data.source import open_source
from deepresidual.errors import DataError, RunError
from tests.data.pictures import encode, noise

Capture = pytest.CaptureFixture[str]


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of the classes ant and bee with six images each, in the current folder."""
    monkeypatch.chdir(tmp_path)
    for place, name in enumerate(("ant", "bee")):
        for number in range(6):
            file = tmp_path / "photos" / name / ("deep" if number > 3 else ".") / f"{name[0]}{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode(noise(8, 8, seed=10 * place + number), "PNG"))
    return tmp_path / "photos"


def _list(rows: str, header: str = "path,label,suggested") -> Path:
    file = Path("labels.csv")
    file.write_text(f"{header}\n{rows}\n")
    return file


def _labels(data: str | Path) -> dict[str, str]:
    source = open_source(data)
    parts = source.splits.values()
    return {part.key(i): source.classes[label] for part in parts for i, label in enumerate(part.labels)}


def test_files_move_to_the_folder_of_their_new_class_and_back(photos: Path, capsys: Capture) -> None:
    before = _contents(photos)
    _list("ant/a1.png,ant,bee\nbee/deep/b4.png,bee,ant")
    assert main(["check", "photos", "--relabel", "labels.csv"]) == 0
    out = capsys.readouterr().out
    assert "photos: 2 labels changed\nundo    residual check photos --relabel labels-undo.csv\n" in out
    after = _contents(photos)
    assert after == {
        {"ant/a1.png": "bee/a1.png", "bee/deep/b4.png": "ant/deep/b4.png"}.get(name, name): content
        for name, content in before.items()
    }
    assert _labels(photos)["bee/a1.png"] == "bee"
    assert main(["check", "photos", "--relabel", "labels-undo.csv"]) == 0
    assert _contents(photos) == before


def test_in_splits_files_stay_in_their_split(tmp_path: Path, photos: Path) -> None:
    both = tmp_path / "both"
    both.mkdir()
    photos.rename(both / "train")
    (both / "val" / "ant").mkdir(parents=True)
    (both / "val" / "bee").mkdir()
    for name in ("ant", "bee"):
        (both / "val" / name / "v.png").write_bytes(b"")
    apply_relabelling(plan_relabelling(both, _list("val/ant/v.png,ant,bee\ntrain/bee/b0.png,bee,ant")))
    assert (both / "val" / "bee" / "v-2.png").is_file()  # v.png is taken there
    assert (both / "train" / "ant" / "b0.png").is_file()


def test_nothing_is_overwritten_and_undoing_gives_names_back(photos: Path) -> None:
    for name in ("ant", "bee"):
        (photos / name / "same.png").write_bytes(name.encode())
        (photos / name / "Deep.png").write_bytes(name.encode())
    before = _contents(photos)
    undo = apply_relabelling(
        plan_relabelling("photos", _list("ant/same.png,ant,bee\nbee/same.png,bee,ant\nant/Deep.png,ant,bee"))
    )
    after = _contents(photos)
    assert sorted(after.values()) == sorted(before.values())
    assert after["bee/same-2.png"] == b"ant"
    assert after["ant/same-2.png"] == b"bee"
    apply_relabelling(plan_relabelling("photos", undo))
    assert _contents(photos) == before


def test_a_trial_says_what_would_be_and_changes_nothing(photos: Path, capsys: Capture) -> None:
    before = _contents(Path())
    _list("ant/a1.png,ant,bee")
    assert main(["check", "photos", "--relabel", "labels.csv", "--dry-run", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["changed"] is False
    assert document["undo"] is None
    assert document["corrections"] == [
        {"path": "ant/a1.png", "label": "ant", "suggested": "bee", "to": "bee/a1.png"}
    ]
    assert {name: data for name, data in _contents(Path()).items() if name != "labels.csv"} == before
    assert main(["check", "photos", "--dry-run"]) == 2
    assert capsys.readouterr().err.startswith("error: --dry-run is given without --relabel")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            "ant/a1.png,bee,ant",
            r"row 2 says that 'ant/a1\.png' is 'bee', and it is 'ant'; make the list anew",
        ),
        (
            "ant/gone.png,ant,bee",
            r"row 2 names 'ant/gone\.png', which is no image of this data; expected paths",
        ),
        ("../photos/ant/a1.png,ant,bee", r"which is no image of this data"),
        ("ant/a1.png,ant,cat", r"row 2 suggests 'cat'; expected one of"),
        ("ant/a1.png,ant,../up", r"row 2 suggests '\.\./up'; expected one of ant, bee"),
        ("ant/a1.png,ant,", r"row 2 has no suggested label; expected one of ant, bee"),
        (
            "ant/a1.png,ant,bee\nant/a1.png,ant,bee",
            r"row 3 names 'ant/a1\.png', as row 2 does; keep one of them",
        ),
        ("", r"labels\.csv has no rows"),
    ],
)
def test_a_row_that_does_not_fit_is_named_and_nothing_changes(photos: Path, rows: str, message: str) -> None:
    before = _contents(photos)
    with pytest.raises(DataError, match=message):
        plan_relabelling("photos", _list(rows))
    assert _contents(photos) == before


def test_a_place_outside_the_class_is_refused(photos: Path) -> None:
    for to in ("../a1.png", "bee/../../x.png", "ant/x.png", "/x.png"):
        with pytest.raises(DataError, match=r"row 2 goes to .*; expected a file below bee"):
            plan_relabelling("photos", _list(f"ant/a1.png,ant,bee,{to}", "path,label,suggested,to"))


def test_a_list_without_its_columns_is_refused(photos: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv: the header \(row 1\) has no column for the suggested"):
        plan_relabelling("photos", _list("ant/a1.png,ant", "path,label"))


def test_what_was_moved_goes_back_when_a_move_fails(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = _contents(Path())
    plan = plan_relabelling(
        "photos", _list("ant/a0.png,ant,bee\nant/deep/a5.png,ant,bee\nant/a1.png,ant,bee")
    )
    rename, calls = Path.rename, []

    def failing(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", str(target))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(RunError, match="No space left on device"):
        apply_relabelling(plan)
    assert len(calls) == 5  # two went, the third failed, two came back
    assert {name: data for name, data in _contents(Path()).items() if name != "labels.csv"} == before


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_is_rewritten_and_keeps_its_form(photos: Path, mark: str, end: str) -> None:
    lines = [
        "Image,class,split,note",
        'photos\\ant\\a0.png,ant,train,"one, two"',
        "photos/bee/b0.png,bee,train,",
    ]
    lines += ["photos/ant/a1.png,ant,val,", "photos/bee/b1.png,bee,val,", "photos/ant/a0.png,ant,train,again"]
    content = (mark + end.join(lines) + end).encode()
    table = Path("table.csv")
    table.write_bytes(content)
    undo = apply_relabelling(
        plan_relabelling("table.csv", _list("photos/ant/a0.png,ant,bee\nphotos/bee/b1.png,bee,ant"))
    )
    assert table.read_bytes() == content.replace(b"a0.png,ant", b"a0.png,bee").replace(
        b"b1.png,bee", b"b1.png,ant"
    )
    apply_relabelling(plan_relabelling("csv:table.csv", undo))
    assert table.read_bytes() == content


def test_labels_of_other_data_are_left_alone(photos: Path) -> None:
    import zipfile

    with zipfile.ZipFile("photos.zip", "w") as target:
        for name, content in _contents(photos).items():
            target.writestr(name, content)
    with pytest.raises(
        DataError, match=r"^the labels of photos\.zip cannot be changed; expected .*; unpack it$"
    ):
        plan_relabelling("photos.zip", _list("ant/a1.png,ant,bee"))
    with pytest.raises(
        DataError, match=r"^the labels of digits cannot be changed; expected a folder of images"
    ):
        plan_relabelling("digits", _list("0,0,1"))
