"""Starting, resuming and failing: what a run remembers, and what it says when it cannot go on."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

import deepresidual
from deepresidual.backends.classifier import SettledPrecision
from deepresidual.data.loader import Batch
from deepresidual.errors import ConfigurationError, DataError, DivergedError, MissingDependencyError, RunError
from deepresidual.models import load
from deepresidual.nn import body_of
from deepresidual.runtime.distributed import Processes
from deepresidual.runtime.files import FolderLock, remove
from deepresidual.tasks import BatchSums
from deepresidual.training.launch import _check_split, train
from deepresidual.training.loop import RunResult
from deepresidual.training.memory import fitting_micro_batch, is_out_of_memory
from deepresidual.training.state import TrainingState
from deepresidual.training.updater import Updater
from tests.conftest import TINY, write_photos
from tests.suites import short
from tests.training.parts import (
    CPU,
    a_plan,
    a_run,
    a_start,
    changed,
    record_of,
    rows,
    state,
    stop_after,
    weights_of,
)

pytestmark = pytest.mark.usefixtures("no_report")


# -- choices -------------------------------------------------------------------------------------------


def stopped(photos: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
    """Train for seven of ten steps."""
    with monkeypatch.context() as patch:
        stop_after(patch, 7)
        assert a_run(photos, out, **options).status == "interrupted"


@pytest.mark.parametrize("faster", short(["bf16", "fp32"], "bf16"))
def test_an_automatic_precision_is_settled_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faster: str
) -> None:
    def measured(precision: str) -> Callable[..., SettledPrecision]:
        return lambda *_, **__: SettledPrecision(precision, f"measured: {precision}")  # type: ignore[arg-type]

    monkeypatch.setattr("deepresidual.training.plan._FLOP_WORTH_MEASURING", 0)
    monkeypatch.setattr("deepresidual.training.plan.settle_precision", measured(faster))
    stopped(photos, tmp_path / "run", monkeypatch, precision="auto")
    plan = record_of(tmp_path / "run")["plan"]
    assert (plan["precision"], plan["precision_reason"]) == (faster, f"measured: {faster}")
    other = "fp32" if faster == "bf16" else "bf16"
    monkeypatch.setattr("deepresidual.training.plan.settle_precision", measured(other))
    assert a_run(photos, tmp_path / "run", precision="auto", resume=True).status == "finished"
    assert record_of(tmp_path / "run")["plan"]["precision"] == faster


def test_a_run_goes_on_whose_record_does_not_say_why_its_precision_was_chosen(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(photos, tmp_path / "run", monkeypatch)
    record = record_of(tmp_path / "run")
    del record["plan"]["precision_reason"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    assert a_run(photos, tmp_path / "run", resume=True).status == "finished"


def test_the_record_says_how_idle_threads_wait(whole: Path) -> None:
    assert record_of(whole)["hardware"]["idle_threads"]


def test_a_measured_mean_is_the_same_after_a_stop(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"subtract_mean": "pixel"}
    a_run(photos, tmp_path / "whole", changes)
    stopped(photos, tmp_path / "parts", monkeypatch, changes=changes)
    a_run(photos, tmp_path / "parts", changes, resume=True)
    assert changed(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")) == set()
    assert load(tmp_path / "parts").preprocess.mean_image is not None


# One of each group in ``make test``, which between them have every part; each part alone names what broke.
TOGETHER: list[dict[str, Any]] = [
    {
        "optimizer": "adamw",
        "learning_rate": 0.002,
        "micro_batch_size": 5,
        "mixup": 0.5,
        "cutmix": 1.0,
        "ema_decay": 0.8,
        "precise_bn": 20,
        "start_px": 4,
        "repeated_augmentation": 2,
    },
    {
        "optimizer": "lamb",
        "learning_rate": 0.01,
        "stochastic_depth": 0.3,
        "schedule": "step",
        "warmup": "constant",
        "warmup_until_error": 0.99,
        "warmup_epochs": 1.0,
        "frozen_stages": 1,
        "batch_norm": "frozen",
    },
]
ALONE: list[dict[str, Any]] = [
    {"optimizer": "adamw", "learning_rate": 0.002},
    {"optimizer": "lamb", "learning_rate": 0.01},
    {"micro_batch_size": 5, "mixup": 0.5, "cutmix": 1.0},
    {"stochastic_depth": 0.3},
    {"ema_decay": 0.8, "precise_bn": 20},
    {"schedule": "step", "warmup": "constant", "warmup_until_error": 0.99, "warmup_epochs": 1.0},
    {"start_px": 4, "repeated_augmentation": 2},
    {"frozen_stages": 1, "batch_norm": "frozen"},
]


@pytest.mark.parametrize("changes", short([*TOGETHER, *ALONE], *TOGETHER), ids="-".join)
def test_every_part_goes_on_to_the_same_bits(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    a_run(photos, tmp_path / "whole", changes)
    stopped(photos, tmp_path / "parts", monkeypatch, changes=changes)
    a_run(photos, tmp_path / "parts", changes, resume=True)
    assert changed(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")) == set()
    losses = [[row["loss"] for row in rows(tmp_path / name)] for name in ("whole", "parts")]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("precision", short(["bf16", "fp16"], "fp16"))
def test_half_precision_goes_on_to_the_same_bits(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    a_run(photos, tmp_path / "whole", precision=precision)
    stopped(photos, tmp_path / "parts", monkeypatch, precision=precision)
    a_run(photos, tmp_path / "parts", precision=precision, resume=True)
    assert changed(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")) == set()


def test_a_run_remembers_what_it_was_told(photos: Path, tmp_path: Path) -> None:
    a_run(photos, tmp_path / "run", {"steps": 1}, seed=3)
    record = record_of(tmp_path / "run")
    assert record["plan"]["seed"] == 3
    assert record["num_ranks"] == 1
    assert record["hardware"]["threads"] == torch.get_num_threads()
    assert record["plan"]["weights"]


# -- threads -------------------------------------------------------------------------------------------


@pytest.fixture
def threads() -> Any:
    """Leave the number of threads as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def edited(out: Path, **facts: Any) -> None:
    """Change what a run remembers."""
    import json

    record = record_of(out)
    (out / "run.json").write_text(json.dumps({**record, **facts}), "utf-8")


