"""Set up the experiments on CIFAR: networks of 6n + 2 layers, a recipe and a size for every scale.

``laptop`` is chosen so that depth is the only obstacle and a run takes minutes: images of 16 px, a quarter of
the paper's channels, a cosine in place of the paper's drops, and a part of the images. What is held fixed
between arms is what matters: data, order, augmentation, schedule and, between a residual net and its plain
twin, parameters.

The size is the smallest of those tried at which depth helps at all. With images of 8 px, whose last maps have
2×2 pixels, a residual net of 56 layers stayed behind one of 20 by half a point to eight points of training
error in all settings tried (4, 8 and 16 channels; 1,000, 2,500 and 5,000 images; one seed each).
"""

from __future__ import annotations

from collections.abc import Mapping

from deepresidual.analysis.experiments.experiment import Arm, DataUse, Scale
from deepresidual.errors import ConfigurationError
from deepresidual.recipe import Augment, Recipe
from deepresidual.recipe.recipes import named_recipe
from deepresidual.spec import Arrangement, ResNetSpec, Shortcut, Unit
from deepresidual.zoo.published import published

_SMALL_PX: Mapping[Scale, int | None] = {"smoke": 8, "laptop": 16, "paper": None}
"""Side of the images in pixels; the usual 32 at ``paper``."""

_WIDTHS: Mapping[Scale, tuple[int, int, int]] = {
    "smoke": (4, 8, 16),
    "laptop": (4, 8, 16),
    "paper": (16, 32, 64),
}

# Residual nets of 56 layers overtake those of 20 after some 2,000 updates, so where depths are compared there
# are 3,900; where units of one depth are, in more arms, there are 1,600.
_LAPTOP_EPOCHS: Mapping[str, float] = {"cifar2015": 100.0, "cifar2016": 40.0}

DATA: Mapping[Scale, DataUse] = {
    "smoke": DataUse(num_train=100, num_test=50, default="digits"),
    "laptop": DataUse(num_train=2_500, num_test=2_000),
    "paper": DataUse(),
}
"""How many images the experiments on CIFAR take."""


def network(
    scale: Scale,
    layers: int,
    shortcut: Shortcut | None = None,
    *,
    unit: Unit = "basic",
    arrangement: Arrangement = "original",
) -> ResNetSpec:
    """Return the CIFAR network of a number of layers, in the widths of the scale (2015, section 4.2).

    Args:
        scale: The scale.
        layers: 6n + 2 in basic units, 9n + 2 in bottlenecks.
        shortcut: Kind of shortcut. Default: A in basic units, B in bottlenecks.
        unit: Kind of unit.
        arrangement: Places of BN and ReLU.

    Raises:
        ConfigurationError: There is no network of so many layers.
    """
    units, rest = divmod(layers - 2, 6 if unit == "basic" else 9)
    if rest or units < 1:
        raise ConfigurationError(
            f"layers is {layers}", expected="6n + 2 in basic units, 9n + 2 in bottlenecks"
        )
    return ResNetSpec(
        unit=unit,
        depths=(units, units, units),
        widths=_WIDTHS[scale],
        stem="cifar",
        shortcut=shortcut or ("A" if unit == "basic" else "B"),
        stride_on="1x1" if unit == "bottleneck" else "3x3",  # as the zoo's networks for CIFAR
        arrangement=arrangement,
        num_classes=10,
    )


def recipe(scale: Scale, spec: ResNetSpec, paper: str = "cifar2015") -> Recipe:
    """Return the recipe of the experiments on CIFAR at a scale; ``paper`` names the one of that scale."""
    match scale:
        case "smoke":
            return Recipe(
                name="smoke",
                epochs=2,
                batch_size=50,
                learning_rate=0.1,
                evaluate_every=1.0,
                augment=Augment(crop="pad", pad_px=1),
            )
        case "laptop":
            epochs = _LAPTOP_EPOCHS[paper]
            return Recipe(
                name="laptop",
                epochs=epochs,
                batch_size=64,
                learning_rate=0.1,
                warmup_epochs=2,
                evaluate_every=epochs / 10,
                augment=Augment(crop="pad", flip=True, pad_px=2),
            )
        case "paper":
            return named_recipe(paper, spec)


def arm(
    scale: Scale,
    name: str,
    label: str,
    spec: ResNetSpec,
    *,
    num_seeds: int,
    paper: str = "cifar2015",
    twin: str = "",
    source: str = "He et al.",
) -> Arm:
    """Return an arm with the scale's recipe and the published results of the network that it stands for.

    Args:
        scale: The scale.
        name: Name of its folder.
        label: Its name in figures.
        spec: The network.
        num_seeds: Number of runs.
        paper: Name of the recipe at ``paper``.
        twin: Name in the zoo of the network that it stands for; empty: the papers have none.
        source: Beginning of the sources of its published results on CIFAR-10.
    """
    return Arm(
        name=name,
        label=label,
        network=spec,
        recipe=recipe(scale, spec, paper),
        num_seeds=num_seeds,
        image_px=_SMALL_PX[scale],
        published=tuple(
            result
            for result in published(twin)
            if result.data == "cifar10"
            and result.source.startswith(source)
            # Those of another recipe
            and "mini-batches of 64" not in result.source
        ),
    )


def twin(scale: Scale, kind: str, layers: int, *, num_seeds: int, **published_as: str) -> Arm:
    """Return the arm of a residual net of option A, or of its plain twin, which has the same parameters.

    Args:
        scale: The scale.
        kind: ``plain`` or ``resnet``.
        layers: 6n + 2.
        num_seeds: Number of runs.
        **published_as: ``twin`` and ``source``, as for :func:`arm`.
    """
    label = f"{'ResNet' if kind == 'resnet' else 'plain'}-{layers}"
    spec = network(scale, layers, "A" if kind == "resnet" else "none")
    return arm(scale, f"{kind}-{layers}", label, spec, num_seeds=num_seeds, **published_as)
