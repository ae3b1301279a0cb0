"""Whatever is learned, a run of it trains, goes on to the same bits, and reports."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import deepresidual
from deepresidual import RunResult
from deepresidual.cli import main
from deepresidual.data import decode
from deepresidual.data.objects import Objects
from deepresidual.data.resident import InMemoryImages
from deepresidual.data.sampler import TrainingOrder
from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.multilabel import MultilabelSplit
from deepresidual.errors import ConfigurationError, DataError, ModelFileError, UnknownNameError
from deepresidual.preprocess import Preprocess
from deepresidual.recipe import Augment
from deepresidual.runs.read import read_plan
from deepresidual.runtime.distributed import SINGLE
from deepresidual.runtime.signals import StopRequest
from deepresidual.tasks import task_of
from deepresidual.tasks.task import TASKS
from deepresidual.training.checkpoint import newest_checkpoint
from deepresidual.training.launch import train
from tests.conftest import TINY, write_photos
from tests.detectors import TINY_DETECTOR, few_scenes
from tests.tasks.fake import Tags, tagged
from tests.training.parts import changed, record_of, rows, stop_after, weights_of

CHANGES = {
    "epochs": 2.0,
    "batch_size": 12,
    "micro_batch_size": 6,
    "ema_decay": 0.5,
    "non_finite": "skip",
    "evaluate_every": 1.0,
}
OF_CLASSES = pytest.mark.parametrize("source", ["classification", "tags", "multilabel"], indirect=True)


@pytest.fixture(scope="module", params=["classification", "tags", "multilabel", "detection"])
def source(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SampleSource]:
    """A data set of each task."""
    if request.param == "detection":
        yield few_scenes()
        return
    photos = tmp_path_factory.mktemp("tasks") / "photos"
    # Square ones can be kept in memory, which must not change what is learned.
    write_photos(photos / "train", 16, columns=24)
    write_photos(photos / "test", 5, seed=1, columns=24)
    opened = open_source(photos)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "tags", Tags)
        yield {"classification": lambda source: source, "tags": tagged, "multilabel": with_labels}[
            request.param
        ](opened)


@pytest.fixture(scope="module")
def finished(source: SampleSource, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A finished run of it, with its report."""
    return trained(source, tmp_path_factory.mktemp("tasks") / "run")


def with_labels(source: SampleSource) -> SampleSource:
    """Return a data set of the same photos with labels: green things are blue, too, red ones nothing."""
    splits = {}
    for name, split in source.splits.items():
        targets = np.eye(len(source.classes), dtype=bool)[split.labels]
        targets[targets[:, 1], 0] = True
        targets[targets[:, 2], 2] = False
        targets[0, 2] = True
        splits[name] = MultilabelSplit(split, targets)
    return dataclasses.replace(source, splits=splits, task="multilabel")


def trained(source: SampleSource, out: Path, **options: Any) -> RunResult:
    detects = source.task == "detection"
    usual: dict[str, Any] = {"image_px": 32 if detects else 8, "num_workers": 0, "precision": "fp32"}
    return train(
        source, TINY_DETECTOR if detects else TINY, out, changes=CHANGES, compile="no", **{**usual, **options}
    )


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
    assert len(task_of(read_plan(finished.path)[0]).charts) >= 2
    titles = {
        "classification": "top-1 error",
        "tags": "wrong tags of an image",
        "multilabel": "images with all labels right",
        "detection": "loss",  # its AP has a chart of held-out images alone
    }
    for title in ("loss", titles[source.task]):
        assert f"{title} over epochs" in page
    assert ("All labels are right on" in page) == (source.task == "multilabel")
    assert ("Giving every label to every image would get" in page) == (source.task == "multilabel")


