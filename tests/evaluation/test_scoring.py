"""Averages over views and members, against arithmetic by hand and against loops written out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image

from deepresidual.data.loader import BadSample
from deepresidual.data.source import EncodedSample
from deepresidual.evaluation import Views, evaluate
from deepresidual.evaluation.scoring import mean_of_probabilities, scored_batches
from deepresidual.evaluation.views import ViewKind
from deepresidual.models import TorchClassifier, create
from deepresidual.preprocess import Preprocess
from deepresidual.runtime.distributed import Processes
from deepresidual.spec import ResNetSpec
from tests.conftest import SMALL_INPUT, TINY
from tests.evaluation.parts import RAW, Gray, Memory, by_hand, noise, softmax, source_of

NAMES = ("a", "b", "c")


def probabilities(
    model: TorchClassifier,
    split: Memory,
    views: Views | ViewKind,
    batch_size: int = 100,
    num_workers: int = 0,
) -> np.ndarray:
    batches = scored_batches(
        [model],
        split,
        Views.of(views),
        batch_size=batch_size,
        num_workers=num_workers,
        precision="fp32",
    )
    return torch.cat([batch.scores[0].double().softmax(dim=1) for batch in batches]).numpy()


def test_flip_averages_probabilities_not_logits() -> None:
    # Left 2, right 0: logits (2, 0, 0), mirrored (0, 2, 0).
    image = np.zeros((2, 2, 3), np.uint8)
    image[:, 0] = 2
    shares = probabilities(by_hand(Gray(halves=True)), Memory([image], [0]), "flip")
    e2 = np.exp(2.0)
    np.testing.assert_allclose(shares[0], [(e2 + 1) / 2 / (e2 + 2), (e2 + 1) / 2 / (e2 + 2), 1 / (e2 + 2)])
    # The mean of logits would be (1, 1, 0), which is something else.
    assert shares[0, 2] != pytest.approx(1 / (2 * np.e + 1), rel=0.05)


def test_ten_crop_by_hand() -> None:
    # 3×3 pixels, crops of 2×2: the means of the corners in red are 1, 2, 3 and 4.
    image = np.zeros((3, 3, 3), np.uint8)
    image[0, 0, 0], image[0, 2, 0], image[2, 0, 0], image[2, 2, 0] = 4, 8, 12, 16
    record = Preprocess(crop_px=2, resize_px=3, mean=(0.0,) * 3, std=(1 / 255,) * 3)
    top = round((3 - 2) / 2)  # where the central crop begins
    center = image[top : top + 2, top : top + 2, 0].mean()
    logits = np.zeros((5, 3))
    logits[:, 0] = [1, 2, 3, 4, center]
    expected = softmax(logits).mean(axis=0)  # mirroring changes no mean
    shares = probabilities(by_hand(Gray(), record), Memory([image], [0]), "ten-crop")
    np.testing.assert_allclose(shares[0], expected, rtol=1e-6)


def test_multi_scale_by_hand() -> None:
    # One row of red 0, 6, 12 under a window of 2 px: positions 3 and 9, whose mean is 6. Half as large it
    # is as the filter makes it: one position.
    image = np.zeros((2, 3, 3), np.uint8)
    image[:, :, 0] = [0, 6, 12]
    small = np.asarray(Image.fromarray(image).resize((1, 1), Image.Resampling.BILINEAR))[0, 0, 0]
    logits = np.array([[6.0, 0, 0], [float(small), 0, 0]])
    shares = probabilities(by_hand(Gray()), Memory([image], [0]), Views("multi-scale", (1, 2)))
    np.testing.assert_allclose(shares[0], softmax(logits).mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("views", [Views("flip"), Views("ten-crop"), Views("multi-scale", (6, 8, 13))])
def test_a_residual_network_agrees_with_loops_written_out(views: Views) -> None:
    model = TorchClassifier(create(TINY, seed=3), NAMES, dataclasses.replace(SMALL_INPUT, resize_px=10))
    model.network.eval()
    images = [noise(seed, *shape) for seed, shape in enumerate([(12, 12), (9, 20), (31, 14), (12, 12)])]
    shares = probabilities(model, Memory(images, [0] * 4), views, batch_size=3)
    record = views.preprocess(model.preprocess)
    for image, found in zip(images, shares, strict=True):
        parts = []
        for cut in views.cut(image, record):
            for view in (cut, cut[:, ::-1]):
                pixels = torch.from_numpy(view.copy())[None]
                with torch.no_grad():
                    batch = record.normalize(pixels)
                    logits = (
                        model.network.score_map(batch, 4).mean((2, 3))
                        if views.are_whole
                        else model.network(batch)
                    )
                parts.append(softmax(logits[0].double().numpy()))
        np.testing.assert_allclose(found, np.mean(parts, axis=0), atol=1e-6)


@pytest.mark.parametrize("kind", ["one", "flip", "ten-crop", "multi-scale"])
def test_batches_and_workers_change_nothing(kind: ViewKind, tiny_model: TorchClassifier) -> None:
    images = [noise(seed, 8 + seed % 3, 10 + seed % 2) for seed in range(11)]
    split = Memory(images, [0] * 11)
    reference = probabilities(tiny_model, split, kind, batch_size=1)
    assert reference.shape == (11, 3)
    for batch_size, num_workers in ((4, 0), (100, 2)):
        others = probabilities(tiny_model, split, kind, batch_size, num_workers)
        np.testing.assert_allclose(others, reference, atol=1e-6)


def test_members_with_other_preprocessing_and_order_of_classes_share_a_pass() -> None:
    first = TorchClassifier(create(TINY, seed=1), NAMES, SMALL_INPUT)
    turned = create(TINY, seed=1)
    turned.fc.weight.data, turned.fc.bias.data = (
        turned.fc.weight.data[[2, 0, 1]],
        turned.fc.bias.data[[2, 0, 1]],
    )
    second = TorchClassifier(turned, ("c", "a", "b"), SMALL_INPUT)
    third = TorchClassifier(
        create(TINY, seed=2), NAMES, dataclasses.replace(SMALL_INPUT, crop_px=6, resize_px=7)
    )
    split = Memory([noise(seed, 9, 9) for seed in range(5)], [0] * 5)
    for members in ([first, second], [first, second, third]):
        (batch,) = scored_batches(members, split, Views(), batch_size=9, num_workers=0, precision="fp32")
        # Of one view there are logits, whether the members share the views or not.
        torch.testing.assert_close(batch.scores[0], batch.scores[1])
    alone = probabilities(third, split, "one")
    np.testing.assert_allclose(batch.scores[2].double().softmax(dim=1).numpy(), alone, atol=1e-7)


@pytest.mark.parametrize("kind", ["one", "flip"])
def test_ranks_share_the_samples_out(kind: ViewKind, tiny_model: TorchClassifier) -> None:
    split = Memory([noise(seed, 9, 9) for seed in range(11)], [seed % 3 for seed in range(11)])
    seen: dict[int, tuple[int, str]] = {}
    for rank in range(3):
        batches = scored_batches(
            [tiny_model],
            split,
            Views(kind),
            batch_size=2,
            num_workers=0,
            precision="fp32",
            processes=Processes(rank, 3),
        )
        for batch in batches:
            for index, label, key in zip(
                batch.indices.tolist(), batch.labels.tolist(), batch.keys, strict=True
            ):
                assert index not in seen
                seen[index] = (label, key)
    assert seen == {index: (index % 3, f"image-{index}") for index in range(11)}


def test_a_bad_sample_is_named_on_the_general_way(tiny_model: TorchClassifier) -> None:
    class Broken(Memory):
        def read(self, index: int) -> EncodedSample:
            sample = super().read(index)
            return EncodedSample(sample.key, b"", 0) if index == 1 else sample

    split = Broken([noise(0, 8, 8)] * 3, [0, 1, 2])
    (batch,) = scored_batches(
        [tiny_model], split, Views("flip"), batch_size=9, num_workers=0, precision="fp32"
    )
    assert batch.bad == [BadSample(1, "image-1", "the file is empty (0 bytes)")]
    assert (batch.keys, batch.labels.tolist(), len(batch.scores[0])) == (["image-0", "image-2"], [0, 2], 2)


def test_one_view_is_what_it_was_before_there_were_views(tiny_model: TorchClassifier) -> None:
    split = Memory([noise(seed, 9, 12) for seed in range(7)], [0, 1, 2, 0, 1, 2, 0])
    pixels = np.stack([tiny_model.preprocess.center_view(noise(seed, 9, 12)) for seed in range(7)])
    (batch,) = scored_batches([tiny_model], split, Views(), batch_size=9, num_workers=0, precision="fp32")
    assert torch.equal(batch.scores[0], torch.from_numpy(tiny_model.logits(pixels)))


def test_a_class_that_all_hold_for_impossible_keeps_a_finite_score() -> None:
    scores = torch.tensor([[[0.0, -3000.0]], [[0.0, -2000.0]]])
    mean = mean_of_probabilities(scores)
    assert mean[0, 1] == pytest.approx(-2000 - np.log(2))
    assert mean[0, 0] == 0


# -- fully convolutional -------------------------------------------------------------------------------


@pytest.mark.parametrize("arrangement", ["original", "full-preactivation"])
def test_a_window_as_large_as_the_map_is_the_network_itself(arrangement: str) -> None:
    network = create(dataclasses.replace(TINY, arrangement=arrangement), seed=1).eval()  # type: ignore[arg-type]
    images = torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        torch.testing.assert_close(network.score_map(images, 6)[:, :, 0, 0], network(images))
        torch.testing.assert_close(network.score_map(images, 99)[:, :, 0, 0], network(images))


def test_every_place_of_the_map_is_the_classifier_on_its_window() -> None:
    network = create(TINY, seed=1).eval()
    images = torch.randn(1, 3, 10, 16)
    with torch.no_grad():
        score_map = network.score_map(images, 4)
        features = network.features(images)["layer2"]
        assert score_map.shape == (1, 3, 2, 5)
        for y in range(2):
            for x in range(5):
                window = features[:, :, y : y + 4, x : x + 4].mean(dim=(2, 3))
                torch.testing.assert_close(score_map[:, :, y, x], network.fc(window))


def test_the_window_is_the_map_of_the_size_that_the_network_was_trained_on() -> None:
    spec = ResNetSpec(
        unit="basic", depths=(1, 1), widths=(4, 8), stem="imagenet", shortcut="A", num_classes=3
    )
    model = TorchClassifier(create(spec, seed=1), NAMES, Preprocess(32, 36, (0.5,) * 3, (0.25,) * 3))
    model.network.eval()
    image = noise(0, 64, 64)
    (found,) = probabilities(model, Memory([image], [0]), Views("multi-scale", (64,)))
    # conv1 and the pooling leave 8 of 32 px, layer2 4.
    with torch.no_grad():
        logits = [
            model.network.score_map(model.preprocess.normalize(torch.from_numpy(view.copy())[None]), 4)
            for view in (image, image[:, ::-1])
        ]
    expected = np.mean([softmax(part.mean((2, 3))[0].double().numpy()) for part in logits], axis=0)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_evaluate_takes_views_by_name_and_by_value() -> None:
    images = [np.full((2, 2, 3), 0, np.uint8) for _ in range(3)]
    for label, image in enumerate(images):
        image[:, :, label] = 9
    source = source_of(test=Memory(images, [0, 1, 2]))
    for views in ("flip", Views("multi-scale", (2, 3))):
        measured = evaluate(by_hand(Gray(), RAW), source, views=views, num_workers=0)
        assert (measured.top1, measured.count) == (1, 3)
        assert measured.loss == pytest.approx(np.log(1 + 2 * np.exp(-9)))
