"""Pictures of what a model got wrong and right, with heat maps, for the run folder and its report."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deepresidual.data.decode import decode
from deepresidual.data.loader import evaluation_batches
from deepresidual.data.source import Split
from deepresidual.data.source.validation import Subset
from deepresidual.evaluation import Evaluation
from deepresidual.evaluation.multilabel import MultilabelEvaluation
from deepresidual.explanation import activation_maps, enlarged, png
from deepresidual.models import TorchClassifier
from deepresidual.preprocess import Preprocess

_PHOTO_PX = 160
# A map has 7×7 to 16×16 values; whoever shows it enlarges it as smoothly as this would be.
_HEAT_PX = 32
_HEAT_COLOR = (217, 30, 110)  # pink, which neither right nor wrong has, nor many photos
_HEAT_OPACITY, _OPACITIES = 0.78, 32
_AT_A_TIME = 12  # as many images as a batch of any training holds


def photos_of(
    split: Split, evaluation: Evaluation | MultilabelEvaluation, preprocess: Preprocess
) -> dict[str, bytes]:
    """Return the images of the mistakes and the surest hits of an evaluation, a few dozen at most.

    Each shows the part that the network saw, the central crop, in the resolution of the image.

    Args:
        split: The split that was evaluated.
        evaluation: What was found.
        preprocess: How the network saw them.

    Returns:
        PNG files by name, ``mistakes/00``, ``best/00`` and so on, in the order of the evaluation.

    Raises:
        DataError: An image cannot be read any more.
    """
    mistakes = [mistake.index for mistake in evaluation.mistakes]
    best = [hit.index for hit in evaluation.best]
    photos = {f"mistakes/{number:02d}": index for number, index in enumerate(mistakes)} | {
        f"best/{number:02d}": index for number, index in enumerate(best)
    }
    return {name: photo(split.read(index).content, preprocess) for name, index in photos.items()}


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


def heat_maps_of_labels(
    model: TorchClassifier, split: Split, evaluation: MultilabelEvaluation
) -> dict[str, bytes]:
    """Return where the network sees the label of the highest loss, for every image of :func:`photos_of`.

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
    shown = {
        **{f"mistake-{number:02d}": image for number, image in enumerate(evaluation.mistakes)},
        **{f"best-{number:02d}": image for number, image in enumerate(evaluation.best)},
    }
    indices = [image.index for image in shown.values()]
    drawn = _heat_maps(model, split, indices, [rows[image.doubtful] for image in shown.values()])
    return dict(zip(shown, drawn, strict=True))


def _heat_maps(
    model: TorchClassifier, split: Split, indices: Sequence[int], rows: Sequence[int]
) -> list[bytes]:
    """Return a PNG of the heat of one class for each of some samples, transparent where there is none."""
    drawn = []
    batches = evaluation_batches(
        Subset(split, indices), model.preprocess, batch_size=_AT_A_TIME, num_workers=0
    )
    for number, batch in enumerate(batches):
        batch.require_all_good()
        first = number * _AT_A_TIME
        maps = activation_maps(model, batch.pixels, rows=rows[first : first + len(batch)])
        drawn += [_heat(heat) for heat in enlarged(maps.values, _HEAT_PX).numpy()]
    return drawn


def _heat(heat: NDArray[np.float32]) -> bytes:
    """Return a PNG of heat ``(H, W)``, 0 to 1, in one colour: the more, the less is seen through it."""
    pixels = np.empty((*heat.shape, 4), dtype=np.uint8)
    pixels[:, :, :3] = _HEAT_COLOR
    # So few opacities are not told apart, and make the file half as large.
    pixels[:, :, 3] = np.rint(np.rint(heat * _OPACITIES) / _OPACITIES * _HEAT_OPACITY * 255)
    file = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(file, "PNG", optimize=True)
    return file.getvalue()


def photo(content: bytes, preprocess: Preprocess) -> bytes:
    """Return a PNG of the part of an image file that the network sees, at most 160 px a side."""
    pixels = decode(content)
    left, top, right, bottom = preprocess.center_box(*pixels.shape[:2])
    side = max(1, min(_PHOTO_PX, round(min(right - left, bottom - top))))
    return png(preprocess.resize(pixels, (left, top, right, bottom), side, side))


def photos_by_key(split: Split, keys: Sequence[str]) -> dict[str, bytes]:
    """Return PNG files of some samples, found by their names, at most 160 px a side.

    Args:
        split: The samples.
        keys: Names; those that are not there are left out.

    Raises:
        DataError: An image cannot be read any more.
    """
    wanted, photos = set(keys), {}
    for index in range(len(split)):
        if (key := split.key(index)) in wanted:
            image = Image.fromarray(np.ascontiguousarray(decode(split.read(index).content)))
            image.thumbnail((_PHOTO_PX, _PHOTO_PX))
            photos[key] = png(np.asarray(image))
    return photos
