"""``ResNetClassifier``: an estimator of scikit-learn for images, given as arrays or as paths.

It fits by :func:`deepresidual.train` and is a :class:`deepresidual.TorchClassifier` afterwards (``model_``),
for :func:`deepresidual.save` and everything that takes a model.

Example:
    >>> from sklearn.model_selection import cross_val_score
    >>> cross_val_score(ResNetClassifier(), paths, labels, cv=5)  # paths of photos, names of classes
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from deepresidual.backends.pytorch import TorchClassifier
from deepresidual.data.source import EncodedSample, SampleSource
from deepresidual.data.source.dataset import open_dataset
from deepresidual.data.source.in_memory import encoded
from deepresidual.data.source.map_style import key_of
from deepresidual.data.source.validation import Subset
from deepresidual.errors import ConfigurationError, DataError, kind_of
from deepresidual.models import load_torch
from deepresidual.nn import body_of
from deepresidual.runtime.console import quiet
from deepresidual.runtime.device import resolve_device
from deepresidual.runtime.processes import resolve_num_workers
from deepresidual.tasks import task_of
from deepresidual.training.beginning import begun, settle_beginning
from deepresidual.training.feature_cache import FeatureCache
from deepresidual.training.features import View, extract_features
from deepresidual.training.launch import train
from deepresidual.training.networks import first_network, provenance
from deepresidual.training.options import TrainOptions
from deepresidual.training.plan import make_plan
from deepresidual.training.probe import fit_probe, with_probe

__all__ = ["ResNetClassifier"]

# Of the training images so many are measured after each epoch, since a run asks for some.
_MEASURED = 256


class ResNetClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Classify images by a residual network.

    ``X`` is an array ``(N, H, W, 3)`` or ``(N, H, W)`` of uint8, or a list or array of N paths, Pillow
    images or arrays of any sizes; ``y`` is what scikit-learn takes for classes. By default the network stays
    as it is, and a logistic regression is fitted to its features, which are kept in the user's cache: folds
    and settings that share images and network compute them once.

    It works in ``cross_val_score``, ``GridSearchCV``, pipelines and ``clone``, and can be pickled. With
    ``n_jobs`` each process takes its share of the cores.

    Args:
        weights: What to begin with, as in :func:`deepresidual.train`: a folder, a name, ``none``. Default:
            released weights that suit the machine, or without a network bundled ones.
        model: Name of the network. Default: that of the weights.
        recipe: ``probe``, which takes one pass over the images, ``finetune``, or another of those that
            ``residual train --help`` lists.
        epochs: Epochs of a recipe that trains. Default: the recipe's.
        minutes: Minutes that its updates may take. Default: as in :func:`deepresidual.train`.
        image_px: Side of the network's input in pixels. Default: the model's own.
        flip: Whether mirror images count as the same class: not for digits and text.
        validation_fraction: Share of the images of ``fit`` that is held out to choose by. Default: what the
            recipe holds out.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        num_workers: Threads that read images. Default: chosen for the machine.
        out: A folder for the run, of recipes that train. Default: none is kept.
        random_state: Seed of a recipe that trains: a number, a ``RandomState``, or ``None``.
        verbose: 0: nothing is printed; 1: what ``residual train`` says.

    Attributes:
        classes_: The classes, sorted.
        model_: The fitted model, whose ``label_names`` are the classes as text.
        weights_: Name of what it began with; empty: of nothing.
    """

    classes_: NDArray[Any]
    model_: TorchClassifier
    weights_: str

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        model: str | None = None,
        recipe: str = "probe",
        epochs: float | None = None,
        minutes: float | None = None,
        image_px: int | None = None,
        flip: bool = True,
        validation_fraction: float | None = None,
        device: str = "auto",
        num_workers: int | None = None,
        out: str | Path | None = None,
        random_state: int | np.random.RandomState | None = 0,
        verbose: int = 0,
    ) -> None:
        self.weights = weights
        self.model = model
        self.recipe = recipe
        self.epochs = epochs
        self.minutes = minutes
        self.image_px = image_px
        self.flip = flip
        self.validation_fraction = validation_fraction
        self.device = device
        self.num_workers = num_workers
        self.out = out
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: ArrayLike) -> Self:  # noqa: N803  # scikit-learn's name
        """Fit to images and their classes.

        Args:
            X: N images, see the class.
            y: ``(N,)`` classes.

        Raises:
            ConfigurationError: An option is not allowed, ``X`` are no images, or ``y`` has one class only.
            DataError: An image cannot be used; the message names it.
        """
        images = _images_in(X)
        labels = column_or_1d(y, warn=True)
        check_consistent_length(images, labels)
        check_classification_targets(labels)
        classes, rows = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise ConfigurationError(f"y has one class only ({classes[0]!r})", expected="at least 2 classes")
        with contextlib.nullcontext() if self.verbose else quiet():
            source = open_dataset(
                {"train": list(zip(images, rows.tolist(), strict=True))},
                class_names=[str(name) for name in classes],
                num_workers=self.num_workers,
            )
            self.model_ = self._probed(source) if self.recipe == "probe" else self._trained(source)
        self.weights_ = self.model_.provenance.get("began with", "")
        self.classes_ = classes
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:  # noqa: N803
        """Return the probability of every class, ``(N, K)`` in the order of ``classes_``.

        Args:
            X: N images, see the class.

        Raises:
            NotFittedError: :meth:`fit` has not been called.
            ConfigurationError: ``X`` are no images.
            DataError: An image cannot be used; the message names it.
        """
        check_is_fitted(self)
        model = self.model_.to(self.device)
        features = extract_features(
            model,
            _Unlabelled(_images_in(X)),
            views=("center",),
            num_workers=self._threads(model),
            # Those of a network that was trained here would never be asked for again.
            cache=FeatureCache() if self.recipe == "probe" else None,
        )
        weight, bias = (value.detach().cpu().double() for value in model.network.fc.parameters())
        # In float64, where it makes no difference to speak of how many images are asked for together.
        logits = torch.from_numpy(features.values[:, 0]).double() @ weight.T + bias
        shares: NDArray[np.float64] = logits.softmax(dim=1).numpy()
        return shares

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: N803
        """Return the most probable class of every image, ``(N,)``; as for :meth:`predict_proba`."""
        rows = self.predict_proba(X).argmax(axis=1)
        predicted: NDArray[Any] = self.classes_[rows]
        return predicted

    def _probed(self, source: SampleSource) -> TorchClassifier:
        """Fit a classifier to features, as a run of recipe ``probe`` does, without a run."""
        device, options = resolve_device(self.device), self._options()
        measured = _with_measured(source)
        beginning = settle_beginning(measured, self.model, options, device)
        options = begun(options, beginning)
        plan = make_plan(measured, beginning.model or self.model, options, device)
        weights = Path(beginning.weights) if beginning.weights else None
        network = body_of(first_network(plan, task_of(plan), weights))
        model = TorchClassifier(network, plan.classes, plan.preprocess).to(device)
        model.provenance = provenance(plan, beginning)
        views: tuple[View, ...] = ("center", "mirrored") if plan.recipe.augment.flip else ("center",)
        features = extract_features(
            model, source.split("train"), views=views, num_workers=self._threads(model), cache=FeatureCache()
        )
        with_probe(network, fit_probe(features.values, features.labels, len(plan.classes)))
        return model

    def _trained(self, source: SampleSource) -> TorchClassifier:
        """Train, and return the model of the run."""
        with contextlib.ExitStack() as stack:
            out = self.out
            if out is None:
                out = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deepresidual-")), "run")
            result = train(_with_measured(source), self.model, out, self._options())
            if result.exit_code:
                raise KeyboardInterrupt
            return load_torch(result.path, device=resolve_device(self.device))

    def _options(self) -> TrainOptions:
        changes: dict[str, Any] = {} if self.flip else {"flip": False}
        changes |= {} if self.epochs is None else {"epochs": self.epochs}
        return TrainOptions(
            weights=self.weights,
            recipe=self.recipe,
            changes=changes,
            validation=self.validation_fraction,
            minutes=self.minutes,
            image_px=self.image_px,
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
            device=self.device,
            num_workers=self.num_workers,
        )

    def _threads(self, model: TorchClassifier) -> int:
        return resolve_num_workers(self.num_workers, model.device_type, model.preprocess.crop_px)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # rows of numbers are no images
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True
        return tags

    def __getstate__(self) -> Any:
        state = super().__getstate__()
        if "model_" in state and state["model_"].device.type != "cpu":
            state = {**state, "model_": copy.deepcopy(state["model_"]).to("cpu")}
        return state


