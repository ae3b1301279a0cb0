"""The named recipes: functions that return a :class:`Recipe`, with source, cost and what to expect."""

from __future__ import annotations

from typing import TYPE_CHECKING

from residual.errors import UnknownNameError
from residual.recipe import Augment
from residual.training.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from residual.spec import ResNetSpec

__all__ = ["NAMES", "cifar", "digits", "named_recipe", "photos", "recipe_for"]


def digits() -> Recipe:
    """Return the recipe for the bundled digits: 8×8 gray, no mirroring (a mirrored digit is another one).

    Expected: ResNet-20, test accuracy 0.98 to 1.00, in under a minute on two cores.
    """
    return Recipe(
        name="digits",
        epochs=20,
        batch_size=64,
        learning_rate=0.1,
        schedule="cosine",
        warmup_epochs=1,
        weight_decay=5e-4,
        augment=Augment(crop="pad", pad_px=2),
    )


def cifar() -> Recipe:
    """Return the recipe for 32 px photos: the paper's batch, decay and augmentation under a short cosine.

    From He et al. 2015, section 4.2 (batch 128, learning rate 0.1, momentum 0.9, weight decay 1e-4, pad 4,
    random crop, mirror); a cosine (Loshchilov and Hutter 2017, arXiv 1608.03983) takes the place of the
    paper's drops at 32,000 and 48,000 of 64,000 iterations, because it is better at any shorter length.
    """
    return Recipe(
        name="cifar",
        epochs=30,
        batch_size=128,
        learning_rate=0.1,
        schedule="cosine",
        warmup_epochs=1,
        augment=Augment(crop="pad", flip=True, pad_px=4),
    )


def photos() -> Recipe:
    """Return the recipe for photos of any size, from scratch.

    Learning rate 0.1 for 256 images (He et al. 2015, section 3.4) scaled to batches of 32 by the linear
    rule (Goyal et al. 2017, arXiv 1706.02677); random resized crops and mirroring (fb.resnet.torch).
    """
    return Recipe(
        name="photos",
        epochs=30,
        batch_size=32,
        learning_rate=0.1 * 32 / 256,
        schedule="cosine",
        warmup_epochs=1,
        augment=Augment(crop="random-resized", flip=True, min_area=0.25),
    )


_RECIPES: dict[str, Callable[[], Recipe]] = {"digits": digits, "cifar": cifar, "photos": photos}
NAMES = tuple(_RECIPES)


def named_recipe(name: str) -> Recipe:
    """Return the recipe called ``name``.

    Raises:
        UnknownNameError: There is none; the message names the nearest.
    """
    if name not in _RECIPES:
        raise UnknownNameError("recipe", name, _RECIPES)
    return _RECIPES[name]()


def recipe_for(data_name: str, spec: ResNetSpec) -> Recipe:
    """Return the recipe that suits a data set and a network when none is asked for."""
    if data_name == "digits":
        return digits()
    return cifar() if spec.stem == "cifar" else photos()
