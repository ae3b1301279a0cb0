"""``ResNetClassifier``: what scikit-learn asks of an estimator, as far as it means something for images.

``check_estimator`` makes rows of numbers. An estimator that says that these are not for it is asked one
check, so that "all checks pass" would say nothing. Below are those that do not depend on the data, by name,
and those that do, written again for images.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

import deepresidual
from deepresidual import ResNetClassifier
from deepresidual.errors import DataError

CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_parameters_default_constructible",
    "check_get_params_invariance",
    "check_set_params",
    "check_estimators_unfitted",
    "check_fit1d",
    "check_supervised_y_no_nan",
)


class SaysThatRowsAreImages(ResNetClassifier):
    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        return tags


GENERATED = {
    re.sub(r"\(.*", "", getattr(check, "func", check).__name__): check
    for _, check in estimator_checks_generator(SaysThatRowsAreImages())
}


@pytest.mark.parametrize("name", CHECKS)
def test_what_does_not_depend_on_the_data(name: str) -> None:
    GENERATED[name](SaysThatRowsAreImages())


def tiny(**options: Any) -> ResNetClassifier:
    return ResNetClassifier(**{"weights": "resnet20-digits", "flip": False, "image_px": 8, **options})


@pytest.fixture(autouse=True)
def no_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def digits() -> tuple[NDArray[np.uint8], NDArray[np.str_]]:
    """40 digits 3 and 7, which have names."""
    bundle = load_digits()
    chosen = np.flatnonzero((bundle.target == 3) | (bundle.target == 7))[:40]
    return (bundle.images[chosen] * 15).astype(np.uint8), np.where(
        bundle.target[chosen] == 3, "three", "seven"
    )


@pytest.fixture(scope="module")
def fitted(digits: Any) -> ResNetClassifier:
    return tiny().fit(*digits)


# -- the checks that depend on the data, for images ------------------------------------------------------


def test_unfitted_it_predicts_nothing(digits: Any) -> None:
    for method in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError, match="This ResNetClassifier instance is not fitted yet"):
            getattr(tiny(), method)(digits[0])


def test_fit_returns_itself_and_leaves_its_parameters(digits: Any) -> None:
    classifier = tiny(num_workers=1)
    before = classifier.get_params()
    assert classifier.fit(*digits) is classifier
    assert classifier.get_params() == before


def test_fitting_twice_gives_the_same(digits: Any, fitted: ResNetClassifier) -> None:
    again = clone(fitted).fit(*digits)
    assert np.array_equal(again.predict_proba(digits[0]), fitted.predict_proba(digits[0]))


def test_a_pickle_predicts_the_same(digits: Any, fitted: ResNetClassifier) -> None:
    copied = pickle.loads(pickle.dumps(fitted))  # noqa: S301  # our own
    assert np.array_equal(copied.predict_proba(digits[0]), fitted.predict_proba(digits[0]))


def test_classes_are_those_of_y_sorted(digits: Any, fitted: ResNetClassifier) -> None:
    assert fitted.classes_.tolist() == ["seven", "three"]
    assert fitted.model_.label_names == ("seven", "three")
    assert set(fitted.predict(digits[0])) == {"seven", "three"}
    numbers = np.where(digits[1] == "three", 30, -7)
    assert tiny().fit(digits[0], numbers).predict(digits[0][:2]).dtype == numbers.dtype


def test_one_class_is_refused(digits: Any) -> None:
    with pytest.raises(ValueError, match="y has one class only .*'three'.*expected at least 2 classes"):
        tiny().fit(digits[0], np.full(40, "three"))


def test_predictions_are_the_most_probable_classes(digits: Any, fitted: ResNetClassifier) -> None:
    probabilities = fitted.predict_proba(digits[0])
    assert probabilities.shape == (40, 2)
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert np.array_equal(fitted.predict(digits[0]), fitted.classes_[probabilities.argmax(axis=1)])
    assert fitted.score(*digits) > 0.9


def test_memory_may_be_read_only_and_in_any_order(digits: Any, fitted: ResNetClassifier) -> None:
    images, labels = digits
    expected = fitted.predict_proba(images)
    read_only = images.copy()
    read_only.flags.writeable = False
    forms = [
        read_only,
        np.asfortranarray(images),
        np.repeat(images, 2, axis=2)[:, :, ::2],
        images[::-1][::-1],
    ]
    for form in forms:
        assert np.array_equal(fitted.predict_proba(form), expected)
    assert np.array_equal(tiny().fit(forms[0], labels).predict_proba(images), expected)


def test_an_image_alone_is_predicted_as_among_others(digits: Any, fitted: ResNetClassifier) -> None:
    together = fitted.predict_proba(digits[0])
    assert np.allclose(fitted.predict_proba(digits[0][7:8]), together[7:8], rtol=1e-12, atol=0)


def test_the_order_of_images_makes_no_difference(digits: Any, fitted: ResNetClassifier) -> None:
    order = np.random.default_rng(0).permutation(40)
    assert np.allclose(
        fitted.predict_proba(digits[0][order]), fitted.predict_proba(digits[0])[order], rtol=1e-12, atol=0
    )


# -- images of all kinds, and what is none -----------------------------------------------------------------


@pytest.fixture
def paths(digits: Any, tmp_path: Path) -> list[str]:
    found = [tmp_path / f"{number}.png" for number in range(len(digits[0]))]
    for image, path in zip(digits[0], found, strict=True):
        Image.fromarray(image).save(path)
    return [str(path) for path in found]


def test_paths_pictures_and_arrays_are_the_same_images(
    digits: Any, fitted: ResNetClassifier, paths: list[str]
) -> None:
    images, labels = digits
    expected = fitted.predict_proba(images)
    assert np.array_equal(tiny().fit(paths, labels).predict_proba(images), expected)
    color = np.repeat(images[..., None], 3, axis=3)
    column = np.array(paths, dtype=object)[:, None]
    for form in (paths, np.array(paths), [Path(path) for path in paths], column, color, list(images)):
        assert np.array_equal(fitted.predict_proba(form), expected)
    pictures = [Image.fromarray(image) for image in images]
    assert np.array_equal(fitted.predict_proba(pictures), expected)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 64), np.uint8), r"X is an array of shape \(4, 64\), uint8; .*X.reshape\(N, H, W\)"),
        (np.zeros((4, 8, 8)), "X is an array of float64; expected uint8, 0 to 255"),
        (np.zeros((0, 8, 8), np.uint8), "X has 0 images; expected 1 or more"),
        ("photos", "X is a str; expected an array"),
        (np.zeros((3, 8, 8), np.uint8), "inconsistent numbers of samples"),
    ],
)
def test_what_are_no_images_is_a_value_error(images: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny().fit(images, ["a", "b", "a", "b"])


def test_an_image_that_cannot_be_used_is_named(fitted: ResNetClassifier, paths: list[str]) -> None:
    Path(paths[1]).write_bytes(b"%PDF nothing")
    with pytest.raises(DataError, match=r"1\.png: not an image that can be used"):
        fitted.predict(paths[:2])
    with pytest.raises(DataError, match="sample 0: its image is an array of float64"):
        fitted.predict([np.zeros((8, 8))])


# -- in scikit-learn ---------------------------------------------------------------------------------------


def test_cross_validation_over_arrays_and_over_paths_agree(digits: Any, paths: list[str]) -> None:
    over_arrays = cross_val_score(tiny(), *digits, cv=3)
    assert np.array_equal(over_arrays, cross_val_score(tiny(), paths, digits[1], cv=3))
    assert over_arrays.min() > 0.8


@pytest.mark.parametrize("kind", ["arrays", "paths"])
def test_a_grid_search_over_images(kind: str, digits: Any, paths: list[str]) -> None:
    images = digits[0] if kind == "arrays" else paths
    search = GridSearchCV(tiny(), {"image_px": [8, 16]}, cv=2).fit(images, digits[1])
    assert search.cv_results_["mean_test_score"].min() > 0.7
    assert search.best_estimator_.model_.preprocess.crop_px == search.best_params_["image_px"]
    assert search.predict(images[:3]).shape == (3,)


class ToldThreads(ResNetClassifier):
    def fit(self, X: Any, y: Any) -> ToldThreads:  # noqa: N803
        super().fit(X, y)
        self.threads_ = torch.get_num_threads()
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:  # noqa: N803
        return float(self.threads_)


@pytest.mark.test_all
def test_processes_share_the_cores(digits: Any) -> None:
    classifier = ToldThreads(weights="resnet20-digits", flip=False)
    assert cross_val_score(classifier, *digits, cv=2, n_jobs=2).max() <= max(1, torch.get_num_threads() // 2)


def test_in_a_pipeline(digits: Any) -> None:
    brighter = FunctionTransformer(lambda images: images // 2 + 100)
    pipeline: Pipeline = make_pipeline(brighter, tiny())
    assert pipeline.set_params(resnetclassifier__image_px=16).fit(*digits).score(*digits) > 0.6


# -- recipes, runs, models ---------------------------------------------------------------------------------


@pytest.mark.test_all
def test_a_probe_is_what_a_run_of_recipe_probe_gives(
    digits: Any, fitted: ResNetClassifier, tmp_path: Path
) -> None:
    pairs = list(zip(*digits, strict=True))
    result = deepresidual.train(
        {"train": pairs, "test": pairs},
        out=tmp_path / "run",
        weights="resnet20-digits",
        recipe="probe",
        image_px=8,
        changes={"flip": False},
    )
    network = deepresidual.load(result.path).network
    assert torch.equal(network.fc.weight, fitted.model_.network.fc.weight)
    assert fitted.weights_ == "resnet20-digits"


def test_fine_tuning_leaves_no_run_and_says_nothing(
    digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    classifier = tiny(recipe="finetune", epochs=1, random_state=np.random.RandomState(3))
    assert classifier.fit(*digits).score(*digits) > 0.9
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.test_all
def test_verbose_says_what_train_says_and_out_keeps_the_run(
    digits: Any, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny(recipe="finetune", epochs=1, out=tmp_path / "run", verbose=1).fit(*digits)
    assert "begins with resnet20-digits" in capfd.readouterr().err
    assert (tmp_path / "run" / "run.json").exists()


def test_its_model_can_be_saved(digits: Any, fitted: ResNetClassifier, tmp_path: Path) -> None:
    deepresidual.save(fitted.model_, tmp_path / "model")
    loaded = deepresidual.load(tmp_path / "model")
    assert [prediction.classes[0] for prediction in loaded.predict(list(digits[0]))] == fitted.predict(
        digits[0]
    ).tolist()


def test_a_file_that_is_gone_is_named_in_the_same_words(fitted: ResNetClassifier) -> None:
    said = (
        r"^sample 0: gone\.png cannot be read \(No such file or directory\); repair or remove this file, then"
    )
    with pytest.raises(DataError, match=said):
        fitted.predict([Path("gone.png")])
    with pytest.raises(DataError, match=said):
        tiny(weights=None).fit([Path("gone.png"), Path("other.png")], [0, 1])
