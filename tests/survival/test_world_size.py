"""The same global batch on any number of ranks: the same samples, curves alike, each held-out sample once."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.conftest import write_photos
from tests.suites import short
from tests.survival.trials import EVERYTHING, Trials, Undisturbed, Variant, metrics_of, record_of, samples_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fork_server import ForkServer

# Numbers of ranks differ in the order in which gradients are summed, in the seventh digit: 4e-7 measured over
# these twelve steps. At ten times the learning rate, with statistics of three images, training itself makes
# that a tenth within eight steps; there a comparison of curves would say nothing.
ROUNDING = 5e-6
CHANGES = {
    "learning_rate": 0.005,
    "micro_batch_size": 3,
    "crop": "random-resized",
    "mixup": 0.2,
    "cutmix": 1.0,
    "ema_decay": 0.9,
}


def on(num_ranks: int, **changes: Any) -> Variant:
    return Variant(f"{num_ranks} ranks", {**CHANGES, **changes}, num_ranks=num_ranks)


def curve(out: Path) -> list[float]:
    """Return every loss, trained and measured."""
    return [row["loss"] for row in metrics_of(out)]


@pytest.mark.parametrize("num_ranks", short([2, 4], 2))
def test_any_number_of_ranks_sees_the_same_samples_and_has_the_same_curve(
    undisturbed: Undisturbed, num_ranks: int
) -> None:
    one, several = (undisturbed.of(on(number)).folder for number in (1, num_ranks))
    assert samples_of(one) == samples_of(several)
    assert len(set(samples_of(one))) == 12
    assert curve(several) == pytest.approx(curve(one), rel=ROUNDING)


def test_other_micro_batches_have_another_curve_with_the_same_samples(
    trials: Trials, undisturbed: Undisturbed
) -> None:
    # Shows that the tolerance above is small against what batch normalization makes of another division.
    threes = undisturbed.of(on(1)).folder
    trials.finish("sixes", on(1, micro_batch_size=6))
    sixes = trials.folder / "sixes"
    assert samples_of(threes) == samples_of(sixes)
    assert curve(sixes) != pytest.approx(curve(threes), rel=1000 * ROUNDING)


@pytest.mark.parametrize(
    "stops", short([((1, 2),), ((1, 2), (2, 5), (4, 7))], ((1, 2),)), ids=["once", "thrice"]
)
def test_a_run_goes_on_with_another_number_of_ranks(
    trials: Trials, undisturbed: Undisturbed, stops: tuple[tuple[int, int], ...]
) -> None:
    for num_ranks, step in stops:  # in and between epochs
        children = trials.run(
            "parts", on(num_ranks), resume=step > 2, plants={"signal_at_step": [step, 15]}, plants_of=0
        )
        assert [child.code for child in children] == [143] * num_ranks, children[0].said
    trials.finish("parts", on(2), resume=True)
    whole, parts = undisturbed.of(on(1)).folder, trials.folder / "parts"
    assert samples_of(parts) == samples_of(whole)
    assert curve(parts) == pytest.approx(curve(whole), rel=ROUNDING)


@pytest.mark.parametrize(
    ("num_ranks", "said"),
    [
        (5, "batch_size is 12 for 5 ranks; expected a multiple of 5"),
        pytest.param(
            6,
            "micro_batch_size is 3 and each of 6 ranks has 2 images; expected a divisor of that",
            marks=pytest.mark.test_all,
        ),
    ],
)
def test_a_number_of_ranks_that_does_not_divide_the_batch_cannot_go_on(
    trials: Trials, num_ranks: int, said: str
) -> None:
    trials.run("run", on(1), plants={"signal_at_step": [1, 15]})
    children = trials.begin("run", on(num_ranks), resume=True)
    trials.runner.wait(children[0])
    trials.runner.kill(*children[1:])
    assert children[0].code == 2
    assert said in children[0].said


@pytest.mark.parametrize("num_ranks", short([2, 3], 2))
def test_synchronized_statistics_are_those_of_one_process(trials: Trials, num_ranks: int) -> None:
    # Parts of an even size, for images are mixed in pairs within a part. A kink that one rounding more takes
    # on the other side shows sooner where steps are long.
    whole = {"micro_batch_size": None, "sync_batch_norm": True, "epochs": 1.0, "learning_rate": 0.001}
    trials.finish("one", on(1, **whole))
    trials.finish("together", on(num_ranks, **whole))
    trials.finish("apart", on(num_ranks, **{**whole, "sync_batch_norm": False}))
    one, together, apart = (curve(trials.folder / name) for name in ("one", "together", "apart"))
    assert together == pytest.approx(one, rel=ROUNDING)
    assert apart != pytest.approx(one, rel=1000 * ROUNDING)


@pytest.mark.parametrize("several", short([2, 3], 2))
def test_evaluation_counts_every_sample_once_on_any_number_of_ranks(
    runner: ForkServer, tmp_path: Path, several: int
) -> None:
    # 231 held-out samples are three batches of evaluation, the last one short.
    write_photos(tmp_path / "photos" / "train", 16, side=8)
    write_photos(tmp_path / "photos" / "test", 77, side=8, seed=1)
    trials = Trials(runner, tmp_path / "photos", tmp_path)
    halves: dict[str, Any] = {"epochs": 1.0, "micro_batch_size": 2}
    # Stopped after its last step, nothing but the evaluation is left to do.
    trials.run("run", on(1, **halves), plants={"signal_at_step": [4, 15]})
    found: dict[int, dict[str, Any]] = {}
    for num_ranks in (1, several):
        shutil.copytree(tmp_path / "run", tmp_path / f"{num_ranks}")
        trials.finish(f"{num_ranks}", on(num_ranks, **halves), resume=True)
        found[num_ranks] = json.loads((tmp_path / f"{num_ranks}" / "evaluation.json").read_text())
    assert found[1]["count"] == 231
    loss = found[1].pop("loss")
    assert found[several].pop("loss") == pytest.approx(loss, rel=1e-12)
    assert found[several] == found[1]


@pytest.mark.test_all
@pytest.mark.parametrize("num_ranks", [2, 4])
def test_a_run_with_everything_sees_the_same_samples(trials: Trials, num_ranks: int) -> None:
    for number in (1, num_ranks):
        trials.finish(f"{number}", Variant("all", EVERYTHING, {"validation": 0.25}, number))
    assert samples_of(trials.folder / "1") == samples_of(trials.folder / f"{num_ranks}")
    assert record_of(trials.folder / f"{num_ranks}")["num_ranks"] == num_ranks
