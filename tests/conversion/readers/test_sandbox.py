"""The child: its limits, how it ends, and what may come back from it."""

from __future__ import annotations

import json
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from deepresidual.conversion.readers import read, sandbox
from deepresidual.errors import MissingDependencyError, ModelFileError, RunError

pytestmark = pytest.mark.child(fresh=True)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_reader_that_takes_too_long_is_ended_and_leaves_nothing(tmp_path: Path, temporary: Path) -> None:
    torch.save({"a": torch.ones(1)}, tmp_path / "x.pt")
    with pytest.raises(ModelFileError, match=r"reading .*x\.pt took longer than 0 s"):
        sandbox.run("torch", tmp_path / "x.pt", 1000, seconds=0.05)
    assert list(temporary.iterdir()) == []


def test_memory_is_limited_to_a_few_times_the_file(tmp_path: Path, temporary: Path) -> None:
    torch.save({"a": torch.zeros(30_000_000)}, tmp_path / "x.pt")
    with pytest.raises(
        ModelFileError, match=r"x\.pt needs more memory than a file of its size may|broke its reader"
    ):
        # As if the file had a kilobyte and all readers got by with 32 MiB.
        sandbox.run("torch", tmp_path / "x.pt", 1000, allowance_bytes=32 << 20)
    assert list(temporary.iterdir()) == []


def test_the_path_is_shown_as_it_was_given_and_the_current_folder_brings_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    for module in ("json", "torch", "numpy", "sitecustomize"):
        (tmp_path / f"{module}.py").write_text(f"open({str(tmp_path / 'marker')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    torch.save([1], "x.pt")
    with pytest.raises(ModelFileError, match=r"^x\.pt holds a list without tensors"):
        read("x.pt")
    assert not (tmp_path / "marker").exists()
    assert list(temporary.iterdir()) == []


def result(folder: Path, document: Any, tensors: dict[str, torch.Tensor] | None = None) -> Any:
    (folder / "result.json").write_text(json.dumps(document))
    if tensors is not None:
        save_file(tensors, folder / "tensors.safetensors")
    return sandbox._collect(folder, Path("x.pt"), 0, 60)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("ModelFileError", ModelFileError),
        ("MissingDependencyError", MissingDependencyError),
        ("RunError", RunError),
    ],
)
def test_errors_of_the_child_pass_through_without_control_codes(
    tmp_path: Path, kind: str, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"^a\\x1bc; expected b; remedy$"):
        result(tmp_path, {"error": kind, "clauses": ["a\x1bc", "b", "remedy"]})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"error": "SystemExit", "clauses": ["", "", ""]},
        {"error": "RunError", "clauses": ["a"]},
        {"error": "RunError", "clauses": [1, 2, 3]},
        {"error": "RunError", "clauses": ["a", "b", "c", "d"]},
        {"names": ["a", "b"], "metadata": {}},
        {"names": ["a"], "metadata": []},
        {"names": 3, "metadata": {}},
    ],
)
def test_a_result_that_makes_no_sense_is_refused(tmp_path: Path, document: Any) -> None:
    with pytest.raises(ModelFileError, match=r"x\.pt broke its reader"):
        result(tmp_path, document, {"0": torch.ones(1)})


@pytest.mark.parametrize(
    ("returncode", "text"),
    [
        (-signal.SIGSEGV, r"broke its reader \(SIGSEGV\)"),
        (-signal.SIGABRT, r"broke its reader \(SIGABRT\)"),
        (3, r"broke its reader \(exit code 3\)"),
        (0, r"broke its reader \(exit code 0\)"),
    ],
)
def test_a_child_that_breaks_is_told_in_one_sentence(tmp_path: Path, returncode: int, text: str) -> None:
    with pytest.raises(ModelFileError, match=text):
        sandbox._collect(tmp_path, Path("x.pt"), returncode, 60)


@pytest.mark.skipif(not hasattr(signal, "SIGXCPU"), reason="needs limits of processor time")
def test_a_child_that_used_up_its_processor_time_was_too_slow(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"reading x\.pt took longer than 60 s"):
        sandbox._collect(tmp_path, Path("x.pt"), -signal.SIGXCPU, 60)


def test_types_that_no_weights_have_and_too_many_tensors_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelFileError, match=r"tensor 'a' is of type complex128; expected float16, bfloat16"):
        sandbox._hand_over({"a": torch.ones(1, dtype=torch.complex128)}, Path("x.pt"), tmp_path)
    monkeypatch.setattr(sandbox, "MAX_TENSORS", 1)
    with pytest.raises(ModelFileError, match="holds 2 tensors; expected at most 1"):
        sandbox._hand_over({"a": torch.ones(1), "b": torch.ones(1)}, Path("x.pt"), tmp_path)


def test_the_child_gets_a_short_environment() -> None:
    environment = sandbox._environment("/folder")
    assert not [name for name in environment if name.startswith(("PYTHON", "TORCH", "KERAS"))]
    assert environment["TMPDIR"] == "/folder"
