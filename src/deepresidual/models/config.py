"""``config.json`` of a model folder, as a value; read and checked without torch.

It has the layout that timm reads; what only Residual needs lies under the one key ``residual``. A folder is
never trusted: every field is checked, and nothing is imported by name. A model folder and what was exported
from it have the same file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from deepresidual import zoo
from deepresidual.backends.abstention import Abstention
from deepresidual.backends.thresholds import Thresholds
from deepresidual.errors import ConfigurationError, ModelFileError, UnknownNameError, quoted
from deepresidual.models.source import CONFIG, USUAL_TASK, model_folder
from deepresidual.preprocess import Preprocess
from deepresidual.runtime.files import write_json
from deepresidual.runtime.strict_json import read_object
from deepresidual.spec import DetectorSpec, NetworkSpec, ResNetSpec

if TYPE_CHECKING:
    from deepresidual.backends.detector import TorchDetector
    from deepresidual.backends.pytorch import TorchClassifier

FORMAT_VERSION = 1
_FIGURES = ("top1", "top5", "loss", "count")
_SECTIONS = {
    "format_version",
    "spec",
    "preprocess",
    "metrics",
    "provenance",
    "task",
    "thresholds",
    "abstention",
    "detector",
}


@dataclass(frozen=True)
class ModelConfig:
    """What ``config.json`` says of a model.

    Attributes:
        spec: The architecture; of a detector that of its backbone is a part of it.
        label_names: Name of every class, in the order of the logits.
        preprocess: How a decoded image becomes the input.
        metrics: What was measured, by split.
        provenance: Where the weights come from.
        task: What the model has learned.
        thresholds: Of several labels an image, where they are given.
        abstention: From which probability on it answers; ``None``: never chosen.
    """

    spec: NetworkSpec
    label_names: tuple[str, ...]
    preprocess: Preprocess
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    task: str = USUAL_TASK
    thresholds: Thresholds | None = None
    abstention: Abstention | None = None

    @classmethod
    def of(cls, model: TorchClassifier | TorchDetector) -> Self:
        """Return what the ``config.json`` of a model is to say."""
        if isinstance(model.spec, DetectorSpec):
            return cls(
                model.spec, model.label_names, model.preprocess, model.metrics, model.provenance, model.task
            )
        return cls(
            model.spec,
            model.label_names,
            model.preprocess,
            model.metrics,
            model.provenance,
            model.task,
            getattr(model, "thresholds", None),
            getattr(model, "abstention", None),
        )

    def to_document(self) -> dict[str, Any]:
        """Return the document as JSON types."""
        spec, preprocess = self.spec, self.preprocess
        if isinstance(spec, DetectorSpec):
            return self._document_of_detector(spec)
        return {
            # timm cuts names at a dot and would take "resnet50.v1" for its own resnet50: the weights would
            # load and the logits be wrong. With "_" it refuses, as it should for a network it does not have.
            "architecture": (zoo.name_of(spec) or "custom").replace(".", "_"),
            "num_classes": spec.num_classes,
            "num_features": spec.num_features,
            "label_names": list(self.label_names),
            "pretrained_cfg": {
                "input_size": [spec.in_channels, preprocess.crop_px, preprocess.crop_px],
                "num_classes": spec.num_classes,
                "interpolation": preprocess.interpolation,
                "crop_pct": preprocess.crop_pct,
                "crop_mode": "center",
                # timm cannot subtract a mean image; of a network that has one this is the average.
                "mean": list(preprocess.mean),
                "std": list(preprocess.std),
                "first_conv": "conv1",
                "classifier": "fc",
            },
            # timm builds the network with these arguments.
            "model_args": {"in_chans": spec.in_channels} if spec.in_channels != 3 else {},
            "residual": {
                "format_version": FORMAT_VERSION,
                "spec": spec.to_dict(),
                "preprocess": preprocess.to_dict(),
                "metrics": self.metrics,
                "provenance": self.provenance,
                # Written only where it is needed, so that older versions read every classifier.
                **({"task": self.task} if self.task != USUAL_TASK else {}),
                **({"thresholds": self.thresholds.to_dict()} if self.thresholds is not None else {}),
                **({"abstention": self.abstention.to_dict()} if self.abstention is not None else {}),
            },
        }

    def _document_of_detector(self, spec: DetectorSpec) -> dict[str, Any]:
        detector = spec.to_dict()
        backbone = detector.pop("backbone")
        return {
            "architecture": f"{(zoo.name_of(spec.backbone) or 'custom').replace('.', '_')}_{spec.neck}",
            "num_classes": spec.num_classes,
            "label_names": list(self.label_names),
            "residual": {
                "format_version": FORMAT_VERSION,
                "spec": backbone,
                "detector": detector,
                "preprocess": self.preprocess.to_dict(),
                "metrics": self.metrics,
                "provenance": self.provenance,
                "task": self.task,
            },
        }


def read_config(path: str | Path) -> ModelConfig:
    """Read the ``config.json`` of a model folder, of a run's, or of a bundled model's name.

    Raises:
        ModelFileError: It is missing or damaged, or its parts contradict each other.
    """
    file = model_folder(path) / CONFIG
    config = read_object(file)
    try:
        return _parsed(config, path)
    except ConfigurationError as error:
        raise ModelFileError(
            f"{file}: {error.found}", expected=error.expected, remedy=error.remedy
        ) from error


def keep_abstention(path: str | Path, abstention: Abstention) -> Path:
    """Write into the ``config.json`` of a model folder, or of a run's, from which probability on it answers.

    Returns:
        The file, which is replaced whole.

    Raises:
        ModelFileError: It is no model folder of this version.
        RunError: It cannot be written.
    """
    read_config(path)
    file = model_folder(path) / CONFIG
    config = read_object(file)
    config["residual"]["abstention"] = abstention.to_dict()
    write_json(file, config)
    return file


def _parsed(config: Mapping[str, Any], path: str | Path) -> ModelConfig:
    own = config.get("residual")
    if not isinstance(own, dict):
        raise ConfigurationError(
            f"the architecture {quoted(config.get('architecture'))} comes without a 'residual' section",
            remedy=f"a folder of another library becomes a model with 'residual convert {path} FOLDER'",
        )
    if own.get("format_version") != FORMAT_VERSION:
        raise ConfigurationError(
            f"format_version is {quoted(own.get('format_version'))}",
            expected=str(FORMAT_VERSION),
            remedy="update Residual to read a newer folder",
        )
    for name in own:
        if name not in _SECTIONS:
            raise UnknownNameError("section of 'residual'", name, _SECTIONS)
    for name in ("spec", "preprocess", "metrics", "provenance"):
        if not isinstance(own.get(name), dict):
            raise ConfigurationError(f"section {name!r} is missing")
    task = own.get("task", USUAL_TASK)
    if not isinstance(task, str):
        raise ConfigurationError(f"task is {quoted(task)}", expected="a name")
    for split, figures in own["metrics"].items():
        if not isinstance(figures, dict) or not _is_measured(figures, task):
            raise ConfigurationError(
                f"the metrics of {quoted(split)} are {quoted(figures)}",
                expected=f"the numbers {', '.join(_FIGURES)}",
            )
    spec: NetworkSpec = ResNetSpec.from_dict(own["spec"])
    if "detector" in own:
        if not isinstance(own["detector"], dict):
            raise ConfigurationError("section 'detector' is no object")
        spec = DetectorSpec.from_dict({**own["detector"], "backbone": own["spec"]})
    if config.get("num_classes") != spec.num_classes:
        raise ConfigurationError(
            f"num_classes is {quoted(config.get('num_classes'))} and the spec says {spec.num_classes}",
            expected="the same",
        )
    labels = config.get("label_names")
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ConfigurationError("label_names is not a list of strings")
    return ModelConfig(
        spec,
        tuple(labels),
        Preprocess.from_dict(own["preprocess"]),
        own["metrics"],
        own["provenance"],
        task,
        _thresholds(own.get("thresholds"), len(labels)),
        Abstention.from_dict(own["abstention"]) if "abstention" in own else None,
    )


def _thresholds(fields: object, num_labels: int) -> Thresholds | None:
    if fields is None:
        return None
    if not isinstance(fields, dict):
        raise ConfigurationError(f"the thresholds are {quoted(fields)}", expected="an object")
    return Thresholds.from_dict(fields, num_labels)


def _is_measured(figures: Mapping[str, Any], task: str) -> bool:
    known = set(figures) == set(_FIGURES) or task != USUAL_TASK
    return known and all(type(value) in (int, float) for value in figures.values())
