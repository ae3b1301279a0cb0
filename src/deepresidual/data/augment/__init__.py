"""Augmentation of training images. Choosing is separate from applying.

``choose`` draws every random number that an image needs and returns plain values; ``apply`` is a pure
function of pixels and those values. What may be varied is said by :class:`deepresidual.recipe.Augment`.
An image goes the way

    crop → mirror → policy → colour jitter → PCA colour → erasing

in which :mod:`.crop`, :mod:`.policy`, :mod:`.color` and :mod:`.erasing` each tell one part.

Example:
    >>> choice = choose(augment, SampleRandom(seed, epoch, index), height, width, preprocess, side_px=224)
    >>> view = apply(pixels, choice, preprocess, side_px=224)
"""

from deepresidual.data.augment.choice import (
    Choice,
    apply,
    center_choice,
    check_augment,
    choose,
    window_of,
)
from deepresidual.data.augment.window import Window

__all__ = ["Choice", "Window", "apply", "center_choice", "check_augment", "choose", "window_of"]
