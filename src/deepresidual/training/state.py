"""The state of a run in progress, and a checkpoint as a value."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from deepresidual.training.meter import Sums
from deepresidual.training.schedule import ScheduleState
from deepresidual.training.updater import Updater

Tensors = dict[str, torch.Tensor]


@dataclass
class TrainingState:
    """Progress of a run, apart from its tensors.

    Attributes:
        step: Updates done.
        evaluated_step: Step of the last evaluation; a run that was stopped while it evaluated does it again.
        windows: Training sums since the last log line, of each process; set in a checkpoint only.
        epoch: Training sums of the log lines since the last evaluation.
        measured: State of the learning rate schedule.
        metrics: Figures of the model that is kept, by split.
        not_finite: Steps that were left out because their loss or gradient was not finite.
        bad_samples: Samples that could not be used, by name, with the reason.
        scaler: State of the loss scaler of fp16; set in a checkpoint only.
        metric_lines: Lines of ``metrics.jsonl`` up to here; ``None`` in checkpoints of older versions.
        has_begun: Whether there was an evaluation, which in some runs is one of step 0.
    """

    step: int = 0
    evaluated_step: int = 0
    windows: list[Sums] = field(default_factory=list)
    epoch: Sums = field(default_factory=Sums)
    measured: ScheduleState = field(default_factory=ScheduleState)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    not_finite: set[int] = field(default_factory=set)
    bad_samples: dict[str, str] = field(default_factory=dict)
    scaler: dict[str, float] = field(default_factory=dict)
    metric_lines: int | None = None
    has_begun: bool = False

    def capture(
        self, updater: Updater, windows: list[Sums], metric_lines: int, *, before_step: bool = False
    ) -> Checkpoint:
        """Return copies of all that a run needs to go on from here.

        Args:
            updater: Network, optimizer and average.
            windows: Training sums since the last log line, of each process.
            metric_lines: Lines of ``metrics.jsonl``.
            before_step: Take BN's statistics of before the step that is being computed.
        """
        no_parts = dict.fromkeys(updater.task.parts, 0)

        def whole(sums: Sums) -> Sums:
            return dataclasses.replace(sums, parts={**no_parts, **sums.parts})

        state = dataclasses.replace(
            self,
            windows=[whole(sums) for sums in windows],
            epoch=whole(self.epoch),
            not_finite=set(self.not_finite),
            bad_samples=dict(self.bad_samples),
            scaler=updater.scaler.state_dict(),
            metric_lines=metric_lines,
        )
        network = network_tensors(updater.network) | (updater.buffers_before() if before_step else {})
        average = network_tensors(updater.average.network) if updater.average is not None else {}
        return Checkpoint(state, network, optimizer_tensors(updater.network, updater.optimizer), average)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; :meth:`from_dict` reads them back."""
        fields = dataclasses.asdict(self)
        fields |= {"windows": [sums.to_dict() for sums in self.windows], "epoch": self.epoch.to_dict()}
        # JSON has no infinity; before the first evaluation there is no best error.
        if not self.measured.best_error < math.inf:
            fields["measured"]["best_error"] = None
        return {**fields, "not_finite": sorted(self.not_finite)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TrainingState:
        """Build it from what :meth:`to_dict` returned."""
        measured = dict(fields["measured"])
        if measured["best_error"] is None:
            measured["best_error"] = math.inf
        return cls(
            **{
                **fields,
                "windows": [Sums.from_dict(sums) for sums in fields["windows"]],
                "epoch": Sums.from_dict(fields["epoch"]),
                "measured": ScheduleState(**measured),
                "not_finite": set(fields["not_finite"]),
            }
        )


@dataclass(frozen=True)
class Checkpoint:
    """State and tensors of a checkpoint.

    Attributes:
        state: How far the run is.
        network: Weights and BN statistics.
        optimizer: ``KEY/PARAMETER`` → the optimizer's tensors.
        average: The averaged weights; empty without an average.
    """

    state: TrainingState
    network: Tensors
    optimizer: Tensors
    average: Tensors

    def fits(self, updater: Updater) -> bool:
        """Return whether it is of the same network as ``updater``."""
        own = updater.network.state_dict()
        average = own if updater.average is not None else {}
        parameters = dict(updater.network.named_parameters())
        return all(
            {name: tensor.shape for name, tensor in there.items()}
            == {name: tensor.shape for name, tensor in here.items()}
            for there, here in ((self.network, own), (self.average, average))
        ) and all(name.partition("/")[2] in parameters for name in self.optimizer)

    def restore(self, updater: Updater) -> TrainingState:
        """Put its tensors into network, optimizer and average, and return its state."""
        updater.network.load_state_dict(self.network)
        restore_optimizer(updater.network, updater.optimizer, self.optimizer)
        if updater.average is not None:
            updater.average.network.load_state_dict(self.average)
        if self.state.scaler:
            updater.scaler.load_state_dict(self.state.scaler)
        return self.state


def network_tensors(network: torch.nn.Module) -> Tensors:
    """Return copies of weights and statistics."""
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}


def optimizer_tensors(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> Tensors:
    """Return the optimizer's tensors as ``KEY/PARAMETER``."""
    return {
        f"{key}/{name}": value
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, torch.Tensor)
    }


def restore_optimizer(network: torch.nn.Module, optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    """Fill the optimizer from what :func:`optimizer_tensors` returned."""
    parameters = dict(network.named_parameters())
    for parameter in parameters.values():
        optimizer.state.pop(parameter, None)
    for full_name, value in tensors.items():
        key, _, name = full_name.partition("/")
        parameter = parameters[name]
        if value.shape == parameter.shape:
            # Same device and memory format as the weight, or the update would take another path.
            value = torch.empty_like(parameter).copy_(value)
        elif parameter.device.type == "cuda":
            value = value.to(parameter.device)
        optimizer.state[parameter][key] = value
