"""Pooling of regions: our sums and gradients are torchvision's, from the level of each region's size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torchvision.ops import roi_align, roi_pool
from torchvision.ops.poolers import LevelMapper, MultiScaleRoIAlign

from deepresidual.nn.detection.pooling import level_of, pool_regions
from deepresidual.spec import Regions

STRIDES = (4, 8, 16, 32)
SIZES = [(120, 160), (128, 150)]


def maps_of(channels: int = 5) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, channels, 128 // stride, 160 // stride, generator=generator).requires_grad_()
        for stride in STRIDES
    ]


def regions_of(count: int = 40) -> list[Tensor]:
    """Return boxes of all sizes, at edges, of no extent, and of whole images."""
    generator = torch.Generator().manual_seed(1)
    regions = []
    for height, width in SIZES:
        low = torch.rand(count, 2, generator=generator) * torch.tensor([width, height])
        high = low + torch.rand(count, 1, generator=generator) ** 3 * 200
        boxes = torch.cat([low, torch.minimum(high, torch.tensor([width, height]))], dim=1)
        extreme = torch.tensor(
            [[0.0, 0, width, height], [3, 5, 3, 5], [width - 1, height - 1, width, height]]
        )
        regions.append(torch.cat([boxes, extreme]))
    return regions


def torchvisions(maps: list[Tensor], regions: list[Tensor], *, aligned: bool) -> Tensor:
    """Return what torchvision pools of the level of each region."""
    if not aligned:
        pool = MultiScaleRoIAlign([str(level) for level in range(4)], 7, 2)
        # Sizes that the scales are inferred from.
        pooled: Tensor = pool({str(level): x for level, x in enumerate(maps)}, regions, [(128, 160)] * 2)
        return pooled
    levels = LevelMapper(2, 5)([torch.cat(regions)])
    rows = torch.cat(
        [torch.nn.functional.pad(boxes, (1, 0), value=image) for image, boxes in enumerate(regions)]
    )
    of_levels = torch.stack(
        [roi_align(x, rows, 7, 1 / stride, 2, aligned=True) for x, stride in zip(maps, STRIDES, strict=True)]
    )
    return of_levels[levels, torch.arange(len(rows))]


@pytest.mark.parametrize("pooling", ["align", "align-v2"])
def test_aligned_sums_and_their_gradients_are_torchvisions_up_to_rounding(pooling: str) -> None:
    ours, theirs = maps_of(), maps_of()
    regions, settings = regions_of(), Regions(pooling=pooling)  # type: ignore[arg-type]
    expected = torchvisions(theirs, regions, aligned=pooling == "align-v2")
    with torch.no_grad():
        assert torch.equal(pool_regions(ours, STRIDES, regions, settings), expected)
    learned = pool_regions(ours, STRIDES, regions, settings)
    torch.testing.assert_close(learned, expected, rtol=1e-5, atol=1e-6)
    grad = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    learned.backward(grad)  # type: ignore[no-untyped-call]
    expected.backward(grad)  # type: ignore[no-untyped-call]
    for here, there in zip(ours, theirs, strict=True):
        torch.testing.assert_close(here.grad, there.grad, rtol=1e-4, atol=1e-4)


def test_adaptive_sampling_is_torchvisions() -> None:
    maps = maps_of()[:1]
    expected = MultiScaleRoIAlign(["0"], 3, 0)({"0": maps[0]}, regions_of(), [(128, 160)] * 2)
    pooled = pool_regions(maps, STRIDES[:1], regions_of(), Regions(bins=3, sampling=0))
    assert torch.equal(pooled, expected)


def test_maxima_and_their_gradients_are_torchvisions() -> None:
    ours, theirs = maps_of()[1].detach().requires_grad_(), maps_of()[1].detach().requires_grad_()
    regions = regions_of()
    pooled = pool_regions([ours], [8], regions, Regions(pooling="pool", bins=7))
    expected = roi_pool(theirs, regions, 7, 1 / 8)
    assert torch.equal(pooled, expected)
    grad = torch.randn(expected.shape, generator=torch.Generator().manual_seed(2))
    pooled.backward(grad)  # type: ignore[no-untyped-call]
    expected.backward(grad)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pooling", ["pool", "align", "align-v2"])
def test_half_precision_is_pooled_in_float32(pooling: str) -> None:
    settings = Regions(pooling=pooling, bins=3)  # type: ignore[arg-type]
    half = [x.detach().bfloat16().requires_grad_() for x in maps_of()]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = pool_regions(half, STRIDES, regions_of(), settings)
    assert pooled.dtype == torch.float32
    torch.testing.assert_close(
        pooled, pool_regions([x.float() for x in half], STRIDES, regions_of(), settings)
    )
    pooled.sum().backward()  # type: ignore[no-untyped-call]
    assert all(x.grad is not None and x.grad.dtype == torch.bfloat16 for x in half)


def test_levels_are_torchvisions_and_maps_of_equal_stride_share() -> None:
    boxes = torch.cat(regions_of(200))
    assert torch.equal(level_of(boxes, STRIDES), LevelMapper(2, 5)([boxes]))
    assert torch.equal(level_of(boxes, (8, 16)), LevelMapper(3, 4)([boxes]))
    # Of dilated stages, whose strides are equal, the last is read.
    assert set(level_of(boxes, (4, 8, 8)).tolist()) == {0, 2}
