"""Pictures of what a model got wrong and right, with heat maps, for the run folder and its report."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from deepresidual.data.decode import decode
from deepresidual.data.loader import evaluation_batches
from deepresidual.data.source import Split
from deepresidual.data.source.validation import Subset
from deepresidual.evaluation import Evaluation
from deepresidual.explanation import activation_maps, enlarged, overlay, png
from deepresidual.models import TorchClassifier

_PHOTO_PX = 160
_HEAT_PX = 128  # views are enlarged or reduced to this side
_AT_A_TIME = 12  # as many images as a batch of any training holds


def photos_of(split: Split, evaluation: Evaluation) -> dict[str, bytes]:
    """Return the images of the mistakes and the surest hits of an evaluation, a few dozen at most.

    Args:
        split: The split that was evaluated.
        evaluation: What was found.

    Returns:
        PNG files by name, ``mistakes/00``, ``best/00`` and so on, in the order of the evaluation.

    Raises:
        DataError: An image cannot be read any more.
    """
    photos = {
        f"mistakes/{number:02d}": mistake.index for number, mistake in enumerate(evaluation.mistakes)
    } | {f"best/{number:02d}": hit.index for number, hit in enumerate(evaluation.best)}
    return {name: _photo(split.read(index).content) for name, index in photos.items()}


def heat_maps_of(model: TorchClassifier, split: Split, evaluation: Evaluation) -> dict[str, bytes]:
    """Return where the network saw the class that it said, for every image of :func:`photos_of`.

    This is Grad-CAM of the last map, which costs a forward pass of these images.

    Args:
        model: The model that was evaluated.
        split: The split that it was evaluated on.
        evaluation: What was found.

    Returns:
        PNG files by name, ``mistake-00``, ``best-00`` and so on.

    Raises:
        DataError: An image cannot be read any more.
    """
    rows = {name: row for row, name in enumerate(model.label_names)}
    names = [f"mistake-{number:02d}" for number in range(len(evaluation.mistakes))]
    names += [f"best-{number:02d}" for number in range(len(evaluation.best))]
    indices = [mistake.index for mistake in evaluation.mistakes] + [hit.index for hit in evaluation.best]
    said = [mistake.predicted for mistake in evaluation.mistakes] + [hit.label for hit in evaluation.best]
    heat_maps = _heat_maps(model, split, indices, [rows[name] for name in said])
    return dict(zip(names, heat_maps, strict=True))


def _heat_maps(
    model: TorchClassifier, split: Split, indices: Sequence[int], rows: Sequence[int]
) -> list[bytes]:
    """Return a PNG of each of some samples as the network saw it, under the heat of one class."""
    drawn = []
    batches = evaluation_batches(
        Subset(split, indices), model.preprocess, batch_size=_AT_A_TIME, num_workers=0
    )
    for number, batch in enumerate(batches):
        batch.require_all_good()
        first = number * _AT_A_TIME
        maps = activation_maps(model, batch.pixels, rows=rows[first : first + len(batch)])
        for pixels, heat in zip(batch.pixels.numpy(), enlarged(maps.values, _HEAT_PX).numpy(), strict=True):
            view = Image.fromarray(np.ascontiguousarray(model.preprocess.to_rgb(pixels)))
            # Small views keep their pixels, as they do in the report.
            how = Image.Resampling.NEAREST if len(pixels) <= _HEAT_PX // 2 else Image.Resampling.BILINEAR
            drawn.append(png(overlay(np.asarray(view.resize((_HEAT_PX, _HEAT_PX), how)), heat)))
    return drawn


def _photo(content: bytes) -> bytes:
    """Return a PNG of an image file, at most 160 px a side."""
    image = Image.fromarray(np.ascontiguousarray(decode(content)))
    image.thumbnail((_PHOTO_PX, _PHOTO_PX))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
