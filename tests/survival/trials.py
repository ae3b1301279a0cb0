"""Runs in forked processes, and everything that two of them must agree in."""

from __future__ import annotations

import hashlib
import json
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.conftest import TINY
from tests.fork_server import PATIENCE_SECONDS, Child, ForkServer

CLOCK = {"images_per_second", "waiting", "memory_bytes", "seconds"}
"""What the clock and the system decide."""

# 48 samples in batches of 12: four steps an epoch, and every number of ranks up to four divides it.
CHANGES: dict[str, Any] = {"epochs": 3.0, "batch_size": 12, "learning_rate": 0.05, "start_px": None}
OPTIONS: dict[str, Any] = {
    "model": TINY.to_dict(),
    "recipe": "cifar",
    "image_px": 8,
    "num_workers": 0,
    "precision": "fp32",
    "compile": "no",
}
TOTAL_STEPS = 12

EVERYTHING: dict[str, Any] = {
    "mixup": 0.4,
    "cutmix": 1.0,
    "micro_batch_size": 3,
    "ema_decay": 0.9,
    "schedule": "plateau",
    "patience": 1,
    "warmup": "constant",
    "warmup_epochs": 2.0,
    "warmup_learning_rate": 0.01,
    "warmup_until_error": 0.7,
    "precise_bn": 24,
    "clip_norm": 1.0,
    "keep_model": "best",
    "evaluate_every": 0.5,
    "crop": "random-resized",
    "color_jitter": 0.4,
    "erasing": 0.3,
    "stochastic_depth": 0.1,
    "start_px": 4,
}
"""Every part of a run that has a state or draws numbers; needs a share of the samples held out."""


@dataclass(frozen=True)
class Variant:
    """A way to train that must survive like every other.

    Attributes:
        name: What it is called.
        changes: Fields of the recipe.
        options: What else is asked for.
        num_ranks: How many processes.
        data: Another data set than the pictures.
    """

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    num_ranks: int = 1
    data: str = ""


