"""Measure against other libraries where that is possible: in a checkout; their side is not in the wheel."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from deepresidual.benchmarks import data as data_alone
from deepresidual.benchmarks import finetune as finetuning_alone
from deepresidual.benchmarks import folder as folder_alone
from deepresidual.benchmarks import inference as inference_alone
from deepresidual.benchmarks import train as training_alone
from deepresidual.benchmarks.measurement import Result, checkout
from deepresidual.runtime.console import note


def benchmark_training(data: Path | None, *, rows: Sequence[str], repetitions: int) -> Result:
    """Measure training, against its peers in a checkout."""
    module = _peers("train") or training_alone
    result: Result = module.benchmark_training(data, rows=rows, repetitions=repetitions)
    return result


def benchmark_data(folder: Path, *, rows: Sequence[str], repetitions: int) -> Result:
    """Measure decoding and loading, against their peers in a checkout."""
    module = _peers("data") or data_alone
    result: Result = module.benchmark_data(folder, rows=rows, repetitions=repetitions)
    return result


def benchmark_finetuning(
    data: Path,
    weights: str,
    *,
    images_per_class: Sequence[int],
    rows: Sequence[str],
    repetitions: int,
    out: Path | None,
) -> Result:
    """Measure training on few images, against its peers in a checkout."""
    module = _peers("finetune") or finetuning_alone
    result: Result = module.benchmark_finetuning(
        data, weights, images_per_class=images_per_class, rows=rows, repetitions=repetitions, out=out
    )
    return result


def benchmark_inference(models: Sequence[str], *, rows: Sequence[str], repetitions: int) -> Result:
    """Measure exported models, against their peers in a checkout."""
    module = _peers("inference") or inference_alone
    result: Result = module.benchmark_inference(models, rows=rows, repetitions=repetitions)
    return result


def benchmark_folder(photos: Path | None, *, rows: Sequence[str], repetitions: int) -> Result:
    """Measure a folder of photos to a file of predictions, against its peer in a checkout."""
    module = _peers("folder") or folder_alone
    result: Result = module.benchmark_folder(photos, rows=rows, repetitions=repetitions)
    return result


def _peers(what: str) -> Any:
    """Return the module of the checkout that measures both sides; ``None`` of an installed package."""
    root = checkout()
    if root is None or not (root / "benchmarks" / f"{what}.py").is_file():
        note("this installation is measured alone: the benchmarks of its peers are in a checkout")
        return None
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module(f"benchmarks.{what}")
