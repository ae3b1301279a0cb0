"""Weights of 7 bits are right where int8 products are added in 16 bits; the self-test finds those of 8 bits.

Without VNNI a CPU multiplies pairs of uint8 and int8 numbers and adds both products into 16 bits, which
saturate (VPMADDUBSW). This machine may have VNNI, so that instruction is computed by NumPy here.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deepresidual.backends.self_test import SelfTest
from deepresidual.errors import ModelFileError


def without_vnni(activations: NDArray[np.uint8], weights: NDArray[np.int8]) -> NDArray[np.int64]:
    """Multiply ``(N, C)`` by ``(K, C)`` as VPMADDUBSW does: sums of pairs are cut to 16 bits."""
    products = activations[:, None, :].astype(np.int64) * weights[None]
    pairs = products.reshape(*products.shape[:2], -1, 2).sum(axis=3)
    sums: NDArray[np.int64] = pairs.clip(-(2**15), 2**15 - 1).sum(axis=2)
    return sums


pairs_of = st.lists(st.tuples(st.integers(0, 255), st.integers(-64, 64)), min_size=2, max_size=2)


@given(pairs_of)
def test_no_pair_of_7_bit_products_saturates(pair: list[tuple[int, int]]) -> None:
    activations, weights = np.array(pair).T
    exact = int((activations * weights).sum())
    assert without_vnni(activations[None].astype(np.uint8), weights[None].astype(np.int8)).item() == exact


def test_the_largest_pairs_of_7_bits_just_fit_and_those_of_8_bits_do_not() -> None:
    activations = np.full((1, 2), 255, np.uint8)
    assert without_vnni(activations, np.full((1, 2), 64, np.int8)).item() == 255 * 64 * 2
    assert without_vnni(activations, np.full((1, 2), 127, np.int8)).item() < 255 * 127 * 2


@pytest.mark.parametrize("bits", [7, 8])
def test_a_session_that_saturates_does_not_pass_the_self_test(bits: int) -> None:
    """One int8 layer on bright pixels, in float and as a CPU without VNNI computes it."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(100, 256, (16, 4, 4, 3), np.uint8)
    # Neighbours alike, as filters of images are.
    weights = (generator.choice([-1.0, 1.0], (10, 24)) * generator.uniform(0.6, 1, (10, 24))).repeat(
        2, axis=1
    )
    logits = pixels.reshape(16, 48) @ weights.T
    most = 2 ** (bits - 1) - (bits == 8)  # 64, or 127
    scale = np.abs(weights).max(axis=1, keepdims=True) / most

    def compute(views: NDArray[np.uint8]) -> NDArray[np.float32]:
        sums = without_vnni(views.reshape(len(views), 48), np.rint(weights / scale).astype(np.int8))
        found: NDArray[np.float32] = (sums * scale.T).astype(np.float32)
        return found

    test = SelfTest(pixels, logits.astype(np.float32))
    if bits == 7:
        test.require_passed(compute, "int8", "a CPU without VNNI")
    else:
        with pytest.raises(ModelFileError, match="a CPU without VNNI computes wrongly here"):
            test.require_passed(compute, "int8", "a CPU without VNNI")
