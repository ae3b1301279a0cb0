"""The training loop, in the order in which things happen: plan, run folder, steps, evaluation, report."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from residual.data.decode import decode
from residual.data.loader import training_batches
from residual.data.sampler import TrainingOrder
from residual.data.source import SampleSource, open_source
from residual.errors import ConfigurationError, DivergedError, RunError
from residual.evaluation import Evaluation, evaluate_split
from residual.models import Model, create, save
from residual.runtime.console import ProgressBar, note, warn_each
from residual.runtime.device import (
    PrecisionChoice,
    autocast,
    describe_hardware,
    resolve_device,
    resolve_num_workers,
    resolve_precision,
)
from residual.runtime.provenance import now, versions
from residual.runtime.signals import StopRequest
from residual.training.checkpoint import Progress, latest_checkpoint, load_checkpoint, save_checkpoint
from residual.training.meter import Meter, Sums
from residual.training.optimizer import make_optimizer, set_learning_rate
from residual.training.plan import Plan, make_plan
from residual.training.report import write_report
from residual.training.run import Run, default_run_path
from residual.training.schedule import learning_rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from residual.training.recipe import Recipe

__all__ = ["RunResult", "train"]

_PICTURE_PX = 160


@dataclass(frozen=True)
class RunResult:
    """How a run ended.

    Attributes:
        path: The run folder.
        status: ``finished``, or ``interrupted`` by Ctrl-C or SIGTERM.
        exit_code: 0, 130 after Ctrl-C, 143 after SIGTERM.
        evaluation: The last evaluation; ``None`` where the run did not get to one.
    """

    path: Path
    status: str
    exit_code: int
    evaluation: Evaluation | None


def train(
    data: SampleSource | str | Path = "digits",
    model: str | None = None,
    out: str | Path | None = None,
    *,
    recipe: Recipe | str | None = None,
    changes: Mapping[str, Any] | None = None,
    image_px: int | None = None,
    seed: int = 0,
    precision: PrecisionChoice = "auto",
    device: str = "auto",
    num_workers: int | None = None,
    resume: bool = False,
) -> RunResult:
    """Train a network and leave a run folder behind.

    Args:
        data: A data set, opened or by name: ``digits``, an image folder, a parquet file or folder.
        model: A name of the zoo; chosen by the size of the images where left out.
        out: The run folder; ``runs/DATA-MODEL`` where left out.
        recipe: A :class:`Recipe` or the name of one; the one that suits data and model where left out.
        changes: Fields of the recipe to set, for example ``{"epochs": 5, "flip": False}``.
        image_px: Side of the network's input in pixels; the usual one of the model where left out.
        seed: Decides the first weights, the order of samples and every augmentation.
        precision: ``auto`` is bf16 where the hardware has it; weights and updates stay float32.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        num_workers: Processes that load data; does not change the result.
        resume: Go on with the run in ``out`` from its last checkpoint.

    Returns:
        Where the run lies and how it ended.

    Raises:
        ConfigurationError: An option is not allowed, or ``out`` holds another run.
        DataError: The data cannot be used; the message names the file.
        DivergedError: The loss is not finite.
        RunError: Something cannot be written.
    """
    source = data if isinstance(data, SampleSource) else open_source(data)
    target = resolve_device(device)
    if out is not None and not str(out):
        raise ConfigurationError("--out is empty", expected="the name of a folder")
    if resume and out is None:
        raise ConfigurationError("--resume does not say which run", remedy="name its folder with --out")
    if resume and precision == "auto":
        precision = Run.read_plan(Path(str(out)).expanduser())[0].precision
    plan = make_plan(
        source,
        model=model,
        recipe=recipe,
        changes=changes or {},
        image_px=image_px,
        seed=seed,
        precision=resolve_precision(precision, target),
    )
    num_workers = resolve_num_workers(num_workers, target, plan.preprocess.crop_px)
    if resume:
        run = Run.resume(Path(str(out)).expanduser(), plan)
    else:
        path = default_run_path(plan) if out is None else _outside(Path(out).expanduser(), data)
        ignored = [{"path": file.path, "reason": file.reason} for file in source.ignored]
        facts = {"hardware": describe_hardware(target), "num_workers": num_workers, "ignored": ignored}
        run = Run.start(path, plan, facts)
    _introduce(plan, source, run)
    trainer = Trainer(plan, source, run, target, num_workers)
    try:
        with StopRequest() as stop:
            return trainer.run_to_end(stop)
    except DivergedError as error:
        run.set_status("diverged", trainer.step, str(error))
        raise
    except torch.OutOfMemoryError as error:
        run.set_status("failed", trainer.step, str(error))
        raise RunError(
            f"out of memory with batches of {plan.recipe.batch_size} at {plan.preprocess.crop_px} px",
            remedy="choose a smaller --batch-size or --image-px",
        ) from error
    except Exception as error:
        run.set_status("failed", trainer.step, f"{type(error).__name__}: {error}")
        raise


class Trainer:
    """The state of a run in progress: network, optimizer, step, and the sums since the last log line."""

    def __init__(
        self, plan: Plan, source: SampleSource, run: Run, device: torch.device, num_workers: int
    ) -> None:
        self.plan, self.source, self.run = plan, source, run
        self.device, self.num_workers = device, num_workers
        self.step = 0
        self.evaluation: Evaluation | None = None
        network = create(plan.spec, seed=plan.seed)
        self.model = Model(network, plan.classes, plan.preprocess, provenance=_provenance(plan)).to(device)
        self.optimizer = make_optimizer(network, plan.recipe)
        self._meter = Meter(device)
        self._epoch_sums = Sums()
        self._status = ""

    def run_to_end(self, stop: StopRequest) -> RunResult:
        """Train from the last checkpoint to the last step, or until ``stop`` is requested."""
        self._restore()
        ends = set(self.plan.epoch_ends())
        order = TrainingOrder(
            self.plan.seed,
            self.plan.num_samples,
            self.plan.recipe.batch_size,
            self.step,
            self.plan.total_steps,
        )
        batches = training_batches(
            self.source.split("train"),
            self.plan.preprocess,
            self.plan.recipe.augment,
            order,
            num_workers=self.num_workers,
            pin_memory=self.device.type == "cuda",
        )
        with ProgressBar(self.plan.total_steps, done=self.step, label="training") as bar:
            for batch in batches:
                self._update(batch.pixels, batch.labels)
                bar.update(self.step, self._status)
                if self._tenth(self.step) != self._tenth(self.step - 1) or self.step in ends:
                    self._log_window()
                if self.step in ends:
                    bar.update(self.step, f"evaluating {self.source.validation_split}")
                    self._evaluate(self.source.validation_split)
                    bar.line(self._epoch_line())
                    self._epoch_sums = Sums()
                    save(self.model, self.run.model_path)
                    self._save_checkpoint("running")
                    self._meter.skip_time()
                if stop.exit_code and self.step < self.plan.total_steps:
                    return self._interrupted(stop.exit_code)
        return self._finish()

    # -- one update ----------------------------------------------------------------------------------

    def _update(self, pixels: torch.Tensor, labels: torch.Tensor) -> None:
        recipe = self.plan.recipe
        rate = learning_rate(recipe, self.step, self.plan.total_steps, self.plan.warmup_steps)
        set_learning_rate(self.optimizer, rate)
        self.model.network.train()
        images = self.plan.preprocess.normalize(pixels.to(self.device, non_blocking=True))
        labels = labels.to(self.device, non_blocking=True)
        with autocast(self.device, self.plan.precision):
            logits = self.model.network(images)
        loss = functional.cross_entropy(logits.float(), labels, label_smoothing=recipe.label_smoothing)
        self._meter.add(loss.detach(), logits.detach(), labels)
        # On the CPU looking costs nothing; elsewhere it would wait for the device at every step.
        if self.device.type == "cpu" or self.step % 20 == 0:
            self._require_finite(float(loss.detach()), rate)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        self.optimizer.step()
        self.step += 1

    def _require_finite(self, loss: float, rate: float) -> None:
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss is {loss} at step {self.step + 1} (learning rate {rate:.4g})",
                remedy="start again with a lower --learning-rate or a longer --warmup-epochs",
            )

    # -- logging, evaluation, saving -----------------------------------------------------------------

    def _tenth(self, step: int) -> int:
        """Return the tenth of an epoch that ``step`` lies in; there is one log line for each.

        So short runs have curves, long ones small files, and the last line of an epoch ends with it.
        """
        return 10 * step * self.plan.recipe.batch_size // self.plan.num_samples

    def _epoch(self) -> float:
        return self.step * self.plan.recipe.batch_size / self.plan.num_samples

    def _log_window(self) -> None:
        rate = learning_rate(self.plan.recipe, self.step - 1, self.plan.total_steps, self.plan.warmup_steps)
        sums = self._meter.take()
        self._epoch_sums += sums
        figures = sums.means()
        self._require_finite(figures["loss"], rate)
        self._status = (
            f"epoch {self._epoch():.1f}  loss {figures['loss']:.3f}  top-1 {figures['top1']:.1%}  "
            f"{figures['images_per_second']:,.0f} images/s"
        )
        self.run.log(
            {"event": "train", "step": self.step, "epoch": self._epoch(), "learning_rate": rate, **figures}
        )

    def _evaluate(self, split: str) -> None:
        samples = self.source.split(split)
        self.evaluation = evaluate_split(self.model, samples, split, num_workers=self.num_workers)
        summary = self.evaluation.summary()
        self.model.metrics[split] = {name: value for name, value in summary.items() if name != "split"}
        self.run.log({"event": "evaluation", "step": self.step, "epoch": self._epoch(), **summary})
        keys = [mistake.index for mistake in self.evaluation.mistakes]
        pictures = [_picture(samples.read(index).content) for index in keys]
        self.run.record_evaluation(self.step, self.evaluation, pictures)

    def _epoch_line(self) -> str:
        means, done = self._epoch_sums.means(), self.evaluation
        measured = f", {done.split} loss {done.loss:.4f} top-1 {done.top1:.2%}" if done else ""
        return (
            f"epoch {self._epoch():4.0f}  training loss {means['loss']:.4f} top-1 {means['top1']:.2%}"
            f"{measured}  {means['images_per_second']:,.0f} images/s"
        )

    def _save_checkpoint(self, status: str) -> None:
        progress = Progress(self.step, self._meter.peek(), self._epoch_sums, self.model.metrics)
        save_checkpoint(self.run.checkpoints_path, progress, self.model.network, self.optimizer)
        self.run.set_status(status, self.step)

    def _restore(self) -> None:
        checkpoint = latest_checkpoint(self.run.checkpoints_path)
        if checkpoint is not None:
            progress = load_checkpoint(checkpoint, self.model.network, self.optimizer)
            self.step = progress.step
            self._meter.restore(progress.window)
            self._epoch_sums = progress.epoch
            self.model.metrics.update(progress.metrics)
            self.evaluation = self.run.read_evaluation(self.step)
            note(f"resuming at step {self.step} of {self.plan.total_steps}")
        self.run.forget_after(self.step)

    # -- ends ----------------------------------------------------------------------------------------

    def _interrupted(self, exit_code: int) -> RunResult:
        self._save_checkpoint("interrupted")
        # The model folder keeps the weights that its figures were measured on; before there are figures,
        # what has been learned so far is better than nothing.
        if not self.run.model_path.exists():
            save(self.model, self.run.model_path)
        write_report(self.run.path)
        return RunResult(self.run.path, "interrupted", exit_code, self.evaluation)

    def _finish(self) -> RunResult:
        split = self.source.evaluation_split
        if self.evaluation is None or self.evaluation.split != split:
            self._evaluate(split)
            save(self.model, self.run.model_path)
        self.run.set_status("finished", self.step)
        write_report(self.run.path)
        return RunResult(self.run.path, "finished", 0, self.evaluation)


def _outside(out: Path, data: SampleSource | str | Path) -> Path:
    """Return ``out``, unless it lies in the data, where the run's pictures would be taken for samples."""
    if isinstance(data, SampleSource) or data == "digits":
        return out  # not known to lie anywhere, or bundled
    if out.resolve().is_relative_to(Path(data).expanduser().resolve()):
        raise ConfigurationError(f"{out} lies inside the data {data}", remedy="choose an --out elsewhere")
    return out