@pytest.mark.usefixtures("threads")
def test_a_resumed_run_takes_as_many_threads_as_it_began_with(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("deepresidual.training.launch.usable_cores", lambda: 4)
    torch.set_num_threads(3)
    a_run(photos, tmp_path / "run", {"steps": 1})
    torch.set_num_threads(1)
    a_run(photos, tmp_path / "run", {"steps": 1}, resume=True)
    assert torch.get_num_threads() == 3
    assert "the run began on" not in capsys.readouterr().err


@pytest.mark.usefixtures("threads")
def test_more_threads_than_cores_are_said(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(2)
    a_run(photos, tmp_path / "run", {"steps": 1})
    torch.set_num_threads(1)
    monkeypatch.setattr("deepresidual.training.launch.usable_cores", lambda: 1)
    a_run(photos, tmp_path / "run", {"steps": 1}, resume=True)
    assert "the run began on 2 threads, and as many are used on 1 cores for the same bits; that is slow" in (
        capsys.readouterr().err
    )


def test_another_machine_and_another_version_are_said(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], whole: Path
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    record = record_of(tmp_path / "run")
    edited(
        tmp_path / "run",
        hardware={**record["hardware"], "name": "Another CPU"},
        versions={**record["versions"], "torch": "2.9.0"},
    )
    a_run(photos, tmp_path / "run", resume=True)
    said = capsys.readouterr().err
    assert "not the machine or the software that the run began with (name Another CPU → " in said
    assert f"torch 2.9.0 → {record['versions']['torch']}); bits may differ" in said


def test_the_same_machine_is_not_worth_a_word(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], whole: Path
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    a_run(photos, tmp_path / "run", resume=True)
    assert "warning" not in capsys.readouterr().err


def test_another_number_of_ranks_is_said_where_it_changes_the_statistics(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], whole: Path
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    edited(tmp_path / "run", num_ranks=2)
    a_run(photos, tmp_path / "run", resume=True)
    assert "began on 2 ranks and goes on with 1: BN takes its statistics from 10 images" in " ".join(
        capsys.readouterr().err.split()
    )


def test_another_number_of_ranks_is_nothing_where_micro_batches_are_fixed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"steps": 1, "micro_batch_size": 5}
    a_run(photos, tmp_path / "run", changes)
    edited(tmp_path / "run", num_ranks=2)
    a_run(photos, tmp_path / "run", changes, resume=True)
    assert "goes on with" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fields", "size", "message"),
    [
        ({"batch_size": 12}, 5, "batch_size is 12 for 5 ranks; expected a multiple of 5"),
        (
            {"batch_size": 12, "micro_batch_size": 4},
            2,
            "micro_batch_size is 4 and each of 2 ranks has 6 images; expected a divisor of that",
        ),
    ],
)
def test_a_batch_must_divide_among_the_ranks(fields: dict[str, Any], size: int, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        _check_split(a_plan(**fields), Processes(size=size))


def test_ranks_that_do_not_divide_the_batch_are_refused_on_resume(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    from deepresidual.training import launch

    shutil.copytree(whole, tmp_path / "run")
    seen: list[int] = []
    monkeypatch.setattr(launch, "_check_split", lambda plan, _: seen.append(plan.recipe.batch_size))
    a_run(photos, tmp_path / "run", resume=True)
    assert seen == [10]


# -- fine-tuning ---------------------------------------------------------------------------------------


def first_weights(photos: Path, out: Path, **options: Any) -> dict[str, torch.Tensor]:
    """Return what a run begins with: its weights after an update at no rate to speak of."""
    a_run(photos, out, {"steps": 1, "learning_rate": 1e-300, "weight_decay": 0.0}, **options)
    return {name: tensor for name, tensor in weights_of(out).items() if "running" not in name}


def test_the_classifier_stays_where_the_classes_are_the_same(photos: Path, tmp_path: Path) -> None:
    start = a_start(tmp_path / "same")
    before = state(load(start).network)
    after = first_weights(photos, tmp_path / "run", weights=start)
    assert {name for name in changed(after, before) if "num_batches" not in name} == set()


@pytest.mark.parametrize("labels", [("cat", "dog", "owl"), ("red", "green", "blue"), ("a", "b")])
def test_a_new_classifier_is_drawn_for_other_classes(
    photos: Path, tmp_path: Path, labels: tuple[str, ...]
) -> None:
    # In another order, too: its rows would be those of other classes.
    start = a_start(tmp_path / "other", labels=labels)
    before = state(load(start).network)
    after = first_weights(photos, tmp_path / "run", weights=start)
    drawn = state(deepresidual.create(TINY, seed=0))
    assert torch.equal(after["fc.weight"], drawn["fc.weight"])
    body = {name: tensor for name, tensor in after.items() if not name.startswith("fc.")}
    assert {name for name in changed(body, before) if "num_batches" not in name} == set()


def test_the_weights_that_a_model_began_with_are_in_its_provenance(photos: Path, tmp_path: Path) -> None:
    a_run(photos, tmp_path / "run", {"steps": 1})
    assert load(tmp_path / "run").provenance["weights"] == record_of(tmp_path / "run")["plan"]["weights"]


def test_a_run_is_a_start_for_another(photos: Path, tmp_path: Path) -> None:
    a_run(photos, tmp_path / "first")
    before = weights_of(tmp_path / "first")
    after = first_weights(photos, tmp_path / "second", weights=tmp_path / "first")
    assert {name for name in changed(after, before) if "num_batches" not in name} == set()


def test_freezing_what_was_never_trained_is_said(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"steps": 1, "frozen_stages": 1}
    a_run(photos, tmp_path / "run", changes, weights="none", model="resnet20", image_px=8)
    assert "warning: frozen_stages 1 holds still what was never trained; start from a model" in " ".join(
        capsys.readouterr().err.split()
    )


def test_frozen_stages_are_the_same_after_a_run(photos: Path, tmp_path: Path) -> None:
    a_run(photos, tmp_path / "run", {"frozen_stages": 2, "micro_batch_size": 2})
    before = state(load(photos.parent / "start").network)
    moved = {name.split(".")[0] for name in changed(before, weights_of(tmp_path / "run"))}
    assert moved == {"layer2", "fc"}


# -- memory --------------------------------------------------------------------------------------------


@pytest.fixture
def nothing_to_collect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave garbage where it is: the collector walks through all that the other tests have imported."""
    monkeypatch.setattr("deepresidual.training.memory.gc", SimpleNamespace(collect=lambda: 0))


@pytest.mark.usefixtures("nothing_to_collect")
def test_the_micro_batch_is_halved_until_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def update(plan: object, device: object, size: int) -> None:
        tried.append(size)
        if size > 16:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr("deepresidual.training.memory._try_update", update)
    assert fitting_micro_batch(a_plan(batch_size=96), CPU, 96) == 12
    assert tried == [96, 48, 24, 12]


def test_what_fits_at_once_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deepresidual.training.memory._try_update", lambda *_: None)
    assert fitting_micro_batch(a_plan(), CPU, 12) == 12


@pytest.mark.usefixtures("nothing_to_collect")
@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("can't allocate memory")],
)
def test_no_memory_for_anything_is_said(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr("deepresidual.training.memory._try_update", full)
    with pytest.raises(RunError, match="there is no memory for 3 images of 8 px at a time; choose a smaller"):
        fitting_micro_batch(a_plan(), CPU, 12)


def test_another_error_while_trying_is_not_taken_for_a_lack_of_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("deepresidual.training.memory._try_update", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        fitting_micro_batch(a_plan(), CPU, 12)


def test_trying_is_really_an_update() -> None:
    plan = a_plan(stochastic_depth=0.5)
    before = torch.get_rng_state()
    assert fitting_micro_batch(plan, CPU, 12) == 12
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.usefixtures("nothing_to_collect")
def test_a_fitted_run_keeps_its_batch_and_remembers_its_micro_batch(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def small(plan: object, device: object, size: int) -> None:
        if size > 5:
            raise MemoryError

    monkeypatch.setattr("deepresidual.training.memory._try_update", small)
    stopped(photos, tmp_path / "run", monkeypatch, fit_memory=True)
    recipe = record_of(tmp_path / "run")["plan"]["recipe"]
    assert (recipe["batch_size"], recipe["micro_batch_size"]) == (10, 5)
    assert "5 images at a time instead of 10; the batch stays as it is" in capsys.readouterr().err
    # Going on is not a new try, on a machine with more memory either.
    monkeypatch.setattr("deepresidual.training.memory._try_update", lambda *_: pytest.fail("tried again"))
    assert a_run(photos, tmp_path / "run", fit_memory=True, resume=True).status == "finished"


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_the_micro_batch_is_halved_where_the_system_has_no_more_memory(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import resource

    plan = a_plan(dataclasses.replace(TINY, widths=(32, 32)), batch_size=128, train_px=64)
    fitting_micro_batch(plan, CPU, 1)
    for more_bytes in (100_000_000, 130_000_000, 170_000_000):
        child = os.fork()  # the limit holds for a process, to its end
        if not child:
            try:
                pages = int(Path("/proc/self/statm").read_text().split()[0])
                limit = pages * resource.getpagesize() + more_bytes
                resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
                (tmp_path / "size").write_text(str(fitting_micro_batch(plan, CPU, 128)))
            finally:
                os._exit(0)
        # Where the byte too many is one of oneDNN's own, that library may end the process by a signal.
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            break
    size = int((tmp_path / "size").read_text())
    assert size in {2**power for power in range(7)}  # 128 images do not fit
    assert f"{size} images at a time instead of 128" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("Sizes of tensors must match"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_a_lack_of_memory_is_known_by_its_error(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


# -- a loss that is not finite -------------------------------------------------------------------------


def poison(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Let a gradient of these steps be infinite."""
    gradients = Updater.gradients

    def poisoned(self: Updater, batch: Batch, step: int) -> list[BatchSums] | None:
        hook = cast("Any", body_of(self.network).fc.weight.register_hook)
        handle = hook(lambda gradient: gradient * (math.inf if step in steps else 1))
        try:
            return gradients(self, batch, step)
        finally:
            handle.remove()

    monkeypatch.setattr(Updater, "gradients", poisoned)


@pytest.mark.parametrize("non_finite", ["skip", "rollback"])
def test_a_bad_step_is_left_out_and_remembered(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, non_finite: str
) -> None:
    poison(monkeypatch, 3, 6)
    result = a_run(photos, tmp_path / "run", {"non_finite": non_finite, "rollback_steps": 1})
    assert result.status == "finished"
    record = record_of(tmp_path / "run")
    assert record["not_finite"] == [3, 6]
    assert record["step"] == 10


def test_a_run_that_left_a_step_out_goes_on_to_the_same_bits(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"non_finite": "skip"}
    poison(monkeypatch, 3)
    a_run(photos, tmp_path / "whole", changes)
    stopped(photos, tmp_path / "parts", monkeypatch, changes=changes)
    a_run(photos, tmp_path / "parts", changes, resume=True)
    assert changed(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")) == set()


@pytest.mark.parametrize("non_finite", ["skip", "rollback"])
@pytest.mark.parametrize("first", short([0, 1, 5], 0))
def test_ten_bad_steps_in_a_row_are_a_divergence(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int, non_finite: str
) -> None:
    poison(monkeypatch, *range(first, first + 10))
    with pytest.raises(
        DivergedError, match=rf"loss or gradient is not finite at step {first + 10} .*start again with"
    ):
        a_run(photos, tmp_path / "run", {"non_finite": non_finite, "rollback_steps": 1, "steps": 30})
    assert record_of(tmp_path / "run")["status"] == "diverged"


@pytest.mark.parametrize("first", short([0, 1, 5], 1))
def test_nine_bad_steps_in_a_row_are_none(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    poison(monkeypatch, *range(first, first + 9), *range(first + 10, first + 19))
    assert a_run(photos, tmp_path / "run", {"non_finite": "skip", "steps": 30}).status == "finished"


def test_a_bad_step_ends_a_run_that_is_to_stop(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 3)
    with pytest.raises(
        DivergedError, match=r"not finite at step 4 \(learning rate 0\.0\d+\); samples train/"
    ):
        a_run(photos, tmp_path / "run")


# -- failing -------------------------------------------------------------------------------------------


def fail_at(monkeypatch: pytest.MonkeyPatch, error: Exception, step: int = 7) -> None:
    gradients = Updater.gradients

    def failing(self: Updater, batch: Batch, now: int) -> list[BatchSums] | None:
        if now == step:
            raise error
        return gradients(self, batch, now)

    monkeypatch.setattr(Updater, "gradients", failing)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (DivergedError("the loss is nan"), "diverged"),
        pytest.param(ValueError("anything"), "failed", marks=pytest.mark.test_all),
    ],
)
def test_the_report_says_how_a_run_failed_and_does_not_reload(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, status: str
) -> None:
    monkeypatch.undo()  # with reports
    fail_at(monkeypatch, error)
    with pytest.raises(type(error), match=str(error)):
        a_run(photos, tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert f"This run is {status}, after " in page
    assert str(error) in page
    assert "http-equiv" not in page


def test_an_error_that_cannot_be_written_down_does_not_hide_itself(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepresidual.runs.folder import Run

    fail_at(monkeypatch, ValueError("the first error"))
    set_status = Run.set_status

    def full(self: Run, status: str, *arguments: Any, **facts: Any) -> None:
        if status == "failed":
            raise RunError("no space left on the disk")
        set_status(self, status, *arguments, **facts)

    monkeypatch.setattr(Run, "set_status", full)
    with pytest.raises(ValueError, match="the first error"):
        a_run(photos, tmp_path / "run")


def test_a_failed_run_can_go_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    with monkeypatch.context() as patch:
        fail_at(patch, ValueError("anything"))
        with pytest.raises(ValueError, match="anything"):
            a_run(photos, tmp_path / "parts")
    assert a_run(photos, tmp_path / "parts", resume=True).status == "finished"
    assert changed(weights_of(whole), weights_of(tmp_path / "parts")) == set()


def test_a_broken_connection_says_how_to_go_on(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from deepresidual.training import launch

    class Stub:
        state = TrainingState(step=3)

        def run_to_end(self, *_: object) -> None:
            raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by\npeer [10.0.0.1]:4242")

    class Record:
        path = tmp_path

        def set_status(self, *_: object) -> None:
            pass

    with pytest.raises(
        RunError,
        match=r"rank 1 has lost the others \(.*Connection closed by peer .*\); start again with --res",
    ):
        launch._run(Stub(), Record(), Processes(rank=1, size=2), None)  # type: ignore[arg-type]


# -- going back ----------------------------------------------------------------------------------------


def test_going_back_to_a_checkpoint_forgets_the_later_ones(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    shutil.copytree(whole, tmp_path / "run")
    # From step 5 to 7, and stopped; the next resume has to go on from there, not from step 10.
    stopped(photos, tmp_path / "run", monkeypatch, resume=True, checkpoint=5)
    a_run(photos, tmp_path / "run", resume=True)
    steps = [[(row["event"], row["step"]) for row in rows(run)] for run in (whole, tmp_path / "run")]
    assert steps[0] == steps[1]
    assert changed(weights_of(whole), weights_of(tmp_path / "run")) == set()


def test_a_checkpoint_that_is_not_there_is_named(photos: Path, tmp_path: Path, whole: Path) -> None:
    from deepresidual.errors import ModelFileError

    shutil.copytree(whole, tmp_path / "run")
    with pytest.raises(ModelFileError, match=r"step-3 cannot be used \(No such file or directory\)"):
        a_run(photos, tmp_path / "run", resume=True, checkpoint=3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"out": ""}, "--out is empty; expected the name of a folder"),
        ({"out": None, "resume": True}, "--resume does not say which run; name its folder with --out"),
        ({"out": "run", "checkpoint": 5}, "--checkpoint goes with --resume; add --resume"),
        ({"out": "run", "checkpoint_minutes": 0.0}, "checkpoint_minutes is 0.0; expected a number above 0"),
        ({"out": "run", "validation": 0.6}, "validation is 0.6; expected a share from 0 to 0.5"),
    ],
)
def test_what_does_not_go_together_is_said_first(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=message):
        train(photos, "resnet20", image_px=8, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


def test_under_torchrun_the_folder_must_be_named(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = {
        "RANK": "0",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "29500",
    }
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="under torchrun --out says where the run lies"):
        train(photos, "resnet20", image_px=8)


# -- stopping ------------------------------------------------------------------------------------------


def test_a_run_can_be_stopped_while_it_reads_its_images_into_memory(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Path
) -> None:
    import signal

    def reading(*_: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("the signal was not heard while it was reading")

    with monkeypatch.context() as patch:
        patch.setattr("deepresidual.training.feed.can_be_resident", lambda *_: True)
        patch.setattr("deepresidual.training.feed.InMemoryImages.read", reading)
        assert a_run(photos, tmp_path / "parts").exit_code == 143
    assert record_of(tmp_path / "parts")["step"] == 0
    assert a_run(photos, tmp_path / "parts", resume=True).status == "finished"
    assert changed(weights_of(whole), weights_of(tmp_path / "parts")) == set()


# -- starting again after a failure before the first update --------------------------------------------


@pytest.fixture
def failed(photos: Path, tmp_path: Path, damage: Callable[[Path], None]) -> Path:
    """A run that failed at two damaged photos, which have been removed since."""
    bad = [photos / "train" / "red" / f"red-{number:03}.png" for number in (9, 11)]
    for path in bad:
        damage(path)
    with pytest.raises(DataError, match=r"2 images .*red-009\.png .*red-011\.png .*--bad-samples skip; "):
        probed(photos, tmp_path / "run")
    assert (record_of(tmp_path / "run")["status"], record_of(tmp_path / "run")["step"]) == ("failed", 0)
    for path in bad:
        path.unlink()
    return tmp_path / "run"


def probed(photos: Path, out: Path, **options: Any) -> RunResult:
    return a_run(photos, out, {"steps": 0}, recipe="probe", **options)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_that_failed_before_its_first_update_is_replaced(
    photos: Path, failed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "holds a run that failed before its first update; the new run replaces it"
    assert probed(photos, failed).status == "finished"
    assert capsys.readouterr().err.count(said) == 1
    assert probed(photos, tmp_path / "other").status == "finished"
    assert said not in capsys.readouterr().err
    assert files(failed).keys() == files(tmp_path / "other").keys()
    for name in files(failed):
        if name.startswith("samples/"):
            assert (failed / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert record_of(failed)["error"] == ""
    with pytest.raises(ConfigurationError, match="already holds a run; continue it with --resume"):
        probed(photos, failed)


def test_a_resume_with_repaired_data_says_how_to_start_anew(photos: Path, failed: Path) -> None:
    with pytest.raises(ConfigurationError, match="the data have changed .* leave out --resume to start anew"):
        probed(photos, failed, resume=True)


@pytest.mark.parametrize(
    "there",
    [
        "thesis.txt",
        "samples/thesis.txt",
        "model/config.json",
        "first-model/config.json",
        "checkpoints/step-0/state.json",
        "evaluation.json",
    ],
)
def test_a_failed_run_with_anything_to_lose_is_not_replaced(photos: Path, failed: Path, there: str) -> None:
    (failed / there).parent.mkdir(parents=True, exist_ok=True)
    (failed / there).write_text("{}")
    before = files(failed)
    with pytest.raises(ConfigurationError, match="already holds a run; continue it with --resume"):
        probed(photos, failed)
    assert files(failed) == before


@pytest.mark.parametrize(
    "fields", [{"step": 1}, {"status": "running"}, {"status": "diverged"}, {"step": "0"}]
)
def test_another_run_without_a_model_is_not_replaced(
    photos: Path, failed: Path, fields: dict[str, Any]
) -> None:
    (failed / "run.json").write_text(json.dumps({**record_of(failed), **fields}))
    before = files(failed)
    with pytest.raises(ConfigurationError, match="already holds a run; continue it with --resume"):
        probed(photos, failed)
    assert files(failed) == before


def test_a_failed_run_with_metrics_is_not_replaced(photos: Path, failed: Path) -> None:
    (failed / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(ConfigurationError, match="already holds a run; continue it with --resume"):
        probed(photos, failed)


def test_a_failed_run_that_a_process_still_writes_is_not_replaced(photos: Path, failed: Path) -> None:
    before, lock = files(failed), FolderLock(failed)
    with pytest.raises(ConfigurationError, match="another process is writing the run"):
        probed(photos, failed)
    lock.release()
    assert files(failed) == before


def test_a_process_that_was_quicker_to_replace_a_failed_run_keeps_it(
    photos: Path, failed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_process_is_quicker(path: Path) -> None:
        (path / "run.json").write_text(json.dumps({**record_of(path), "status": "running"}))

    monkeypatch.setattr("deepresidual.runs.folder.make_folder", other_process_is_quicker)
    with pytest.raises(ConfigurationError, match="already holds a run; choose another --out"):
        probed(photos, failed)
    assert (record_of(failed)["status"], (failed / "samples").exists()) == ("running", True)


@pytest.mark.parametrize("name", ["metrics.jsonl", "report.html", "samples"])
def test_a_kill_while_a_failed_run_is_replaced_leaves_one_that_can_be(
    photos: Path, failed: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def dying(path: Path) -> None:
        if path.name == name:
            raise KeyboardInterrupt
        remove(path)

    with monkeypatch.context() as patch:
        patch.setattr("deepresidual.runs.folder.remove", dying)
        with pytest.raises(KeyboardInterrupt):
            probed(photos, failed)
    assert probed(photos, failed).status == "finished"


def test_what_cannot_be_removed_of_a_failed_run_is_named(
    photos: Path, failed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepresidual.runs.folder.remove", lambda _: None)
    with pytest.raises(RunError, match="cannot remove .*; choose another --out"):
        probed(photos, failed)
    assert record_of(failed)["status"] == "failed"


# -- introducing itself --------------------------------------------------------------------------------


def test_the_rule_that_held_images_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photos = write_photos(tmp_path / "photos", 20)
    a_run(photos, tmp_path / "run", {"steps": 1})
    assert "a fifth of each class is held out by the hash of the file name" in capsys.readouterr().err


# -- compiled ------------------------------------------------------------------------------------------


@pytest.mark.test_all
def test_a_compiled_network_is_trained(photos: Path, tmp_path: Path) -> None:
    for compile_choice in ("no", "yes"):
        out = tmp_path / compile_choice
        assert a_run(photos, out, {"micro_batch_size": 5}, compile=compile_choice).status == "finished"
    assert record_of(tmp_path / "yes")["plan"]["compiled"]
    eager, compiled = ([row["loss"] for row in rows(tmp_path / name)] for name in ("no", "yes"))
    assert compiled == pytest.approx(eager, rel=1e-3)
    # Names and shapes are those of the network, not of what compiling wraps around it.
    assert weights_of(tmp_path / "yes").keys() == weights_of(tmp_path / "no").keys()


def test_tensorboard_that_is_missing_leaves_nothing_behind(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingDependencyError, match="--tensorboard needs the package tensorboard, which is"):
        a_run(photos, tmp_path / "run", tensorboard=True)
    assert not (tmp_path / "run").exists()
