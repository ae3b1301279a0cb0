"""A full disk: the checkpoint before stays whole, nothing half written stays, and the run can go on."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from deepresidual.training.checkpoint import newest_checkpoint
from tests.survival.trials import Trials, Undisturbed, Variant, record_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fork_server import ForkServer

# A checkpoint of it has 3.3 MB.
PLAIN = Variant("plain", {"epochs": 2.0, "ema_decay": 0.9}, {"model": "resnet20"})


def hidden(folder: Path) -> list[str]:
    """Return what is left of writes that did not come to their end."""
    return [path.name for path in folder.rglob(".*")]


def fails_and_goes_on(trials: Trials, out: str, said: str) -> None:
    """Hold a run that has ended on a full disk to what is promised, make room, and go on."""
    newest = newest_checkpoint(trials.folder / out / "checkpoints")
    assert newest is not None
    assert newest[1].state.step == 4
    assert hidden(trials.folder / out) == []
    assert "Traceback" not in said


def test_a_file_that_may_not_grow_ends_the_run_and_a_resume_gives_the_same_bits(trials: Trials) -> None:
    # Other than a full disk this needs no rights, so it runs everywhere; writes fail alike.
    trials.run("parts", PLAIN, plants={"kill_at_step": 5})
    (child,) = trials.run("parts", PLAIN, plants={"file_bytes": 1_000_000}, resume=True)
    assert child.code == 1, child.said
    assert re.search(
        r"error: cannot write \S+/(model|step-8) \(File too large; it needs [\d,]{7,} bytes, "
        r"[\d,]+ bytes are free there\); choose another folder or free some space",
        child.said,
    ), child.said
    fails_and_goes_on(trials, "parts", child.said)
    assert record_of(trials.folder / "parts")["status"] == "failed"
    trials.finish("parts", PLAIN, resume=True)
    assert trials.state("parts") == trials.whole(PLAIN)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 16 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode:
        pytest.skip(
            f"may not mount a file system here; the test by file size has run ({mounted.stderr.strip()})"
        )
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(place: Path, leave: int) -> Path:
    """Fill a file system up to ``leave`` bytes."""
    ballast = place / "ballast"
    with ballast.open("wb") as file, contextlib.suppress(OSError):
        os.posix_fallocate(file.fileno(), 0, max(1, shutil.disk_usage(place).free - leave))
    return ballast


@pytest.mark.test_all
@pytest.mark.parametrize("leave", [0, 300_000, 1_500_000, 3_000_000])
def test_a_full_disk_ends_the_run_and_a_resume_gives_the_same_bits(
    runner: ForkServer, pictures: Path, small_disk: Path, undisturbed: Undisturbed, leave: int
) -> None:
    trials = Trials(runner, pictures, small_disk, undisturbed)
    trials.run("parts", PLAIN, plants={"kill_at_step": 5})
    ballast = fill(small_disk, leave)
    (child,) = trials.run("parts", PLAIN, resume=True)
    assert child.code == 1, child.said
    assert re.search(
        r"error: cannot write \S+ \(No space left on device; (it needs [\d,]+ bytes, )[\d,]+ bytes are free "
        r"there\); choose another folder or free some space",
        child.said,
    ), child.said
    fails_and_goes_on(trials, "parts", child.said)
    ballast.unlink()
    trials.finish("parts", PLAIN, resume=True)
    assert trials.state("parts") == trials.whole(PLAIN)


def test_a_save_on_a_full_disk_says_how_much_the_checkpoint_needs(
    runner: ForkServer, pictures: Path, small_disk: Path
) -> None:
    trials = Trials(runner, pictures, small_disk)
    trials.run("parts", PLAIN, plants={"kill_at_step": 5})
    # Enough for the line of metrics and run.json, too little for the first tensors: stopped by a signal at
    # step 6 the run has nothing to write but a checkpoint.
    fill(small_disk, 500_000)
    (child,) = trials.run("parts", PLAIN, resume=True, plants={"signal_at_step": [6, 15]})
    needed = re.search(
        r"cannot write \S+/step-6 \(No space left on device; it needs ([\d,]+) bytes", child.said
    )
    assert needed, child.said
    sizes = json.loads((trials.folder / "parts" / "checkpoints" / "step-4" / "manifest.json").read_text())[
        "files"
    ]
    tensors = sum(size["bytes"] for name, size in sizes.items() if name.endswith("safetensors"))
    assert 0.9 * tensors < int(needed.group(1).replace(",", "")) < 1.1 * tensors
