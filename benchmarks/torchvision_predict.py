"""Predict a folder of photos as people do with torchvision: ImageFolder, DataLoader, an eager network.

The other side of ``residual benchmark folder``, run as a program of its own::

    python benchmarks/torchvision_predict.py NETWORK WEIGHTS FOLDER OUT [--workers 2] [--batch-size 32]

WEIGHTS is a file of safetensors, FOLDER has a folder of photos in it, OUT is a CSV file. Nothing of Residual
is imported.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch.utils.data import DataLoader
from torchvision import models, transforms
from torchvision.datasets import ImageFolder


def main() -> None:
    """Read the command line, predict every photo and write its class."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("weights", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--crop-px", type=int, default=224)
    parser.add_argument("--resize-px", type=int, default=256)
    options = parser.parse_args()

    weights = load_file(options.weights)
    network = models.get_model(options.network, num_classes=len(weights["fc.bias"]))
    network.load_state_dict(weights)
    network.eval()
    transform = transforms.Compose(
        [
            transforms.Resize(options.resize_px),
            transforms.CenterCrop(options.crop_px),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    data = ImageFolder(str(options.folder), transform)
    loader = DataLoader(data, options.batch_size, num_workers=options.workers)
    with options.out.open("w", newline="", encoding="utf-8") as file, torch.inference_mode():
        writer = csv.writer(file)
        writer.writerow(["path", "class", "probability"])
        paths = iter(data.samples)
        for images, _ in loader:
            best = network(images).softmax(dim=1).max(dim=1)
            for probability, number in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                writer.writerow([next(paths)[0], f"class {number}", probability])


if __name__ == "__main__":
    main()
