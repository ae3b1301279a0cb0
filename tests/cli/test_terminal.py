"""Six commands in a real terminal of 80 columns: nothing is lost, and only commands to copy are wider."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import struct
import termios
from pathlib import Path

import pytest

from deepresidual.analysis import EXPERIMENT_NAMES
from deepresidual.models import TorchClassifier, save
from deepresidual.zoo import entries
from tests.commands import Commands
from tests.training.parts import a_start

COLUMNS = 80
TO_COPY = ("look ", "measure ", "use ", "explain ", "repeat ")


def shown(commands: Commands, *words: str) -> list[str]:
    """Run a command in a terminal; return the lines that stay, without colours and what was overwritten."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    child = commands.begin(*words, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    content = b""
    with contextlib.suppress(OSError):  # so Linux says that the other side is closed
        while part := os.read(ours, 65536):
            content += part
    os.close(ours)
    assert commands.wait(child) == 0, content.decode(errors="replace")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", content.decode()).replace("\r\n", "\n")
    lines = [line.rsplit("\r", 1)[-1].rstrip() for line in text.split("\n")]
    assert [line for line in lines if len(line) > COLUMNS and not line.startswith(TO_COPY)] == []
    return lines


@pytest.fixture
def here(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with photos, to be named shortly."""
    monkeypatch.chdir(photos.parent)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("LINES", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return photos.parent


def test_train(here: Path, commands: Commands) -> None:
    a_start(here / "start")
    words = (
        "train photos --weights start --recipe cifar --epochs 2 --batch-size 10 --precision fp32 --out run"
    )
    lines = shown(commands, *words.split())
    labels = {line.split()[0] for line in lines if line and not line.startswith(" ")}
    assert {"images", "network", "time", "run", "epoch", "test", "look", "measure", "use"} <= labels
    text = " ".join(" ".join(lines).split())
    for sentence in (
        "48 of photos to learn from, 3 classes: blue 16, green 16, red 16",
        "Ctrl-C saves, --resume goes on",
        "of 15 right: ",
        "always 'blue': 33 %",
    ):
        assert sentence in text


def test_evaluate_and_predict(here: Path, commands: Commands, tiny_model: TorchClassifier) -> None:
    save(tiny_model, here / "model")
    lines = shown(commands, "evaluate", "model", "photos", "--details")
    text = " ".join(" ".join(lines).split())
    assert "model on photos (test): " in text
    for head in ("precision", "recall", "baseline", "95 % interval", "true class", "confidence"):
        assert head in text
    lines = shown(commands, "predict", "model", "photos/test", "--top-k", "1")
    rows = [line for line in lines if line.endswith(".png")]
    assert len(rows) == 15
    assert all(re.match(r"(red|green|blue) +[01]\.\d{4}  photos/test/", row) for row in rows)


def test_models_and_reproduce(here: Path, commands: Commands) -> None:
    first_words = {line.split()[0] for line in shown(commands, "models") if line.strip()}
    assert {entry.name for entry in entries()} <= first_words
    assert {"resnet20-cifar10", "resnet56-cifar10", "resnet20-digits"} <= first_words
    first_words = {line.split()[0] for line in shown(commands, "reproduce") if line.strip()}
    assert set(EXPERIMENT_NAMES) <= first_words
    lines = shown(commands, "reproduce", "complexity", "--out", "complexity")
    assert sum(line.split()[0] == "PASS" for line in lines if line.strip()) > 10


def test_export(here: Path, commands: Commands, tiny_model: TorchClassifier) -> None:
    save(tiny_model, here / "model")
    lines = shown(commands, "export", "model", "out", "--data", "photos")
    assert "use   residual predict out PHOTOS" in lines
    assert "views of photos, test" in " ".join(" ".join(lines).split())
