"""Train an epoch over a folder of photos with timm's parts.

timm's training script is not in its package; the loop is built here from what it is made of, with the
script's defaults: random resized crop, mirroring, colour jitter 0.4, two workers, SGD.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deepresidual.benchmarks.epoch import LEARNING_RATE

_WORKERS = 2  # on timm's side; ours follow the rule


class TimmEpoch:
    """timm's dataset, loader, network and optimizer, and the loop of its script.

    Args:
        data: A folder of photos by class, or of ``train/`` with such.
        model: The network's name in timm.
        batch_size: Images an update.
        image_px: Side of the images.
    """

    def __init__(self, data: Path, model: str, batch_size: int, image_px: int) -> None:
        from timm.data import create_dataset, create_loader
        from timm.models import create_model
        from timm.optim import create_optimizer_v2

        dataset = create_dataset("", root=str(data), split="train", is_training=True)
        self.num_samples = len(dataset)
        classes = len(dataset.reader.class_to_idx)
        self._network = create_model(model, num_classes=classes).train()
        self.num_parameters = sum(parameter.numel() for parameter in self._network.parameters())
        self._loader = create_loader(
            dataset,
            input_size=(3, image_px, image_px),
            batch_size=batch_size,
            is_training=True,
            color_jitter=0.4,
            interpolation="random",
            num_workers=_WORKERS,
            device=torch.device("cpu"),
        )
        self._optimizer = create_optimizer_v2(
            self._network, opt="sgd", lr=LEARNING_RATE, momentum=0.9, weight_decay=2e-5
        )
        self._loss = nn.CrossEntropyLoss()
        self.setup: dict[str, Any] = {
            "precision": "fp32",
            "compiled": False,
            "layout": "NCHW",
            "workers": _WORKERS,
            "augmentation": "random resized crop, mirroring, colour jitter 0.4",
        }

    def seconds_an_image(self) -> float:
        """Train one epoch and return the seconds that an image took; the last, smaller batch is dropped."""
        started = time.perf_counter()
        count, total = 0, 0.0
        for images, targets in self._loader:
            loss = self._loss(self._network(images), targets)
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            total += loss.item() * len(targets)
            count += len(targets)
        return (time.perf_counter() - started) / count
