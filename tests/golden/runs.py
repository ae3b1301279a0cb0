"""Golden runs: short trainings of six recipes whose weights and records must not change by a bit.

A program that trains two checkouts on this machine, and compares; the tests train this one.

    python tests/golden/runs.py OLD NEW                 # two checkouts; exit code 1 where they differ
    python tests/golden/runs.py OLD NEW --only lamb     # one recipe

Each recipe is trained on one rank, on two, and once more with a SIGKILL after a few steps and ``--resume``.
Compared are the SHA-256 of every tensor file, and all that was logged and evaluated except what the clock
decides.
Loads nothing but Python's own library, so that it can start any checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLOCK = ("images_per_second", "waiting", "memory_bytes", "seconds")
"""Figures that the clock and the system decide."""

LATER = ("baseline_top1", "baseline_class")
"""Keys that came to ``evaluation.json`` later; they follow from its confusions."""

_COMMON = "--seed 5 --precision fp32 --compile no --workers 1 --batch-size 120 --steps 14"
# 1,437 digits at a batch of 120 are 12 steps an epoch, so one evaluation lies between the steps.
RECIPES = {
    "sgd": "--model resnet20 --recipe cifar --image-px 16 --evaluate-every 0.5",
    "plain": "--model plain20 --recipe cifar2015 --image-px 16 --micro-batch-size 20 --schedule step "
    "--milestones 0.4 0.8 --warmup-epochs 0.2",
    "lamb": "--model resnet20 --recipe rsb_a2 --image-px 16 --repeated-augmentation 2 --stochastic-depth 0.1 "
    "--min-area 0.3",
    "average": "--model resnet110.preact --recipe torchvision_v2 --image-px 8 --ema-decay 0.9 --ema-every 2 "
    "--erasing 0.3 --label-smoothing 0.1",
    "everything": "--model resnet20 --recipe photos --image-px 16 --start-px 8 --evaluate-every 0.25 "
    "--validation 0.2 --schedule plateau --patience 1 --warmup constant --warmup-epochs 0.5 "
    "--warmup-learning-rate 0.01 --warmup-until-error 0.7 --precise-bn 240 --keep-model best --clip-norm 1 "
    "--mixup 0.4 --cutmix 1 --color-jitter 0.4 --non-finite rollback",
    "finetune": "--weights resnet20-digits --recipe finetune --optimizer adamw --beta2 0.99 "
    "--frozen-stages 1 --batch-norm frozen --backbone-lr-scale 0.1 --learning-rate 0.001 --epochs 10 "
    # As the recipe was before it began with a probe.
    "--classifier-init random --head-stages last --stage-lr-decay 1 --unfreeze-share 0 --keep-model last "
    "--early-stopping 0 --label-smoothing 0.1 --crop random-resized --min-area 0.25",
}
"""Options of ``residual train``, by name."""

# Options that had another name once: new name, old name.
RENAMED = {
    "--beta2": "--second-beta",
    "--step-decay": "--decay",
    "--backbone-lr-scale": "--backbone-rate",
    "--repeated-augmentation": "--repeats",
    "--growth-share": "--growing",
    "--subtract-mean": "--mean",
    "--pca-lighting": "--pca-color",
    "--keep-model": "--select",
}

_SECONDS = 300.0


def options_of(name: str) -> list[str]:
    """Return the words of a recipe's command, without data and destination."""
    return [*_COMMON.split(), *RECIPES[name].split()]


