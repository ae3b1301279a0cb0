"""Weights that others trained give here the accuracy that their own code gives.

Checks network, decoding, preprocessing and evaluation at once, to the last image. The weights are those
of akamaster/pytorch_resnet_cifar10 (BSD-2-Clause), the images CIFAR-10's test set as JPEG of quality 75;
both lie beside the project, where they are at all.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deepresidual.cli import main

SHARED = Path(__file__).parents[3] / "shared"

pytestmark = pytest.mark.skipif(
    not (SHARED / "weights").is_dir(), reason=f"no weights at {SHARED / 'weights'}"
)


@pytest.mark.parametrize(
    ("name", "file", "right"),
    [
        ("resnet20.akamaster", "resnet20-12fca82f.th", 8103),
        # Minutes of one core; the other goes the same way.
        pytest.param("resnet56.akamaster", "resnet56-4bfd9763.th", 8320, marks=pytest.mark.test_all),
    ],
)
def test_as_many_images_are_right_as_in_the_code_they_come_from(
    name: str, file: str, right: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(SHARED / "weights" / file), str(tmp_path / "model"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["network"] == name
    data = SHARED / "data" / "cifar10-jpeg"
    assert main(["evaluate", str(tmp_path / "model"), str(data), "--workers", "0", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert (measured["count"], round(measured["top1"] * measured["count"])) == (10_000, right)