def _introduce(plan: Plan, source: SampleSource, run: Run) -> None:
    splits = ", ".join(f"{len(split):,} {name}" for name, split in source.splits.items())
    note(f"data       {source.name}: {splits}; {len(source.classes)} classes")
    if source.held_out:
        note(f"           {source.held_out}")
    warn_each(source.ignored)
    macs = plan.spec.num_macs(plan.preprocess.crop_px)
    note(
        f"model      {plan.model}: {plan.spec.num_parameters:,} parameters, {macs / 1e6:,.0f} million "
        f"multiply-adds at {plan.preprocess.crop_px} px"
    )
    recipe = plan.recipe
    note(
        f"recipe     {recipe.name}: {plan.total_steps:,} steps of {recipe.batch_size}, learning rate "
        f"{recipe.learning_rate:g} ({recipe.schedule}), {plan.precision}, seed {plan.seed}"
    )
    mirrored = "mirrored (--flip no for digits and text)" if recipe.augment.flip else "not mirrored"
    note(f"images     {recipe.augment.crop} crop, {mirrored}")
    note(f"run        {run.path}")


def _provenance(plan: Plan) -> dict[str, Any]:
    return {
        "data": plan.data,
        "fingerprint": plan.fingerprint.get("train", ""),
        "recipe": plan.recipe.name,
        "seed": plan.seed,
        "precision": plan.precision,
        "residual": versions()["residual"],
        "torch": versions()["torch"],
        "date": now(),
    }


def _picture(content: bytes) -> bytes:
    """Return a PNG of an image file, at most 160 px a side."""
    image = Image.fromarray(np.ascontiguousarray(decode(content)))
    image.thumbnail((_PICTURE_PX, _PICTURE_PX))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
