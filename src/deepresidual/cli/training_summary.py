"""What ``residual train`` prints at the end: how good it is, and the next commands, to be copied."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from deepresidual.cli.output import print_line

if TYPE_CHECKING:
    from deepresidual.runs.read import RunFiles
    from deepresidual.training.loop import RunResult

__all__ = ["print_training"]

_LABEL = 12


def print_training(result: RunResult, data: str) -> None:
    """Print the end of a run.

    Args:
        result: Where the run lies and how it ended.
        data: The DATA argument.
    """
    from deepresidual.evaluation import Evaluation
    from deepresidual.evaluation.multilabel import MultilabelEvaluation
    from deepresidual.evaluation.objects import DetectionEvaluation
    from deepresidual.runs.baseline import run_in_words
    from deepresidual.runs.detections import detections_in_words
    from deepresidual.runs.findings import findings_in_words
    from deepresidual.runs.gains import gains_in_words
    from deepresidual.runs.read import read_run

    run, done = read_run(result.path), result.evaluation
    if result.status == "interrupted":
        print_line(f"interrupted; all is saved. Go on with the same command and --resume --out {result.path}")
    if isinstance(done, Evaluation | MultilabelEvaluation):
        for line in gains_in_words(run):
            print_line(line)
    if isinstance(done, Evaluation):
        print_line(_labelled(done.split, run_in_words(run)))
        if found := findings_in_words(run):
            print_line(_labelled("images", found))
    elif isinstance(done, MultilabelEvaluation):
        print_line(_labelled(done.split, done.in_words()))
        print_line(_labelled("", done.thresholds_in_words()))
    elif isinstance(done, DetectionEvaluation) and run.evaluation:
        for label, line in zip((done.split, "", ""), detections_in_words(run.evaluation), strict=False):
            print_line(_labelled(label, line))
    elif done:
        print_line(", ".join(f"{name} {value}" for name, value in done.summary().items()))
    print_line()
    print_line(_labelled("look", str(result.path / "report.html")), is_command=True)
    if result.status == "finished" and isinstance(
        done, Evaluation | MultilabelEvaluation | DetectionEvaluation
    ):
        for label, command in _next_commands(result.path, run, data):
            print_line(_labelled(label, command), is_command=True)


def _next_commands(path: Path, run: RunFiles, data: str) -> list[tuple[str, str]]:
    """Return what to do with the model, each as a command with paths of this run."""
    from deepresidual.runs.detections import is_detection, usual_score
    from deepresidual.runs.repeat import command_to_repeat

    place = Path(data)
    photos = data if place.is_dir() else "PHOTO"
    use = ["--format", "csv"]
    if is_detection(run):
        score = usual_score(run.evaluation or {})
        use = [*([] if score is None else ["--min-score", f"{score:.2f}"]), "--draw", str(path / "drawn")]
    commands = [
        ("measure", _command("evaluate", str(path), "--details")),
        ("use", _command("predict", str(path), photos, *use)),
    ]
    mistakes = (run.evaluation or {}).get("mistakes") or []
    files = [*(place / mistake["key"] for mistake in mistakes), path / "mistakes" / "00.png"]
    if worst := next((file for file in files if file.is_file()), None):
        heat_maps = str(path / "heat-maps-of-mistakes")
        commands.append(("explain", _command("explain", str(path), str(worst), "--out", heat_maps)))
    if again := command_to_repeat(run.record):
        commands.append(("repeat", again))
    return commands


def _command(*words: str) -> str:
    return f"residual {shlex.join(words)}"


def _labelled(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"
