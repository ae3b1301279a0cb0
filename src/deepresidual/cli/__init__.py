"""The command line: one file a command; here is what they share (dispatch, errors, exit codes).

Exit codes: 0 done · 1 the run failed · 2 usage or configuration · 3 bad data or model file ·
4 environment · 5 diverged · 130 interrupt · 143 terminated.

Results go to stdout, messages and progress to stderr. A command's file is imported when the command is
called, and imports torch inside its function, so ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING

from deepresidual import __version__
from deepresidual.cli.streams import OutputLostError, guard_streams
from deepresidual.errors import ResidualError, RunError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["COMMANDS", "command", "entry_point", "main"]

COMMANDS = {
    "models": "List the networks, or show one with its layers and published results.",
    "check": ("Read and decode every image; report damage, duplicates, leaks, uneven classes and bad boxes."),
    "train": "Train a network and leave a run folder: model, checkpoints, metrics and a report to look at.",
    "evaluate": (
        "Measure a model on held-out images, each counted exactly once; several models as an ensemble."
    ),
    "compare": "Compare two models on the same images, and tell whether they differ by more than chance.",
    "predict": "Predict the classes of images, or find objects in them.",
    "explain": (
        "Draw where in images the evidence for a class lies: a PNG for each, photo and heat map side by side."
    ),
    "report": "Write the report of a run again from its files; of several runs, a page that compares them.",
    "fetch": (
        "Fetch weights and convert them, to be used later without a network, here or on another machine."
    ),
    "convert": (
        "Turn a checkpoint from elsewhere into a model folder, or a model into another library's checkpoint."
    ),
    "export": (
        "Write a trained model as a file that other engines run, checked against PyTorch on real photos."
    ),
    "data": "Write a data set in another form: as shards, or its boxes in the layout of another format.",
    "reproduce": "Run an experiment of the papers: train its networks, draw the figure, judge the claims.",
    "benchmark": (
        "Measure this installation; in a checkout of the repository against its peers, both sides in turn."
    ),
    "cache": "List what is kept to be faster the next time (weights, features, measurements), or delete it.",
    "doctor": "Check the installation: versions, hardware, decoders, and a forward pass.",
}
"""Name of each command, which is the name of its file and function, and the first sentence of its help."""

_DESCRIPTION = """Deep residual learning: train, evaluate and use the networks of the ResNet papers.

Start with:  residual train PHOTOS --out RUN   (PHOTOS: one folder of images a class)
             residual evaluate RUN PHOTOS
             residual predict RUN photo.jpg"""


def command(name: str) -> Callable[..., int]:
    """Import the command called ``name`` and return its function."""
    function: Callable[..., int] = getattr(importlib.import_module(f"deepresidual.cli.{name}"), name)
    return function


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; deliberate errors become one line on stderr."""
    try:
        try:
            return _outcome(list(arguments))
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    except OutputLostError as lost:
        if lost.reader_has_gone:
            return 0  # it has seen enough (`| head`)
        _complain(f"cannot write the output ({lost.reason.strerror})")
        return RunError.exit_code


def _outcome(arguments: list[str]) -> int:
    try:
        return _run(arguments)
    except ResidualError as error:
        if not error.is_echo:
            _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except OSError as error:
        reason = error.strerror or str(error)
        _complain(f"{error.filename}: {reason}" if error.filename else reason)
        return RunError.exit_code


def _run(arguments: list[str]) -> int:
    if arguments == ["version"]:
        arguments = ["--version"]
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:2], "--help"]
    if not arguments or arguments[0].startswith("-"):
        asked = _parser().parse_args(arguments or ["--help"])  # leaves where it is --help
        if asked.print_completion:
            from deepresidual.cli.options import print_completion

            print_completion(asked.print_completion, {name: command(name) for name in COMMANDS})
            return 0
        from deepresidual.cli.output import print_line

        print_line(f"residual {__version__}")
        return 0
    name, *options = arguments
    if name not in COMMANDS:
        raise UnknownNameError("command", name, COMMANDS, remedy="see 'residual --help'")
    from deepresidual.cli.options import run

    return run(name, command(name), options)


def _parser() -> argparse.ArgumentParser:
    """Return the parser of what stands before a command; the options of a command are tyro's."""
    parser = argparse.ArgumentParser(
        prog="residual",
        usage="%(prog)s COMMAND [OPTION ...]",
        description=f"{_DESCRIPTION}\n\ncommands:\n{_summaries()}",
        epilog="See 'residual COMMAND --help' for what a command takes.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-V", "--version", action="store_true", help="show the version and exit")
    parser.add_argument(
        "--print-completion",
        choices=("bash", "zsh"),
        help="print the script that completes commands and options in this shell",
    )
    return parser


def _summaries() -> str:
    columns = min(shutil.get_terminal_size().columns, 110) - 2
    return "\n".join(
        textwrap.fill(summary, columns, initial_indent=f"  {name:<11}", subsequent_indent=" " * 13)
        for name, summary in COMMANDS.items()
    )


def entry_point() -> None:
    """Run the command line of this process and leave with its exit code."""
    guard_streams()
    raise SystemExit(main(sys.argv[1:]))


def _complain(message: str) -> None:
    from deepresidual.cli.output import complain

    complain(message)
