"""``EvaluationSetup``: models of the same classes and a data set, opened once, then measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Unpack

import numpy as np
import torch
from numpy.typing import NDArray

from deepresidual.backends.classifier import NOT_FINITE_REMEDY
from deepresidual.data.loader import Readable, require_none_bad
from deepresidual.data.source import EncodedSample, LabelsChoice, SampleSource, Split
from deepresidual.data.source.base import TAUGHT, canonical_split, fingerprint_of, listed
from deepresidual.data.source.dataset import Dataset
from deepresidual.data.source.multilabel import MULTILABEL, RelabelledTargets
from deepresidual.errors import ConfigurationError, DataError, ModelFileError
from deepresidual.evaluation.abstention import Answers, require_enough
from deepresidual.evaluation.accumulator import Accumulator, FittedTemperature
from deepresidual.evaluation.calibration import fit_temperature
from deepresidual.evaluation.ensemble import ChoiceStep, EnsembleEvaluation, MemberAccumulator, choose_members
from deepresidual.evaluation.left_out import without_trained
from deepresidual.evaluation.multilabel import LabelScores, MultilabelEvaluation, measure
from deepresidual.evaluation.opened_data import opened_data, rows_of_classes
from deepresidual.evaluation.options import EvaluationKeywords, EvaluationOptions
from deepresidual.evaluation.result import AbstentionMetrics, Evaluation
from deepresidual.evaluation.results import opened_results
from deepresidual.evaluation.robustness import Corruption, RobustnessEvaluation, RobustnessRow
from deepresidual.evaluation.scoring import WHOLE_IMAGES, ScoredBatch, mean_of_probabilities, scored_batches
from deepresidual.evaluation.shared_samples import Side, shared_samples
from deepresidual.evaluation.views import Views
from deepresidual.fields import replaced
from deepresidual.models import Classifier, load, require_classes, require_torch
from deepresidual.models.source import find_source
from deepresidual.runs.samples import run_of
from deepresidual.runtime.compute import Backend, Precision
from deepresidual.runtime.console import ProgressBar, note
from deepresidual.runtime.processes import resolve_num_workers
from deepresidual.runtime.table_file import Columns


@dataclass(frozen=True)
class EvaluationSetup:
    """Models and data, ready to be evaluated.

    Attributes:
        members: The models, on their device; the first one's classes are those of all scores.
        names: A name for each of them.
        source: The data set.
        rows: The classifier's row of every class of the data set.
        options: The options it was opened with.
        split: The split that is reported.
        views: Views of every image.
        num_workers: Threads that load.
        precision: Precision of the forward passes.
        num_left_out: Images of the split that the models were trained on, and that are not measured.

    Example:
        >>> setup = EvaluationSetup.open(["runs/a", "runs/b"], "photos", views="flip")
        >>> setup.ensemble().evaluation.top1
    """

    members: tuple[Classifier, ...]
    names: tuple[str, ...]
    source: SampleSource
    rows: tuple[int, ...]
    options: EvaluationOptions
    split: str
    views: Views
    num_workers: int
    precision: Precision
    num_left_out: int = 0

    @classmethod
    def open(
        cls,
        models: Sequence[Classifier | str | Path],
        data: SampleSource | Dataset | str | Path,
        options: EvaluationOptions | None = None,
        **keywords: Unpack[EvaluationKeywords],
    ) -> EvaluationSetup:
        """Load models and open data.

        Args:
            models: One model or several, as :func:`deepresidual.evaluate` takes them.
            data: A data set: opened, by name, or a Python object.
            options: Options of the evaluation.
            keywords: Fields of :class:`EvaluationOptions` that replace those of ``options``.

        Raises:
            ConfigurationError: An option is out of range, or two models know different classes.
            DataError: The data cannot be used, or has a class that the models do not know.
            ModelFileError: A model cannot be loaded, or has no classifier.
        """
        return cls._open(models, data, replaced(options or EvaluationOptions(), keywords, "evaluate"))

    @classmethod
    def open_two(
        cls,
        models: tuple[str | Path, str | Path],
        data: str | Path,
        options: EvaluationOptions | None = None,
        **keywords: Unpack[EvaluationKeywords],
    ) -> tuple[EvaluationSetup, EvaluationSetup]:
        """Load two models, each to be measured on the images that both may be judged on.

        Args:
            models: The two.
            data: A data set by name; each run has it on the sides on which it was for training.
            options: Options of both evaluations.
            keywords: Fields of :class:`EvaluationOptions` that replace those of ``options``.

        Raises:
            ConfigurationError: An option is out of range.
            DataError: The data cannot be used, or no image is held out by both.
            ModelFileError: A model cannot be loaded, or has no classifier.
        """
        chosen = replaced(options or EvaluationOptions(), keywords, "evaluate")
        first, second = (
            cls._open([model], data, replace(chosen, backend=backend), leave_out=False)
            for model, backend in zip(models, _backends(models, chosen.backend), strict=True)
        )
        sides = (
            Side(str(models[0]), run_of(models[0]), first.split, first.source.split(first.split)),
            Side(str(models[1]), run_of(models[1]), second.split, second.source.split(second.split)),
        )
        samples, num_left_out = shared_samples(
            sides, str(data), keep_training_images=chosen.keep_training_images
        )
        return _on(first, samples[0], num_left_out), _on(second, samples[1], num_left_out)

    @classmethod
    def _open(
        cls,
        models: Sequence[Classifier | str | Path],
        data: SampleSource | Dataset | str | Path,
        chosen: EvaluationOptions,
        *,
        leave_out: bool = True,
    ) -> EvaluationSetup:
        """Load models and open data, with the images that were trained on if ``leave_out`` is false."""
        views = Views.of(chosen.views)
        members = tuple(
            (model if isinstance(model, Classifier) else load(model, backend=backend)).to(chosen.device)
            for model, backend in zip(models, _backends(models, chosen.backend), strict=True)
        )
        names = tuple(
            f"model {number}" if isinstance(model, Classifier) else str(model)
            for number, model in enumerate(models, start=1)
        )
        for member, name in zip(members, names, strict=True):
            require_classes(member, name)
            if member.task == MULTILABEL:
                _require_plain(chosen, views, len(members), name)
            if views.are_whole:
                require_torch(member, WHOLE_IMAGES, name).network.require_score_map()
        _require_same_classes(members, names)
        runs = [run for run in map(run_of, _paths(models)) if run is not None]
        source, split = opened_data(data, chosen, runs, _labels_of(members[0]))
        if source.task != members[0].task:
            raise DataError(
                f"{source.name} has {TAUGHT[source.task]} and {names[0]} knows {TAUGHT[members[0].task]}",
                expected=f"data with {TAUGHT[members[0].task]}",
            )
        num_left_out = 0
        if leave_out:
            source, num_left_out = without_trained(source, canonical_split(split) or split, runs, chosen)
        sides_px = [views.preprocess(member.preprocess).crop_px for member in members]
        # The network that takes longest decides for all.
        slowest, slowest_px = max(
            zip(members, sides_px, strict=True), key=lambda pair: pair[0].num_macs(pair[1])
        )
        settled = slowest.settle_precision(chosen.precision, slowest_px)
        if chosen.precision == "auto":
            note(f"computing  {settled}")
        for member in members:
            member.in_precision(settled.precision).expect(len(source.split(split)))
        return cls(
            members,
            names,
            source,
            tuple(rows_of_classes(members[0].label_names, source)),
            chosen,
            split,
            views,
            resolve_num_workers(chosen.num_workers, slowest.device_type, max(sides_px)),
            settled.precision,
            num_left_out,
        )

    def computed_by(self, backend: str) -> EvaluationSetup:
        """Return this setup with its models computed by a backend, where they have the choice."""
        members = tuple(member.computed_by(backend) for member in self.members)
        return self if members == self.members else replace(self, members=members)

    # -- what can be measured --------------------------------------------------------------------------

    def evaluate(self) -> Evaluation:
        """Evaluate one model, with the temperature, threshold and file of predictions that the options name.

        A threshold is chosen by ``precision_target`` on this very split, else it is the model's own. It is
        for the probabilities that prediction gives, so neither views nor a temperature change it.

        Raises:
            ConfigurationError: There are several models, the temperature is to be fitted on the split that
                is reported, or a threshold is to be chosen for other views than prediction's.
            DataError: The precision target cannot be shown on these images.
            RunError: The file of predictions cannot be written.
        """
        self._require_one_model()
        if self.has_several_labels:
            raise ConfigurationError(
                f"{self.names[0]} gives an image several labels, for which there is no top-1",
                remedy="evaluate it with 'residual evaluate', or by EvaluationSetup.evaluate_labels",
            )
        self.require_choice_possible()
        with self._opened_results() as write:
            temperature: FittedTemperature | None = None
            if self.options.fit_temperature is not None:
                other = self.other_split(self.options.fit_temperature, "fit a temperature on")
                scores, labels = self.all_scores(other, f"fitting on {other}")
                temperature = _fitted_temperature(scores[0], labels, other)
            accumulator, answers = self._accumulator(temperature, write), Answers()
            for batch in self.scores(self.split, status=accumulator.status):
                accumulator.add(batch.scores[0], batch)
                answers.add(batch.scores[0], batch.labels)
            return self.with_abstention(accumulator.evaluation(self.split), answers)

    def with_abstention(self, evaluation: Evaluation, answers: Answers) -> Evaluation:
        """Return an evaluation with what the model's own threshold gives, or one that the options choose."""
        return replace(evaluation, abstention=self._abstention_metrics(answers))

    def _abstention_metrics(self, answers: Answers) -> AbstentionMetrics | None:
        rule, target = self.members[0].abstention, self.options.precision_target
        # The threshold is one for what prediction sees.
        if self.views != Views() or (rule is None and target is None):
            return None
        fingerprint = fingerprint_of(self.source.split(self.split))
        if target is not None:
            rule = answers.choose(target, self.split, fingerprint)
        return None if rule is None else answers.measured(rule, fingerprint)

    def require_choice_possible(self) -> None:
        """Refuse before the images are evaluated what could not be chosen afterwards.

        Raises:
            ConfigurationError: The images are not seen as prediction sees them, or the target is no share.
            DataError: There are too few images.
        """
        target = self.options.precision_target
        if target is None:
            return
        if self.views != Views():
            raise ConfigurationError(
                "a precision target is given with other views than the central crop",
                remedy="leave the views out: the threshold is for what prediction sees",
            )
        require_enough(len(self.source.split(self.split)), target, self.split)

    @property
    def has_several_labels(self) -> bool:
        """Whether the model gives an image several labels, which :meth:`evaluate_labels` is for."""
        return self.members[0].task == MULTILABEL

    def evaluate_labels(self) -> MultilabelEvaluation:
        """Evaluate one model of several labels an image.

        Raises:
            ConfigurationError: There are several models.
        """
        self._require_one_model()
        scores = LabelScores.together([LabelScores.of(batch) for batch in self.scores(self.split)])
        fingerprint = fingerprint_of(self.source.split(self.split))
        return measure(scores, self.members[0], self.split, fingerprint)

    def ensemble(self, choose_on: str | None = None) -> EnsembleEvaluation:
        """Evaluate the mean of the models' probabilities; every image is decoded once.

        Args:
            choose_on: Another split, to choose the members on. Default: all are taken.

        Raises:
            ConfigurationError: There is one model only, or the split to choose or fit on is the one that is
                reported.
            RunError: The file of predictions cannot be written.
        """
        if len(self.members) < 2:
            raise ConfigurationError(f"an ensemble of {len(self.members)}", expected="2 models or more")
        with self._opened_results() as write:
            chosen, steps = list(range(len(self.members))), list[ChoiceStep]()
            fit_on = self.options.fit_temperature
            chosen_on = "" if choose_on is None else self.other_split(choose_on, "choose members on")
            fitted_on = "" if fit_on is None else self.other_split(fit_on, "fit a temperature on")
            others = {
                other: self.all_scores(other, f"scoring {other}") for other in {chosen_on, fitted_on} if other
            }
            if chosen_on:
                picked = choose_members(*others[chosen_on])
                chosen = [member for member, _ in picked]
                steps = [ChoiceStep(self.names[member], sums.top1, sums.loss) for member, sums in picked]
            temperature: FittedTemperature | None = None
            if fitted_on:
                scores, labels = others[fitted_on]
                temperature = _fitted_temperature(mean_of_probabilities(scores[chosen]), labels, fitted_on)
            others.clear()

            together = self._accumulator(temperature, write)
            members = MemberAccumulator(self.names, chosen, len(self.classes))
            for batch in self.scores(self.split, status=together.status):
                members.add(batch)
                together.add(mean_of_probabilities(batch.scores[chosen]), batch)
            evaluation = together.evaluation(self.split)
        return EnsembleEvaluation(evaluation, members.metrics(evaluation), chosen_on, tuple(steps))

    def robustness(self, corruptions: Sequence[Corruption]) -> RobustnessEvaluation:
        """Evaluate one model on clean images, and again for every corruption.

        No temperature is fitted, and no file of predictions written.

        Raises:
            ConfigurationError: There are several models.
        """
        self._require_one_model()
        preprocess = self.members[0].preprocess

        def measured(corruption: Corruption | None) -> Evaluation:
            change = None if corruption is None else partial(corruption.apply, preprocess=preprocess)
            accumulator = Accumulator(self.classes)
            for batch in self.scores(self.split, label=str(corruption or self.split), change=change):
                accumulator.add(batch.scores[0], batch)
            return accumulator.evaluation(self.split)

        clean = measured(None)
        return RobustnessEvaluation(
            clean, tuple(RobustnessRow(corruption, measured(corruption)) for corruption in corruptions)
        )

    def _require_one_model(self) -> None:
        if len(self.members) != 1:
            raise ConfigurationError(
                f"there are {len(self.members)} models",
                expected="one model",
                remedy="evaluate them as an ensemble",
            )

    def _opened_results(self) -> AbstractContextManager[Callable[[Columns], None] | None]:
        return opened_results(self.options.predictions, len(self.classes), self.options.top_k)

    def _accumulator(
        self, temperature: FittedTemperature | None, write: Callable[[Columns], None] | None
    ) -> Accumulator:
        return Accumulator(self.classes, temperature=temperature, write=write, top_k=self.options.top_k)

    # -- scores ----------------------------------------------------------------------------------------

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, in the order of all scores."""
        return self.members[0].label_names

    def samples(self, split: str) -> Readable:
        """Return the samples of a split, labelled by rows of the first member's classifier."""
        samples = self.source.split(split)
        if self.has_several_labels:
            return RelabelledTargets(samples, self.rows, len(self.classes))
        return _Relabelled(samples, self.rows)

    def scores(
        self,
        split: str,
        label: str = "",
        change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
        status: Callable[[], str] = str,
    ) -> Iterator[ScoredBatch]:
        """Yield the scores of a split under a progress bar; a sample that cannot be used is an error.

        Args:
            split: Name of the split.
            label: Label of the bar. Default: the split.
            change: Changes every decoded image before its views are made.
            status: Returns the text behind the bar.
        """
        samples = self.samples(split)
        done = 0
        with ProgressBar(len(samples), label=label or f"evaluating {split}") as bar:
            for batch in self._scored(samples, change):
                yield batch
                done += len(batch.keys)
                bar.update(done, status())

    def scores_of_part(self, split: str, part: range) -> Iterator[ScoredBatch]:
        """Yield the scores of some samples in a row of a split; one that cannot be used is an error.

        Args:
            split: Name of the split.
            part: Indices into the split.
        """
        for batch in self._scored(_Part(self.samples(split), part)):
            yield replace(batch, indices=batch.indices + part.start)

    def _scored(
        self,
        samples: Readable,
        change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
    ) -> Iterator[ScoredBatch]:
        for batch in scored_batches(
            self.members,
            samples,
            self.views,
            batch_size=self.options.batch_size,
            num_workers=self.num_workers,
            precision=self.precision,
            change=change,
        ):
            require_none_bad(batch.bad)
            self._require_finite(batch)
            yield batch

    def _require_finite(self, batch: ScoredBatch) -> None:
        for name, scores in zip(self.names, batch.scores, strict=True):
            finite = scores.isfinite().all(dim=1).tolist()
            if False in finite:
                raise ModelFileError(
                    f"{name}: its outputs are not finite for {batch.keys[finite.index(False)]}",
                    remedy=NOT_FINITE_REMEDY,
                )

    def all_scores(self, split: str, label: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores of a whole split, ``(M, N, K)`` float32, and its labels, ``(N,)`` int64.

        For what cannot be summed up on the way: the choice of members, and the fit of a temperature. Six
        members on the 50,000 images of ImageNet's validation split take 1.2 GB.
        """
        batches = [(batch.scores.float(), batch.labels) for batch in self.scores(split, label)]
        return (
            torch.cat([scores for scores, _ in batches], dim=1),
            torch.cat([labels for _, labels in batches]),
        )

    def other_split(self, name: str, purpose: str) -> str:
        """Return the split to choose or fit something on, which may not be the one that is reported.

        Raises:
            ConfigurationError: It is the same, or there is none of that name.
        """
        split = canonical_split(name) or name
        self.source.split(split)
        if split == self.split:
            raise ConfigurationError(
                f"{split!r} is the split to report and the one to {purpose}",
                expected="two different splits",
                remedy="hold out some training images with --validation where there is no 'val'",
            )
        return split


def _on(setup: EvaluationSetup, samples: Split, num_left_out: int) -> EvaluationSetup:
    """Return a setup with these samples in the split that is reported."""
    splits = {**setup.source.splits, canonical_split(setup.split) or setup.split: samples}
    return replace(setup, source=replace(setup.source, splits=splits), num_left_out=num_left_out)


def _paths(models: Sequence[Classifier | str | Path]) -> list[str | Path]:
    return [model for model in models if not isinstance(model, Classifier)]


def _labels_of(model: Classifier) -> LabelsChoice | None:
    """Return how many labels the model's images have, where the data must not decide."""
    return "several" if model.task == MULTILABEL else None


def _require_plain(options: EvaluationOptions, views: Views, num_members: int, name: str) -> None:
    """Refuse, for several labels an image, what is for one."""
    given = {
        "several models": num_members > 1,
        f"views {views.kind}": views.kind != "one",
        "fit_temperature": options.fit_temperature is not None,
        "predictions": options.predictions is not None,
    }
    for what, is_given in given.items():
        if is_given:
            raise ConfigurationError(
                f"{what} with {name}, a model of several labels an image",
                expected="a model of one class an image",
            )


def _fitted_temperature(scores: torch.Tensor, labels: torch.Tensor, split: str) -> FittedTemperature:
    """Return the temperature of scores ``(N, K)`` on a split."""
    return FittedTemperature(fit_temperature(scores, labels), split, len(labels))


class _Relabelled:
    """A split whose labels are rows of the model's classifier instead of classes of the data set."""

    def __init__(self, split: Split, rows: tuple[int, ...]) -> None:
        self._split, self._rows = split, rows

    def __len__(self) -> int:
        return len(self._split)

    def read(self, index: int) -> EncodedSample:
        sample = self._split.read(index)
        return type(sample)(sample.key, sample.content, self._rows[int(sample.target)])


class _Part:
    """Some samples in a row."""

    def __init__(self, samples: Readable, part: range) -> None:
        self._samples, self._part = samples, part

    def __len__(self) -> int:
        return len(self._part)

    def read(self, index: int) -> EncodedSample:
        return self._samples.read(self._part[index])


def _backends(models: Sequence[Classifier | str | Path], backend: Backend) -> list[Backend]:
    """Return the backend of each model: what is named is for exported ones, if there are any."""
    exported = [
        not isinstance(model, Classifier) and find_source(model).kind == "exported" for model in models
    ]
    return [backend if one or not any(exported) else "auto" for one in exported]


def _require_same_classes(members: Sequence[Classifier], names: Sequence[str]) -> None:
    first = set(members[0].label_names)
    for member, name in zip(members, names, strict=True):
        other = set(member.label_names)
        if other != first:
            added, lacking = (listed(part) for part in (other - first, first - other))
            raise ConfigurationError(
                f"{name} and {names[0]} know different classes "
                f"(only the first: {added}; only the second: {lacking})",
                expected="members of an ensemble that know the same classes",
            )
