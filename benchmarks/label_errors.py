"""Measure the list of likely label errors: labels are swapped on purpose, and the list is held against them.

Features of a bundled network, which has not seen the labels; 5 % of the labels are replaced by another class,
chosen uniformly. P@20: share of the first 20 of the ranking that were swapped; P@m: of as many as were
swapped, which is the recall of so long a list, too; then precision and recall of the list as a report shows
it. And the learning curve of the clean labels, beside what a doubling gives: the error with half of the
images against the error with all.

Example::

    python benchmarks/label_errors.py ants-bees=PHOTOS,px=64,seeds=10 --out label-errors.json
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepresidual.data.source import open_source
from deepresidual.data.source.validation import Subset
from deepresidual.models import TorchClassifier, create, load
from deepresidual.runtime.device import describe_hardware, resolve_device
from deepresidual.runtime.files import write_json
from deepresidual.runtime.provenance import now, versions
from deepresidual.spec.head import Head
from deepresidual.training.features import View, extract_features
from deepresidual.training.label_errors import (
    CrossValidated,
    cross_validate,
    find_label_errors,
    self_confidence,
)
from deepresidual.training.learning_curve import learning_curve

SHARE = 0.05
"""Share of the labels that are swapped."""

_VIEWS: tuple[View, ...] = ("center", "mirrored")


def backbone(weights: str, px: int) -> TorchClassifier:
    """Return a network that gives means and deviations of all its stages, as fine-tuning reads them."""
    model = load(weights)
    network = create(replace(model.spec, head=Head(model.spec.stage_names, ("mean", "std"))), seed=0)
    own, given = network.state_dict(), model.network.state_dict()
    network.load_state_dict({name: own[name] if name.startswith("fc.") else given[name] for name in own})
    return TorchClassifier(network.eval(), model.label_names, model.preprocess.at_size(px))


def swapped(
    labels: NDArray[np.int64], num_classes: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the labels with a share of them swapped, and the places of these."""
    random = np.random.default_rng(seed)
    places = random.choice(len(labels), round(SHARE * len(labels)), replace=False)
    noisy = labels.copy()
    noisy[places] = (labels[places] + random.integers(1, num_classes, len(places))) % num_classes
    return noisy, places


def measured(
    values: NDArray[np.float32], labels: NDArray[np.int64], num_classes: int, seed: int
) -> dict[str, Any]:
    """Return what the ranking and the list find of swapped labels."""
    noisy, places = swapped(labels, num_classes, seed)
    started = time.process_time()
    crossed: CrossValidated = cross_validate(values, noisy, num_classes)
    seconds = time.process_time() - started
    is_swapped = np.isin(np.arange(len(labels)), places)
    order = np.argsort(self_confidence(crossed.probabilities, noisy), kind="stable")
    found = find_label_errors(crossed, noisy)
    listed = is_swapped[list(found.places)]
    return {
        "seed": seed,
        "swapped": len(places),
        "top1": crossed.top1,
        "p_at_20": float(is_swapped[order[:20]].mean()),
        "p_at_m": float(is_swapped[order[: len(places)]].mean()),
        "listed": len(listed),
        "list_precision": float(listed.mean()) if len(listed) else None,
        "list_recall": float(listed.sum() / len(places)),
        "reason": found.reason,
        "cpu_seconds": seconds,
    }


def case(text: str) -> dict[str, Any]:
    """Measure one data set, given as ``NAME=DATA,px=64,seeds=10,split=test,images=99,classes=a|b``."""
    words = text.split(",")
    name, _, data = words[0].partition("=")
    options = {"px": "64", "seeds": "10", "split": "", "images": "0", "features": "0", "classes": ""}
    options |= dict(word.split("=", 1) for word in words[1:])
    source = open_source(data)
    model = backbone("resnet56-cifar10", int(options["px"]))
    splits = [options["split"]] if options["split"] else list(source.splits)
    parts, labels = [], []
    for split in splits:
        samples = source.split(split)
        if options["classes"]:
            wanted = [source.classes.index(label) for label in options["classes"].split("|")]
            samples = Subset(samples, np.flatnonzero(np.isin(samples.labels, wanted)))
        if int(options["images"]):
            chosen = np.random.default_rng(0).permutation(len(samples))[: int(options["images"])]
            samples = Subset(samples, np.sort(chosen))
        features = extract_features(model, samples, views=_VIEWS, num_workers=1)
        parts.append(features.values)
        labels.append(features.labels)
    values, truth = np.concatenate(parts), np.concatenate(labels)
    values = values[:, :, : int(options["features"]) or None]  # the first are those of the first stages
    present, truth = np.unique(truth, return_inverse=True)
    num_classes = len(present)
    runs = [measured(values, truth, num_classes, seed) for seed in range(int(options["seeds"]))]
    clean = cross_validate(values, truth, num_classes)
    curve = learning_curve(values, truth, clean.c)
    precisions = [run["list_precision"] for run in runs if run["list_precision"] is not None]
    row = {
        "name": name,
        "images": len(truth),
        "classes": num_classes,
        "features": values.shape[2],
        "image_px": int(options["px"]),
        "top1_clean": clean.top1,
        "top1_with_swapped": float(np.mean([run["top1"] for run in runs])),
        "p_at_20": float(np.mean([run["p_at_20"] for run in runs])),
        "p_at_m": float(np.mean([run["p_at_m"] for run in runs])),
        "p_at_m_std": float(np.std([run["p_at_m"] for run in runs])),
        "list_precision": float(np.mean(precisions)) if precisions else None,
        "list_recall": float(np.mean([run["list_recall"] for run in runs])),
        "runs": runs,
        "learning_curve": curve.to_dict(),
    }
    shown = {key: row[key] for key in row if key not in ("runs", "learning_curve")}
    print(shown, curve, flush=True)  # noqa: T201
    return row


def main() -> None:
    """Read the command line, measure and write the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="+", metavar="NAME=DATA,…")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    write_json(
        options.out,
        {
            "schema_version": 1,
            "benchmark": "label_errors",
            "share_swapped": SHARE,
            "weights": "resnet56-cifar10",
            "command": ["python", "benchmarks/label_errors.py", *options.cases],
            "date": now(),
            "versions": versions(),
            "hardware": describe_hardware(resolve_device("cpu")),
            "rows": [case(text) for text in options.cases],
        },
    )


if __name__ == "__main__":
    main()
