"""The named recipes: functions of the network that return a :class:`Recipe`.

Each docstring says where the numbers come from, what a run costs, and what it should end with.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from residual.errors import UnknownNameError
from residual.recipe.augment import Augment, Mix
from residual.recipe.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from residual.spec import ResNetSpec

__all__ = ["NAMES", "named_recipe", "recipe_for"]


def digits(_spec: ResNetSpec) -> Recipe:
    """Return the recipe for the bundled digits: 8×8 gray, no mirroring (a mirrored digit is another one).

    Expected: ResNet-20, test accuracy 0.98 to 1.00, in under a minute on two cores.
    """
    return Recipe(
        name="digits",
        epochs=20,
        batch_size=64,
        learning_rate=0.1,
        warmup_epochs=1,
        weight_decay=5e-4,
        augment=Augment(crop="pad", pad_px=2),
    )


def cifar(_spec: ResNetSpec) -> Recipe:
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
        warmup_epochs=1,
        augment=Augment(crop="pad", flip=True, pad_px=4),
    )


def cifar_fast(_spec: ResNetSpec) -> Recipe:
    """Return the recipe for 32 px photos and little time: images that grow from 12 to 28 px.

    As ``cifar``, but smaller images cost less, 0.45 of full size over the run (Tan and Le 2021, arXiv
    2104.00298, section 4). The input stays 28 px: evaluated at 32 the network loses four points. Weight decay
    5e-4 and Nesterov momentum as in Zagoruyko and Komodakis 2016 (arXiv 1605.07146, section 3); evaluated
    every fifth epoch.

    Expected: top-1 0.83 of ResNet-20 on CIFAR-10 as JPEG of quality 75. Cost: 17 minutes on two cores.
    """
    return Recipe(
        name="cifar_fast",
        epochs=15,
        batch_size=128,
        learning_rate=0.1,
        nesterov=True,
        weight_decay=5e-4,
        warmup_epochs=1,
        evaluate_every=5.0,
        start_px=12,
        crop_px=28,
        resize_px=28,
        growing=0.9,
        augment=Augment(crop="pad", flip=True, pad_px=4),
    )


def photos(_spec: ResNetSpec) -> Recipe:
    """Return the recipe for photos of any size, from scratch.

    Learning rate 0.1 for 256 images (He et al. 2015, section 3.4) scaled to batches of 32 by the linear
    rule (Goyal et al. 2017, arXiv 1706.02677); random resized crops and mirroring (fb.resnet.torch).
    """
    return Recipe(
        name="photos",
        epochs=30,
        batch_size=32,
        learning_rate=0.1 * 32 / 256,
        warmup_epochs=1,
        augment=Augment(crop="random-resized", flip=True, min_area=0.25),
    )


def finetune(_spec: ResNetSpec) -> Recipe:
    """Return the recipe for a network that has learned elsewhere: ``residual train --weights MODEL``.

    The classifier is new and learns at the full rate; the rest at a tenth of it, and the stem not at all
    (Yosinski et al. 2014, arXiv 1411.1792, figure 2: first layers are general). For small data sets set
    ``--batch-norm frozen``, so that few images do not blur the statistics of many.

    Cost: a third of an epoch count from scratch. Expected: better than ``photos`` wherever the photos
    resemble those of the weights.
    """
    return Recipe(
        name="finetune",
        epochs=10,
        batch_size=32,
        learning_rate=0.02,
        backbone_rate=0.1,
        frozen_stages=1,
        warmup_epochs=1,
        label_smoothing=0.1,
        augment=Augment(crop="random-resized", flip=True, min_area=0.25),
    )


def cifar2015(spec: ResNetSpec) -> Recipe:
    """Return the CIFAR-10 schedule of He et al. 2015, section 4.2.

    Batch 128, learning rate 0.1 divided by 10 at 32,000 and 48,000 of 64,000 iterations, momentum 0.9,
    weight decay 1e-4 on the convolutions and the classifier, the per-pixel mean subtracted, pad 4 and random
    crop, mirror. Nets of 110 layers and more begin at 0.01 "until the training error is below 80 % (about
    400 iterations)". The paper decided on the schedule on 45,000 of the images: ``--validation 0.1``.

    Expected on the original images: error 8.75 % (ResNet-20) to 6.43 % (110), Table 6. Cost: 163.84 epochs.
    """
    deep = spec.num_layers >= 110
    return Recipe(
        name="cifar2015",
        steps=64_000,
        batch_size=128,
        learning_rate=0.1,
        norm_weight_decay=0.0,
        bias_weight_decay=0.0,
        schedule="step",
        milestones=(0.5, 0.75),
        warmup="constant" if deep else "linear",
        warmup_learning_rate=0.01 if deep else 0.0,
        warmup_until_error=0.8 if deep else None,
        # The rule has no end of its own; a net that has not learned by then will not.
        warmup_steps=4_000 if deep else 0,
        mean="pixel",
        augment=Augment(crop="pad", flip=True, pad_px=4),
    )


def cifar2016(_spec: ResNetSpec) -> Recipe:
    """Return the CIFAR schedule of He et al. 2016, appendix: 0.01 for the first 400 iterations of every net.

    The rest as in 2015; channel means and decay on every weight, as in the authors' code, which is
    fb.resnet.torch's. The row of ResNet-1001 with a dagger has ``--batch-size 64``.

    Expected on the original images: error 6.37 % (110, full pre-activation), 5.46 % (164), 4.92 % (1001);
    Tables 2 to 4; medians of five runs. Cost: 163.84 epochs.
    """
    return Recipe(
        name="cifar2016",
        steps=64_000,
        batch_size=128,
        learning_rate=0.1,
        schedule="step",
        milestones=(0.5, 0.75),
        warmup="constant",
        warmup_learning_rate=0.01,
        warmup_steps=400,
        mean="channel",
        augment=Augment(crop="pad", flip=True, pad_px=4),
    )


def imagenet2015(_spec: ResNetSpec) -> Recipe:
    """Return the ImageNet schedule of He et al. 2015, section 3.4.

    Batch 256, learning rate 0.1 "divided by 10 when the error plateaus", up to 600,000 iterations (119.9
    epochs), momentum 0.9, weight decay 1e-4 on the convolutions and the classifier; the shorter side from
    [256, 480], a random 224 crop, mirror, the per-pixel mean subtracted, the colours of Krizhevsky et al.
    2012. How long a plateau is the paper does not say; here five evaluations, one an epoch.

    Expected: top-1 error 24.7 % with one crop for ResNet-50 (the released model). Cost: 120 epochs.
    """
    return Recipe(
        name="imagenet2015",
        steps=600_000,
        batch_size=256,
        learning_rate=0.1,
        norm_weight_decay=0.0,
        bias_weight_decay=0.0,
        schedule="plateau",
        patience=5,
        mean="pixel",
        augment=Augment(crop="scale-jitter", flip=True, min_side_px=256, max_side_px=480, pca_color=0.1),
    )


def imagenet2016(_spec: ResNetSpec) -> Recipe:
    """Return the ImageNet schedule of He et al. 2016, section 5: drops at epochs 30 and 60, no warm-up.

    Trained on 224 px from shorter sides of [256, 480]; tested on one 320 px crop of a shorter side of 320.

    Expected: top-1 error 21.3 % for ResNet-152, 20.7 % for ResNet-200 with full pre-activation, Table 5.
    Cost: 90 epochs.
    """
    return Recipe(
        name="imagenet2016",
        epochs=90,
        batch_size=256,
        learning_rate=0.1,
        schedule="step",
        milestones=(1 / 3, 2 / 3),
        train_px=224,
        crop_px=320,
        resize_px=320,
        mean="channel",
        augment=Augment(crop="scale-jitter", flip=True, min_side_px=256, max_side_px=480, pca_color=0.1),
    )


def fb90(_spec: ResNetSpec) -> Recipe:
    """Return the recipe of fb.resnet.torch (Gross and Wilber 2016), from its ``opts.lua`` and README.

    90 epochs divided by 10 every 30, Nesterov momentum, decay on every weight, random resized crops, colour
    jitter 0.4 and lighting 0.1.

    Expected: top-1 error 24.01 % with one crop for ResNet-50. Cost: 90 epochs.
    """
    return Recipe(
        name="fb90",
        epochs=90,
        batch_size=256,
        learning_rate=0.1,
        nesterov=True,
        schedule="step",
        milestones=(1 / 3, 2 / 3),
        augment=Augment(crop="random-resized", flip=True, color_jitter=0.4, pca_color=0.1),
    )


def torchvision_v2(_spec: ResNetSpec) -> Recipe:
    """Return the recipe of torchvision's IMAGENET1K_V2 weights (Vryniotis 2021, references/classification).

    torchvision scales its moving average's 1 − 0.99998 by batch · 32 / epochs; here stands the outcome.

    Expected: top-1 80.86 % for ResNet-50 at 224 px from 232. Cost: 600 epochs at 176 px.
    """
    batch_size, epochs, ema_every = 1024, 600, 32
    return Recipe(
        name="torchvision_v2",
        epochs=epochs,
        batch_size=batch_size,
        repeats=4,
        learning_rate=0.5,
        weight_decay=2e-5,
        norm_weight_decay=0.0,
        warmup_epochs=5,
        warmup_learning_rate=0.005,
        label_smoothing=0.1,
        ema_decay=1 - (1 - 0.99998) * batch_size * ema_every / epochs,
        ema_every=ema_every,
        train_px=176,
        crop_px=224,
        resize_px=232,
        augment=Augment(crop="random-resized", flip=True, policy="trivial-augment", erasing=0.1),
        mix=Mix(mixup=0.2, cutmix=1.0),
    )


def rsb_a1(_spec: ResNetSpec) -> Recipe:
    """Return procedure A1 of "ResNet strikes back" (Wightman et al. 2021, arXiv 2110.00476, Table 2).

    Expected: top-1 80.4 % for ResNet-50 at 224 px. Cost: 600 epochs at 224 px.
    """
    return _resnet_strikes_back(
        "rsb_a1", epochs=600, learning_rate=5e-3, weight_decay=0.01, mixup=0.2, label_smoothing=0.1
    )


def rsb_a2(_spec: ResNetSpec) -> Recipe:
    """Return procedure A2 of "ResNet strikes back" (arXiv 2110.00476, Table 2).

    Expected: top-1 79.8 % for ResNet-50 at 224 px. Cost: 300 epochs at 224 px.
    """
    return _resnet_strikes_back("rsb_a2", epochs=300, learning_rate=5e-3, weight_decay=0.02, mixup=0.1)


def rsb_a3(_spec: ResNetSpec) -> Recipe:
    """Return procedure A3 of "ResNet strikes back" (arXiv 2110.00476, Table 2): short, at 160 px.

    Expected: top-1 78.1 % for ResNet-50 at 224 px. Cost: 100 epochs at 160 px.
    """
    return _resnet_strikes_back(
        "rsb_a3",
        epochs=100,
        learning_rate=8e-3,
        weight_decay=0.02,
        mixup=0.1,
        magnitude=6.0,
        stochastic_depth=0.0,
        repeats=1,
        train_px=160,
    )


def _resnet_strikes_back(
    name: str,
    *,
    epochs: int,
    learning_rate: float,
    weight_decay: float,
    mixup: float,
    label_smoothing: float = 0.0,
    magnitude: float = 7.0,
    stochastic_depth: float = 0.05,
    repeats: int = 3,
    train_px: int = 224,
) -> Recipe:
    """Return what the three procedures share: LAMB, BCE, batches of 2,048, RandAugment, mixing.

    Of a mixed image both classes are targets of 1, as of an image with two labels (section 3.1 of the paper);
    timm, which the paper was made with, takes a class with less than a fifth of the image for absent.
    """
    return Recipe(
        name=name,
        epochs=epochs,
        batch_size=2048,
        repeats=repeats,
        optimizer="lamb",
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        norm_weight_decay=0.0,
        bias_weight_decay=0.0,
        warmup_epochs=5,
        loss="bce",
        bce_threshold=0.2,
        label_smoothing=label_smoothing,
        stochastic_depth=stochastic_depth,
        train_px=train_px,
        crop_px=224,
        resize_px=236,  # crop ratio 0.95
        augment=Augment(
            crop="random-resized",
            flip=True,
            policy="rand-augment",
            num_operations=2,
            magnitude=magnitude,
            magnitude_std=0.5,
        ),
        mix=Mix(mixup=mixup, cutmix=1.0),
    )


_RECIPES: dict[str, Callable[[ResNetSpec], Recipe]] = {
    function.__name__: function
    for function in (
        digits,
        cifar,
        cifar_fast,
        photos,
        finetune,
        cifar2015,
        cifar2016,
        imagenet2015,
        imagenet2016,
        fb90,
        torchvision_v2,
        rsb_a1,
        rsb_a2,
        rsb_a3,
    )
}
NAMES = tuple(_RECIPES)


def named_recipe(name: str, spec: ResNetSpec) -> Recipe:
    """Return the recipe called ``name`` for a network.

    Raises:
        UnknownNameError: There is none; the message names the nearest.
    """
    if name not in _RECIPES:
        raise UnknownNameError("recipe", name, _RECIPES)
    return _RECIPES[name](spec)


def recipe_for(data_name: str, spec: ResNetSpec) -> Recipe:
    """Return the recipe that suits a data set and a network when none is asked for."""
    if data_name == "digits":
        return digits(spec)
    return cifar(spec) if spec.stem == "cifar" else photos(spec)
