"""The README is run: every bash and python block, in order, where the photos lie that it speaks of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from deepresidual.data.source import open_source

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def test_the_first_block_is_the_two_commands() -> None:
    kind, text = BLOCKS[0]
    assert kind == "console"
    assert [line.split("#")[0].strip() for line in text.splitlines()] == ["make demo", "make test"]


def test_every_block_is_of_a_kind_that_is_run() -> None:
    assert {kind for kind, _ in BLOCKS[1:]} == {"bash", "python", "text"}


def test_every_linked_file_exists() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.test_all
def test_blocks_run_in_order(tmp_path: Path) -> None:
    digits = open_source("digits").split("train")
    for name, wanted in (("cats", 3), ("dogs", 7)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        samples = (digits.read(index) for index, label in enumerate(digits.labels) if label == wanted)
        for number, sample in zip(range(24), samples, strict=False):
            (tmp_path / "photos" / name / f"{number}.png").write_bytes(sample.content)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"}
    for kind, text in BLOCKS[1:]:
        if kind == "text":
            continue  # what the block before it prints
        command = ["bash", "-euc", text] if kind == "bash" else [sys.executable, "-c", text]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.fail(f"{text}\nleft with {done.returncode}:\n{done.stderr[-3000:]}")
    assert (tmp_path / "runs" / "mine" / "report.html").exists()