class Checkout:
    """A checkout of the project, and how its command line is started."""

    def __init__(self, path: Path, python: str) -> None:
        self.path = path.resolve()
        (self.package,) = (folder.parent.name for folder in (self.path / "src").glob("*/__main__.py"))
        self._python = python
        self._environment = {**os.environ, "PYTHONPATH": str(self.path / "src"), "OMP_NUM_THREADS": "2"}
        self._options = self._output("train", "--help-all") or self._output("train", "--help")

    def _output(self, *words: str) -> str:
        done = subprocess.run(
            [self._python, "-m", self.package, *words],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout if done.returncode == 0 else ""

    def _knows_old(self, option: str) -> bool:
        return option in RENAMED and f"{option} " not in self._options

    def start(
        self, options: str, out: Path, log: Path, *, ranks: int, resume: bool
    ) -> subprocess.Popen[bytes]:
        """Start a training and return its process."""
        program = ["-m", self.package]
        if ranks > 1:
            program = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", *program]
        words = [RENAMED.get(word, word) if self._knows_old(word) else word for word in options.split()]
        words = [self._python, *program, "train", "digits", "--out", str(out), *_COMMON.split(), *words]
        words += ["--resume"] if resume else []
        threads = {"OMP_NUM_THREADS": str(2 // ranks)}
        with log.open("a") as file:
            return subprocess.Popen(
                words, env={**self._environment, **threads}, stdout=file, stderr=file, start_new_session=True
            )

    def train(self, options: str, out: Path, *, ranks: int = 1, resume: bool = False) -> None:
        """Train to the end."""
        log = out.with_suffix(".log")
        process = self.start(options, out, log, ranks=ranks, resume=resume)
        if process.wait(_SECONDS):
            raise SystemExit(f"{self.path}: {out.name} ended with {process.returncode}\n{log.read_text()}")

    def train_killed(self, options: str, out: Path) -> None:
        """Train, kill the process once it has logged its fifth step, and resume."""
        options += " --checkpoint-minutes 0.0001"
        process = self.start(options, out, out.with_suffix(".log"), ranks=1, resume=False)
        until = time.monotonic() + _SECONDS
        while _last_step(out) < 5 and process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            raise SystemExit(f"{self.path}: {out.name} had ended before it was killed")
        self.train(options, out, resume=True)


def _last_step(out: Path) -> int:
    try:
        lines = (out / "metrics.jsonl").read_text("utf-8").splitlines()
        return max((json.loads(line).get("step", 0) for line in lines), default=0)
    except (OSError, ValueError):
        return 0


def fingerprint(out: Path) -> dict[str, str]:
    """Return SHA-256 of what a run has come to: tensors, metrics, evaluation."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    step = json.loads((out / "run.json").read_text("utf-8"))["step"]
    evaluation = json.loads((out / "evaluation.json").read_text("utf-8"))
    tensors = {
        "model": out / "model" / "model.safetensors",
        **{file.name: file for file in (out / "checkpoints" / f"step-{step}").glob("*.safetensors")},
    }
    return {
        **{name: _hash(file.read_bytes()) for name, file in sorted(tensors.items())},
        "metrics": _hash([{name: value for name, value in row.items() if name not in CLOCK} for row in rows]),
        "evaluation": _hash({name: value for name, value in evaluation.items() if name not in LATER}),
    }


def _hash(content: object) -> str:
    data = content if isinstance(content, bytes) else json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(data).hexdigest()


def runs_of(checkout: Checkout, name: str, folder: Path) -> dict[str, dict[str, str]]:
    """Train a recipe in every way and return the fingerprints."""
    options = RECIPES[name]
    folder.mkdir(parents=True)
    checkout.train(options, folder / "one")
    checkout.train(options, folder / "two", ranks=2)
    checkout.train_killed(options, folder / "killed")
    return {way: fingerprint(folder / way) for way in ("one", "two", "killed")}


def main() -> int:
    """Train both checkouts and print what is equal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--only", nargs="*", default=list(RECIPES))
    options = parser.parse_args()
    checkouts = [Checkout(path, sys.executable) for path in (options.old, options.new)]
    differing = 0
    with tempfile.TemporaryDirectory() as folder:
        for name in options.only:
            old, new = (
                runs_of(checkout, name, Path(folder) / f"{name}-{number}")
                for number, checkout in enumerate(checkouts)
            )
            for way in old:
                parts = [part for part in old[way] | new[way] if old[way].get(part) != new[way].get(part)]
                weights = old[way]["model"][:16]
                verdict = f"differ in {', '.join(parts)}" if parts else f"equal, weights {weights}"
                differing += bool(parts)
                sys.stdout.write(f"{name:<11}{way:<8}{verdict}\n")
                sys.stdout.flush()
            if old["killed"] != old["one"]:
                sys.stdout.write(
                    f"{name:<11}the killed run differs from the undisturbed one in {options.old}\n"
                )
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