class Trials:
    """Runs of one data set, forked by one server, below one folder."""

    def __init__(
        self, runner: ForkServer, data: Path, folder: Path, undisturbed: Undisturbed | None = None
    ) -> None:
        self.runner, self.data, self.folder = runner, data, folder
        self.undisturbed = undisturbed or Undisturbed(self)

    def job(
        self,
        out: str,
        variant: Variant,
        *,
        resume: bool = False,
        plants: dict[str, Any] | None = None,
        obstruct: dict[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Return the job of a run."""
        return {
            "act": "tests.survival.runner:run",
            "data": variant.data or str(self.data),
            "out": str(self.folder / out),
            "changes": {**CHANGES, **variant.changes},
            "options": {**OPTIONS, **variant.options, **options, "resume": resume},
            "plants": plants or {},
            **({"obstruct": obstruct} if obstruct else {}),
        }

    def begin(
        self,
        out: str,
        variant: Variant,
        *,
        plants_of: int | None = None,
        environment: dict[str, str] | None = None,
        **arguments: Any,
    ) -> list[Child]:
        """Begin a run on all its ranks.

        Args:
            out: Name of the run.
            variant: How to train.
            plants_of: The rank that gets the plants; all where left out.
            environment: What torchrun would tell more to the ranks.
            **arguments: As for :meth:`job`.
        """
        job = self.job(out, variant, **arguments)
        if variant.num_ranks == 1:
            return [self.runner.begin(job)]
        port = str(_free_port())
        children = []
        for rank in range(variant.num_ranks):
            own_environment = {
                **(environment or {}),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "WORLD_SIZE": str(variant.num_ranks),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": port,
            }
            own = {**job, "environment": own_environment}
            if plants_of not in (None, rank):
                own["plants"] = {}
            children.append(self.runner.begin(own))
        return children

    def run(self, out: str, variant: Variant, **arguments: Any) -> list[Child]:
        """Run to the end; once a rank has died the others are killed, as torchrun does it."""
        children = self.begin(out, variant, **arguments)
        until = time.monotonic() + PATIENCE_SECONDS
        while any(child.code is None for child in children):
            assert time.monotonic() < until, "\n".join(child.said for child in children)
            self.runner.next_message(1.0)
            if any(child.code is not None and child.code < 0 for child in children):
                self.runner.kill(*(child for child in children if child.code is None))
        return children

    def finish(self, out: str, variant: Variant, **arguments: Any) -> list[Child]:
        """Run to the end, which must be a good one."""
        children = self.run(out, variant, **arguments)
        assert [child.code for child in children] == [0] * len(children), children[0].said
        return children

    def state(self, out: str) -> dict[str, Any]:
        """Return all that two runs must agree in; see :func:`state_of`."""
        return state_of(self.folder / out)

    def whole(self, variant: Variant) -> dict[str, Any]:
        """Return all that a run comes to that nothing happened to."""
        return self.undisturbed.of(variant).state

    def has_begun(self, out: str) -> bool:
        """Return whether there is a run to resume."""
        return (self.folder / out / "run.json").exists()

    def is_finished(self, out: str) -> bool:
        """Return whether a run has come to its end."""
        return self.has_begun(out) and record_of(self.folder / out)["status"] == "finished"


@dataclass(frozen=True)
class Whole:
    """A run that nothing happened to.

    Attributes:
        folder: The run folder.
        state: See :func:`state_of`.
        num_operations: Operations on its files.
        seconds: How long it took.
        said: What it said.
    """

    folder: Path
    state: dict[str, Any]
    num_operations: int
    seconds: float
    said: str


class Undisturbed:
    """Runs that nothing happened to, each done once whatever it is called."""

    def __init__(self, trials: Trials) -> None:
        self.trials = trials
        self._known: dict[str, Whole] = {}

    def of(self, variant: Variant) -> Whole:
        """Return a run of the variant."""
        key = json.dumps([variant.changes, variant.options, variant.num_ranks, variant.data])
        if key not in self._known:
            out = f"whole-{len(self._known)}"
            started = time.monotonic()
            children = self.trials.finish(out, variant, plants={"kill_at_operation": 0}, plants_of=0)
            seconds = time.monotonic() - started
            folder = self.trials.folder / out
            num_operations = int(folder.with_name(f"{out}.count").read_text())
            self._known[key] = Whole(folder, state_of(folder), num_operations, seconds, children[0].said)
        return self._known[key]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def record_of(out: Path) -> dict[str, Any]:
    """Return ``run.json``."""
    record: dict[str, Any] = json.loads((out / "run.json").read_text())
    return record


def metrics_of(out: Path) -> list[dict[str, Any]]:
    """Return every line of the metrics without what the clock decides."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [_without_clock(row) for row in rows]


def samples_of(out: Path) -> list[str]:
    """Return the digests of the samples seen, in order."""
    return [row["samples"] for row in metrics_of(out) if row["event"] == "train"]


def state_of(out: Path) -> dict[str, Any]:
    """Return all that a run has come to, but for what the clock decides: hashes of files, and documents."""
    record = record_of(out)
    newest = out / "checkpoints" / f"step-{record['step']}"
    files = [
        out / "model" / "model.safetensors",
        *newest.glob("*.safetensors"),
        *(file for name in ("mistakes", "best", "heat-maps") for file in (out / name).iterdir()),
    ]
    return {
        "metrics": metrics_of(out),
        "state": _without_clock(json.loads((newest / "state.json").read_text())),
        "evaluation": json.loads((out / "evaluation.json").read_text()),
        "record": {name: record[name] for name in ("status", "step", "plan", "bad_samples", "not_finite")},
        "label_metrics": json.loads((out / "model" / "config.json").read_text())["residual"]["metrics"],
        "files": {
            path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(files)
        },
        "names": sorted(path.name for path in out.iterdir() if path.name != "report.html"),
    }


def _without_clock(document: Any) -> Any:
    if isinstance(document, dict):
        return {name: _without_clock(value) for name, value in document.items() if name not in CLOCK}
    return [_without_clock(value) for value in document] if isinstance(document, list) else document