@pytest.mark.usefixtures("no_report")
def test_it_goes_on_to_the_same_bits(
    source: SampleSource, finished: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        assert trained(source, tmp_path / "parts").status == "interrupted"
    newest = newest_checkpoint(tmp_path / "parts" / "checkpoints")
    assert newest is not None
    assert set(newest[1].state.windows[0].parts) == set(task_of(read_plan(finished.path)[0]).parts)
    assert trained(source, tmp_path / "parts", resume=True).status == "finished"
    assert changed(weights_of(finished.path), weights_of(tmp_path / "parts")) == set()
    evaluations = [
        json.loads((path / "evaluation.json").read_text()) for path in (finished.path, tmp_path / "parts")
    ]
    assert evaluations[0] == evaluations[1]
    assert trained(source, tmp_path / "parts", resume=True).evaluation is not None


def test_what_it_measured_is_what_its_folder_measures(source: SampleSource, finished: RunResult) -> None:
    model = deepresidual.load(finished.path)
    written = json.loads((finished.path / "evaluation.json").read_text())
    task = task_of(read_plan(finished.path)[0])
    again = task.evaluate(
        model,
        source.split("test"),
        "test",
        num_workers=0,
        processes=SINGLE,
        skip_bad=False,
        stop=StopRequest(),
    ).to_dict()
    assert {name: written[name] for name in again} == json.loads(json.dumps(again))


def test_its_name_is_written_unless_it_is_classification(source: SampleSource, finished: RunResult) -> None:
    plan = record_of(finished.path)["plan"]
    own = json.loads((finished.path / "model" / "config.json").read_text())["residual"]
    document = json.loads((finished.path / "evaluation.json").read_text())
    written = [source.task] * 3 if source.task != "classification" else [None] * 3
    assert [part.get("task") for part in (plan, own, document)] == written
    assert own["format_version"] == 1
    assert deepresidual.load(finished.path).task == source.task


@OF_CLASSES
def test_targets_are_those_that_samples_are_read_with(source: SampleSource) -> None:
    split = source.split("train")
    expected = torch.tensor([split.read(index).target for index in range(len(split))])
    preprocess = Preprocess(8, 8, (0.5,) * 3, (0.25,) * 3)
    for augment in (Augment(crop="center", flip=False), Augment(crop="pad", flip=True)):
        kept = InMemoryImages.read(split, preprocess, augment, torch.device("cpu"))
        assert kept is not None
        (batch,) = kept.batches(TrainingOrder(0, len(split), len(split), 0, 1))
        assert torch.equal(batch.targets, expected[batch.positions[:, 1]])


@pytest.mark.usefixtures("no_report")
def test_a_sample_that_cannot_be_used_stops_it_or_is_left_out(
    source: SampleSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = source.split("test").read(0).content

    def breaking(usual: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        def broken(content: bytes) -> Any:
            if content == bad:
                raise DataError("not an image")
            return usual(content)

        return broken

    for name in ("decode", "open_image"):
        usual = getattr(decode, name)
        monkeypatch.setattr(f"deepresidual.data.loader.{name}", breaking(usual))
    with pytest.raises(DataError, match="not an image"):
        trained(source, tmp_path / "stopped")
    done = trained(source, tmp_path / "skipped", bad_samples="skip")
    assert done.evaluation is not None
    assert done.evaluation.summary()["count"] == len(source.split("test")) - 1


def test_other_targets_are_another_data_set(source: SampleSource) -> None:
    split = source.split("train")
    assert [row[0] for row in split.rows()] == [split.key(index) for index in range(len(split))]
    by_row: dict[int, list[Any]] = {}
    for index, row in enumerate(split.rows()):
        target = split.read(index).target
        by_row.setdefault(row[1], []).append(
            repr(target.to_dict(source.classes)) if isinstance(target, Objects) else target
        )
    # Rows with the same second place have the same target, and others another.
    assert all(len(set(targets)) == 1 for targets in by_row.values())
    assert len({targets[0] for targets in by_row.values()}) == len(by_row) > 1


@OF_CLASSES
@pytest.mark.usefixtures("finished")
def test_commands_for_classes_take_classifiers_alone(
    source: SampleSource, finished: RunResult, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(source.split("test").read(0).content)
    code = main(["predict", str(finished.path), str(photo)])
    if source.task != "tags":
        assert code == 0
    else:
        assert code == 3
        assert "is a model for tags; expected a classifier" in capsys.readouterr().err


@OF_CLASSES
def test_the_card_and_the_thresholds_of_several_labels(source: SampleSource, finished: RunResult) -> None:
    card = (finished.path / "model" / "README.md").read_text("utf-8")
    model = deepresidual.load(finished.path)
    several = source.task == "multilabel"
    assert ("It gives an image any number of labels" in card) == several
    assert (model.thresholds is not None) == several
    if model.thresholds is not None:
        assert model.thresholds.chosen_on == "test"
        assert len(model.thresholds.values) == len(model.label_names)


def test_what_other_libraries_would_misread_is_not_converted(
    source: SampleSource, finished: RunResult, tmp_path: Path
) -> None:
    if source.task == "multilabel":
        with pytest.raises(ConfigurationError, match="several labels, and a folder of timm does not say"):
            deepresidual.convert(finished.path, tmp_path / "timm", to="timm")
    assert not (tmp_path / "timm").exists()


@OF_CLASSES
@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"values": [0.5], "chosen_on": "val", "fingerprint": ""}, "there are 1 thresholds for 3 labels"),
        ({"values": [0.5, 2, 0.5], "chosen_on": "val", "fingerprint": ""}, "the thresholds cannot be read"),
        ({"values": [0.5] * 3}, "the thresholds cannot be read"),
        ([0.5] * 3, "expected an object"),
    ],
)
def test_thresholds_of_a_folder_are_checked(
    source: SampleSource, finished: RunResult, tmp_path: Path, thresholds: Any, message: str
) -> None:
    del source
    shutil.copytree(finished.path / "model", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["residual"]["thresholds"] = thresholds
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFileError, match=message):
        deepresidual.load(tmp_path / "model")


def test_a_task_that_is_not_known_is_refused(photos: Path, tmp_path: Path) -> None:
    source = dataclasses.replace(open_source(photos), task="classificatoin")
    with pytest.raises(UnknownNameError, match="nearest: classification|classification"):
        trained(source, tmp_path / "run")
