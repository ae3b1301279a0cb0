"""``ForeignModel``: a model that was read from elsewhere, and what its folder remembers of that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from deepresidual.conversion.certificate import Certificate
from deepresidual.conversion.detections_certificate import DetectionsCertificate
from deepresidual.conversion.ecosystem import ForeignCheckpoint
from deepresidual.conversion.selection import Selection
from deepresidual.models.fetching import SourceFiles
from deepresidual.runtime.provenance import now
from deepresidual.zoo.released import NO_LICENCE, ReleasedWeights

if TYPE_CHECKING:
    from deepresidual.backends.detector import TorchDetector
    from deepresidual.backends.pytorch import TorchClassifier


def _same_implementation() -> Certificate:
    return Certificate(reason="both sides are the same implementation")


@dataclass(frozen=True)
class ForeignModel:
    """A model from elsewhere, and how it was recognized.

    Attributes:
        model: The model.
        ecosystem: Library that it comes from; ``residual`` for a model folder.
        evidence: What it was recognized by.
        assumed: Assumptions where the checkpoint says nothing, one clause each.
        state_dict: Keys and prefix of the network's tensors in the file, joined; empty if there are none.
        not_taken: Other weights of the file, by key or prefix, each with a description.
        beside: Other entries of the file beside its weights, each with a description.
        dropped: Tensors that were not needed, by reason, with their number.
        certificate: The comparison of logits or detections with the library's own network.
    """

    model: TorchClassifier | TorchDetector
    ecosystem: str
    evidence: str
    assumed: tuple[str, ...] = ()
    state_dict: str = ""
    not_taken: dict[str, str] = dataclasses.field(default_factory=dict)
    beside: dict[str, str] = dataclasses.field(default_factory=dict)
    dropped: dict[str, int] = dataclasses.field(default_factory=dict)
    certificate: Certificate | DetectionsCertificate = dataclasses.field(default_factory=_same_implementation)


@dataclass(frozen=True)
class Origin:
    """Where weights come from: their files, what was read of them, and which part of it was taken.

    Attributes:
        files: The files.
        whole: What was read.
        selection: The network's part of it.
        release: The released weights that they are; ``None`` for others.
    """

    files: SourceFiles
    whole: ForeignCheckpoint
    selection: Selection
    release: ReleasedWeights | None

    @property
    def state_dict(self) -> str:
        """Keys and prefix of the network's tensors, joined; empty if there are none."""
        return ".".join((*self.whole.metadata.get("unwrapped", ()), self.selection.prefix))

    @property
    def not_taken(self) -> dict[str, str]:
        """Other weights of the file, by key or prefix, each with a description."""
        return {**self.whole.metadata.get("alternatives", {}), **self.selection.alternatives}

    @property
    def beside(self) -> dict[str, str]:
        """Other entries of the file beside its weights, each with a description."""
        return dict(self.whole.metadata.get("ignored", {}))

    def dropped(self, by_translation: Mapping[str, str]) -> dict[str, int]:
        """Return the tensors that were not needed, by reason, with their number."""
        not_weights = self.whole.metadata.get("not_weights", {})
        reasons = list({**not_weights, **self.selection.dropped, **by_translation}.values())
        return {reason: reasons.count(reason) for reason in dict.fromkeys(reasons)}

    def provenance(
        self,
        ecosystem: str,
        evidence: str,
        assumed: tuple[str, ...],
        dropped: Mapping[str, int],
        certificate: str,
    ) -> dict[str, Any]:
        """Return what the model folder remembers."""
        files, keys, not_taken = self.files, self.state_dict, self.not_taken
        return {
            **(_released(self.release) if self.release is not None else {}),
            "converted from": f"{ecosystem} ({self.whole.format})",
            "source": files.origin,
            **({"commit": files.commit} if files.commit else {}),
            "sha256": self.whole.sha256,
            "recognized by": evidence,
            **({"state dict": keys} if keys else {}),
            **(
                {"not taken": "; ".join(f"{key} ({what})" for key, what in not_taken.items())}
                if not_taken
                else {}
            ),
            **({"assumed": "; ".join(assumed)} if assumed else {}),
            **({"dropped": "; ".join(f"{n} × {why}" for why, n in dropped.items())} if dropped else {}),
            "certificate": certificate,
            **({"fetched": now()} if files.is_fetched else {}),
        }


def _released(release: ReleasedWeights) -> dict[str, Any]:
    """Return what a model folder remembers of released weights."""
    accuracy = "" if release.top1 is None else f"top-1 {release.top1:g} %"
    if release.top5 is not None:
        accuracy += f", top-5 {release.top5:g} %"
    if release.detects:
        accuracy = f"{release.figures} on COCO val2017"
    return {
        "weights": release.name,
        "published by": release.source,
        "licence": release.licence or NO_LICENCE,
        **({"commercial use": release.commercial} if release.commercial != "yes" else {}),
        "trained on": release.data,
        **({"published accuracy": accuracy} if accuracy else {}),
        **({"paper": release.paper} if release.paper else {}),
        **({"note": release.note} if release.note else {}),
    }
