"""The code blocks of the documentation are run, or are named below with the reason why they cannot be.

Page by page, in order, in a folder that holds what the page speaks of: some photos, a digit. Commands run in
this process, since starting Python a hundred times takes minutes. README.md has a test of its own, which runs
it as a reader would. What takes long is cut short, and nothing else is changed:

- the digits are the first 100 of 1,797, their scenes 64 of 5,400, and CIFAR-10 is 60 random pictures;
- ``residual train`` gets ``--steps 2 --batch-size 8``, where the page does not say otherwise;
- it leaves the report to ``residual report``, where drawing it would take half of the time;
- ``residual reproduce`` of what needs training gets ``--dry-run``, which builds everything but the weights.
"""

from __future__ import annotations

import io
import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sklearn.datasets
from PIL import Image

from deepresidual.cli import main
from deepresidual.data.source.annotated import digit_scenes
from tests.docs.pages import PAGES, ROOT, Block, blocks, name_of
from tests.training.parts import SilentJournal

RUN_KINDS = ("bash", "console", "python")
# What is JavaScript runs in tests/exporting/test_javascript.py.
SHOWN_KINDS = ("", "text", "json", "js", "{toctree}", "{eval-rst}", "{glossary}", "{note}")
NOT_HERE = ("README.md",)  # tests/test_readme.py

# page, beginning of the block → why it is not run
NOTHING_FOUND = "after two updates nothing is found; tests/cli/test_explain_objects.py, tests/explanation"
NOT_RUN: dict[tuple[str, str], str] = {
    ("docs/explaining.md", "residual explain runs/scenes"): NOTHING_FOUND,
    ("docs/explaining.md", "from deepresidual.explanation import draw_object"): NOTHING_FOUND,
    ("docs/how-to/detect.md", "residual explain runs/boxes"): NOTHING_FOUND,
    (
        "docs/evaluating.md",
        "residual evaluate runs/a digits --precision-target",
    ): "after two updates nothing is shown on the few validation images; tests/evaluation/test_abstention.py",
    ("CONTRIBUTING.md", "make demo "): "installs from the network",
    ("CONTRIBUTING.md", ".venv/bin/ruff format ."): "changes the repository",
    (
        "CONTRIBUTING.md",
        ".venv/bin/pytest tests/parity --record-parity",
    ): "changes the repository, in minutes",
    ("CONTRIBUTING.md", ".venv/bin/pre-commit install"): "changes the repository",
    ("docs/commands.md", "residual convert SOURCE DESTINATION"): "a form, not a command",
    ("docs/commands.md", "residual export MODEL OUT"): "a form, not a command",
    # The like of these two runs on random weights in tests/parity and tests/models/test_convert.py.
    ("docs/converting.md", "residual convert resnet50-0676ba61.pth"): "needs weights from the network",
    ("docs/converting.md", "residual convert resnet18.pth"): "needs weights from the network",
    ("docs/getting-started.md", "python3 -m venv .venv"): "installs from the network",
    ("docs/how-to/install.md", "mkdir -p ~/.local"): "writes into the home folder",
    ("docs/how-to/javascript.md", "cd examples/javascript"): "installs from the network, and serves a page",
    ("docs/tutorial.md", "residual reproduce imagenet IMAGENET"): "needs ImageNet",
}
# Pages whose blocks are those of another page in another language.
TRANSLATED = {
    "docs/zh/tutorial.md": "docs/tutorial.md",
    "docs/zh/detect.md": "docs/how-to/detect.md",
    "docs/zh/detection.md": "docs/detection.md",
}

# Pages on which other libraries warn of each other: Lightning of PyTorch's trees, and of few workers.
WARNED_OF = ("docs/how-to/own-loop.md",)

ALL = [block for page in PAGES for block in blocks(page)]


def runnable(page: str) -> list[Block]:
    """Return the blocks of a page that a reader would run."""
    return [block for block in blocks(ROOT / page) if block.kind in RUN_KINDS]


def test_every_block_says_what_it_is() -> None:
    kinds = {(block.page, block.kind) for block in ALL}
    assert [(page, kind) for page, kind in sorted(kinds) if kind not in RUN_KINDS + SHOWN_KINDS] == []


def test_blocks_that_are_not_run_exist() -> None:
    there = [block for block in ALL if block.kind in RUN_KINDS]
    named = [[block for block in there if is_at(block, *place)] for place in NOT_RUN]
    assert [place for place, found in zip(NOT_RUN, named, strict=True) if len(found) != 1] == []


def is_at(block: Block, page: str, beginning: str) -> bool:
    """Return whether this is the block of ``page`` that begins so."""
    return block.page == page and block.text.startswith(beginning)


