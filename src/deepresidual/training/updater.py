"""One update: micro-batches forward and backward, gradients over all ranks, the optimizer, the average.

The loss of a step is the sum over its images by the batch's size, however they are spread over micro-batches
and ranks, so how they are spread does not show in the gradient except by rounding.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from deepresidual.data.loader import Batch
from deepresidual.data.source.base import Targets
from deepresidual.recipe import Recipe
from deepresidual.runs.plan import Plan
from deepresidual.runtime.device import autocast
from deepresidual.runtime.distributed import Processes
from deepresidual.runtime.random import network_seed
from deepresidual.tasks import BatchSums, Task
from deepresidual.training.averages import MicroBatchStatistics, WeightAverage, batch_norms
from deepresidual.training.optimizer import freeze_stages, frozen_stages, make_optimizer, set_learning_rate
from deepresidual.training.schedule import num_frozen_stages
from deepresidual.training.sync_batch_norm import synchronize_batch_norms


def learning_norms(network: nn.Module, recipe: Recipe, num_frozen: int | None = None) -> list[nn.BatchNorm2d]:
    """Return the BNs whose statistics training moves: those of neither frozen stages nor frozen BN.

    Args:
        network: The network.
        recipe: The recipe.
        num_frozen: Stages that are frozen now. Default: those that are in the whole run.
    """
    num_frozen = recipe.frozen_stages if num_frozen is None else num_frozen
    still = {norm for module in _held_still(network, recipe, num_frozen) for norm in batch_norms(module)}
    return [norm for norm in batch_norms(network) if norm not in still]


def _held_still(network: nn.Module, recipe: Recipe, num_frozen: int) -> list[nn.Module]:
    """Return the modules that stay in evaluation mode."""
    modules: list[nn.Module] = list(frozen_stages(network, num_frozen))
    return modules + (list(batch_norms(network)) if recipe.batch_norm == "frozen" else [])


class Updater:
    """Network, optimizer and average of a run, and how a batch moves them.

    Args:
        network: The network on its device, channels last.
        plan: The plan of the run.
        processes: The processes that train together.
        task: What is learned.
    """

    def __init__(self, network: nn.Module, plan: Plan, processes: Processes, task: Task) -> None:
        recipe = plan.recipe
        self.network, self._plan, self._recipe, self._processes = network, plan, recipe, processes
        self.task = task
        self.device = next(network.parameters()).device
        freeze_stages(network, recipe.frozen_stages)
        if recipe.sync_batch_norm and processes.size > 1:
            synchronize_batch_norms(network, self.device)
        self._num_frozen = recipe.frozen_stages
        self._held_still = _held_still(network, recipe, self._num_frozen)
        self._learning = learning_norms(network, recipe)
        self.optimizer = make_optimizer(network, recipe, task.head, fused=self.device.type in ("cpu", "cuda"))
        self.average = WeightAverage(network, recipe.ema_decay) if recipe.ema_decay else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=plan.precision == "fp16")
        self._num_micro_batches = recipe.batch_size // processes.size // self._micro_batch_size
        whole_batch = self._num_micro_batches == 1 and processes.size == 1
        moves = recipe.batch_norm == "train" and not whole_batch
        self._statistics = MicroBatchStatistics(self._learning, plan.backbone.bn_momentum) if moves else None
        self._draws = plan.backbone.stochastic_depth > 0 or plan.backbone.shortcut == "dropout"
        self._module = self._wrapped()
        self._buffers_before: list[Tensor] = []

    @property
    def _micro_batch_size(self) -> int:
        return self._recipe.micro_batch_size or self._recipe.batch_size // self._processes.size

    def _wrapped(self) -> nn.Module:
        module: nn.Module = self.network
        if self._plan.compiled:
            # A size of image is compiled for itself: sizes that vary at run time cost speed.
            module = cast("nn.Module", torch.compile(module, dynamic=False))
        if self._processes.size > 1:
            devices = [self.device] if self.device.type == "cuda" else None
            with warnings.catch_warnings():
                # torch 2.14 has another name for this argument, which older ones do not know.
                warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
                # Looking for unused parameters keeps torch from sorting gradients anew after its first step.
                # A ring adds the ranks' parts in an order that depends on the place, so three ranks and more
                # would come to other bits after a resume, whose first step is another one.
                module = nn.parallel.DistributedDataParallel(
                    module,
                    device_ids=devices,
                    broadcast_buffers=False,
                    gradient_as_bucket_view=True,
                    find_unused_parameters=self._processes.size > 2,
                )
        return module

    # -- one update ----------------------------------------------------------------------------------

    def gradients(self, batch: Batch, step: int) -> list[BatchSums] | None:
        """Compute this step's gradients. Only gradients and BN statistics change.

        Args:
            batch: This rank's images of the step.
            step: Updates done before it.

        Returns:
            The sums of its micro-batches; ``None`` if a loss or gradient is not finite on any process. Then
            there are no gradients, and the statistics are as before unless the run is to stop at this.
        """
        self._unfreeze(step)
        self.network.train()
        for module in self._held_still:
            module.eval()
        self.optimizer.zero_grad(set_to_none=True)
        self._buffers_before = self._buffers_to_keep()
        if self._statistics is not None:
            self._statistics.begin(self._learning)
        sums: list[BatchSums] = []
        for number, (pixels, targets) in enumerate(self._micro_batches(batch)):
            last = number == self._num_micro_batches - 1
            with contextlib.ExitStack() as stack:
                if self._processes.size > 1 and not last:
                    stack.enter_context(cast("Any", self._module).no_sync())
                part = self._forward(pixels, targets, step, number)
                scaled = self.scaler.scale(part.loss * (self._processes.size / self._recipe.batch_size))
                scaled.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
            if self._statistics is not None and len(pixels):  # of no images there are no statistics
                self._statistics.add()
            sums.append(BatchSums(part.loss.detach(), part.parts))
        for module in frozen_stages(self.network, self._num_frozen):
            for weight in module.parameters():
                weight.grad = None  # several processes exchange them all, see _unfreeze
        if not self._is_finite(sums):
            self._restore_buffers()
            self.optimizer.zero_grad(set_to_none=True)
            return None
        if self._statistics is not None:
            self._statistics.end(self._processes)
        return sums

    def _unfreeze(self, step: int) -> None:
        """Let those stages learn that do in this update."""
        plan = self._plan
        num_stages = 1 + len(plan.backbone.stage_names)
        num_frozen = num_frozen_stages(self._recipe, num_stages, step, plan.total_steps, plan.warmup_steps)
        if num_frozen == self._num_frozen:
            return
        self._num_frozen = num_frozen
        self._held_still = _held_still(self.network, self._recipe, num_frozen)
        self._learning = learning_norms(self.network, self._recipe, num_frozen)
        if self._processes.size > 1:
            # DistributedDataParallel waits for a gradient of every weight that had one when it was made.
            return
        always = set(frozen_stages(self.network, self._recipe.frozen_stages))
        now = set(frozen_stages(self.network, num_frozen))
        for module in frozen_stages(self.network, num_stages):
            if module not in always:
                module.requires_grad_(module not in now)

    def apply(self, step: int, learning_rate: float) -> None:
        """Move the weights by the gradients that :meth:`gradients` left."""
        set_learning_rate(self.optimizer, learning_rate)
        if self._recipe.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self._recipe.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average is not None and (step + 1) % self._recipe.ema_every == 0:
            self.average.update(self.network)
        self._buffers_before = []

    def buffers_before(self) -> dict[str, Tensor]:
        """Return BN's statistics as they were before a step that has begun and is not done."""
        names = (name for name, _ in self.network.named_buffers())
        return dict(zip(names, self._buffers_before, strict=False))

    def _micro_batches(self, batch: Batch) -> Iterator[tuple[Tensor, Targets]]:
        # A batch that has lost bad samples is cut at the same places, so others keep their company.
        if self._num_micro_batches == 1:
            yield batch.pixels, batch.targets
            return
        for part in batch.parts(self._micro_batch_size):
            yield batch.pixels[part], batch.targets[part]

    def _forward(self, pixels: Tensor, targets: Targets, step: int, number: int) -> BatchSums:
        """Return the sums of a micro-batch, with the graph of the loss."""
        images = self._plan.preprocess.normalize(pixels.to(self.device, non_blocking=True))
        micro_batch = self._processes.rank * self._num_micro_batches + number

        def outputs(images: Tensor, *others: Any) -> Any:
            with self._own_draws(step, micro_batch), autocast(self.device, self._plan.precision):
                return self._module(images, *others)

        return self.task.loss(outputs, images, targets.to(self.device, non_blocking=True), step)

    @contextlib.contextmanager
    def _own_draws(self, step: int, micro_batch: int) -> Iterator[None]:
        """Let the network's own random choices follow from the step, and leave torch's state as it was."""
        if not self._draws:
            yield
            return
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(network_seed(self._plan.seed, step, micro_batch))
            yield

    def _is_finite(self, sums: list[BatchSums]) -> bool:
        values = [part.loss for part in sums]
        if not self.scaler.is_enabled():  # which lowers its scale where a gradient overflows
            gradients = [weight.grad for weight in self.network.parameters() if weight.grad is not None]
            values.append(nn.utils.get_total_norm(gradients))
        bad = not bool(torch.isfinite(torch.stack([value.float() for value in values])).all())
        return self._processes.all_max(bad) == [0]

    def _buffers_to_keep(self) -> list[Tensor]:
        # On a GPU the copies would cost a tenth of a small network's step, and nobody waits for one to end.
        if self._recipe.non_finite == "stop" and self.device.type == "cuda":
            return []
        return [buffer.clone() for buffer in self.network.buffers()]

    @torch.no_grad()
    def _restore_buffers(self) -> None:
        for buffer, value in zip(self.network.buffers(), self._buffers_before, strict=False):
            buffer.copy_(value)
        self._buffers_before = []
