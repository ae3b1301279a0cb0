"""torch.save's files: both forms are read, nothing in them runs, and none costs more than it weighs."""

from __future__ import annotations

import pickle
import tempfile
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from deepresidual.conversion.readers import read, torch_file
from deepresidual.errors import ModelFileError
from tests.conversion.readers.writers import Touch

SHARED = Path(__file__).parents[4] / "shared"
FORMS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def save(document: object, path: Path, *, zipped: bool = True) -> Path:
    torch.save(document, path, _use_new_zipfile_serialization=zipped)
    return path


@pytest.mark.child
@FORMS
def test_odd_tensors_survive_the_way_through_the_child(tmp_path: Path, zipped: bool) -> None:
    base = torch.randn(4, 6)
    state = OrderedDict(
        {
            "module.conv.weight": base,
            "transposed": base.t(),
            "view": base[1],
            "tied": base,
            "bn.num_batches_tracked": torch.tensor(12),
            "empty": torch.empty(0, 3),
            "__metadata__": torch.ones(1, dtype=torch.bfloat16),
            "odd \n\ud800 é": torch.ones(2),
        }
    )
    path = save({"epoch": 90, "state_dict": state, "args": None}, tmp_path / "x.th", zipped=zipped)
    checkpoint = read(path)
    assert checkpoint.format == "torch"
    assert list(checkpoint.tensors) == list(state)
    for name, tensor in state.items():
        found = checkpoint.tensors[name]
        assert (found.dtype, found.is_contiguous()) == (tensor.dtype, True)
        assert torch.equal(found, tensor)
    assert checkpoint.metadata["unwrapped"] == ["state_dict"]
    assert checkpoint.metadata["ignored"] == {
        "epoch": "beside the weights (int 90)",
        "args": "beside the weights (a NoneType)",
    }


@pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason=f"no weights at {SHARED / 'weights'}")
def test_a_published_file_of_the_old_form_is_read() -> None:
    checkpoint = read(SHARED / "weights" / "resnet20-12fca82f.th")
    assert checkpoint.sha256.startswith("12fca82f")
    assert checkpoint.tensors["module.conv1.weight"].shape == (16, 3, 3, 3)
    assert checkpoint.metadata["ignored"]["best_prec1"].startswith("beside the weights (float 91.78")


@pytest.mark.parametrize(
    ("document", "unwrapped"),
    [
        ({"a": torch.ones(1), "note": "x"}, []),
        ({"model": {"a": torch.ones(1), "note": "x"}, "lr": 0.1}, ["model"]),
        ({"model": {"state_dict": {"a": torch.ones(1), "note": "x"}}}, ["model", "state_dict"]),
        ({"model_state_dict": {"a": torch.ones(1), "note": "x"}}, ["model_state_dict"]),
        ({"state_dict_ema": {"a": torch.ones(1), "note": "x"}}, ["state_dict_ema"]),
    ],
)
def test_the_state_dict_is_found_where_programs_put_it(
    tmp_path: Path, document: object, unwrapped: list[str]
) -> None:
    tensors, metadata = torch_file.parse(save(document, tmp_path / "x.pt"))
    assert list(tensors) == ["a"]
    assert metadata["unwrapped"] == unwrapped
    assert metadata["ignored"]["note"] == "no tensor (str 'x')"


@pytest.mark.parametrize(
    "document",
    [[torch.ones(1)], torch.ones(1), {"a": 1}, {"a": {"b": [torch.ones(1)]}}, {1: torch.ones(1)}, 3],
)
def test_what_is_no_state_dict_is_refused(tmp_path: Path, document: object) -> None:
    with pytest.raises(
        ModelFileError, match="without tensors; expected a state dict, or one under state_dict"
    ):
        torch_file.parse(save(document, tmp_path / "x.pt"))


@FORMS
@pytest.mark.parametrize("name", ["x.pt", "x.bin", "x.ckpt"])
def test_code_in_a_pickle_is_refused_and_does_not_run(tmp_path: Path, name: str, zipped: bool) -> None:
    marker = tmp_path / "marker"
    path = save({"a": torch.ones(2), "b": Touch(marker)}, tmp_path / name, zipped=zipped)
    with pytest.raises(ModelFileError, match=r"holds more than tensors \((posix|nt)\.system\)"):
        torch_file.parse(path)
    assert not marker.exists()


@pytest.mark.child
def test_code_in_a_pickle_does_not_run_on_the_whole_way_and_nothing_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    # Neither variable may reach the child: the one makes torch unpickle everything.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setenv("PYTHONSTARTUP", str(tmp_path / "startup.py"))
    folder, marker = tmp_path / "folder", tmp_path / "marker"
    folder.mkdir()
    save({"a": Touch(marker)}, folder / "pytorch_model.bin")
    with pytest.raises(ModelFileError, match=r"pytorch_model\.bin holds more than tensors"):
        read(folder)
    assert not marker.exists()
    assert list((tmp_path / "temporary").iterdir()) == []


