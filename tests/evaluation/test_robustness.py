"""Corruptions against Pillow and scipy; every row a whole evaluation."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from deepresidual.errors import ConfigurationError
from deepresidual.evaluation import Corruption, EvaluationSetup, evaluate, parse_corruptions
from deepresidual.models import TorchClassifier
from deepresidual.preprocess import Preprocess
from tests.evaluation.parts import Gray, Memory, by_hand, noise, source_of

RECORD = Preprocess(8, 8, (0.5,) * 3, (0.25,) * 3, interpolation="bicubic")


@pytest.mark.parametrize("quality", [1, 30, 95])
def test_jpeg_is_pillows(quality: int) -> None:
    pixels = noise(0, 21, 30)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    expected = np.asarray(Image.open(io.BytesIO(file.getvalue())))
    np.testing.assert_array_equal(Corruption("jpeg", quality).apply(pixels, RECORD), expected)


def test_size_goes_down_and_back_with_the_filter_of_the_model() -> None:
    pixels = noise(1, 20, 31)
    image = Image.fromarray(pixels)
    expected = image.resize((16, 10), Image.Resampling.BICUBIC).resize((31, 20), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(Corruption("size", 10).apply(pixels, RECORD), np.asarray(expected))
    np.testing.assert_array_equal(Corruption("size", 20).apply(pixels, RECORD), pixels)


@pytest.mark.parametrize("deviation", [0.1, 0.5, 1.0, 2.7, 20.0])
@pytest.mark.parametrize("shape", [(33, 47), (5, 3), (1, 1)])
def test_blur_is_scipys(deviation: float, shape: tuple[int, int]) -> None:
    pixels = noise(2, *shape)
    expected = gaussian_filter(pixels.astype(float), (deviation, deviation, 0), mode="nearest", truncate=4.0)
    blurred = Corruption("blur", deviation).apply(pixels, RECORD)
    assert blurred.dtype == np.uint8
    assert blurred.shape == pixels.shape
    assert np.abs(blurred - expected).max() <= 0.51


def test_every_row_is_a_whole_evaluation(tiny_model: TorchClassifier) -> None:
    model = TorchClassifier(tiny_model.network, ("a", "b", "c"), tiny_model.preprocess)
    images = [noise(seed, 12, 12) for seed in range(30)]
    source = source_of(test=Memory(images, [seed % 3 for seed in range(30)]))
    corruptions = (Corruption("jpeg", 5), Corruption("blur", 2))
    measured = EvaluationSetup.open([model], source, num_workers=0).robustness(corruptions)
    assert [row.corruption for row in measured.rows] == [*corruptions]
    assert measured.evaluation == evaluate(model, source, num_workers=0)
    for row, corruption in zip(measured.rows, corruptions, strict=True):
        spoiled = [corruption.apply(image, model.preprocess) for image in images]
        direct = evaluate(
            model, source_of(test=Memory(spoiled, [seed % 3 for seed in range(30)])), num_workers=0
        )
        assert row.evaluation == direct
        assert row.evaluation.loss != measured.evaluation.loss
    assert measured == EvaluationSetup.open([model], source, num_workers=2).robustness(corruptions)


def test_blur_hides_a_fine_pattern() -> None:
    # Left bright, right dark: what the network tells apart is gone where both are gray.
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 0] = 8
    source = source_of(test=Memory([image], [0]))
    measured = EvaluationSetup.open([by_hand(Gray(halves=True))], source, num_workers=0).robustness(
        [Corruption("blur", 50)]
    )
    sharp, blurred = measured.evaluation, measured.rows[0].evaluation
    assert sharp.mistakes == ()
    assert sharp.loss < 0.001
    assert blurred.loss == pytest.approx(np.log(2), abs=0.02)


def test_words_become_corruptions() -> None:
    assert parse_corruptions(["jpeg=10,50", "blur=0.5", "size=16", "jpeg=10"]) == (
        Corruption("jpeg", 10),
        Corruption("jpeg", 50),
        Corruption("blur", 0.5),
        Corruption("size", 16),
    )
    assert [str(corruption) for corruption in parse_corruptions(["blur=0.50", "jpeg=10"])] == [
        "blur=0.5",
        "jpeg=10",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jpeg", "the corruption is 'jpeg'; expected a kind and its levels, such as jpeg=10,30,50"),
        ("jpeg=", "the corruption is 'jpeg='"),
        ("jpeg=10,,20", "the corruption is 'jpeg=10,,20'"),
        ("jpeg=-5", "the corruption is 'jpeg=-5'"),
        ("fog=3", "unknown kind of corruption 'fog'; expected one of jpeg, size, blur"),
        ("jpeg=0", "the level of jpeg is 0; expected a whole number from 1 to 100"),
        ("jpeg=10.5", "the level of jpeg is 10.5; expected a whole number"),
        ("blur=0", "the level of blur is 0; expected a number from 0.1 to 64"),
        ("size=9999", "the level of size is 9999; expected a whole number from 1 to 4096"),
    ],
)
def test_words_that_say_nothing_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_corruptions([text])
