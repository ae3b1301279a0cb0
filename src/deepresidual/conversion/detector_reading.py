"""What readers of detectors share: how shapes are counted, and what is refused, in the same words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import Tensor

from deepresidual.conversion.architecture import read_architecture
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.spec import DetectorSpec, ResNetSpec

Shapes = Mapping[str, tuple[int, ...]]


def refuse_others(
    names: Iterable[str],
    others: Sequence[tuple[re.Pattern[str], str]],
    path: Path,
    library: str,
    head: str,
) -> None:
    """Refuse a checkpoint with parts that Residual does not have, or without the head that it has.

    Args:
        names: Names of the tensors.
        others: Patterns of names, and what has such tensors.
        path: The file.
        library: Whose network it is.
        head: The tensor that tells the classes of regions.

    Raises:
        ModelFileError: A name is one of the others', or ``head`` is missing.
    """
    expected = "Faster or Mask R-CNN with one head on a ResNet"
    names = set(names)
    for name in sorted(names):
        for pattern, what in others:
            if pattern.fullmatch(name):
                raise ModelFileError(
                    f"{path} is a network of {library}, {what} ({name[:100]})", expected=expected
                )
    if head not in names:
        raise ModelFileError(
            f"{path} is a network of {library} that tells no classes ({head} is missing)", expected=expected
        )


def read_backbone(body: Mapping[str, Tensor], path: Path, library: str) -> ResNetSpec:
    """Return the backbone whose tensors have torchvision's names.

    Raises:
        ModelFileError: It is none that detectors of these libraries have.
    """
    backbone = read_architecture(body, path)
    if backbone is None or backbone.stem != "imagenet":
        raise ModelFileError(
            f"{path} has {library}'s names of a detector and another backbone",
            expected="a ResNet, Wide ResNet or ResNeXt with a first convolution of 7×7",
        )
    return backbone


@contextlib.contextmanager
def reading(path: Path, library: str) -> Iterator[None]:
    """Tell what a detector lacks, or has of a kind of its own, as an error of its file.

    Raises:
        ModelFileError: A tensor is missing, has an impossible shape, or a field of the spec is out of range.
    """
    try:
        yield
    except (KeyError, IndexError, ZeroDivisionError, ConfigurationError) as error:
        raise ModelFileError(
            f"{path} has {library}'s names and is no detector that Residual has ({error})"
        ) from error


def require_anchors(spec: DetectorSpec, found: int, remedy: str) -> DetectorSpec:
    """Return a spec whose anchors are as many as the logits at each place.

    Args:
        spec: The detector.
        found: Logits of objectness at a place.
        remedy: What would say the sizes of anchors.

    Raises:
        ConfigurationError: They are not.
    """
    if found != spec.num_anchors:
        raise ConfigurationError(
            f"there are {found} anchors at each place, and weights do not say their sizes",
            expected=f"{spec.num_anchors}, or {remedy}",
        )
    return spec


def count(shapes: Shapes, pattern: str) -> int:
    """Return how many names match a pattern as a whole."""
    return sum(re.fullmatch(pattern, name) is not None for name in shapes)


def assumed_settings(spec: DetectorSpec, library: str, why: str) -> str:
    """Return as a clause that what weights do not say is taken for what the library's own models have."""
    sizes = ", ".join(f"{size:g}" for level in spec.anchors.sizes for size in level)
    return (
        f"anchors of {sizes} px, limits, thresholds and the preparation of images are those of "
        f"{library}'s own models{why}"
    )
