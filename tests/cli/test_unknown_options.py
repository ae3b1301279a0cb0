"""Options that a command does not have: answered by their name here, and only by options of that command."""

from __future__ import annotations

import re
import subprocess

import pytest

from deepresidual.cli import COMMANDS, command, main
from deepresidual.cli.options import option_names
from deepresidual.cli.unknown_options import foreign_options
from tests.commands import Commands

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def options() -> dict[str, list[str]]:
    """The options of every command."""
    return {name: option_names(name, command(name)) for name in COMMANDS}


def test_every_command_lists_its_options(options: dict[str, list[str]]) -> None:
    assert all("--json" in names for names in options.values())
    assert {"--epochs", "--learning-rate", "--out"} <= set(options["train"])


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_short(name: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    out = capsys.readouterr().out
    shown = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", out)) - {"--help", "--help-all"}
    assert 0 < len(shown) <= 17
    assert (f"residual {name} --help-all" in out) is (name in ("train", "evaluate"))


@pytest.mark.parametrize("name", COMMANDS)
def test_foreign_options_are_answered_by_options_of_the_command(
    name: str, options: dict[str, list[str]]
) -> None:
    table = foreign_options(name)
    assert [option for option in table if option in options[name]] == []
    answers = " ".join(answer for answer in table.values() if answer.startswith("--"))
    assert set(re.findall(r"--[a-z][\w-]*", answers)) <= set(options[name])


def test_a_foreign_option_stands_once_for_a_command() -> None:
    from importlib import resources

    lines = (resources.files("deepresidual.cli") / "foreign_options.tsv").read_text("utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    assert {len(row) for row in rows} == {3}
    pairs = [(option, name) for option, names, _ in rows for name in names.split()]
    assert len(pairs) == len(set(pairs))
    assert {name for _, name in pairs} <= set(COMMANDS)


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("train photos --imgsz 224", "train has no option --imgsz; here it is --image-px 224"),
        ("train photos --imgsz=224", "train has no option --imgsz; here it is --image-px 224"),
        ("train photos --lr 0.1", "here it is --learning-rate 0.1"),
        ("train photos --lr", "here it is --learning-rate VALUE"),
        ("train photos --img_size 96 --lr 1", "here it is --image-px 96"),
        ("train photos --pretrained", "photos begin with learned weights by themselves"),
        ("train photos --freeze 10", "here it is --frozen-stages N"),
        ("train photos --class-weights x", "here it is --balance loss"),
        (
            "predict runs/a b.jpg --conf 0.8",
            "say --min-score 0.8 with a detector, --min-probability 0.8 with a classifier",
        ),
        ("predict runs/a b.jpg --save", "say --draw FOLDER for pictures with boxes, --out FILE.csv for rows"),
        ("predict runs/a b.jpg --iou 0.7", "leave it out: the IoU from which boxes are duplicates"),
        ("predict runs/a b.jpg --save_txt", "here it is --out FILE.csv"),
        ("predict runs/a b.jpg --pred-score-thr 0.3", "here it is --min-score 0.3"),
        ("train photos --arch resnet50", "here it is --model resnet50"),
        ("train photos --batch 16", "here it is --batch-size 16"),
        ("train photos --weights-only", "leave it out: nothing in a checkpoint is ever executed"),
        ("predict runs/a b.jpg -k 5", "predict has no option -k; here it is --top-k 5"),
        ("predict runs/a b.jpg --topk 5", "here it is --top-k 5"),
        ("predict --source b.jpg runs/a", "leave it out: the images follow MODEL"),
        ("export runs/a b --to tflite", "export has no --to tflite; for LiteRT, Core ML, TensorRT and Exec"),
        ("export runs/a b --to=CoreML", "export has no --to CoreML; for LiteRT, Core ML, TensorRT and Exec"),
        ("export runs/a b --format engine", "has no option --format; for LiteRT, Core ML, TensorRT and Exec"),
        ("export runs/a b --format onnx", "has no option --format; here it is --to onnx"),
        ("export runs/a b --to torchscript", "export has no --to torchscript; here it is --to pt2"),
        ("export runs/a b --formt onnx", "(nearest: --format of other tools); here it is --to VALUE"),
        ("export runs/a b --imgsz 224", "leave it out: the side is that of the views"),
        ("train photos --ephocs 3", "no option --ephocs (nearest: --epochs"),
        ("train photos --early 3", "no option --early (nearest: --early-stopping)"),
        (
            "predict runs/a b.jpg --early 3",
            "predict has no option --early; see 'residual predict --help-all'",
        ),
        ("train photos more", "train has no argument for 'more'"),
        ("train photos --decay 0.1", "--decay is now --step-decay"),
    ],
)
def test_what_is_written_elsewhere_is_answered_by_what_is_written_here(
    words: str, answer: str, capsys: Capture
) -> None:
    assert main(words.split()) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert answer in captured.err


def test_a_mistyped_folder_is_answered_by_the_one_beside_it(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    from pathlib import Path

    Path(str(tmp_path), "photos").mkdir()
    monkeypatch.chdir(str(tmp_path))
    for words in (
        "train phots",
        "evaluate resnet56-cifar10 phots",
        "predict resnet56-cifar10 phots",
        "explain resnet56-cifar10 phots",
        "reproduce depth phots",
        "data shard phots out",
    ):
        assert main(words.split()) == 3
        assert capsys.readouterr().err == "error: phots does not exist; did you mean photos?\n"


def test_the_shell_completes_commands_and_options(commands: Commands) -> None:
    script = commands.run("--print-completion", "bash")
    assert script.code == 0
    ask = "COMP_WORDS=(residual {}); COMP_CWORD={}; _tyro_residual; echo ${{COMPREPLY[@]}}\n"
    asked = f"{script.out}\n{ask.format('ev', 1)}{ask.format('train --ep', 2)}"
    done = subprocess.run(["bash"], input=asked, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == ["evaluate", "--epochs", ""]
