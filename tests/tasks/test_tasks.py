"""Whatever is learned, a run of it trains, goes on to the same bits, and reports."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import deepresidual
from deepresidual import RunResult
from deepresidual.data.source import SampleSource, open_source
from deepresidual.errors import UnknownNameError
from deepresidual.tasks import task_of
from deepresidual.tasks.task import TASKS
from deepresidual.training.checkpoint import newest_checkpoint
from deepresidual.training.launch import train
from tests.conftest import TINY, write_photos
from tests.tasks.fake import Tags, tagged
from tests.training.parts import a_plan, changed, record_of, rows, stop_after, weights_of

CHANGES = {"epochs": 2.0, "batch_size": 12, "micro_batch_size": 6, "ema_decay": 0.5, "non_finite": "skip"}


@pytest.fixture(scope="module", params=["classification", "tags"])
def source(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SampleSource]:
    """A data set of each task."""
    photos = tmp_path_factory.mktemp("tasks") / "photos"
    write_photos(photos / "train", 16)
    write_photos(photos / "test", 5, seed=1)
    opened = open_source(photos)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "tags", Tags)
        yield tagged(opened) if request.param == "tags" else opened


@pytest.fixture(scope="module")
def finished(source: SampleSource, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run of it, with its report."""
    return trained(source, tmp_path_factory.mktemp("tasks") / "run")


def trained(source: SampleSource, out: Path, **options: Any) -> RunResult:
    usual: dict[str, Any] = {"image_px": 8, "num_workers": 0, "precision": "fp32", "compile": "no"}
    return train(source, TINY, out, changes=CHANGES, **{**usual, **options})


def test_it_trains_and_says_what_it_measured(source: SampleSource, finished: RunResult) -> None:
    assert (finished.status, finished.exit_code) == ("finished", 0)
    losses = [row["loss"] for row in rows(finished.path)]
    assert losses[-1] < losses[0]
    (last, before) = (row for row in reversed(rows(finished.path)) if row["event"] == "evaluation")
    assert finished.evaluation is not None
    summary = finished.evaluation.summary()
    assert {name: last[name] for name in summary} == summary
    assert before["step"] < last["step"]
    figures = deepresidual.load(finished.path).metrics["test"]
    assert figures == {name: value for name, value in summary.items() if name != "split"}
    page = (finished.path / "report.html").read_text("utf-8")
    for title in ("loss", "top-1 error" if source.task == "classification" else "wrong tags of an image"):
        assert f"{title} over epochs" in page


@pytest.mark.usefixtures("no_report")
def test_it_goes_on_to_the_same_bits(
    source: SampleSource, finished: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert trained(source, tmp_path / "parts").status == "interrupted"
    newest = newest_checkpoint(tmp_path / "parts" / "checkpoints")
    assert newest is not None
    assert set(newest[1].state.windows[0].parts) == set(task_of(a_plan(task=source.task)).parts)
    assert trained(source, tmp_path / "parts", resume=True).status == "finished"
    assert changed(weights_of(finished.path), weights_of(tmp_path / "parts")) == set()
    evaluations = [
        json.loads((path / "evaluation.json").read_text()) for path in (finished.path, tmp_path / "parts")
    ]
    assert evaluations[0] == evaluations[1]
    assert trained(source, tmp_path / "parts", resume=True).evaluation is not None


def test_its_name_is_written_unless_it_is_classification(source: SampleSource, finished: RunResult) -> None:
    plan = record_of(finished.path)["plan"]
    own = json.loads((finished.path / "model" / "config.json").read_text())["residual"]
    document = json.loads((finished.path / "evaluation.json").read_text())
    written = [source.task] * 3 if source.task != "classification" else [None] * 3
    assert [part.get("task") for part in (plan, own, document)] == written
    assert own["format_version"] == 1
    assert deepresidual.load(finished.path).task == source.task


def test_a_task_that_is_not_known_is_refused(photos: Path, tmp_path: Path) -> None:
    source = dataclasses.replace(open_source(photos), task="classificatoin")
    with pytest.raises(UnknownNameError, match="nearest: classification|classification"):
        trained(source, tmp_path / "run")
