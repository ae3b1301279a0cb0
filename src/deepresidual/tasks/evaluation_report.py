"""Write the report of any evaluation: its figures, with pictures of what is wrong and what is right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deepresidual.evaluation import Evaluation, EvaluationSetup
from deepresidual.evaluation.objects import DetectionEvaluation, DetectionSetup
from deepresidual.models import TorchClassifier
from deepresidual.reporting import Measurement, write_evaluation
from deepresidual.tasks.object_pictures import crops_of, scenes_of
from deepresidual.tasks.pictures import heat_maps_of, photos_of


def report_evaluation(
    setup: EvaluationSetup, evaluation: Evaluation, models: Sequence[str], data: str, destination: Path
) -> Path:
    """Write a page like the report of a run about an evaluation, and return its path.

    Photos of single models of PyTorch have heat maps; those of ensembles have none.

    Args:
        setup: What was evaluated.
        evaluation: The result.
        models: What was given as the models.
        data: What was given as the data.
        destination: The file.

    Raises:
        ConfigurationError: ``destination`` is another file.
        DataError: An image cannot be read any more.
        RunError: The page cannot be written.
    """
    samples = setup.source.split(setup.split)
    seen = setup.views.preprocess(setup.members[0].preprocess)
    pictures = photos_of(samples, evaluation, seen)
    model = setup.members[0].with_preprocess(seen)
    if len(setup.members) == 1 and isinstance(model, TorchClassifier):
        heat_maps = heat_maps_of(model, samples, evaluation)
        pictures |= {f"heat-maps/{name}": content for name, content in heat_maps.items()}
    views = f"{setup.views.kind}, {seen.crop_px} px"
    ignored = [str(file) for file in setup.source.ignored]
    return write_evaluation(
        Measurement(", ".join(models), data, views, evaluation.to_dict(), pictures, ignored), destination
    )


def report_detections(
    setup: DetectionSetup, evaluation: DetectionEvaluation, data: str, destination: Path
) -> Path:
    """Write a page like the report of a run about an evaluation of a detector, and return its path.

    Args:
        setup: What was evaluated.
        evaluation: The result.
        data: What was given as the data.
        destination: The file.

    Raises:
        ConfigurationError: ``destination`` is another file.
        DataError: An image cannot be read any more.
        RunError: The page cannot be written.
    """
    samples = setup.source.split(setup.split)
    scenes = scenes_of(setup.model, samples, evaluation, setup.rows)
    pictures = crops_of(samples, evaluation)
    pictures |= {f"heat-maps/{name}": content for name, content in scenes.items()}
    views = f"whole images, {setup.model.preprocess.crop_px} px"
    ignored = [str(file) for file in setup.source.ignored]
    return write_evaluation(
        Measurement(setup.name, data, views, evaluation.to_dict(), pictures, ignored), destination
    )
