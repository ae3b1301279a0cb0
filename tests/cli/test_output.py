"""Tables and lines for people: every column at every width, and names that cannot break them."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path
from typing import Any

import pytest

from deepresidual.analysis.experiments import EXPERIMENTS
from deepresidual.cli import main
from deepresidual.cli.output import complain, print_json, print_line, print_table
from deepresidual.models import TorchClassifier, save
from deepresidual.zoo import entries
from tests.commands import Commands

Capture = pytest.CaptureFixture[str]

VERDICTS: dict[str, Any] = {
    "columns": ("verdict", "claim", "measured", "published", "tolerance"),
    "rows": [
        (
            word,
            "training error of plain-44 above that of plain-20",
            "+6.70 points [4.10, 9.30]",
            "13.27 − 8.75 = 4.52 points (plain44, plain20)",
            "interval of the difference above 0",
        )
        for word in ("PASS", "FAIL", "open")
    ],
}


class Terminal(io.StringIO):
    """A terminal that remembers what it shows."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def opened(monkeypatch: pytest.MonkeyPatch, width: int) -> Terminal:
    """Make the standard output of this process a terminal of so many columns."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    return terminal


def shown(terminal: Terminal) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", terminal.getvalue())


def holds(text: str, word: str) -> bool:
    """Return whether a word stands in a text, perhaps in two pieces in a column that is narrower than it."""
    return word in text or any(word[:cut] in text and word[cut:] in text for cut in range(1, len(word)))


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120, 200])
def test_no_cell_is_dropped_at_any_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    terminal = opened(monkeypatch, width)
    print_table(VERDICTS["columns"], VERDICTS["rows"])
    text = shown(terminal)
    assert "…" not in text
    assert max(map(len, text.splitlines())) <= width
    for row in VERDICTS["rows"]:
        assert text.count(row[0]) == 1
        assert all(holds(text, word) for cell in row for word in cell.split())


@pytest.mark.parametrize("width", [60, 80, 120])
def test_models_and_experiments_are_named_at_every_width(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    terminal = opened(monkeypatch, width)
    assert main(["models"]) == 0
    assert main(["models", "resnet50"]) == 0
    assert main(["reproduce"]) == 0
    lines = [line.strip() for line in shown(terminal).splitlines()]
    first_words = {line.split()[0] for line in lines if line}
    assert {entry.name for entry in entries()} <= first_words
    assert {experiment.name for experiment in EXPERIMENTS} <= first_words
    assert {"conv1", "conv2_x", "conv5_x", "fc", "total"} <= first_words
    text = shown(terminal)
    for entry in entries():
        assert f"{entry.spec.num_parameters:,}" in text
    assert "…" not in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_figures_and_findings_are_whole_at_every_width(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_model: TorchClassifier, photos: Path, width: int
) -> None:
    terminal = opened(monkeypatch, width)
    save(tiny_model, tmp_path / "model")
    (photos / "test" / "red" / "notes.txt").write_text("no picture")
    file = str(photos.parent / "all.csv")
    assert main(["evaluate", str(tmp_path / "model"), str(photos), "--details", "--predictions", file]) == 0
    assert main(["compare", file, file]) == 0
    assert main(["check", str(photos), "--workers", "0"]) == 0
    assert main(["data", "shard", str(photos), str(tmp_path / "tars")]) == 0
    text = shown(terminal)
    assert "…" not in text
    for name in ("split", "images", "top-1", "95 % interval", "loss", "ECE", "confidence", "right", "alone"):
        assert name in text
    for word in ("warning", "ignored", "train-000000.tar"):
        assert word in text
    assert holds(text, "all.csv")
    assert holds(text, "notes.txt")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_real_terminal_shows_every_experiment(
    width: int, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("LINES", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
    child = commands.begin("models", "resnet1*", stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    content = b""
    with contextlib.suppress(OSError):  # so Linux says that the other side is closed
        while part := os.read(ours, 65536):
            content += part
    os.close(ours)
    assert commands.wait(child) == 0
    lines = re.sub(r"\x1b\[[\d;]*m", "", content.decode()).splitlines()
    names = {entry.name for entry in entries() if entry.name.startswith("resnet1")}
    assert names <= {line.split()[0] for line in lines if line.strip()}
    # Below the table stand two sentences, which a terminal wraps.
    assert max(map(len, lines[:-2])) <= width


def test_columns_that_are_asked_for_hold_through_a_pipe(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    print_table(("kind", "what"), [("ignored", "word " * 40)])
    print_line("word " * 40)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 60
    assert sum(line.count("word") for line in lines) == 80


def test_nothing_is_cut_through_a_pipe(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    cells = ("a" * 290, "b" * 290, "c " * 140 + "end")
    print_table((">one", "two", "three"), [cells])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "aaa" in line]
    assert all(cell in line for cell in cells)


def test_names_cannot_break_a_table(capsys: Capture) -> None:
    names = [
        "[red]x[/red]",
        "[/]",
        "a\nb",
        "\x1b[2J",
        "gpj.\u202eexe",
        "caf\udce9",
        "大象" * 3,
        "A" * 200_000,
    ]
    print_table(("class", ">images"), [(name, "7") for name in names])
    out = capsys.readouterr().out
    rows = out.splitlines()[3:-1]
    assert len(rows) == len(names)
    assert [row.split()[-1] for row in rows] == ["7"] * len(names)
    for shown_name in (
        "[red]x[/red]",
        "[/]",
        r"a\nb",
        r"\x1b[2J",
        r"gpj.\u202eexe",
        r"caf\udce9",
        "大象大象大象",
    ):
        assert shown_name in out
    assert "A…A" in out
    assert max(map(len, rows)) < 400


def test_a_line_shows_control_characters_as_escapes(capsys: Capture) -> None:
    print_line("wrote runs/\x1b[31m\u202e\nnext")
    assert capsys.readouterr().out == "wrote runs/\\x1b[31m\\u202e\nnext\n"


def test_no_legend_looks_like_an_error(capsys: Capture) -> None:
    assert main(["models", "resnet5*"]) == 0
    assert main(["models", "resnet50"]) == 0
    out = capsys.readouterr().out
    assert "Errors are top-1, as published" in out
    assert [line for line in out.splitlines() if line.strip().startswith("error:")] == []


def test_nan_is_no_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"probability": float("nan")})


def test_a_long_error_is_broken_between_words_in_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("COLUMNS", "80")
    message = " ".join(["one word and another;"] * 20)
    said = []
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr("sys.stderr", stream)
        complain(message)
        said.append(stream.getvalue().splitlines())
    in_terminal, in_pipe = said
    assert max(map(len, in_terminal)) <= 80
    assert " ".join(in_terminal) == f"error: {message}"
    assert in_pipe == [f"error: {message}"]