class Refused:
    """Fails in the safe reader, to provoke a second, unsafe try."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (getattr, (Path, "cwd"))


@FORMS
def test_there_is_no_second_try_after_the_safe_reader_fails(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "marker"
    path = save([Refused(), Touch(marker)], tmp_path / "x.pt", zipped=zipped)
    with pytest.raises(ModelFileError, match="holds more than tensors"):
        torch_file.parse(path)
    assert not marker.exists()


def test_a_pickle_that_torch_did_not_write_is_refused_without_reading_it(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    (tmp_path / "x.pt").write_bytes(pickle.dumps({"a": Touch(marker)}))
    with pytest.raises(ModelFileError, match="is a Python pickle that is no torch file"):
        read(tmp_path / "x.pt")
    assert not marker.exists()


def repacked(source: Path, target: Path, **how: Any) -> Path:
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **how) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    return target


def test_compressed_members_are_refused_before_anything_is_unpacked(tmp_path: Path) -> None:
    stored = save({"a": torch.zeros(10_000_000)}, tmp_path / "stored.pt")
    path = repacked(stored, tmp_path / "x.pt", compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 100_000
    started = time.monotonic()
    with pytest.raises(ModelFileError, match=r"is compressed; expected stored members"):
        torch_file.parse(path)
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x"])
def test_a_member_that_leads_out_of_the_archive_is_refused(tmp_path: Path, name: str) -> None:
    path = repacked(save({"a": torch.zeros(1)}, tmp_path / "s.pt"), tmp_path / "x.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    with pytest.raises(ModelFileError, match="leads out of the archive"):
        torch_file.parse(path)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_member_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = save({"a": torch.zeros(1)}, tmp_path / "x.pt")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x/data.pkl", b"x")
    with pytest.raises(ModelFileError, match=r"'x/data\.pkl' is there twice"):
        torch_file.parse(path)


def test_a_program_and_another_zip_file_are_refused(tmp_path: Path) -> None:
    for member, text in (("x/constants.pkl", "is a TorchScript program"), ("x/y", "without data.pkl")):
        with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
            archive.writestr(member, b"x")
        with pytest.raises(ModelFileError, match=text):
            torch_file.parse(tmp_path / "x.pt")


@FORMS
def test_a_tensor_of_a_terabyte_in_a_kilobyte_is_refused(tmp_path: Path, zipped: bool) -> None:
    bomb = torch.zeros(1).as_strided((10**6, 10**6), (0, 0))
    path = save({"a": bomb}, tmp_path / "x.pt", zipped=zipped)
    assert path.stat().st_size < 4_000
    with pytest.raises(ModelFileError, match=r"'a' of shape \(1000000, 1000000\) is larger than the file"):
        torch_file.parse(path)


def test_many_views_of_one_storage_are_refused(tmp_path: Path) -> None:
    base = torch.zeros(1000)
    path = save({str(number): base for number in range(100)}, tmp_path / "x.pt")
    with pytest.raises(ModelFileError, match="is larger than the file"):
        torch_file.parse(path)


@pytest.mark.child
def test_a_storage_that_claims_gigabytes_comes_to_the_limit_of_memory(tmp_path: Path) -> None:
    path = save({"a": torch.zeros(70_001)}, tmp_path / "x.pt", zipped=False)
    claimed = path.read_bytes().replace((70_001).to_bytes(4, "little"), (2**31 - 1).to_bytes(4, "little"))
    path.write_bytes(claimed)
    started = time.monotonic()
    with pytest.raises(ModelFileError, match=r"x\.pt needs more memory than a file of its size may"):
        read(path)
    assert time.monotonic() - started < 30


@FORMS
def test_a_file_cut_short_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = save({"a": torch.zeros(1000)}, tmp_path / "x.pt", zipped=zipped)
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(ModelFileError, match=r"x\.pt is damaged"):
        read(path)


# torch says in the safe reader that it checks sparse tensors; the child's warnings reach nobody.
@pytest.mark.filterwarnings("ignore:(?s).*sparse.*:UserWarning")
def test_sparse_tensors_and_such_without_values_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="is sparse or quantized"):
        torch_file.parse(save({"a": torch.eye(3).to_sparse()}, tmp_path / "x.pt"))
    with pytest.raises(ModelFileError, match="comes without its values"):
        torch_file.parse(save({"a": torch.empty(3, device="meta")}, tmp_path / "x.pt"))
