"""The named recipes: functions of the network that return a :class:`Recipe`.

Each docstring says where the numbers come from, what a run costs, and what it should end with. What a source
does not say, and where a recipe differs from it, stands there, too.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from deepresidual.errors import UnknownNameError
from deepresidual.recipe.augment import Augment, Mix
from deepresidual.recipe.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from deepresidual.recipe.groups import HeadStages
    from deepresidual.spec import ResNetSpec

__all__ = ["NAMES", "LeftOut", "earlier_recipe", "left_out", "named_recipe", "recipe_for"]


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
    random crop, mirror; with what to pad it does not say, here black); a cosine (Loshchilov and Hutter 2017,
    arXiv 1608.03983) takes the place of the paper's drops at 32,000 and 48,000 of 64,000 iterations, because
    it is better at any shorter length.
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
        growth_share=0.9,
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


def digit_scenes(_spec: ResNetSpec) -> Recipe:
    """Return the recipe for ``digit-scenes``: 64 px, gray, boxes, not mirrored.

    Expected: see docs/results.md. Cost: five minutes on two cores.
    """
    return Recipe(
        name="digit_scenes",
        epochs=5,
        batch_size=16,
        learning_rate=0.02,
        clip_norm=10.0,
        warmup_epochs=0.5,
        weight_decay=1e-4,
        evaluate_every=2.0,
    )


def detect(_spec: ResNetSpec) -> Recipe:
    """Return the recipe for photos with boxes: random squares of the photo at a random scale, mirrored.

    Large-scale jitter (Ghiasi et al. 2021, arXiv 2012.07177) in the range of its standard form.
    """
    return Recipe(
        name="detect",
        epochs=60,
        batch_size=8,
        learning_rate=0.02,
        clip_norm=10.0,
        warmup_epochs=2,
        weight_decay=1e-4,
        evaluate_every=5.0,
        crop_px=416,
        train_px=320,
        augment=Augment(crop="large-scale-jitter", flip=True, min_scale=0.6, max_scale=1.4),
    )


def detect_1x(_spec: ResNetSpec) -> Recipe:
    """Return detectron2's 1x schedule for COCO: 90,000 updates of 16 images, from learned weights.

    Learning rate .02, a tenth of it at 60,000 and 80,000, warm-up of 1,000 from .001 of it on, momentum .9,
    weight decay 1e-4; the shorter side a random one of 640 to 800 px in steps of 32, the longer one at most
    1,333; the stem and the first stage and all BN keep what they have (configs/Base-RCNN-FPN.yaml; Wu et al.
    2019). One image goes through the network at a time.

    Expected: box AP of ResNet-50 with FPN on COCO val2017 37.9 (detectron2's model zoo). Not run here.
    """
    return Recipe(
        name="detect_1x",
        steps=90_000,
        batch_size=16,
        micro_batch_size=1,
        learning_rate=0.02,
        schedule="step",
        milestones=(60 / 90, 80 / 90),
        warmup_steps=1000,
        warmup_learning_rate=0.02 * 0.001,
        weight_decay=1e-4,
        norm_weight_decay=0.0,
        batch_norm="frozen",
        frozen_stages=2,
        crop_px=1333,
        resize_px=800,
        augment=Augment(crop="multi-scale", flip=True, min_side_px=640, max_side_px=800),
    )


def detect_3x(spec: ResNetSpec) -> Recipe:
    """Return detectron2's 3x schedule: as ``detect_1x``, 270,000 updates, drops at 210,000 and 250,000.

    Expected: box AP of ResNet-50 with FPN on COCO val2017 40.2 (detectron2's model zoo). Not run here.
    """
    return replace(detect_1x(spec), name="detect_3x", steps=270_000, milestones=(210 / 270, 250 / 270))


def mask_1x(spec: ResNetSpec) -> Recipe:
    """Return detectron2's 1x schedule for boxes and masks, which is that of boxes.

    Data with masks trains them, whatever the recipe is called (configs/COCO-InstanceSegmentation).

    Expected: AP of boxes and masks of ResNet-50 with FPN on COCO val2017 38.6 and 35.2 (detectron2's model
    zoo). Not run here.
    """
    return replace(detect_1x(spec), name="mask_1x")


def mask_3x(spec: ResNetSpec) -> Recipe:
    """Return detectron2's 3x schedule for boxes and masks, which is that of boxes.

    Expected: AP of boxes and masks of ResNet-50 with FPN on COCO val2017 41.0 and 37.2 (detectron2's model
    zoo). Not run here.
    """
    return replace(detect_3x(spec), name="mask_3x")


def probe(spec: ResNetSpec) -> Recipe:
    """Return the recipe that fits a classifier to a network's features and leaves the network as it is.

    Every image goes through the network once, mirrored as well; no update follows. Kornblith et al. 2019
    (arXiv 1805.08974, section 3) compare networks so.

    Expected: with few images what ``finetune`` reaches, or more. Cost: one forward pass.
    """
    return Recipe(
        name="probe",
        steps=0,
        batch_size=32,
        classifier_init="probe",
        head_stages=_head_stages(spec),
        augment=Augment(flip=True),
    )


def finetune(spec: ResNetSpec) -> Recipe:
    """Return the recipe for a network that has learned elsewhere: ``residual train --weights MODEL``.

    The classifier begins as that of ``probe`` (Kumar et al. 2022, arXiv 2202.10054: a fitted classifier does
    not distort the features). The last stage learns first, then more and more of them (Howard and Ruder
    2018), each at a smaller rate than the one after it. The held-out loss chooses among the probe, what was
    learned and the average of both (Wortsman et al. 2022), and ends the run.

    Cost: with ``--minutes`` as long as that; at most 30 epochs.
    """
    return Recipe(
        name="finetune",
        epochs=30,
        batch_size=32,
        classifier_init="probe",
        head_stages=_head_stages(spec),
        learning_rate=0.01,
        stage_lr_decay=0.7,
        unfreeze_share=0.2,
        warmup_epochs=1,
        keep_model="best-loss",
        average_share=0.7,
        early_stopping=8,
        augment=(
            Augment(crop="pad", flip=True, pad_px=4)
            if spec.stem == "cifar"
            else Augment(crop="random-resized", flip=True, min_area=0.25)
        ),
    )


def _head_stages(spec: ResNetSpec) -> HeadStages:
    """Return what a fitted classifier reads of a network.

    Of networks for small images the maps of all stages are worth four to five points of accuracy more than
    the last, on other classes than they have learned (measured on CIFAR-10, five classes from the others).
    """
    return "all" if spec.stem == "cifar" else "last"


def cifar2015(spec: ResNetSpec) -> Recipe:
    """Return the CIFAR-10 schedule of He et al. 2015, section 4.2.

    Batch 128, learning rate 0.1 divided by 10 at 32,000 and 48,000 of 64,000 iterations, momentum 0.9, weight
    decay 1e-4 on the convolutions and the classifier, the per-pixel mean subtracted, pad 4 and random crop,
    mirror. Nets of 110 layers and more begin at 0.01 "until the training error is below 80 % (about 400
    iterations)"; that error is the one of the training curve, on varied images with BN in training mode. The
    paper decided on the schedule on 45,000 of the images: ``--validation 0.1``. "4 pixels are padded on each
    side": with what is not said in the paper, here black; ``--pad-fill mean`` is what padding after the mean
    is subtracted comes to.

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
        subtract_mean="pixel",
        augment=Augment(crop="pad", flip=True, pad_px=4),
    )


