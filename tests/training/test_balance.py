"""Runs that balance classes: honest probes, resumed to the bit, refused where nothing could be corrected."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepresidual import train
from deepresidual.data.source import SampleSource, open_source
from deepresidual.data.source.multilabel import MultilabelSplit
from deepresidual.data.source.validation import Subset
from deepresidual.errors import ConfigurationError
from deepresidual.training.probe import LinearProbe, fit_probe
from tests.conftest import TINY, write_photos
from tests.tasks.conftest import no_report
from tests.training.parts import changed, record_of, stop_after, weights_of

__all__ = ["no_report"]

OPTIONS: dict[str, Any] = {"image_px": 8, "num_workers": 0, "precision": "fp32", "compile": "no"}


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> SampleSource:
    """Photos of three classes, of which the last has few."""
    photos = tmp_path_factory.mktemp("uneven") / "photos"
    write_photos(photos / "train", 16)
    write_photos(photos / "test", 5, seed=1)
    source = open_source(photos)
    split = source.split("train")
    kept = [index for index, label in enumerate(split.labels) if label != 2][:32] + split_of(split.labels, 2)[
        :4
    ]
    return dataclasses.replace(source, splits={**source.splits, "train": Subset(split, kept)})


def split_of(labels: list[int], wanted: int) -> list[int]:
    return [index for index, label in enumerate(labels) if label == wanted]


def run(source: SampleSource, out: Path, resume: bool = False, **changes: Any) -> Any:
    usual = {"epochs": 2.0, "batch_size": 12, "micro_batch_size": 6}
    return train(source, TINY, out, changes={**usual, **changes}, resume=resume, **OPTIONS)


@pytest.mark.usefixtures("no_report")
def test_balanced_sampling_goes_on_to_the_same_bits(
    uneven: SampleSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(uneven, tmp_path / "whole", balance="sampling")
    assert record_of(tmp_path / "whole")["plan"]["class_counts"] == [16, 16, 4]
    with monkeypatch.context() as patch:
        stop_after(patch, 4)
        assert run(uneven, tmp_path / "parts", balance="sampling").status == "interrupted"
    assert run(uneven, tmp_path / "parts", resume=True, balance="sampling").status == "finished"
    assert changed(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")) == set()


@pytest.mark.usefixtures("no_report")
def test_each_way_trains_another_network_and_says_so(
    uneven: SampleSource, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run(uneven, tmp_path / "none")
    assert "red is few: consider --class-prior equal" in capfd.readouterr().err
    assert "class_counts" not in record_of(tmp_path / "none")["plan"]
    for balance in ("loss", "sampling"):
        run(uneven, tmp_path / balance, balance=balance)
        said = capfd.readouterr().err
        assert "probabilities are for their frequencies; --class-prior equal finds more of the rare" in said
        assert "consider" not in said
        assert changed(weights_of(tmp_path / "none"), weights_of(tmp_path / balance))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"balance": "loss", "loss": "bce"},
            "balance is 'loss', class_prior 'training' and loss 'bce'; expected cr",
        ),
        ({"class_prior": "equal", "loss": "bce"}, "class_prior 'equal' and loss 'bce'"),
    ],
)
def test_what_cannot_be_corrected_is_refused(
    uneven: SampleSource, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run(uneven, tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"balance": "sampling"}, "balance 'sampling' for several labels an image; expected balance 'loss'"),
        ({"class_prior": "equal"}, "class_prior 'equal' for several labels an image; .*by their thresholds"),
        ({"loss": "cross-entropy"}, "loss is 'cross-entropy' for several labels an image; expected bce"),
    ],
)
def test_several_labels_have_the_loss_alone(
    uneven: SampleSource, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    splits = {
        name: MultilabelSplit(split, np.eye(3, dtype=bool)[split.labels])
        for name, split in uneven.splits.items()
    }
    source = dataclasses.replace(uneven, splits=splits, task="multilabel")
    with pytest.raises(ConfigurationError, match=message):
        run(source, tmp_path / "run", **changes)


def shares_of(probe: LinearProbe, values: Any) -> Any:
    logits = values[:, 0].astype(np.float64) @ probe.weight.T + probe.bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def clouds(counts: tuple[int, ...], seed: int) -> Any:
    """Return features of clouds that overlap."""
    centers = np.array([[0.0, 0], [1.5, 0], [0, 1.5]])
    labels = np.repeat(np.arange(3), counts)
    random = np.random.default_rng(seed)
    values = centers[labels][:, None] + random.normal(size=(len(labels), 1, 2))
    return values.astype(np.float32), labels


@pytest.mark.parametrize("balanced", [False, True])
def test_the_probabilities_of_a_probe_hold(balanced: bool) -> None:
    """What is said with a probability is right as often, on images as frequent as asked for."""
    few, same = (600, 300, 30), (400, 400, 400)
    recalls = {}
    for prior, there in (("training", few), ("equal", same)):
        known, classes = clouds(few, 0)
        probe = fit_probe(known, classes, 3, balanced=balanced, class_prior=prior)  # type: ignore[arg-type]
        values, labels = clouds(tuple(4 * count for count in there), 1)
        shares = shares_of(probe, values)
        frequencies = np.array(there) / sum(there)
        np.testing.assert_allclose(shares.mean(axis=0), frequencies, atol=0.05)
        assert shares.max(axis=1).mean() == pytest.approx((shares.argmax(axis=1) == labels).mean(), abs=0.04)
        rare, rare_labels = clouds((0, 0, 400), 2)
        recalls[prior] = (shares_of(probe, rare).argmax(axis=1) == rare_labels).mean()
    assert recalls["equal"] > recalls["training"] + 0.2