class _Unlabelled:
    """Images to predict, read as those to learn from are."""

    def __init__(self, images: Sequence[object]) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def read(self, index: int) -> EncodedSample:
        """Return an image with a label that means nothing."""
        image = self._images[index]
        key = str(image) if isinstance(image, str | Path) else key_of(index)
        try:
            return EncodedSample(key, encoded(image), 0)
        except DataError as error:
            # As of the files of `fit`.
            unread = error.found.startswith("the file ")
            found = error.found.replace("the file", key, 1) if unread else f"{key}: {error.found}"
            raise DataError(found, expected=error.expected, remedy=error.remedy) from error


def _with_measured(source: SampleSource) -> SampleSource:
    """Return the data with some training images as ``test``, since a run measures something."""
    train_split = source.split("train")
    some = np.unique(np.linspace(0, len(train_split) - 1, num=_MEASURED, dtype=np.int64))
    return dataclasses.replace(source, splits={"train": train_split, "test": Subset(train_split, some)})


_IMAGES = "an array (N, H, W, 3) or (N, H, W) of uint8, or N paths, Pillow images or arrays"


def _images_in(images: Any) -> Sequence[Any]:
    """Return images one by one.

    Raises:
        ConfigurationError: There are none, or these are none.
    """
    if isinstance(images, str | bytes | Path) or not hasattr(images, "__len__"):
        raise ConfigurationError(f"X is {kind_of(images)}", expected=_IMAGES)
    if not len(images):
        raise ConfigurationError("X has 0 images", expected="1 or more")
    if hasattr(images, "to_numpy"):  # columns of pandas and polars
        images = images.to_numpy()
    if not isinstance(images, np.ndarray):
        return images if isinstance(images, Sequence) else [images[index] for index in range(len(images))]
    if images.ndim == 2 and images.shape[1] == 1:  # as ColumnTransformer hands on a column of paths
        images = images[:, 0]
    if images.ndim == 1 and images.dtype.kind in "OUT":
        listed: list[Any] = images.tolist()
        return listed
    if images.ndim not in (3, 4):
        raise ConfigurationError(
            f"X is an array of shape {images.shape}, {images.dtype}",
            expected=_IMAGES,
            remedy="rows of pixels become images by X.reshape(N, H, W)" if images.ndim == 2 else "",
        )
    if images.dtype != np.uint8:
        raise ConfigurationError(f"X is an array of {images.dtype}", expected="uint8, 0 to 255")
    return list(images)
