"""``--bad-samples skip``: named, counted, the same over workers, ranks and resumes, and not too many."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.conftest import COLORS, write_photos
from tests.suites import short
from tests.survival.trials import Trials, Undisturbed, Variant, record_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fork_server import ForkServer

SKIPPING = {"bad_samples": "skip"}
# 240 samples in batches of 60: two of them are less than one in a hundred, three are more.
CHANGES = {"epochs": 2.0, "batch_size": 60, "micro_batch_size": 10}


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


@pytest.fixture(scope="module")
def runs(runner: ForkServer, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Runs of 240 training images, two of them damaged."""
    folder = tmp_path_factory.mktemp("damaged")
    write_photos(folder / "photos" / "train", 80, side=8)
    write_photos(folder / "photos" / "test", 5, side=8, seed=1)
    for color in list(COLORS)[:2]:
        damage(folder / "photos" / "train" / color / f"{color}-007.png")
    return Undisturbed(Trials(runner, folder / "photos", folder))


@pytest.fixture
def damaged(runs: Undisturbed, tmp_path: Path) -> Trials:
    """Runs of the same images below a folder of the test's own."""
    return Trials(runs.trials.runner, runs.trials.data, tmp_path, runs)


def variant(name: str, num_ranks: int = 1, num_workers: int = 0) -> Variant:
    return Variant(name, CHANGES, {**SKIPPING, "num_workers": num_workers}, num_ranks)


def test_bad_samples_are_counted_and_listed(runs: Undisturbed) -> None:
    whole = runs.of(variant("skipping"))
    bad = whole.state["record"]["bad_samples"]
    assert sorted(bad) == ["train/blue/blue-007.png", "train/green/green-007.png"]
    assert "damaged PNG" in bad["train/blue/blue-007.png"]
    assert whole.said.count("blue-007.png is skipped") == 1  # not in every epoch


def test_bad_samples_are_the_same_with_workers_and_after_a_kill(damaged: Trials) -> None:
    workers = variant("skipping", num_workers=2)
    damaged.run("parts", workers, plants={"kill_at_step": 3}, checkpoint_minutes=1e-6)
    damaged.finish("parts", workers, resume=True)
    assert damaged.state("parts") == damaged.whole(variant("skipping"))


def test_two_ranks_know_of_the_same_bad_samples_after_a_kill_or_without(damaged: Trials) -> None:
    processes = variant("two ranks", num_ranks=2)
    damaged.run("parts", processes, plants={"kill_at_step": 5}, plants_of=1)
    damaged.finish("parts", processes, resume=True)
    assert damaged.state("parts") == damaged.whole(processes)
    assert len(damaged.whole(processes)["record"]["bad_samples"]) == 2


@pytest.mark.parametrize("num_ranks", short([1, 2], 1))
def test_more_than_one_in_a_hundred_ends_the_run(
    runner: ForkServer, damaged: Trials, tmp_path: Path, num_ranks: int
) -> None:
    photos = shutil.copytree(damaged.data, tmp_path / "photos")
    damage(photos / "train" / "red" / "red-007.png")
    damaged = Trials(runner, photos, tmp_path)
    children = damaged.run("run", variant("skipping", num_ranks))
    # The other rank may have gone by itself, or miss the one that has.
    assert children[0].code == 3, children[0].said
    assert "3 of 240 training images cannot be used (train/" in children[0].said
    record = record_of(damaged.folder / "run")
    assert (record["status"], record["step"] < 4) == (
        "failed",
        True,
    )  # in the first epoch, however many ranks


@pytest.mark.parametrize("num_ranks", short([1, 2], 2))
def test_a_bad_sample_that_is_not_to_be_skipped_is_named_by_the_first_rank(
    damaged: Trials, num_ranks: int
) -> None:
    stopping = Variant("stopping", CHANGES, num_ranks=num_ranks)
    children = damaged.run("run", stopping)
    assert children[0].code == 3, children[0].said
    assert "-007.png: damaged PNG" in children[0].said
    assert "-007.png" in record_of(damaged.folder / "run")["error"]
