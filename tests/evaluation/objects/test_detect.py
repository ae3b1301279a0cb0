"""What a detector finds in a split: images that cannot be read keep their numbers from the others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from deepresidual.backends.detector import TorchDetector
from deepresidual.data.source import open_source
from deepresidual.evaluation.objects import evaluate_detections
from deepresidual.models import create
from deepresidual.preprocess import Preprocess
from tests.detectors import TINY_DETECTOR, write_shapes


def test_a_mistake_names_its_image_where_another_was_left_out(tmp_path: Path) -> None:
    source = open_source(write_shapes(tmp_path / "shapes", 3, 6))
    split = source.split("test")
    file = tmp_path / "shapes" / split.key(1)
    file.write_bytes(file.read_bytes()[:-40])
    network = create(dataclasses.replace(TINY_DETECTOR, num_classes=2), seed=1)
    whole = Preprocess(32, 32, (0.5,) * 3, (0.25,) * 3, fit="whole")
    result = evaluate_detections(TorchDetector(network, source.classes, whole), split, "test", skip_bad=True)
    assert result.count == 5
    mistakes = [*result.false, *result.missed]
    assert max(mistake.index for mistake in mistakes) > 1
    assert all(split.key(mistake.index) == mistake.key for mistake in mistakes)