def cifar2016(spec: ResNetSpec) -> Recipe:
    """Return the CIFAR schedule of He et al. 2016, appendix: 0.01 for the first 400 iterations of every net.

    "The implementation details and hyperparameters are the same as those in" 2015: all else is ``cifar2015``,
    in Caffe, as the README of KaimingHe/resnet-1k-layers says of the paper's experiments. The row of
    ResNet-1001 with a dagger is not of this recipe but of ``resnet1k_cifar``.

    Expected on the original images: error 6.37 % (110, full pre-activation), 5.46 % (164), 4.92 % (1001);
    Tables 2 to 4; medians of five runs. Cost: 163.84 epochs.
    """
    return dataclasses.replace(
        cifar2015(spec),
        name="cifar2016",
        warmup="constant",
        warmup_learning_rate=0.01,
        warmup_steps=400,
        warmup_until_error=None,
    )


def resnet1k_cifar(_spec: ResNetSpec) -> Recipe:
    """Return the recipe of KaimingHe/resnet-1k-layers, the Torch code for He et al. 2016, on CIFAR.

    Its README: ``-batchSize 64 -nEpochs 200``, in fb.resnet.torch, which has the rest. opts.lua: learning
    rate 0.1, momentum 0.9, weight decay 1e-4, of every weight and bias as ``getParameters`` has them all.
    train.lua: Nesterov, and a tenth of the rate from epoch 81 and again from epoch 122 on, of epochs that
    count from 1; no warm-up. datasets/cifar10.lua: mean and deviation of each channel over the training set,
    mirror, then ``RandomCrop(32, 4)``, whose zeros come after normalization and so are the mean colour, here
    to within half a level. Epochs there end with a smaller batch; here batches run on over the end.

    Expected on the original images: error 4.62 % of ResNet-1001 with full pre-activation, median of five runs
    (4.69 ± 0.20 %; Table 4, †). Cost: 200 epochs, 156,250 updates.
    """
    epochs = 200
    return Recipe(
        name="resnet1k_cifar",
        epochs=epochs,
        batch_size=64,
        learning_rate=0.1,
        nesterov=True,
        schedule="step",
        milestones=(80 / epochs, 121 / epochs),
        subtract_mean="channel",
        augment=Augment(crop="pad", flip=True, pad_px=4, pad_fill="mean"),
    )


