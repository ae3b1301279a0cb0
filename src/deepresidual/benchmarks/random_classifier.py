"""A classifier with random weights whose answers depend on the image, for benchmarks of inference.

A network as it is initialized gives all images the same class with a probability of 1: sums over units grow,
and the softmax saturates. Such answers are equal for any two programs, also where one of them is wrong. Here
batch normalization has the statistics of photos, and the classifier is shifted and scaled so that logits have
a mean of 0 and a standard deviation of about 1 over these photos. Residual branches are a tenth of what they
would be, as they are small in trained networks, too: else fifty random layers enlarge the rounding of bf16 to
half of the logits' deviation.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from deepresidual.models import TorchClassifier, create
from deepresidual.zoo import default_preprocess, entry

_BATCH_SIZE = 16
_BRANCH = 0.1
_DIRECTIONS = 4


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
    last = "bn3" if spec.unit == "bottleneck" else "bn2"
    ends = {module for name, module in network.named_modules() if name.endswith(f".{last}")}
    batches = [
        preprocess.normalize(torch.from_numpy(photos[start : start + _BATCH_SIZE]))
        for start in range(0, len(photos), _BATCH_SIZE)
    ]
    momenta = [norm.momentum for norm in norms]
    with torch.no_grad():
        for norm in norms:
            factor = _BRANCH if norm in ends else 1.0
            norm.weight.uniform_(0.5 * factor, 1.5 * factor, generator=generator)
            norm.bias.uniform_(-0.5 * factor, 0.5 * factor, generator=generator)
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
        network.train()
        for batch in batches:
            network(batch)
        network.eval()
        features = torch.cat([network.pooled_features(batch) for batch in batches])
        _settle_classifier(network.fc, features, generator)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    names = tuple(f"class {number}" for number in range(spec.num_classes))
    return TorchClassifier(network, names, preprocess)


def _settle_classifier(classifier: nn.Linear, features: Tensor, generator: torch.Generator) -> None:
    """Have the classes depend on what varies most in ``features`` ``(N, F)``: each on a mixture of that."""
    centred = features - features.mean(dim=0)
    _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
    # Of N photos there are N − 1 directions; along another one there is only rounding.
    count = min(_DIRECTIONS, len(features) - 1)
    mixture = torch.randn(len(classifier.weight), count, generator=generator) / count**0.5
    # Divided by its spread each direction counts for as much as another: photos have more classes.
    weight = mixture / spread[:count] * len(features) ** 0.5 @ directions[:count]
    classifier.weight.copy_(weight)
    classifier.bias.copy_(-weight @ features.mean(dim=0))


def views_of(contents: list[bytes], model: str, image_px: int) -> NDArray[np.uint8]:
    """Return the central views ``(N, S, S, 3)`` uint8 of image files, as the network usually sees them."""
    from deepresidual.data.decode import decode

    preprocess = default_preprocess(entry(model).spec).at_size(image_px)
    return np.stack([preprocess.center_view(decode(content)) for content in contents])
