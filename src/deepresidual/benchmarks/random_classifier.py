"""A classifier with random weights whose answers depend on the image, for benchmarks of inference.

A network as it is initialized gives all images the same class with a probability of 1: sums over units grow,
and the softmax saturates. Such answers are equal for any two programs, also where one of them is wrong. Here
batch normalization has the statistics of photos, and the classifier is shifted and scaled so that logits have
a mean of 0 and a standard deviation of about 1 over these photos.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from deepresidual.models import TorchClassifier, create
from deepresidual.zoo import default_preprocess, entry

_BATCH_SIZE = 16


def random_classifier(model: str, photos: NDArray[np.uint8], seed: int = 0) -> TorchClassifier:
    """Return a classifier of random weights.

    Args:
        model: Name in the zoo.
        photos: ``(N, S, S, 3)`` uint8, views of at least 2 photos by the network's usual preprocessing.
        seed: Decides all weights.
    """
    spec = entry(model).spec
    preprocess = default_preprocess(spec).at_size(photos.shape[1])
    network = create(spec, seed=seed).to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    batches = [
        preprocess.normalize(torch.from_numpy(photos[start : start + _BATCH_SIZE]))
        for start in range(0, len(photos), _BATCH_SIZE)
    ]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            norm.weight.uniform_(0.5, 1.5, generator=generator)
            norm.bias.uniform_(-0.5, 0.5, generator=generator)
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
        network.train()
        for batch in batches:
            network(batch)
        network.eval()
        logits = torch.cat([network(batch) for batch in batches])
        # One factor for all classes: those that vary more stay the more frequent answers.
        scale = 1 / logits.std(dim=0).mean().clamp(min=1e-6)
        classifier = network.fc
        classifier.bias.copy_((classifier.bias - logits.mean(dim=0)) * scale)
        classifier.weight.mul_(scale)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    names = tuple(f"class {number}" for number in range(spec.num_classes))
    return TorchClassifier(network, names, preprocess)


def views_of(contents: list[bytes], model: str, image_px: int) -> NDArray[np.uint8]:
    """Return the central views ``(N, S, S, 3)`` uint8 of image files, as the network usually sees them."""
    from deepresidual.data.decode import decode

    preprocess = default_preprocess(entry(model).spec).at_size(image_px)
    return np.stack([preprocess.center_view(decode(content)) for content in contents])
