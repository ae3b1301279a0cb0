"""What every backend has to do: PyTorch, the engines of exported models and stand-ins pass the same tests."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from deepresidual.backends import Classifier, find_images, predict_files
from deepresidual.backends.classifier import SettledPrecision
from deepresidual.backends.exported import ExportedClassifier
from deepresidual.cli import main
from deepresidual.errors import ConfigurationError, DataError, ModelFileError
from deepresidual.evaluation import EvaluationSetup, Views, evaluate
from deepresidual.evaluation.views import ViewKind
from deepresidual.explanation import explain_files
from deepresidual.models import TorchClassifier
from deepresidual.models.exported import load_exported
from deepresidual.models.source import ModelSource
from tests.conftest import COLORS, SMALL_INPUT
from tests.exporting.conftest import tiny_model


class MeanColor(Classifier):
    """The logit of a class is the mean of a channel over a part of the view."""

    backend = "NumPy"

    def __init__(self, names: tuple[str, ...] = tuple(COLORS)) -> None:
        self.label_names, self.preprocess = names, SMALL_INPUT

    def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        # Not the same for the mirror image.
        left = pixels[:, :, : pixels.shape[2] // 2]
        logits: NDArray[np.float32] = left.mean(axis=(1, 2), dtype=np.float32) / np.float32(50)
        return logits


class ThreadedMeanColor(MeanColor):
    """The same, computed by two threads that take images all the way, two at a time."""

    streams, stream_batch = 2, 2


@pytest.fixture(params=["torch", "numpy", "numpy in threads", "onnxruntime", "openvino", "exported program"])
def classifier(request: pytest.FixtureRequest) -> Classifier:
    match request.param:
        case "torch":
            return tiny_model()
        case "numpy":
            return MeanColor()
        case "numpy in threads":
            return ThreadedMeanColor()
        case backend:
            of_torch = backend == "exported program"
            folder = request.getfixturevalue("program_folder" if of_torch else "onnx_folder")
            model = load_exported(folder, backend="torch" if of_torch else backend)
            # The same on machines of any number of cores.
            return model.with_settings(replace(model.settings, streams=2, batch=2))


def expected_logits(classifier: Classifier, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return what its logits have to be up to 1e-4, computed in another way."""
    if isinstance(classifier, MeanColor):
        left: NDArray[np.float64] = pixels[:, :, : pixels.shape[2] // 2].astype(np.float64)
        means: NDArray[np.float64] = left.mean(axis=(1, 2)) / 50
        return means
    # One that is exported is held against the module in float64, as that is itself.
    assert isinstance(classifier, TorchClassifier | ExportedClassifier)
    network = tiny_model().network.double().eval()
    mean, std = (np.array(each) for each in (SMALL_INPUT.mean, SMALL_INPUT.std))
    images = torch.from_numpy((pixels / 255 - mean) / std).permute(0, 3, 1, 2)
    with torch.inference_mode():
        logits: NDArray[np.float64] = network(images).numpy()
    return logits


@pytest.fixture
def files(photos: Path) -> list[str]:
    return find_images([photos / "test"]).files


def view(classifier: Classifier, file: str) -> NDArray[np.uint8]:
    return classifier.preprocess.center_view(np.asarray(Image.open(file)))


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    powers = np.exp(logits.astype(np.float64))
    shares: NDArray[np.float64] = powers / powers.sum(axis=-1, keepdims=True)
    return shares


def test_logits_are_float32_and_the_same_again(classifier: Classifier, files: list[str]) -> None:
    pixels = np.stack([view(classifier, file) for file in files])
    logits = classifier.logits(pixels)
    assert (logits.shape, logits.dtype.name) == ((len(files), 3), "float32")
    assert np.array_equal(classifier.logits(pixels.copy()), logits)
    read_only = pixels.copy()
    read_only.setflags(write=False)
    assert np.array_equal(classifier.logits(read_only), logits)
    assert np.array_equal(pixels, read_only)


def test_logits_are_those_of_the_model(classifier: Classifier, files: list[str]) -> None:
    pixels = np.stack([view(classifier, file) for file in files])
    assert classifier.logits(pixels) == pytest.approx(expected_logits(classifier, pixels), abs=1e-4)
    # A slice that runs backwards is no less an array.
    assert classifier.logits(pixels[::-1]) == pytest.approx(
        expected_logits(classifier, pixels)[::-1], abs=1e-4
    )


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_predictions_are_the_softmax_of_the_logits(
    classifier: Classifier, files: list[str], batch_size: int
) -> None:
    predictions = classifier.predict(files, top_k=3, batch_size=batch_size)
    for file, prediction in zip(files, predictions, strict=True):
        shares = softmax(classifier.logits(view(classifier, file)[None]))[0]
        order = np.argsort(-shares)
        assert prediction.classes == tuple(classifier.label_names[row] for row in order)
        assert prediction.probabilities == pytest.approx(shares[order], abs=1e-6)


def test_paths_pictures_and_arrays_are_predicted_alike(classifier: Classifier, files: list[str]) -> None:
    single = classifier.predict(files[0])
    assert classifier.predict(Path(files[0])) == single
    assert classifier.predict(Image.open(files[0])) == single
    assert classifier.predict(np.asarray(Image.open(files[0]))) == single


@pytest.mark.parametrize("num_workers", [0, 2])
def test_images_are_read_as_they_are_needed(
    classifier: Classifier, files: list[str], num_workers: int
) -> None:
    read = []

    def images() -> Iterator[str]:
        for number in range(1000):
            read.append(number)
            yield files[number % len(files)]

    outcomes = classifier.outcomes(images(), batch_size=2, num_workers=num_workers)
    assert next(outcomes)[0] == files[0]
    assert len(read) <= 2 * max(6, 4 * classifier.streams)


def test_equal_logits_rank_in_the_order_of_the_names(classifier: Classifier) -> None:
    (prediction,) = classifier.rank(np.array([[1.0, 2.0, 2.0]], np.float32), 3)
    first, second, third = COLORS
    assert prediction.classes == (second, third, first)


@pytest.mark.parametrize("top_k", [0, 4, True])
def test_top_k_out_of_range_is_said_before_an_image_is_read(classifier: Classifier, top_k: int) -> None:
    with pytest.raises(ConfigurationError, match=f"top_k is {top_k}; expected 1 to 3"):
        classifier.predict(["nowhere.png"], top_k=top_k)
    with pytest.raises(ConfigurationError, match=f"top_k is {top_k}; expected 1 to 3"):
        predict_files(classifier, ["nowhere.png"], top_k=top_k)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_bad_file_is_named_and_the_others_are_predicted(
    classifier: Classifier, files: list[str], num_workers: int
) -> None:
    expected = [each.classes for each in classifier.predict(files)]
    Path(files[1]).write_text("no picture")
    results = list(predict_files(classifier, files, batch_size=2, num_workers=num_workers))
    assert [result.path for result in results] == files
    assert "not an image that can be used (found text)" in results[1].error
    assert results[1].prediction is None
    others = [result.prediction.classes for result in results if result.prediction]
    assert others == [*expected[:1], *expected[2:]]
    with pytest.raises(DataError, match=r"red|green|blue.*: not an image that can be used"):
        classifier.predict(files)


def test_no_number_is_no_prediction(
    classifier: Classifier, files: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(
        usual: Callable[[NDArray[np.uint8]], NDArray[np.float32]], pixels: NDArray[np.uint8]
    ) -> NDArray[np.float32]:
        logits = usual(pixels)
        logits[1::2] = np.nan
        return logits

    # Of one that streams each thread asks for logits by itself.
    name = "stream_logits" if classifier.streams else "logits"
    monkeypatch.setattr(classifier, name, partial(broken, getattr(classifier, name)))
    results = list(predict_files(classifier, files[:3], batch_size=3))
    assert [result.error for result in results] == ["", "the outputs of the model are not finite", ""]
    with pytest.raises(ModelFileError, match="the outputs of the model are not finite; check its weights"):
        classifier.predict(files[:3])


@pytest.mark.parametrize("views", ["one", "flip", "ten-crop"])
def test_it_is_evaluated_as_by_hand(classifier: Classifier, photos: Path, views: ViewKind) -> None:
    evaluation = evaluate(classifier, photos, split="test", views=views, batch_size=5)
    right = count = 0
    for path in sorted((photos / "test").rglob("*.png")):
        cut = Views.of(views).cut(np.asarray(Image.open(path)), classifier.preprocess)
        if views != "one":
            cut += [each[:, ::-1] for each in cut]
        mean = softmax(classifier.logits(np.stack(cut))).mean(axis=0)
        right += classifier.label_names[int(mean.argmax())] == path.parent.name
        count += 1
    assert (evaluation.top1_count, evaluation.count) == (right, count)


def test_classes_are_matched_by_name(classifier: Classifier, photos: Path) -> None:
    with pytest.raises(ConfigurationError, match="know different classes"):
        EvaluationSetup.open([classifier, MeanColor(("a", "b", "c"))], photos)
    together = EvaluationSetup.open([classifier, MeanColor(tuple(reversed(COLORS)))], photos).ensemble()
    assert len(together.members) == 2


def test_a_backbone_is_refused() -> None:
    with pytest.raises(ModelFileError, match=r"is a backbone without a classifier \(0 classes\)"):
        MeanColor(()).predict([])


def test_a_model_of_another_task_predicts_no_classes(
    classifier: Classifier, photos: Path, files: list[str]
) -> None:
    classifier.task = "tags"
    with pytest.raises(ModelFileError, match="the model is a model for tags; expected a classifier"):
        classifier.predict(files)
    with pytest.raises(ModelFileError, match="is a model for tags; expected a classifier"):
        evaluate(classifier, photos)


# -- images all the way --------------------------------------------------------------------------------------


def test_threads_compute_side_by_side_and_answer_in_order(files: list[str]) -> None:
    together = threading.Barrier(2, timeout=10)

    class Meeting(ThreadedMeanColor):
        def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            assert len(pixels) == 2
            together.wait()  # passed only by two at a time
            return super().logits(pixels)

    names = [name for name, _ in Meeting().outcomes(files[:12], batch_size=2)]
    assert names == files[:12]
    assert Meeting().predict(files[:12], batch_size=2) == MeanColor().predict(files[:12])


def test_few_images_are_computed_in_the_calling_thread(files: list[str]) -> None:
    class Here(ThreadedMeanColor):
        def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            assert threading.current_thread() is threading.main_thread()
            return super().logits(pixels)

    assert Here().predict(files[:2]) == MeanColor().predict(files[:2])


def test_an_error_in_a_thread_is_raised_behind_the_answers_before_it(files: list[str]) -> None:
    class Failing(ThreadedMeanColor):
        calls = itertools.count()

        def logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            if next(self.calls) == 3:
                raise ModelFileError("the engine has failed")
            return super().logits(pixels)

    outcomes = Failing().outcomes(files[:12], batch_size=2)
    assert [next(outcomes)[0] for _ in range(4)] == files[:4]
    with pytest.raises(ModelFileError, match="the engine has failed"):
        list(outcomes)


# -- what only PyTorch does ----------------------------------------------------------------------------------


def test_multi_scale_views_are_pytorch_s(classifier: Classifier, photos: Path) -> None:
    if isinstance(classifier, TorchClassifier):
        assert evaluate(classifier, photos, views="multi-scale").count == 15
        return
    with pytest.raises(
        ModelFileError,
        match=rf"model 1 is computed by {classifier.backend}, which gives logits and no scores of whole "
        r"images \(multi-scale views\); expected a model that PyTorch computes; give the model folder that",
    ):
        evaluate(classifier, photos, views="multi-scale")


def test_heat_maps_are_pytorch_s(classifier: Classifier, files: list[str]) -> None:
    if isinstance(classifier, TorchClassifier):
        assert len(list(explain_files(classifier, files))) == len(files)
        return
    match = f"computed by {classifier.backend}, which gives logits and no heat maps"
    with pytest.raises(ModelFileError, match=match):
        explain_files(classifier, files)


def test_other_sizes_are_pytorch_s(classifier: Classifier, photos: Path) -> None:
    views = Views("one", image_px=12)
    if isinstance(classifier, TorchClassifier):
        assert evaluate(classifier, photos, views=views).count == 15
        return
    with pytest.raises(
        ConfigurationError, match="views of 12 px are asked for; expected 8 px, which is what"
    ):
        evaluate(classifier, photos, views=views)


def test_it_is_put_where_it_can_compute(classifier: Classifier) -> None:
    assert classifier.to("auto").to("cpu") is classifier
    settled = classifier.settle_precision("fp32", 8)
    assert (settled.precision, settled.reason) == ("fp32", "asked for")
    assert classifier.settle_precision("auto", 8).reason
    with pytest.raises(ConfigurationError, match="device .*'nowhere'"):
        classifier.to("nowhere")


def test_other_devices_and_precisions_are_pytorch_s() -> None:
    classifier = MeanColor()
    assert classifier.settle_precision("auto", 8) == SettledPrecision("fp32", "all that NumPy has")
    with pytest.raises(ConfigurationError, match="device is 'cuda' for a model that NumPy computes"):
        classifier.to("cuda")
    with pytest.raises(ConfigurationError, match="precision is 'bf16' for a model that NumPy computes"):
        predict_files(classifier, [], precision="bf16")


def test_commands_ask_for_logits_alone(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deepresidual.models.load", lambda *_, **__: MeanColor())
    monkeypatch.setattr("deepresidual.models.source.find_source", lambda *_: ModelSource("model.x", "file"))
    monkeypatch.setattr("deepresidual.evaluation.setup.find_source", lambda _: ModelSource("model.x", "file"))
    monkeypatch.setattr("deepresidual.evaluation.setup.load", lambda *_, **__: MeanColor())
    monkeypatch.setattr("deepresidual.models.detects_objects", lambda _: False)
    assert main(["predict", "model.x", str(photos / "test")]) == 0
    assert main(["evaluate", "model.x", str(photos)]) == 0
    capsys.readouterr()
    assert main(["evaluate", "model.x", str(photos), "--views", "multi-scale"]) == 3
    assert "error: model.x is computed by NumPy, which gives logits and no scores" in capsys.readouterr().err
    assert main(["explain", "model.x", str(photos / "test"), "--out", str(tmp_path / "out")]) == 3
    assert "error: model.x is computed by NumPy, which gives logits and no heat" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_backend_predicts_files_without_torch(photos: Path) -> None:
    program = f"""
import sys
import numpy as np
from deepresidual.backends import Classifier, find_images, predict_files
from deepresidual.preprocess import Preprocess

class Mean(Classifier):
    backend, label_names = "NumPy", ("red", "green", "blue")
    preprocess = Preprocess(8, 8, (0.5,) * 3, (0.25,) * 3)

    def logits(self, pixels):
        return pixels.mean(axis=(1, 2), dtype=np.float32)

files = find_images([{str(photos / "test")!r}]).files
found = [result.prediction.classes[0] for result in predict_files(Mean(), files)]
assert set(found) == {{"red", "green", "blue"}}
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
