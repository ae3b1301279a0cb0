"""Output that is closed, full or read by nobody: no traceback, the right exit code, and work that goes on."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deepresidual.cli import main
from deepresidual.cli.streams import _guarded as guarded
from deepresidual.cli.streams import _Output as Output
from deepresidual.models import TorchClassifier, save
from tests.commands import CLOSED, Commands, Done
from tests.suites import short

FULL = "error: cannot write the output (No space left on device)\n"
UNKNOWN = "error: unknown command 'trian' (nearest: train); see 'residual --help'\n"
needs_full = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full of Linux")


@pytest.fixture
def stream(request: pytest.FixtureRequest) -> Iterator[Callable[[str], int | None]]:
    """Return a stream by its kind: closed, full, gone (a pipe that nobody reads), or the usual one."""
    opened: list[int] = []

    def open_stream(kind: str) -> int | None:
        if kind == "full":
            opened.append(os.open("/dev/full", os.O_WRONLY))
        elif kind == "gone":
            reader, writer = os.pipe()
            os.close(reader)
            opened.append(writer)
        else:
            return CLOSED if kind == "closed" else None
        return opened[-1]

    yield open_stream
    for descriptor in opened:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("arguments", "stdout", "stderr", "stdin", "code", "err"),
    [
        ("models resnet5*", "closed", "", "", 0, ""),
        ("models resnet5* --json", "closed", "closed", "", 0, ""),
        ("trian", "", "closed", "", 2, ""),
        ("trian", "closed", "closed", "closed", 2, ""),
        ("--help", "closed", "", "", 0, ""),
        ("models resnet5*", "gone", "", "", 0, ""),
        ("models resnet5* --json", "gone", "", "", 0, ""),
        ("train --help", "gone", "", "", 0, ""),
        pytest.param("models", "full", "", "", 1, FULL, marks=needs_full),
        pytest.param("models resnet5* --json", "full", "", "", 1, FULL, marks=needs_full),
        pytest.param("--help", "full", "", "", 1, FULL, marks=needs_full),
        pytest.param("train --help", "full", "", "", 1, FULL, marks=needs_full),
        pytest.param("trian", "", "full", "", 2, "", marks=needs_full),
        ("trian", "", "", "", 2, UNKNOWN),
    ],
)
def test_whatever_the_streams_are(
    commands: Commands,
    stream: Callable[[str], int | None],
    arguments: str,
    stdout: str,
    stderr: str,
    stdin: str,
    code: int,
    err: str,
) -> None:
    done = commands.run(*arguments.split(), stdout=stream(stdout), stderr=stream(stderr), stdin=stream(stdin))
    assert done == Done(code, "", err)


# Python itself begins and ends here, as users have it.
@pytest.mark.parametrize(
    ("arguments", "redirection", "code", "out", "err"),
    [
        ("models --json", "| head -n 1", 0, "{\n", ""),
        ("trian", ">&- 2>&- <&-", 2, "", ""),
        pytest.param("--help", "> /dev/full", 1, "", FULL, marks=needs_full),
    ],
)
@pytest.mark.parametrize("unbuffered", ["", *short(["1"])])
def test_python_ends_quietly(
    arguments: str, redirection: str, code: int, out: str, err: str, unbuffered: str
) -> None:
    line = f"{shlex.quote(sys.executable)} -m deepresidual {arguments} {redirection}"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (code, out, err)


def test_a_command_does_its_work_though_it_cannot_say_so(
    tmp_path: Path, tiny_model: TorchClassifier, photos: Path, commands: Commands
) -> None:
    save(tiny_model, tmp_path / "model")
    file = tmp_path / "all.csv"
    (photos / "test" / "notes.txt").write_text("a warning comes of it")
    words = ["evaluate", str(tmp_path / "model"), str(photos), "--predictions", str(file)]
    assert commands.run(*words, stdout=CLOSED, stderr=CLOSED) == Done(0, "", "")
    # No file of the command has taken the number of a closed stream, and with it the messages.
    assert file.read_text().startswith("key,label,predicted,")
    assert len(file.read_text().splitlines()) == 16


# -- in this process ---------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path, tiny_model: TorchClassifier) -> str:
    save(tiny_model, tmp_path / "model")
    return str(tmp_path / "model")


@pytest.mark.parametrize("options", [[], ["--format", "csv"], ["--format", "jsonl"], ["--json"]])
@pytest.mark.parametrize(
    ("destination", "code", "err"), [pytest.param("/dev/full", 1, FULL, marks=needs_full), ("pipe", 0, "")]
)
def test_predictions_that_cannot_be_written_end_the_command(
    model: str,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    destination: str,
    code: int,
    err: str,
) -> None:
    if destination == "pipe":
        reader, descriptor = os.pipe()
        os.close(reader)
    else:
        descriptor = os.open(destination, os.O_WRONLY)
    with open(descriptor, "w", encoding="utf-8") as stream:  # noqa: PTH123  # a number
        monkeypatch.setattr(sys, "stdout", guarded(stream, Output))
        assert main(["predict", model, str(photos / "test"), "--batch-size", "1", *options]) == code
        sys.stdout.flush()  # nothing is left to fail when Python ends
    assert capsys.readouterr().err == err


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_program_without_streams_may_call_the_command(
    model: str, photos: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(sys, name, None)
    assert main(["predict", model, str(photos / "test" / "red")]) == 0
    assert main(["predict", model, str(photos / "gone")]) == 3
    assert main(["models", "resnet5*"]) == 0
    assert main(["models", "--json"]) == 0
    assert main(["--version"]) == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_every_name_is_written_in_every_encoding(
    tmp_path: Path, tiny_model: TorchClassifier, photos: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    names = ("大象🐘", "é\ud800", "\udce9=x")
    save(TorchClassifier(tiny_model.network, names, tiny_model.preprocess), tmp_path / "model")
    name = os.fsencode(photos / "大象é") + b"-\xe9.png"
    Path(os.fsdecode(name)).write_bytes((photos / "test" / "red" / "red-000.png").read_bytes())
    arguments = ["predict", str(tmp_path / "model"), f"{photos}/*.png", "--top-k", "3"]
    texts = []
    for options in ([], ["--json"], ["--format", "jsonl"], ["--format", "csv"]):
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        assert main([*arguments, *options]) == 0
        texts.append(written.getvalue().decode(encoding))
    table, document, lines, cells = texts
    assert r"-\udce9.png" in table
    (row,) = json.loads(document)["results"]
    assert json.loads(lines) == row
    assert {pair["class"] for pair in row["predictions"]} == set(names)
    assert os.fsencode(row["path"]) == name
    (line,) = csv.DictReader(cells.splitlines())
    assert r"\udce9=x" in line.values()
    assert line["path"].endswith(r"-\udce9.png")