@pytest.mark.test_all
@pytest.mark.parametrize(
    "page",
    [
        name
        for name in map(name_of, PAGES)
        if name not in NOT_HERE and name not in TRANSLATED and runnable(name)
    ],
)
def test_blocks_run_in_order(page: str, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in runnable(page):
        if any(is_at(block, *place) for place in NOT_RUN):
            continue
        if block.kind == "python":
            with warnings.catch_warnings():
                if page in WARNED_OF:
                    warnings.simplefilter("ignore")
                exec(compile(block.text, page, "exec"), {"__name__": "__main__"})  # noqa: S102
            continue
        for arguments in commands(block.text):
            code = main(shortened(arguments))
            if code:
                pytest.fail(f"{page}: {shlex.join(arguments)}\nleft with {code}:\n{capsys.readouterr().err}")


@pytest.mark.parametrize(("page", "original"), TRANSLATED.items())
def test_translations_have_the_blocks_of_the_original(page: str, original: str) -> None:
    assert [essence(block) for block in runnable(page)] == [essence(block) for block in runnable(original)]


def test_commands_are_cut_short_and_otherwise_left_alone() -> None:
    text = "# first\nresidual train digits \\\n  --out 'a b'  # why\n\nresidual reproduce depth cifar10:x\n"
    train, reproduce = commands(text)
    assert shortened(train) == ["train", "digits", "--out", "a b", "--steps", "2", "--batch-size", "8"]
    assert shortened(reproduce) == ["reproduce", "depth", "cifar10.parquet", "--dry-run"]
    assert shortened(["train", "--batch-size", "4"]) == ["train", "--batch-size", "4", "--steps", "2"]
    assert shortened(["reproduce", "complexity"]) == ["reproduce", "complexity"]
    with pytest.raises(ValueError, match="not a command of residual: rm"):
        commands("rm -r .")


def commands(text: str) -> list[list[str]]:
    """Return the arguments of the commands of a block, each without the leading ``residual``."""
    found = []
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = shlex.split(line, comments=True)
        if not words:
            continue
        if words[0] != "residual":
            raise ValueError(f"not a command of residual: {line}")
        found.append(words[1:])
    return found


def shortened(arguments: list[str]) -> list[str]:
    """Return a command as above, cut short as the head of this file says."""
    words = [re.sub(r"^cifar10:.*", "cifar10.parquet", word) for word in arguments]
    if words[0] == "train":
        for option, value in (("--steps", "2"), ("--batch-size", "8")):
            words += [] if option in words else [option, value]
    if words[0] == "reproduce" and words[1:] and words[1] != "complexity" and "--dry-run" not in words:
        words.append("--dry-run")
    return words


def essence(block: Block) -> tuple[str, str]:
    """Return a block without comments and without strings that are to be read by people."""
    text = re.sub(r' *"[^"\n]*[^\x00-\x7f][^"\n]*"| *# .*', "", block.text)
    return block.kind, re.sub(r'"(?:identity|residual| residual)[^"\n]* term:"', "", text).replace(" ", "")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with photos and pictures, where the digits are few."""
    bundle = sklearn.datasets.load_digits()
    few = {**bundle, "images": bundle.images[:100], "target": bundle.target[:100]}
    monkeypatch.setattr(sklearn.datasets, "load_digits", lambda: type(bundle)(**few))
    monkeypatch.setattr("deepresidual.training.launch.Journal", SilentJournal)
    monkeypatch.chdir(tmp_path)
    for name, wanted in (("cats", 3), ("dogs", 7)):
        Path("photos", name).mkdir(parents=True)
        chosen = [image for image, label in zip(bundle.images, bundle.target, strict=True) if label == wanted]
        for number, image in enumerate(chosen[:8]):
            picture(image * 15).save(Path("photos", name, f"{number}.png"))
    for name in ("digit.png", "some-photo.jpg"):
        picture(bundle.images[0] * 15).convert("RGB").save(name)
    write_cifar(Path("cifar10.parquet"))
    for split, count in (("train", 40), ("val", 8), ("test", 16)):
        monkeypatch.setitem(digit_scenes.NUM_SCENES, split, count)
    write_annotated(Path("annotated"), bundle.images, 10)
    write_annotated(Path("new"), bundle.images, 2)
    for file in Path("new").glob("*.xml"):
        file.unlink()
    return tmp_path


def picture(pixels: Any) -> Image.Image:
    return Image.fromarray(np.asarray(pixels).astype(np.uint8))


def write_annotated(folder: Path, digits: Any, count: int) -> None:
    """Write photos with up to two digits, and beside each the XML that labelImg writes."""
    folder.mkdir()
    for number in range(count):
        photo, objects = Image.new("RGB", (96, 72), (40, 60, 50)), ""
        for place in range(number % 3):
            left, name = 8 + 44 * place, ("disc", "ring")[place]
            photo.paste(picture(digits[number + place] * 15).resize((32, 32)), (left, 20))
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (left + 1, 21, left + 32, 52), strict=True)
            box = "".join(f"<{corner}>{value}</{corner}>" for corner, value in corners)
            objects += f"<object><name>{name}</name><bndbox>{box}</bndbox></object>"
        photo.save(folder / f"{number:04d}.jpg")
        size = "<size><width>96</width><height>72</height><depth>3</depth></size>"
        text = f"<annotation><filename>{number:04d}.jpg</filename>{size}{objects}</annotation>"
        (folder / f"{number:04d}.xml").write_text(text)


def write_cifar(path: Path) -> None:
    """Write random pictures of 32 px in ten classes, in the layout of Hugging Face."""
    generator = np.random.default_rng(0)
    rows = []
    for number in range(60):
        file = io.BytesIO()
        picture(generator.integers(0, 256, (32, 32, 3))).save(file, "PNG")
        rows.append({"image": {"bytes": file.getvalue(), "path": f"{number}.png"}, "label": number % 10})
    pq.write_table(pa.Table.from_pylist(rows), path)
