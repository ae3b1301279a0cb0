"""What the golden runs came to on known processors; elsewhere their losses, to rounding.

python -m tests.golden.recorded    # adds this machine's list, which a commit says why it changed
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from deepresidual.cli import main
from deepresidual.runtime.device import describe_hardware
from tests.golden.runs import RECIPES, fingerprint, options_of

STORED = Path(__file__).with_name("runs.json")


def machine() -> str:
    """Return what the bits of a run depend on: processor, instructions, threads, torch."""
    hardware = describe_hardware(torch.device("cpu"))
    instructions = torch.backends.cpu.get_cpu_capability()
    return f"{hardware['name']}, {instructions}, {torch.get_num_threads()} threads, torch {torch.__version__}"


def trained(name: str, out: Path) -> dict[str, Any]:
    """Train a recipe in this process and return its fingerprint and its losses."""
    code = main(["train", "digits", "--out", str(out), *options_of(name)])
    if code:
        raise RuntimeError(f"the golden run {name} ended with exit code {code}")
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    losses = [round(row["loss"], 4) for row in rows if row["event"] == "train"]
    return {"fingerprint": fingerprint(out), "losses": losses}


def record() -> None:
    """Train every recipe and store what it came to."""
    stored = json.loads(STORED.read_text("utf-8")) if STORED.exists() else {"losses": {}, "machines": {}}
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: trained(name, Path(folder) / name) for name in RECIPES}
    stored["losses"] = {name: run["losses"] for name, run in runs.items()}
    stored["machines"][machine()] = {name: run["fingerprint"] for name, run in runs.items()}
    STORED.write_text(json.dumps(stored, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    torch.set_num_threads(1)  # as in the tests
    record()
