"""A detector that is evaluated in shards: the same figures, and what it found comes back to the bit."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepresidual.backends import engine_choice
from deepresidual.backends.detector_session import DetectorSession
from deepresidual.backends.engine_trial import Trial
from deepresidual.cli import main
from deepresidual.data.masks import Crop, Masks, Runs
from deepresidual.data.objects import Objects
from deepresidual.evaluation.folder import EvaluationFolder
from deepresidual.evaluation.objects import DetectionSetup
from deepresidual.evaluation.objects.found_file import read_found, write_found
from deepresidual.exporting import export
from deepresidual.models import save
from deepresidual.runtime.shard_folder import Share
from tests.detectors import write_masks
from tests.exporting.detectors import lively_detector

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a detector and the data that it knows; not to be changed."""
    folder = tmp_path_factory.mktemp("shards")
    write_masks(folder / "data", 4, 7)
    model = lively_detector("c4", masks=True)
    save(dataclasses.replace(model, label_names=("disc", "square", "hen")), folder / "model")
    return folder


def figures(capsys: Capture) -> dict[str, object]:
    """Return the printed document without the names of model and data."""
    document = json.loads(capsys.readouterr().out)
    return {name: value for name, value in document.items() if name not in ("model", "data")}


def test_shards_of_two_processes_have_the_figures_of_one(
    place: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = ["evaluate", str(place / "model"), str(place / "data"), "--json"]
    assert main(words) == 0
    whole = figures(capsys)
    assert "mask_ap" in whole
    shards = [*words, "--out", str(tmp_path / "parts"), "--shard-size", "3"]
    assert main([*shards, "--shard", "1/2"]) == 0
    assert json.loads(capsys.readouterr().out)["num_shards_done"] == 1
    assert main([*shards, "--shard", "0/2"]) == 0
    assert figures(capsys) == whole
    # What was found is there: by other rules nothing is computed again.
    assert main([*words, "--metric", "voc07"]) == 0
    by_voc = figures(capsys)
    assert main([*shards, "--metric", "voc07"]) == 0
    assert figures(capsys) == by_voc != whole


def test_a_folder_goes_on_where_it_ended_and_a_damaged_shard_is_named(
    place: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["evaluate", str(place / "model"), str(place / "data"), "--out", str(tmp_path / "parts")]
    words += ["--shard-size", "4"]
    assert main([*words, "--shard", "0/2"]) == 0
    shard = tmp_path / "parts" / "part-00000.parquet"
    before = shard.stat().st_mtime_ns
    assert main([*words, "--report", str(tmp_path / "page.html")]) == 0
    assert shard.stat().st_mtime_ns == before
    assert "resuming   1 of 2 shards are done" in capsys.readouterr().err
    assert (tmp_path / "page.html").is_file()
    shard.write_bytes(b"PAR1")
    assert main(words) == 3
    assert "a shard of" in (err := capsys.readouterr().err)
    assert "is damaged" in err
    shard.unlink()
    assert main(words) == 0


def test_an_image_that_cannot_be_used_ends_it_and_keeps_the_shards(
    place: Path, tmp_path: Path, capsys: Capture
) -> None:
    data = write_masks(tmp_path / "data", 4, 7)
    words = [
        "evaluate",
        str(place / "model"),
        str(data),
        "--out",
        str(tmp_path / "parts"),
        "--shard-size",
        "2",
    ]
    image = sorted((data / "images").glob("*.png"))[4 + 3]  # the fourth of the test images
    image.write_bytes(b"no image")
    assert main(words) == 3
    assert image.name in capsys.readouterr().err
    assert [path.name for path in sorted((tmp_path / "parts").glob("part-*"))] == ["part-00000.parquet"]


def test_a_file_of_predictions_is_refused_beside_shards(place: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["evaluate", str(place / "model"), str(place / "data"), "--out", str(tmp_path / "parts")]
    assert main([*words, "--predictions", str(tmp_path / "found.json")]) == 2
    assert "an evaluation in shards is asked for with --predictions" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_shards_are_of_the_size_that_is_asked_for(place: Path, tmp_path: Path) -> None:
    setup = DetectionSetup.open(str(place / "model"), str(place / "data"), num_workers=0)
    folder = EvaluationFolder.open(setup, tmp_path / "parts", shard_size=5, share=Share(0, 2))
    assert (folder.shards.manifest.shard_size, folder.shards.num_shards) == (5, 2)
    assert folder.run() is None
    usual = EvaluationFolder.open(setup, tmp_path / "usual")
    assert usual.shards.manifest.shard_size == 7  # 256, or all


@pytest.mark.test_all
def test_shards_of_an_exported_detector_are_all_of_the_engine_of_the_first(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(engine_choice, "TRIED_FROM", 4)

    def preferred(name: str) -> None:
        """Let an engine be the fastest on this machine."""

        def choose(kind: Any, folder: Path, signature: Any, candidates: Any, _: int) -> Trial[Any]:
            settings = next((one for one in candidates if one.engine == name), candidates[0])
            return Trial(kind(folder, signature, settings), "", is_clear=False)

        monkeypatch.setattr(engine_choice, "try_engines", choose)

    export(place / "model", tmp_path / "exported")

    def backends_of(share: int) -> tuple[str, str]:
        """Measure a share; return what the manifest names and what computed."""
        setup = DetectionSetup.open(str(tmp_path / "exported"), str(place / "data"), num_workers=0)
        folder = EvaluationFolder.open(setup, tmp_path / "parts", shard_size=4, share=Share(share, 2))
        used: list[str] = []
        find = DetectorSession.find

        def seen(session: DetectorSession, views: Any) -> Any:
            used.append(session.settings.engine)
            return find(session, views)

        monkeypatch.setattr(DetectorSession, "find", seen)
        folder.run()
        monkeypatch.setattr(DetectorSession, "find", find)
        (engine,) = set(used)
        return folder.shards.manifest.backend, engine

    preferred("openvino")
    assert backends_of(0) == ("openvino", "openvino")
    preferred("onnxruntime")  # on another machine
    assert backends_of(1) == ("openvino", "openvino")


@pytest.mark.parametrize("masks", [False, True])
def test_what_was_found_comes_back_to_the_bit(masks: bool, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    found = []
    for count in (3, 0, 1):
        bitmaps = (generator.random((count, 5, 7)) > 0.5).astype(np.uint8)
        runs = Masks.of([Runs.of_crop(Crop(0, 0, bitmap), (5, 7)) for bitmap in bitmaps]) if masks else None
        boxes = generator.random((count, 4), np.float32)
        labels, scores = generator.integers(0, 9, count), generator.random(count, np.float32)
        areas = generator.random(count, np.float32)
        found.append(Objects(boxes, labels, scores=scores, areas=areas, masks=runs))
    write_found(tmp_path / "found.parquet", found)
    for own, other in zip(read_found(tmp_path / "found.parquet"), found, strict=True):
        for name in ("boxes", "labels", "scores", "areas"):
            first, second = getattr(own, name), getattr(other, name)
            assert first.dtype == second.dtype
            assert first.tobytes() == second.tobytes()
        assert (own.masks is None) == (other.masks is None)
        if own.masks is not None and other.masks is not None:
            pairs = [(own.masks.runs(row), other.masks.runs(row)) for row in range(len(own))]
            assert all(one == another for one, another in pairs)
