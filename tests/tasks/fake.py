"""A second task: tags of an image, any number of them at once; what a new task has to bring, and no more."""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from deepresidual.data.loader import evaluation_batches
from deepresidual.data.source import EncodedSample, SampleSource, Split
from deepresidual.models import TorchClassifier
from deepresidual.runs.plan import Plan
from deepresidual.runtime.signals import StopRequested
from deepresidual.tasks import BatchSums


@dataclass(frozen=True)
class TagsResult:
    """Share of tags that are wrong, and the mean loss."""

    split: str
    wrong: float
    loss: float
    count: int

    def summary(self) -> dict[str, Any]:
        """Return the figures."""
        return dataclasses.asdict(self)

    def to_dict(self) -> dict[str, Any]:
        """Return everything."""
        return dataclasses.asdict(self)


class Tags:
    """One logit a tag, binary cross-entropy, share of wrong tags."""

    head: tuple[str, ...] = ("fc.",)
    parts: tuple[str, ...] = ("wrong", "certain")
    charts: Mapping[str, str] = MappingProxyType({"loss": "BCE (nats)", "wrong": "wrong tags of an image"})

    def __init__(self, plan: Plan) -> None:
        self._plan, self._num_tags = plan, plan.spec.num_classes

    def blank_targets(self, count: int) -> Tensor:
        """Return no tags."""
        return torch.zeros(count, self._num_tags)

    def loss(
        self, network: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor, step: int
    ) -> BatchSums:
        """Return the sums of a micro-batch."""
        logits = network(images).float()
        targets = targets.reshape(logits.shape).float()
        total = functional.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
        wrong = ((logits.detach() > 0) != (targets > 0.5)).sum()
        return BatchSums(total, {"wrong": wrong, "certain": logits.detach().sigmoid().mean(dim=1).sum()})

    def figures(self, loss: float, parts: Mapping[str, float], count: int) -> dict[str, float]:
        """Return means."""
        return {"loss": loss / count, "wrong": parts["wrong"] / count, "certain": parts["certain"] / count}

    def training_error(self, parts: Mapping[str, float], count: int) -> float:
        """Return the share of wrong tags."""
        return parts["wrong"] / count / self._num_tags

    def headline(self, figures: Mapping[str, Any], digits: int) -> str:
        """Return the wrong tags."""
        return f"wrong {figures['wrong']:.{digits}f}"

    def evaluate(self, model: TorchClassifier, split: Split, name: str, **options: Any) -> TagsResult:
        """Measure every sample once."""
        processes, stop = options["processes"], options["stop"]
        wrong, loss, count = 0, 0.0, 0
        batches = evaluation_batches(
            split,
            model.preprocess,
            batch_size=8,
            num_workers=options["num_workers"],
            rank=processes.rank,
            num_ranks=processes.size,
        )
        for batch in batches:
            if not options["skip_bad"]:
                batch.require_all_good()
            if not len(batch):
                continue
            logits = torch.from_numpy(model.logits(batch.pixels.numpy()))
            loss += float(functional.binary_cross_entropy_with_logits(logits, batch.targets, reduction="sum"))
            wrong += int(((logits > 0) != (batch.targets > 0.5)).sum())
            count += len(batch)
        (exit_code,) = processes.all_max(stop.exit_code)
        if exit_code:
            raise StopRequested(exit_code)
        sums = processes.all_gather((wrong, loss, count))
        wrong, loss, count = (sum(part[place] for part in sums) for place in range(3))
        return TagsResult(name, wrong / count / self._num_tags, loss / count, int(count))

    def settled(self, model: TorchClassifier, result: TagsResult) -> TorchClassifier:
        """Settle nothing."""
        return model

    def error(self, result: TagsResult) -> float:
        """Return the share of wrong tags."""
        return result.wrong

    def read(self, document: Mapping[str, Any]) -> TagsResult:
        """Build a result."""
        return TagsResult(**{field.name: document[field.name] for field in dataclasses.fields(TagsResult)})

    def photos(self, split: Split, result: TagsResult) -> dict[str, bytes]:
        """Show nothing."""
        return {}

    def heat_maps(self, model: TorchClassifier, split: Split, result: TagsResult) -> dict[str, bytes]:
        """Explain nothing."""
        return {}


class TaggedSplit:
    """A split of photos, whose colours are tags: green things are blue, too."""

    def __init__(self, split: Split, num_tags: int) -> None:
        self._split, self._num_tags = split, num_tags

    def __len__(self) -> int:
        return len(self._split)

    @property
    def labels(self) -> list[int]:
        """The class of every sample, which is no target here."""
        return self._split.labels

    def key(self, index: int) -> str:
        """Return the name of a sample."""
        return self._split.key(index)

    def rows(self) -> Iterator[tuple[str, int, int]]:
        """Yield what identifies the samples, a checksum of the tags for the label."""
        for key, label, content in self._split.rows():
            yield key, zlib.crc32(repr(self._tags(label)).encode()), content

    def read(self, index: int) -> EncodedSample:
        """Return a sample."""
        sample = self._split.read(index)
        return EncodedSample(sample.key, sample.content, self._tags(self._split.labels[index]))

    def _tags(self, label: int) -> tuple[float, ...]:
        return tuple(float(tag == label or (label == 1 and tag == 0)) for tag in range(self._num_tags))


def tagged(source: SampleSource) -> SampleSource:
    """Return a data set of the same photos with tags."""
    splits = {name: TaggedSplit(split, len(source.classes)) for name, split in source.splits.items()}
    return dataclasses.replace(source, splits=splits, task="tags")
