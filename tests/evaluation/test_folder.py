"""An evaluation in shards gives the figures of one without, to the bit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deepresidual.backends.thresholds import MULTILABEL
from deepresidual.cli import main
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.evaluation.abstention import Answers
from deepresidual.evaluation.accumulator import Accumulator
from deepresidual.evaluation.folder import EvaluationFolder
from deepresidual.evaluation.metrics import ClassificationSums
from deepresidual.evaluation.scoring import ScoredBatch
from deepresidual.evaluation.setup import EvaluationSetup
from deepresidual.models import TorchClassifier, save
from deepresidual.runtime.shard_folder import Share
from tests.conftest import examples

Capture = pytest.CaptureFixture[str]
NAMES = ("a", "b", "c", "d", "e", "f", "g")


def batches(sizes: list[int], seed: int) -> list[ScoredBatch]:
    generator = torch.Generator().manual_seed(seed)
    made, first = [], 0
    for size in sizes:
        scores = 5 * torch.randn(1, size, len(NAMES), generator=generator)
        labels = torch.randint(len(NAMES), (size,), generator=generator)
        indices = torch.arange(first, first + size)
        made.append(ScoredBatch(scores, labels, indices, [f"image-{index}" for index in indices], []))
        first += size
    return made


def accumulated(part: list[ScoredBatch]) -> tuple[Accumulator, Answers]:
    accumulator, answers = Accumulator(NAMES), Answers()
    for batch in part:
        accumulator.add(batch.scores[0], batch)
        answers.add(batch.scores[0], batch.labels)
    return accumulator, answers


@settings(max_examples=examples(20))
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=12), cut=st.integers(1, 5), seed=st.integers(0, 99)
)
def test_sums_of_parts_are_those_of_the_whole(sizes: list[int], cut: int, seed: int) -> None:
    whole = batches(sizes, seed)
    parts = [accumulated(whole[first : first + cut]) for first in range(0, len(whole), cut)]
    written = json.loads(json.dumps([[part.to_dict(), answers.to_dict()] for part, answers in parts]))
    accumulator = Accumulator.joined(NAMES, [part for part, _ in written])
    expected, answers = accumulated(whole)
    assert accumulator.evaluation("test").to_dict() == expected.evaluation("test").to_dict()
    assert Answers.joined([answers for _, answers in written]).to_dict() == answers.to_dict()


def test_losses_are_added_in_the_order_of_batches() -> None:
    parts = [ClassificationSums(2) for _ in range(2)]
    for losses, part in zip(([1e16, 1.0], [1.0, -1e16]), parts, strict=True):
        part.batch_losses, part.loss_sum = losses, sum(losses)
    assert ClassificationSums.joined(parts).loss_sum == ((1e16 + 1.0) + 1.0) - 1e16 == 0.0
    assert ClassificationSums.from_dict(parts[0].to_dict()).loss_sum == 1e16


@pytest.fixture
def model(tmp_path: Path, tiny_model: TorchClassifier, photos: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the name of a model in the current folder, with 15 test images in ``photos``."""
    monkeypatch.chdir(tmp_path)
    save(tiny_model, "model")
    return "model"


def evaluated(*options: str, capsys: Capture) -> str:
    words = ["evaluate", "model", "photos", "--workers", "0", "--batch-size", "2", "--json", *options]
    assert main(words) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("options", [(), ("--views", "flip"), ("--views", "multi-scale", "--sizes", "9,12")])
def test_shards_give_the_very_document_of_an_evaluation_without(
    model: str, capsys: Capture, options: tuple[str, ...]
) -> None:
    whole = evaluated(*options, capsys=capsys)
    for index in (2, 0):
        part = evaluated(
            *options, "--out", "parts", "--shard-size", "3", "--shard", f"{index}/3", capsys=capsys
        )
        found = json.loads(part)
        assert "top1" not in found
    assert (found["num_shards"], found["num_shards_done"], found["split"]) == (4, 3, "test")
    assert evaluated(*options, "--out", "parts", "--shard", "1/3", capsys=capsys) == whole
    assert evaluated(*options, "--out", "parts", capsys=capsys) == whole  # again, from the files alone
    assert Path("parts/_SUCCESS").exists()


def test_another_number_of_processes_and_one_without_a_shard_are_told(model: str, capsys: Capture) -> None:
    for share in ("0/2", "8/9"):
        words = ["evaluate", "model", "photos", "--out", "parts", "--batch-size", "8", "--shard", share]
        assert main(words) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == "parts: 1 of 2 shards are done; the figures need all"
    nothing, other = err.splitlines()[-2:]
    assert nothing == "nothing to do: there are fewer shards (2) than processes (9)"
    assert other.startswith("the folder was begun with --shard I/2 and this is 8/9: shards stay right")


def test_what_is_missing_is_measured_again_and_nothing_else(model: str, capsys: Capture) -> None:
    whole = evaluated("--out", "parts", "--shard-size", "4", capsys=capsys)
    Path("parts/part-00001.json").unlink()
    before = Path("parts/part-00002.json").stat().st_mtime_ns
    assert main(["evaluate", "model", "photos", "--out", "parts", "--batch-size", "2", "--json"]) == 0
    out, err = capsys.readouterr()
    assert out == whole
    assert err.startswith("resuming   3 of 4 shards are done; the folder is of 20")
    assert Path("parts/part-00002.json").stat().st_mtime_ns == before


def test_shards_are_whole_batches(model: str) -> None:
    setup = EvaluationSetup.open(["model"], "photos", batch_size=4, num_workers=0)
    assert EvaluationFolder.open(setup, "parts", shard_size=5).shards.manifest.shard_size == 8
    assert EvaluationFolder.open(setup, "other", share=Share(0, 9)).shards.manifest.shard_size == 4


