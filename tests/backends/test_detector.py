"""Detectors on images: everything that holds images, upright pixels, scores, bad files, batches, NaN."""

from __future__ import annotations

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from deepresidual.backends.detected import Detected, detect_files
from deepresidual.backends.detector import TorchDetector
from deepresidual.errors import ConfigurationError, DataError, ModelFileError
from tests.detectors import tiny_detector


@pytest.fixture(scope="module")
def model() -> TorchDetector:
    return tiny_detector()


@pytest.fixture(scope="module")
def pixels() -> list[NDArray[np.uint8]]:
    """Return images of several sizes."""
    random = np.random.default_rng(0)
    return [
        random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        for height, width in ((40, 60), (60, 40), (64, 64), (90, 30), (40, 60))
    ]


def same(first: Detected, second: Detected) -> bool:
    """Return whether two results are equal to the bit."""
    pairs = [
        (getattr(first.objects, name), getattr(second.objects, name))
        for name in ("boxes", "labels", "scores")
    ]
    sizes = (first.height, first.width) == (second.height, second.width)
    return sizes and all(np.array_equal(*pair) for pair in pairs)


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return a PNG file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_one_image_in_any_form_gives_the_same(
    model: TorchDetector, pixels: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    content = png(pixels[0])
    (tmp_path / "photo.png").write_bytes(content)
    forms = (
        pixels[0],
        Image.fromarray(pixels[0]),
        content,
        tmp_path / "photo.png",
        str(tmp_path / "photo.png"),
    )
    results = [model.predict(form, 0)[0] for form in forms]
    assert len(results[0])
    assert all(same(result, results[0]) for result in results)


def test_results_are_in_order_and_do_not_depend_on_the_batch_or_the_threads(
    model: TorchDetector, pixels: list[NDArray[np.uint8]]
) -> None:
    alone = [model.predict(image, 0)[0] for image in pixels]
    assert [(each.height, each.width) for each in alone] == [image.shape[:2] for image in pixels]
    for batch_size, num_workers in ((1, 0), (2, 2), (5, 0)):
        outcomes = model.outcomes(pixels, 0, batch_size=batch_size, num_workers=num_workers)
        results = [result for _, result in outcomes if isinstance(result, Detected)]
        assert list(map(same, results, alone)) == [True] * len(pixels)


def test_threads_of_a_server_get_what_one_gets(model: TorchDetector, pixels: list[NDArray[np.uint8]]) -> None:
    broken = tiny_detector()
    with torch.no_grad():
        broken.network.rpn.head.cls_logits.weight.fill_(float("nan"))
    alone = [model.predict(image, 0)[0] for image in pixels]

    def answer(place: int) -> bool:
        if place % 3 == 2:
            return all(isinstance(result, ModelFileError) for _, result in broken.outcomes(pixels[:1]))
        return same(model.predict(pixels[place % len(pixels)], 0)[0], alone[place % len(pixels)])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(answer, range(24)))


def test_threads_are_in_one_network_at_the_same_time(
    model: TorchDetector, pixels: list[NDArray[np.uint8]]
) -> None:
    alone, together = model.predict(pixels[0], 0)[0], Barrier(2)

    def wait_for_the_other(*_: object) -> None:
        together.wait(timeout=20)

    hook = model.network.rpn.register_forward_pre_hook(wait_for_the_other)
    try:
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda _: model.predict(pixels[0], 0)[0], range(2)))
    finally:
        hook.remove()
    assert all(same(result, alone) for result in results)


def test_boxes_lie_in_the_image_and_the_surest_is_first(
    model: TorchDetector, pixels: list[NDArray[np.uint8]]
) -> None:
    for result in model.predict(pixels, 0):
        boxes, scores = result.objects.boxes, result.objects.scores
        assert scores is not None
        assert (np.diff(scores) <= 0).all()
        assert (boxes >= 0).all()
        assert (boxes <= (result.width, result.height, result.width, result.height)).all()
        assert (boxes[:, :2] < boxes[:, 2:]).all()


