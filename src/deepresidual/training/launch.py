"""Start or resume a training run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

import torch

from deepresidual.data.source import BUNDLED, SampleSource, as_source
from deepresidual.data.source.dataset import Dataset
from deepresidual.data.source.division import as_recorded
from deepresidual.errors import ConfigurationError, DivergedError, ResidualError, RunError, UnknownNameError
from deepresidual.recipe.recipes import NAMES
from deepresidual.runs.folder import Run, already_holds_run, can_be_replaced, default_run_path
from deepresidual.runs.plan import Plan
from deepresidual.runs.read import holds_run, read_plan
from deepresidual.runs.samples import recorded_parts
from deepresidual.runs.tensorboard import require_tensorboard
from deepresidual.runtime.console import note, warn
from deepresidual.runtime.device import describe_hardware, resolve_device
from deepresidual.runtime.distributed import Processes
from deepresidual.runtime.files import expanded
from deepresidual.runtime.memory import allocator_policy
from deepresidual.runtime.processes import resolve_num_workers, usable_cores
from deepresidual.runtime.provenance import versions
from deepresidual.runtime.signals import StopRequest, StopRequested
from deepresidual.runtime.torchrun import launched_by_torchrun, place
from deepresidual.spec import NetworkSpec
from deepresidual.tasks import task_of
from deepresidual.training.beginning import (
    Beginning,
    begun,
    recorded_beginning,
    settle_beginning,
    with_held_out,
)
from deepresidual.training.introduction import introduce
from deepresidual.training.journal import Journal
from deepresidual.training.length import (
    Length,
    check_minutes,
    length_in_words,
    minutes_of,
    plan_again,
    plan_length,
)
from deepresidual.training.loop import RunResult, Trainer
from deepresidual.training.memory import allocator_policy_of, fitting_micro_batch, is_out_of_memory
from deepresidual.training.options import TrainKeywords, TrainOptions, with_keywords
from deepresidual.training.plan import make_plan
from deepresidual.training.resources import Resources


def train(
    data: SampleSource | Dataset | str | Path = "digits",
    model: str | NetworkSpec | None = None,
    out: str | Path | None = None,
    options: TrainOptions | None = None,
    *,
    resume: bool = False,
    checkpoint: int | None = None,
    **keywords: Unpack[TrainKeywords],
) -> RunResult:
    """Train a network and leave a run folder behind.

    Under torchrun every process calls this with the same arguments; they share each batch.

    Args:
        data: A data set by name: ``digits``, an image folder, a parquet file or folder, ``cifar10:PATH``,
            ``cifar100:PATH``, ``shards:PATTERN``, ``csv:FILE``. Or a Python object: what
            :func:`deepresidual.open_dataset` takes, such as data sets of torchvision and Hugging Face, lists
            of ``(image, label)``, and mappings of splits to them; or a :class:`deepresidual.SampleSource`.
        model: A name of the zoo, or a spec of one's own. Default: chosen by the size of the images.
        out: The run folder. Default: ``runs/DATA-MODEL``.
        options: How to train.
        resume: Continue the run in ``out`` from its newest checkpoint.
        checkpoint: Continue from the checkpoint of this step, which must be whole; needs ``resume``.
        keywords: Fields of :class:`deepresidual.training.options.TrainOptions` that replace those of
            ``options``, for example ``recipe="photos"``.

    Returns:
        Where the run lies and how it ended.

    Raises:
        ConfigurationError: An option is not allowed, or ``out`` holds another run.
        DataError: The data cannot be used; the message names the file.
        DivergedError: The loss is not finite.
        RunError: Something cannot be written, or there is too little memory.
    """
    options = with_keywords(options, keywords)
    if launched_by_torchrun():
        place()  # what is wrong with it is said before all else
    target = resolve_device(_of_this_rank(options.device))
    path = _run_path(out, resume=resume, checkpoint=checkpoint)
    resolve_num_workers(
        options.num_workers, target.type, 1
    )  # out of range is said before anything is written
    minutes = options.checkpoint_minutes
    if not 0 < minutes <= 1e6:
        raise ConfigurationError(f"checkpoint_minutes is {minutes}", expected="a number above 0")
    if options.tensorboard:
        require_tensorboard()
    _check_before_weights(options, path, resume=resume)
    # While the processes meet there is nothing to save: signals do their usual work.
    with Processes.join(target) as processes, StopRequest() as stop:
        # A worker that torchrun has started again goes on; the command that it was given says nothing of it.
        restarted = processes.num_restarts > 0 and path is not None and holds_run(path)
        resume = processes.broadcast(resume or restarted)
        opened = _opened_data(data, options, processes)
        with processes.failing_together():
            if path is not None and not resume:
                _require_outside(path, data)
        with _leaving_at_once(stop):
            resumed = path if resume else None
            beginning = _settled_beginning(opened, model, options, target, processes, resumed)
        with processes.failing_together():
            recorded = (
                recorded_parts(resumed / "samples", opened)
                if resumed is not None and processes.is_main
                else {}
            )
        recorded = processes.broadcast(recorded)
        with processes.failing_together():
            source = as_recorded(opened, recorded) if recorded else with_held_out(opened, options, beginning)
        settled = begun(options, beginning)
        run = _opened_run(
            source, beginning.model or model, settled, target, processes, path, beginning, resume=resume
        )
        with contextlib.closing(run):
            with processes.failing_together():
                if options.tensorboard:
                    run.log_to_tensorboard()
                crop_px = run.plan.preprocess.crop_px
                num_workers = resolve_num_workers(options.num_workers, target.type, crop_px)
                resources = Resources(target, stop, num_workers, processes)
            chosen = run.checkpoints_path / f"step-{checkpoint}" if checkpoint is not None else None
            with allocator_policy(allocator_policy_of(run.plan, target)):
                if not run.record.get("length", {"is_settled": True})["is_settled"]:
                    warming_up = _trainer(run, source, resources, settled)
                    result = _run(warming_up, run, processes, chosen, warm_up=True)
                    chosen = None
                    if result is not None:
                        return result
                result = _run(_trainer(run, source, resources, settled), run, processes, chosen)
                assert result is not None  # noqa: S101  # it went to the end
                return result


def _opened_data(
    data: SampleSource | Dataset | str | Path, options: TrainOptions, processes: Processes
) -> SampleSource:
    """Open the data on every process: on the main one first, whose hashes of images the others find kept."""
    opened: SampleSource | None = None
    for turn in (True, False) if processes.size > 1 else (True,):
        with processes.failing_together():
            if processes.is_main is turn:
                opened = as_source(
                    data,
                    labels=options.labels,
                    group=options.group,
                    num_workers=options.num_workers,
                    task=options.task,
                )
    assert opened is not None  # noqa: S101  # in one of the two turns
    return opened


def _check_before_weights(options: TrainOptions, path: Path | None, *, resume: bool) -> None:
    """Refuse what would be refused after weights were fetched as well; a worker started again may resume."""
    starts = path is not None and not resume and not launched_by_torchrun()
    if path is not None and starts and holds_run(path) and not can_be_replaced(path):
        raise already_holds_run(path)
    if isinstance(options.recipe, str) and options.recipe not in NAMES:
        raise UnknownNameError("recipe", options.recipe, NAMES)
    check_minutes(options.minutes)


@contextlib.contextmanager
def _leaving_at_once(stop: StopRequest) -> Iterator[None]:
    """Within the block, which may fetch weights, a signal ends the process: there is no run to save yet."""
    try:
        with stop.at_once():
            yield
    except StopRequested as request:
        raise (KeyboardInterrupt if request.exit_code == 130 else SystemExit(request.exit_code)) from None


def _settled_beginning(
    source: SampleSource,
    model: str | NetworkSpec | None,
    options: TrainOptions,
    device: torch.device,
    processes: Processes,
    resumed: Path | None,
) -> Beginning:
    """Settle on the main process what the run begins with, or read what a resumed run began with."""
    beginning = Beginning()
    with processes.failing_together():
        if processes.is_main:
            began = recorded_beginning(resumed) if resumed is not None else None
            if began is not None and options.weights is None:
                beginning = began
            else:
                beginning = settle_beginning(source, model, options, device)
                if began is not None:  # which images are held out is recorded
                    beginning = replace(beginning, validation=began.validation)
    return processes.broadcast(beginning)


def _trainer(run: Run, source: SampleSource, resources: Resources, options: TrainOptions) -> Trainer:
    with resources.processes.failing_together():
        return Trainer(
            run,
            source,
            resources,
            Journal(run, source, resources),
            weights=expanded(options.weights) if options.weights is not None else None,
            checkpoint_minutes=options.checkpoint_minutes,
        )


def _run(
    trainer: Trainer, run: Run, processes: Processes, checkpoint: Path | None, *, warm_up: bool = False
) -> RunResult | None:
    """Run a trainer to its end, or through the warm-up and settle the length of the run then.

    What breaks it is written into the run.
    """
    try:
        result = trainer.run_to_end(checkpoint, run.plan.warmup_steps if warm_up else None)
        if result is None:
            _settle_length(run, trainer)
        return result
    except DivergedError as error:
        _note_end(trainer, run, processes, "diverged", str(error))
        raise
    except Exception as error:
        _note_end(trainer, run, processes, "failed", f"{type(error).__name__}: {error}")
        if is_out_of_memory(error):
            recipe = run.plan.recipe
            raise RunError(
                f"out of memory with {recipe.micro_batch_size or recipe.batch_size // processes.size} images "
                f"of {run.plan.train_px} px at a time",
                remedy="choose --batch-size auto, a smaller model or --activation-checkpointing",
            ) from error
        if processes.size > 1 and isinstance(error, RuntimeError):
            raise processes.lost(error) from error  # in the exchange of gradients
        raise


def _settle_length(run: Run, trainer: Trainer) -> None:
    """Plan the rest of the minutes by the time that the warm-up took."""
    timed = trainer.timed
    plan, length = plan_again(
        run.plan,
        Length(**run.record["length"]),
        timed.count // run.plan.recipe.batch_size,
        timed.seconds,
        trainer.kept.evaluation_seconds,
    )
    run.settle_plan(plan, {"length": length.to_dict()})
    note(f"length     {length_in_words(plan.total_steps, length)}")


def _note_end(trainer: Trainer, run: Run, processes: Processes, status: str, error: str) -> None:
    """Write into the run how it ended; where that fails, too, the first error is the one to tell."""
    with contextlib.suppress(ResidualError):
        run.set_status(status, trainer.state.step, error)
        if processes.is_main:
            trainer.journal.end()


def _of_this_rank(device: str) -> str:
    """Return the device of this process: under torchrun each takes a GPU of its own."""
    if launched_by_torchrun() and device in ("auto", "cuda") and torch.cuda.is_available():
        return f"cuda:{place().local_rank}"
    return device


def _run_path(out: str | Path | None, *, resume: bool, checkpoint: int | None) -> Path | None:
    if out is not None and not str(out):
        raise ConfigurationError("--out is empty", expected="the name of a folder")
    if resume and out is None:
        raise ConfigurationError("--resume does not say which run", remedy="name its folder with --out")
    if checkpoint is not None and not resume:
        raise ConfigurationError("--checkpoint goes with --resume", remedy="add --resume")
    if out is None and launched_by_torchrun():
        raise ConfigurationError(
            "under torchrun --out says where the run lies, so that a restarted worker finds it",
            remedy="name a folder with --out",
        )
    return expanded(out) if out is not None else None


def _opened_run(
    source: SampleSource,
    model: str | NetworkSpec | None,
    options: TrainOptions,
    device: torch.device,
    processes: Processes,
    path: Path | None,
    beginning: Beginning,
    *,
    resume: bool,
) -> Run:
    """Settle the plan and open the run folder: the first rank does it, the others hear of it."""
    opened: Run | None = None
    with processes.failing_together():
        if processes.is_main:
            opened = (
                _resumed(source, model, options, device, processes, path)
                if resume and path is not None
                else _started(source, model, options, device, processes, path, beginning)
            )
            length = opened.record.get("length")
            introduce(opened.plan, source, beginning, length["minutes"] if length else 0.0)
            note(f"{'run':<12}{opened.path}")
    told: tuple[dict[str, Any], str, int] | None = None
    if opened is not None:
        told = opened.plan.to_dict(), str(opened.path), torch.get_num_threads()
    told = processes.broadcast(told)
    if opened is not None:
        return opened
    plan, where, threads = told or ({}, "", 1)
    if resume and threads != torch.get_num_threads():
        torch.set_num_threads(threads)
    return Run.read_only(Path(where), Plan.from_dict(plan))


def _started(
    source: SampleSource,
    model: str | NetworkSpec | None,
    options: TrainOptions,
    device: torch.device,
    processes: Processes,
    path: Path | None,
    beginning: Beginning,
) -> Run:
    plan = make_plan(source, model, options, device)
    _check_split(plan, processes)
    minutes, length = minutes_of(options, plan.recipe, device, processes.size), None
    if minutes:
        plan, length = plan_length(plan, minutes, device)
    if options.fit_memory:
        micro_batch_size = fitting_micro_batch(plan, device, plan.recipe.batch_size // processes.size)
        recipe = replace(plan.recipe, micro_batch_size=micro_batch_size)
        plan = replace(plan, recipe=recipe)
    facts = {**_facts(plan, source, options, device, processes), "begins_with": beginning.to_dict()}
    if length is not None:
        facts["length"] = length.to_dict()
    return Run.start(path or default_run_path(plan), plan, source, facts)


def _facts(
    plan: Plan, source: SampleSource, options: TrainOptions, device: torch.device, processes: Processes
) -> dict[str, Any]:
    """Return what a run remembers beside its plan."""
    group = {} if options.group is None else {"group": options.group}
    charts = {} if plan.task == "classification" else {"charts": dict(task_of(plan).charts)}
    return {
        **charts,
        **group,
        "hardware": describe_hardware(device),
        "num_ranks": processes.size,
        "data_location": source.location,
        "ignored": [{"path": file.path, "reason": file.reason} for file in source.ignored],
    }


def _resumed(
    source: SampleSource,
    model: str | NetworkSpec | None,
    options: TrainOptions,
    device: torch.device,
    processes: Processes,
    path: Path,
) -> Run:
    recorded, record = read_plan(path)
    if "length" in record:  # the number of updates was settled here
        steps = {"steps": recorded.recipe.steps, "warmup_steps": recorded.recipe.warmup_steps}
        options = replace(options, changes={**options.changes, **steps})
    if options.changes.get("micro_batch_size") is None and recorded.recipe.micro_batch_size is not None:
        # Found by halving when the run began.
        options = replace(
            options, changes={**options.changes, "micro_batch_size": recorded.recipe.micro_batch_size}
        )
    if options.group not in (None, record.get("group")):
        raise ConfigurationError(
            f"{path} was started differently (group: {record.get('group')} → {options.group})",
            remedy="resume without --group, or start anew in another --out",
        )
    plan = make_plan(source, model, options, device, recorded=recorded)
    run = Run.resume(path, plan, source, _facts(plan, source, options, device, processes))
    _check_split(run.plan, processes)
    _compute_alike(run.record, device)
    if recorded.recipe.micro_batch_size is None and run.record["num_ranks"] != processes.size:
        warn(
            f"the run began on {run.record['num_ranks']} ranks and goes on with {processes.size}: BN takes "
            f"its statistics from {recorded.recipe.batch_size // processes.size} images now; a run with "
            f"--micro-batch-size keeps them the same on any number of ranks"
        )
    return run


def _compute_alike(record: Mapping[str, Any], device: torch.device) -> None:
    """Take as many threads as the run began with, and warn of what makes its bits differ all the same."""
    before, now = record["hardware"], describe_hardware(device)
    if device.type == "cpu" and before["device"] == "cpu" and before["threads"] != now["threads"]:
        torch.set_num_threads(before["threads"])
        if before["threads"] > usable_cores():
            warn(
                f"the run began on {before['threads']} threads, and as many are used on "
                f"{usable_cores()} cores for the same bits; that is slow"
            )
    changed = [
        f"{name} {before.get(name)} → {now[name]}"
        for name in ("device", "name", "bf16")
        if before.get(name) != now[name]
    ]
    changed += [
        f"{name} {before_version} → {versions().get(name)}"
        for name, before_version in record["versions"].items()
        if versions().get(name) != before_version
    ]
    if changed:
        warn(
            f"not the machine or the software that the run began with ({', '.join(changed)}); bits may differ"
        )


def _check_split(plan: Plan, processes: Processes) -> None:
    recipe = plan.recipe
    if recipe.batch_size % processes.size:
        raise ConfigurationError(
            f"batch_size is {recipe.batch_size} for {processes.size} ranks",
            expected=f"a multiple of {processes.size}",
        )
    part = recipe.batch_size // processes.size
    if recipe.micro_batch_size is not None and part % recipe.micro_batch_size:
        raise ConfigurationError(
            f"micro_batch_size is {recipe.micro_batch_size} and each of {processes.size} ranks has "
            f"{part} images",
            expected="a divisor of that",
        )


def _require_outside(out: Path, data: SampleSource | Dataset | str | Path) -> None:
    """Refuse a run folder in the data, where the run's pictures would be taken for samples."""
    if not isinstance(data, str | Path) or data in BUNDLED:
        return  # not known to lie anywhere, or bundled
    if out.resolve().is_relative_to(expanded(data).resolve()):
        raise ConfigurationError(f"{out} lies inside the data {data}", remedy="choose an --out elsewhere")
