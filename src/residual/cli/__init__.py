"""The command line: one file a command; here is what they share (dispatch, errors, exit codes).

Exit codes: 0 done · 1 the run failed · 2 usage or configuration · 3 bad data or model file ·
4 environment · 5 diverged · 130 interrupt · 143 terminated.

Results go to stdout, messages and progress to stderr. Commands import torch inside their functions, so
``--help`` is instant.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

import tyro

from residual import __version__
from residual.cli.benchmark import benchmark
from residual.cli.check import check
from residual.cli.compare import compare
from residual.cli.convert import convert
from residual.cli.data import data
from residual.cli.doctor import doctor
from residual.cli.evaluate import evaluate
from residual.cli.explain import explain
from residual.cli.models import models
from residual.cli.predict import predict
from residual.cli.report import report
from residual.cli.reproduce import reproduce
from residual.cli.train import train
from residual.errors import ResidualError, UnknownNameError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["entry_point", "main"]

_COMMANDS: dict[str, Callable[..., int]] = {
    "models": models,
    "check": check,
    "train": train,
    "evaluate": evaluate,
    "compare": compare,
    "predict": predict,
    "explain": explain,
    "report": report,
    "convert": convert,
    "data": data,
    "reproduce": reproduce,
    "benchmark": benchmark,
    "doctor": doctor,
}

_DESCRIPTION = """Deep residual learning: train, evaluate and use the networks of the ResNet papers.

Start with:  residual train PHOTOS --out RUN   (PHOTOS: one folder of images a class)
             residual evaluate RUN PHOTOS
             residual predict RUN photo.jpg"""


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; deliberate errors become one line on stderr."""
    try:
        if list(arguments) == ["--version"]:
            sys.stdout.write(f"residual {__version__}\n")
            return 0
        if arguments and not arguments[0].startswith("-") and arguments[0] not in _COMMANDS:
            raise UnknownNameError("command", arguments[0], _COMMANDS, remedy="see 'residual --help'")
        code: int = tyro.extras.subcommand_cli_from_dict(
            _COMMANDS,
            prog="residual",
            description=_DESCRIPTION,
            args=list(arguments) or ["--help"],
            config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
        )
        sys.stdout.flush()
    except ResidualError as error:
        _complain(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _complain("interrupted")
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); say nothing more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        reason = error.strerror or str(error)
        _complain(f"{error.filename}: {reason}" if error.filename else f"cannot write the output ({reason})")
        return 1
    return code


def entry_point() -> None:
    """Run the command line of this process and leave with its exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names need not be UTF-8; the escape is valid in JSON and readable everywhere else.
        sys.stdout.reconfigure(errors="backslashreplace")
    raise SystemExit(main(sys.argv[1:]))


def _complain(message: str) -> None:
    from residual.runtime.console import printable

    sys.stderr.write(f"error: {printable(message)}\n")