def test_boxes_are_in_pixels_of_the_upright_image(
    model: TorchDetector, pixels: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[274] = 6  # turned by 90 degrees to be upright
    Image.fromarray(np.rot90(pixels[0])).save(tmp_path / "turned.png", exif=exif)
    turned, upright = model.predict([tmp_path / "turned.png", pixels[0]], 0)
    assert (turned.height, turned.width) == (40, 60)
    assert same(turned, upright)


def test_min_score_leaves_out_what_is_less_sure(
    model: TorchDetector, pixels: list[NDArray[np.uint8]]
) -> None:
    everything = model.predict(pixels[0], 0)[0]
    scores = everything.objects.scores
    assert scores is not None
    threshold = float(np.median(scores))
    some = model.predict(pixels[0], threshold)[0]
    assert 0 < len(some) < len(everything)
    assert same(some, everything.above(threshold))
    assert len(model.predict(pixels[0])[0]) == 0  # first weights are sure of nothing


@pytest.mark.parametrize("min_score", [-0.1, 1.5, float("nan")])
def test_what_is_no_score_is_refused(model: TorchDetector, min_score: float) -> None:
    with pytest.raises(ConfigurationError, match=r"min_score is (-0.1|1.5|nan); expected 0 to 1"):
        model.predict([], min_score)


def test_a_batch_of_nothing_is_refused(model: TorchDetector) -> None:
    with pytest.raises(ConfigurationError, match="batch_size is 0; expected 1 or more"):
        model.predict([], batch_size=0)


def test_a_result_is_a_json_document(model: TorchDetector, pixels: list[NDArray[np.uint8]]) -> None:
    result = model.predict(pixels[0], 0)[0]
    document = json.loads(json.dumps(result.to_dict()))
    assert (document["width"], document["height"]) == (60, 40)
    assert len(document["objects"]) == len(result)
    assert set(document["objects"][0]) == {"label", "score", "box"}
    assert document["objects"][0]["label"] in model.label_names
    assert sum(result.counts().values()) == len(result)


def test_a_notebook_shows_names_as_text(pixels: list[NDArray[np.uint8]]) -> None:
    model = tiny_detector(("<b>1", "<b>2", "<b>3"))
    result = model.predict(pixels[0], 0)[0]
    page = result._repr_html_()
    assert "<b>" not in page
    assert "&lt;b&gt;" in page
    assert "60×40 px" in page


def test_a_file_that_cannot_be_used_is_named_and_does_not_stop_the_others(
    model: TorchDetector, pixels: list[NDArray[np.uint8]], tmp_path: Path
) -> None:
    (tmp_path / "good.png").write_bytes(png(pixels[0]))
    (tmp_path / "bad.png").write_bytes(b"")
    files = [str(tmp_path / name) for name in ("bad.png", "good.png", "gone.png")]
    bad, good, gone = detect_files(model, files, min_score=0)
    assert (bad.path, bad.detected, bad.error) == (files[0], None, "the file is empty (0 bytes)")
    assert good.error == ""
    assert good.detected is not None
    assert good.to_dict()["path"] == files[1]
    assert gone.to_dict() == {
        "path": files[2],
        "error": "the file cannot be read (No such file or directory)",
    }
    with pytest.raises(DataError, match=r"bad\.png: the file is empty"):
        model.predict(files)


@pytest.mark.parametrize("head", ["rpn.head.bbox_pred", "roi_heads.box_predictor.cls_score"])
def test_a_network_that_gives_nan_is_an_error_and_not_an_image_without_objects(
    pixels: list[NDArray[np.uint8]], head: str
) -> None:
    model = tiny_detector()
    layer = model.network.get_submodule(head)
    assert isinstance(layer.weight, torch.Tensor)
    with torch.no_grad():
        layer.weight.fill_(float("nan"))
    results = [result for _, result in model.outcomes(pixels[:2])]
    assert [str(result).partition(";")[0] for result in results] == [
        "the outputs of the model are not finite"
    ] * 2
    with pytest.raises(ModelFileError, match="image 1: the outputs of the model are not finite"):
        model.predict(pixels)