def imagenet2015(_spec: ResNetSpec) -> Recipe:
    """Return the ImageNet schedule of He et al. 2015, section 3.4.

    Batch 256, learning rate 0.1 "divided by 10 when the error plateaus", up to 600,000 iterations (119.9
    epochs), momentum 0.9, weight decay 1e-4 on the convolutions and the classifier; the shorter side from
    [256, 480], a random 224 crop, mirror, the per-pixel mean subtracted, the colours of Krizhevsky et al.
    2012. How long a plateau is the paper does not say; here five evaluations, one an epoch; nor by what
    filter images are resized, here bilinear.

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
        subtract_mean="pixel",
        augment=Augment(crop="scale-jitter", flip=True, min_side_px=256, max_side_px=480, pca_lighting=0.1),
    )


def imagenet2016(spec: ResNetSpec) -> Recipe:
    """Return the ImageNet schedule of He et al. 2016, section 5: drops at epochs 30 and 60, no warm-up.

    "Trained using the same hyper-parameters and implementations as" 2015 (Table 5): all else is
    ``imagenet2015``. Trained on 224 px from shorter sides of [256, 480]; tested on one 320 px crop of a
    shorter side of 320. A mean of each pixel fits one size only, so with two there is a mean of each channel;
    with ``--crop-px 224 --resize-px 256 --subtract-mean pixel`` it is the paper's. The end is assumed: the
    paper gives the drops alone, fb.resnet.torch with the same drops ends after 90 epochs.

    Expected: top-1 error 21.3 % for ``resnet152.v1``, 20.7 % for ``resnet200.preact-v1``, Table 5.
    Cost: 90 epochs.
    """
    return dataclasses.replace(
        imagenet2015(spec),
        name="imagenet2016",
        steps=None,
        epochs=90,
        schedule="step",
        milestones=(30 / 90, 60 / 90),
        train_px=224,
        crop_px=320,
        resize_px=320,
        subtract_mean="channel",
    )


def resnet1k_imagenet(spec: ResNetSpec) -> Recipe:
    """Return the recipe of the ResNet-200 of He et al. 2016, Table 5, †: fb.resnet.torch's, tested at 320 px.

    KaimingHe/resnet-1k-layers has no ImageNet of its own and names facebook/fb.resnet.torch's as the
    re-implementation: ``fb90``. Its pretrained/README gives the error on a 320 px crop; of what shorter side
    it does not say, here 320 as in the paper.

    Expected: top-1 error 20.1 % for ``resnet200.preact``, and 21.66 % at 224 px. Cost: 90 epochs.
    """
    return dataclasses.replace(fb90(spec), name="resnet1k_imagenet", train_px=224, crop_px=320, resize_px=320)


def fb90(_spec: ResNetSpec) -> Recipe:
    """Return the recipe of fb.resnet.torch (Gross and Wilber 2016).

    opts.lua: 90 epochs, learning rate 0.1, momentum 0.9, weight decay 1e-4; train.lua: a tenth of the rate
    every 30 epochs, Nesterov, decay on every weight and bias; TRAINING.md: batch 256. datasets/imagenet.lua:
    random resized crops, colour jitter 0.4 and lighting 0.1; a shorter side of 256 in evaluation;
    transforms.lua: all bicubic. Differences: its bicubic does not filter when it shrinks, Pillow's does; it
    draws aspect ratios uniformly and swaps the sides by a coin, here their logarithm is uniform; it turns
    brightness, contrast and saturation one after the other, here they are one map; its classifier's bias
    starts at zero, here as torch's.

    Expected: top-1 error 24.01 % with one crop for ResNet-50. Cost: 90 epochs.
    """
    return Recipe(
        name="fb90",
        epochs=90,
        batch_size=256,
        learning_rate=0.1,
        nesterov=True,
        schedule="step",
        milestones=(30 / 90, 60 / 90),
        interpolation="bicubic",
        augment=Augment(crop="random-resized", flip=True, color_jitter=0.4, pca_lighting=0.1),
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
        repeated_augmentation=4,
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


def rsb_a1(spec: ResNetSpec) -> Recipe:
    """Return procedure A1 of "ResNet strikes back" (Wightman et al. 2021, arXiv 2110.00476, Table 2).

    Of its label smoothing the paper says that the target of a present class is "1 (or 1 − ε with smoothing)":
    so it comes after the threshold here. timm's train.py smooths before, where its threshold undoes it.

    Expected: top-1 80.4 % for ResNet-50 at 224 px. Cost: 600 epochs at 224 px.
    """
    longest = _resnet_strikes_back("rsb_a1", spec)
    return replace(
        longest, epochs=600, weight_decay=0.01, label_smoothing=0.1, mix=replace(longest.mix, mixup=0.2)
    )


def rsb_a2(spec: ResNetSpec) -> Recipe:
    """Return procedure A2 of "ResNet strikes back" (arXiv 2110.00476, Table 2).

    Expected: top-1 79.8 % for ResNet-50 at 224 px. Cost: 300 epochs at 224 px.
    """
    return _resnet_strikes_back("rsb_a2", spec)


def rsb_a3(spec: ResNetSpec) -> Recipe:
    """Return procedure A3 of "ResNet strikes back" (arXiv 2110.00476, Table 2): short, at 160 px.

    Expected: top-1 78.1 % for ResNet-50 at 224 px. Cost: 100 epochs at 160 px.
    """
    shortest = _resnet_strikes_back("rsb_a3", spec)
    return replace(
        shortest,
        epochs=100,
        learning_rate=8e-3,
        stochastic_depth=0.0,
        repeated_augmentation=1,
        train_px=160,
        augment=replace(shortest.augment, magnitude=6.0),
    )


def _resnet_strikes_back(name: str, spec: ResNetSpec) -> Recipe:
    """Return A2, which the others change: LAMB, BCE, batches of 2,048, RandAugment, mixing.

    Of a mixed image both classes are targets of 1, as of an image with two labels; from which share of the
    image on, 0.2, is what public commands for these procedures give timm's train.py (``--bce-target-thresh
    0.2``), the paper does not. As timm by itself: the last BN of every F starts at zero, bicubic filters, a
    shorter side of ⌊224 / 0.95⌋ = 235 px in evaluation, ``bce`` averaged over the classes, and a gradient of
    norm 1 at most, as its LAMB clips it. Plain nets and those that ``zero_init_last_bn`` would kill do
    without, see :func:`left_out`.

    Differences: F of unit l of L is dropped with l / L of the rate, as in Huang et al. 2016; timm's units
    begin at zero, (l − 1) / (L − 1), 0.003 less at most. Repeats of an image come in one batch, and pairs of
    neighbours are mixed; timm deals repeats out to GPUs and mixes first with last. Learning rates follow
    every update, from and to zero; timm's follow the epochs, between small rates of their own. BN takes its
    statistics from what a rank holds, as there.
    """
    refused = {change.field for change in left_out(name, spec)}
    return Recipe(
        name=name,
        epochs=300,
        batch_size=2048,
        repeated_augmentation=3,
        optimizer="lamb",
        learning_rate=5e-3,
        weight_decay=0.02,
        norm_weight_decay=0.0,
        bias_weight_decay=0.0,
        warmup_epochs=5,
        loss="bce",
        bce_threshold=0.2,
        clip_norm=1.0,
        zero_init_last_bn="zero_init_last_bn" not in refused,
        stochastic_depth=0.0 if "stochastic_depth" in refused else 0.05,
        train_px=224,
        crop_px=224,
        resize_px=235,  # crop ratio 0.95, rounded down
        interpolation="bicubic",
        augment=Augment(
            crop="random-resized",
            flip=True,
            policy="rand-augment",
            num_operations=2,
            magnitude=7.0,
            magnitude_std=0.5,
        ),
        mix=Mix(mixup=0.1, cutmix=1.0),
    )


@dataclass(frozen=True)
class LeftOut:
    """A field that a recipe sets elsewhere and leaves at its default for a network, and why."""

    field: str
    reason: str


def left_out(name: str, spec: ResNetSpec) -> tuple[LeftOut, ...]:
    """Return what the recipe called ``name`` leaves out because this network could not train with it."""
    if not name.startswith("rsb_"):
        return ()
    fields = []
    if reason := spec.why_no_zero_init:
        fields.append(LeftOut("zero_init_last_bn", reason))
    if spec.shortcut == "none" and name != "rsb_a3":
        fields.append(LeftOut("stochastic_depth", "a plain net would drop everything"))
    return tuple(fields)


_RECIPES: dict[str, Callable[[ResNetSpec], Recipe]] = {
    function.__name__: function
    for function in (
        digits,
        cifar,
        cifar_fast,
        photos,
        digit_scenes,
        detect,
        detect_1x,
        detect_3x,
        mask_1x,
        mask_3x,
        probe,
        finetune,
        cifar2015,
        cifar2016,
        imagenet2015,
        imagenet2016,
        resnet1k_cifar,
        resnet1k_imagenet,
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


_STRIKES_BACK_BEFORE = {
    "clip_norm": None,
    "zero_init_last_bn": False,
    "resize_px": 236,
    "interpolation": None,
}
_BEFORE: dict[str, dict[str, Any]] = {
    "cifar2016": {"norm_weight_decay": None, "bias_weight_decay": None, "subtract_mean": "channel"},
    "imagenet2016": {"norm_weight_decay": None, "bias_weight_decay": None},
    "fb90": {"interpolation": None},
    "finetune": {
        "epochs": 10,
        "classifier_init": "random",
        "learning_rate": 0.02,
        "backbone_lr_scale": 0.1,
        "frozen_stages": 1,
        "stage_lr_decay": 1.0,
        "unfreeze_share": 0.0,
        "keep_model": "last",
        "early_stopping": 0,
        "label_smoothing": 0.1,
        "crop": "random-resized",
        "min_area": 0.25,
        "pad_px": 4,
    },
    **dict.fromkeys(("rsb_a1", "rsb_a2", "rsb_a3"), _STRIKES_BACK_BEFORE),
}
"""Fields of named recipes before they were mended, so that runs that began with them can go on."""


def earlier_recipe(recipe: Recipe) -> Recipe:
    """Return what a named recipe was before it was mended; the same where it never was."""
    return recipe.changed(_BEFORE.get(recipe.name, {}))


def recipe_for(spec: ResNetSpec, suggested: str | None = None) -> Recipe:
    """Return the recipe for a network when none is asked for.

    Args:
        spec: The network.
        suggested: Name of the recipe for the data. Default: ``cifar`` for 32 px networks, else ``photos``.
    """
    return named_recipe(suggested or ("cifar" if spec.stem == "cifar" else "photos"), spec)