def test_unfinished_evaluations_say_so(model: str, capsys: Capture) -> None:
    words = ["evaluate", "model", "photos", "--out", "parts", "--batch-size", "5", "--shard-size", "5"]
    assert main([*words, "--shard", "1/2"]) == 0
    assert capsys.readouterr().out == "parts: 1 of 3 shards are done; the figures need all\n"
    assert main(words) == 0
    assert "model on photos (test): " in capsys.readouterr().out


def test_a_threshold_is_chosen_when_all_shards_are_there(model: str, capsys: Capture) -> None:
    words = ["evaluate", "model", "photos", "--split", "test", "--precision-target", "0.05", "--json"]
    assert main(words) == 0
    whole = capsys.readouterr().out
    kept = Path("model/config.json").read_text()
    save_again = json.loads(kept)
    del save_again["residual"]["abstention"]
    Path("model/config.json").write_text(json.dumps(save_again))
    for index in (1, 0):
        words_of_shard = [*words, "--out", "parts", "--shard", f"{index}/2", "--batch-size", "100"]
        assert main(words_of_shard) == 0
    out, err = capsys.readouterr()
    assert out.endswith(whole)
    assert "kept in model/config.json" in err
    assert json.loads(Path("model/config.json").read_text()) == json.loads(kept)


def test_several_labels_give_the_very_document_too(
    model: str, tiny_model: TorchClassifier, capsys: Capture
) -> None:
    save(dataclasses.replace(tiny_model, task=MULTILABEL), "model")
    files = sorted(Path("photos/test").rglob("*.png"))
    rows = [f"{path},{'blue|red' if number % 3 else 'green'},test" for number, path in enumerate(files)]
    Path("several.csv").write_text("\n".join(["file,labels,split", *rows]) + "\n")
    words = ["evaluate", "model", "several.csv", "--workers", "0", "--batch-size", "4", "--json"]
    assert main(words) == 0
    whole = capsys.readouterr().out
    assert json.loads(whole)["count"] == 15
    for index in (1, 0):
        assert main([*words, "--out", "parts", "--shard-size", "4", "--shard", f"{index}/2"]) == 0
    assert capsys.readouterr().out.endswith(whole)
    assert pq.read_table("parts").column_names == ["key", "index", "logits", "targets"]
    Path("parts/part-00001.parquet").write_bytes(b"")
    assert main([*words, "--out", "parts"]) == 3
    assert "error: a shard of parts is damaged (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--views", "flip"], "parts was begun with something else: views.kind was one and is flip; repeat"),
        (["--batch-size", "3"], "parts was begun with something else: batch_size was 100 and is 3; repeat"),
        (
            ["--split", "train"],
            "parts was begun with something else: split was test and is train, ",
        ),
        (
            ["--shard-size", "300"],
            "parts was begun with something else: the size of shards was 100",
        ),
        (
            ["--fit-temperature", "train"],
            "an evaluation in shards is asked for with --fit-temperature;",
        ),
        (["--predictions", "a.csv"], "an evaluation in shards is asked for with --predictions; expected one"),
        (["--corrupt", "jpeg=50"], "--corrupt is given with --out; expected one of the two"),
    ],
)
def test_what_does_not_fit_the_folder_is_refused(
    model: str, capsys: Capture, options: list[str], message: str
) -> None:
    assert main(["evaluate", "model", "photos", "--out", "parts"]) == 0
    capsys.readouterr()
    assert main(["evaluate", "model", "photos", "--out", "parts", *options]) == 2
    assert f"error: {message}" in capsys.readouterr().err


def test_shards_without_a_folder_and_other_folders_are_refused(model: str, capsys: Capture) -> None:
    assert main(["evaluate", "model", "photos", "--shard", "0/2"]) == 2
    assert "error: --shard is given without a folder; add --out FOLDER" in capsys.readouterr().err
    assert main(["predict", "model", "photos", "--out", "rows"]) == 0
    assert main(["evaluate", "model", "photos", "--out", "rows"]) == 2
    assert (
        "error: rows holds predictions of files; expected a folder of an evaluation, or"
        in capsys.readouterr().err
    )
    assert main(["evaluate", "model", "photos", "--out", "parts"]) == 0
    assert main(["predict", "model", "photos", "--out", "parts"]) == 2
    assert (
        "error: parts holds an evaluation; expected a folder of predictions of files, or"
        in capsys.readouterr().err
    )
    with pytest.raises(ConfigurationError, match="an evaluation in shards is asked for with 2 models;"):
        EvaluationFolder.open(EvaluationSetup.open(["model", "model"], "photos"), "other")


@pytest.mark.parametrize("content", ["{", "{}", '{"sums": 1, "answers": {}}', "[]"])
def test_a_damaged_shard_is_named(model: str, content: str) -> None:
    setup = EvaluationSetup.open(["model"], "photos", num_workers=0)
    folder = EvaluationFolder.open(setup, "parts")
    folder.run()
    Path("parts/part-00000.json").write_text(content)
    with pytest.raises(DataError, match=r"a shard of parts is damaged \(.*\); remove it and run the same"):
        folder.run()


def test_changed_data_are_refused(model: str, photos: Path) -> None:
    def opened() -> EvaluationFolder:
        return EvaluationFolder.open(EvaluationSetup.open(["model"], "photos", num_workers=0), "parts")

    opened()
    (photos / "test" / "red" / "red-000.png").unlink()
    with pytest.raises(ConfigurationError, match="begun with something else: images was"):
        opened()
