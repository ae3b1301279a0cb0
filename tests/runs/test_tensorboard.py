"""TensorBoard: the same numbers as in ``metrics.jsonl``, and one sentence where it is missing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from deepresidual.cli import main
from tests.training.parts import a_run, a_start, rows

pytestmark = pytest.mark.usefixtures("no_report")


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Return every curve that TensorBoard would show, as values by step."""
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is an extra"
    )
    events: Any = reader.EventAccumulator(str(folder))
    events.Reload()
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)} for tag in events.Tags()["scalars"]
    }


@pytest.mark.test_all
def test_the_board_has_the_numbers_of_the_metrics(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is an extra")
    a_run(photos, tmp_path / "run", tensorboard=True)
    curves = scalars(tmp_path / "run" / "tensorboard")
    for event, group in (("train", "train"), ("evaluation", "test")):
        for name in ("loss", "top1"):
            expected = {row["step"]: row[name] for row in rows(tmp_path / "run", event)}
            assert curves[f"{group}/{name}"] == pytest.approx(expected)
    assert "train/learning_rate" in curves
    assert not [tag for tag in curves if "samples" in tag or tag.endswith(("/step", "/event", "/split"))]


@pytest.mark.test_all
def test_a_resumed_run_shows_every_step_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is an extra")
    a_run(photos, tmp_path / "run", tensorboard=True)
    a_run(photos, tmp_path / "run", tensorboard=True, resume=True, checkpoint=5)
    curves = scalars(tmp_path / "run" / "tensorboard")
    expected = {row["step"]: row["loss"] for row in rows(tmp_path / "run", "train")}
    assert curves["train/loss"] == pytest.approx(expected)


def test_a_run_without_it_writes_no_events(photos: Path, tmp_path: Path) -> None:
    a_run(photos, tmp_path / "run", {"steps": 1})
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_where_it_is_missing_one_sentence_says_what_to_install(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    start = a_start(tmp_path / "start")
    out = tmp_path / "run"
    arguments = ["train", str(photos), "--weights", str(start), "--out", str(out), "--tensorboard"]
    assert main(arguments) == 4
    assert capsys.readouterr().err == (
        "error: --tensorboard needs the package tensorboard, which is not installed; "
        "run: pip install 'deepresidual[tensorboard]'\n"
    )
    assert not out.exists()
