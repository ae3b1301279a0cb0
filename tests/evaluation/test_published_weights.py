"""Weights that others trained give here the accuracy that their own code gives.

Checks network, decoding, preprocessing and evaluation at once, to the last image. The weights are those
of akamaster/pytorch_resnet_cifar10 (BSD-2-Clause), the images CIFAR-10's test set as JPEG of quality 75;
both lie beside the project, where they are at all.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pyarrow import parquet

from deepresidual.cli import main
from tests.conversion.in_process import read_in_this_process

SHARED = Path(__file__).parents[3] / "shared"
DATA = SHARED / "data" / "cifar10-jpeg"

pytestmark = pytest.mark.skipif(
    not (SHARED / "weights").is_dir(), reason=f"no weights at {SHARED / 'weights'}"
)


@pytest.fixture(autouse=True)
def _read_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    read_in_this_process(monkeypatch)


@pytest.mark.parametrize(
    ("name", "file", "count", "right"),
    [
        # Counted here, when all 10,000 were as many as there.
        ("resnet20.akamaster", "resnet20-12fca82f.th", 400, 323),
        pytest.param("resnet20.akamaster", "resnet20-12fca82f.th", 10_000, 8103, marks=pytest.mark.test_all),
        # Minutes of one core; the other goes the same way.
        pytest.param("resnet56.akamaster", "resnet56-4bfd9763.th", 10_000, 8320, marks=pytest.mark.test_all),
    ],
)
def test_as_many_images_are_right_as_in_the_code_they_come_from(
    name: str, file: str, count: int, right: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", str(SHARED / "weights" / file), str(tmp_path / "model"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["network"] == name
    (tmp_path / "data").mkdir()
    first = parquet.read_table(DATA / "test.parquet").slice(0, count)
    parquet.write_table(first, tmp_path / "data" / "test.parquet")
    assert (
        main(["evaluate", str(tmp_path / "model"), str(tmp_path / "data"), "--workers", "0", "--json"]) == 0
    )
    measured = json.loads(capsys.readouterr().out)
    assert (measured["count"], round(measured["top1"] * measured["count"])) == (count, right)
