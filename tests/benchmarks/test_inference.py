"""The benchmark of inference on sizes that take no time; times themselves are not tested."""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks import inference, inference_peers
from benchmarks.inference import benchmark_inference, groups_of
from deepresidual.benchmarks import inference as alone
from deepresidual.benchmarks.exports import Exports
from deepresidual.benchmarks.inference import InferenceSizes, Network
from deepresidual.benchmarks.inference_sides import InferenceSide, MeasuredSides, measure_sides
from deepresidual.benchmarks.measurement import Row
from deepresidual.benchmarks.photos import write_photos
from deepresidual.benchmarks.random_classifier import views_of
from deepresidual.errors import RunError
from deepresidual.models import create

SMALL = InferenceSizes(image_px=32, num_views=16, turn_seconds=0.0)
LOGITS = np.random.default_rng(0).normal(size=(4, 10)).astype(np.float32)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """A small network, exported when it is first asked for, and 16 views."""
    place = tmp_path_factory.mktemp("inference")
    photos = write_photos(place / "photos", 16)
    exports = Exports(place, [path.read_bytes() for path in photos], 32)
    views = exports.views("resnet20")
    return Network("resnet20", exports, views, exports.classifier("resnet20").logits(views))


# -- what is computed ----------------------------------------------------------------------------------------


def test_photos_that_are_made_are_like_usual_ones_and_always_the_same(tmp_path: Path) -> None:
    first, again = write_photos(tmp_path / "a", 2), write_photos(tmp_path / "b", 1)
    assert first[0].read_bytes() == again[0].read_bytes() != first[1].read_bytes()
    assert 80_000 < first[0].stat().st_size < 130_000
    with Image.open(first[0]) as image:
        assert (image.format, image.size, image.mode) == ("JPEG", (500, 375), "RGB")


def test_answers_of_random_weights_depend_on_the_photo(network: Network, tmp_path: Path) -> None:
    spread = network.expected.std(axis=0)
    assert 0.5 < spread.mean() < 2
    assert np.abs(network.expected.mean(axis=0)).max() < 1e-3
    assert len(set(network.expected.argmax(axis=1))) > 4
    others = [path.read_bytes() for path in write_photos(tmp_path, 8, seed=1)]
    logits = network.exports.classifier("resnet20").logits(views_of(others, "resnet20", 32))
    assert len(set(logits.argmax(axis=1))) > 2


def test_a_network_has_a_cache_of_its_own_while_it_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path))
    with alone.opened_network("resnet20", SMALL) as network:
        assert network.views.shape == (16, 32, 32, 3)
        assert network.expected.shape == (16, 10)
        assert os.environ["RESIDUAL_CACHE"].endswith("cache")
    assert os.environ["RESIDUAL_CACHE"] == str(tmp_path)


# -- sides ---------------------------------------------------------------------------------------------------


class FixedSide(InferenceSide):
    """A side that has its logits at hand, and says what it takes without a clock."""

    fixed_seconds = 1.0

    def seconds(self, num_images: int) -> float:
        super().seconds(num_images)
        return self.fixed_seconds


def side(name: str, logits: NDArray[np.float32] = LOGITS, seconds: float = 1.0) -> FixedSide:
    """Return a side with two callers."""
    found = FixedSide(name, "fp32", 2, lambda number: logits[number % len(logits) :][:1])
    found.fixed_seconds = seconds
    return found


def test_sides_are_measured_and_the_fastest_is_known() -> None:
    found = measure_sides([side("slow", seconds=0.5), side("fast", seconds=0.25)], LOGITS, 3, 0.0)
    assert found.best(["slow", "fast", "unknown"]) == "fast"
    assert found.best(["unknown"]) is None
    assert found.seconds == {"slow": [0.5] * 3, "fast": [0.25] * 3}
    assert (found.speed("slow"), found.speed("fast")) == (2, 4)
    details = found.details_of("fast")
    assert details["top-1 agreement"] == 1.0
    assert details["rms of logits / deviation"] == 0.0
    assert details["cpu_ms"] >= 0


def test_bf16_that_is_far_behind_is_left_out_with_the_reason() -> None:
    slow = side("slow", seconds=5.1)
    slow.precision = "bf16"
    found = measure_sides([slow, side("fast")], LOGITS, 1, 0.0)
    assert set(found.seconds) == {"fast"}
    assert found.left_out == {"slow": "more than 5 times the time of the fastest in fp32"}


def test_a_side_that_computes_something_else_is_not_timed() -> None:
    with pytest.raises(
        RunError, match=r"wrong computes other logits: their difference has .* at most 0\.001"
    ):
        measure_sides([side("wrong", LOGITS[::-1])], LOGITS, 1, 0.0)


# -- rows ----------------------------------------------------------------------------------------------------


def test_names_of_rows_are_distinct_and_each_has_sides() -> None:
    comparisons = [one for group in groups_of("resnet50") for one in group.comparisons]
    names = [one.row.name for one in comparisons]
    assert len(set(names)) == len(names)
    assert all(len(one.sides) > 1 for one in comparisons)


@pytest.mark.parametrize(
    ("flags", "targets"),
    [(("avx2", "avx512f", "avx512_vnni"), (2.2, 3.0)), (("avx2",), (1.4, 1.8)), ((), (None, None))],
)
def test_targets_are_those_of_the_processor(
    flags: tuple[str, ...], targets: tuple[float | None, float | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "telling_flags", lambda: flags)
    rows = {one.row.name: one.row for group in groups_of("resnet50") for one in group.comparisons}
    assert (rows["resnet50-fp32-thread"].target, rows["resnet50-fp32-streams"].target) == targets
    assert rows["resnet50-session-onnxruntime-fp32-thread"].target == 0.95
    assert rows["resnet50-onnxruntime-fp32-thread"].target is None


def test_the_fastest_of_ours_is_held_against_the_fastest_of_theirs() -> None:
    comparison = inference.Comparison(Row("a", "", "b", 2.0), ("x", "y"), ("t1", "t16", "gone"))
    seconds = {"x": [2.0, 2.0], "y": [1.0, 1.1], "t1": [5.0, 5.0], "t16": [4.0, 4.4]}
    found = MeasuredSides(seconds, seconds, {name: {"setup": {}} for name in seconds}, {})
    row = inference._row(comparison, found, {})
    assert row.ratio is not None
    assert (row.ratio.median, row.details["ours"]["side"], row.details["theirs"]["side"]) == (4.0, "y", "t16")
    assert row.is_met
    peer = inference._row(dataclasses.replace(comparison, ours=(), peer="t1"), found, {})
    assert peer.ours is None
    assert peer.reason == "0.2 images/s"
    missing = inference._row(
        dataclasses.replace(comparison, ours=("z",)), found, {"z": "it is not installed"}
    )
    assert missing.reason == "unmeasured: it is not installed"


@pytest.mark.parametrize("choice", [(), pytest.param(("auto-fp32",), marks=pytest.mark.test_all)])
def test_both_sides_are_measured_from_the_same_weights(
    network: Network, monkeypatch: pytest.MonkeyPatch, choice: tuple[str, ...]
) -> None:
    pytest.importorskip("torchvision")
    if not choice:  # the other engines take seconds to export for, and to choose from
        monkeypatch.setattr(inference, "WAYS", alone.WAYS[:1])

    def ours_in_their_place(self: inference_peers.TorchvisionSides) -> object:
        module = create("resnet20")
        module.load_state_dict(self._weights)
        return module.eval()

    monkeypatch.setattr(inference_peers.TorchvisionSides, "_network", ours_in_their_place)
    monkeypatch.setattr(inference, "opened_network", lambda *_: _opened(network))
    names = ["fp32-thread", "session-onnxruntime-fp32-thread", "torchvision-channels-last-thread"]
    names += ["fp32-streams-callers", *choice]
    rows = benchmark_inference(
        ["resnet20"], rows=[f"resnet20-{name}" for name in names], repetitions=2, sizes=SMALL
    ).rows
    by_name = {row.name.removeprefix("resnet20-"): row for row in rows}
    assert set(by_name) == set(names)
    assert all(row.ratio and row.ratio.count == 2 for row in rows)
    assert by_name["fp32-thread"].details["theirs"]["setup"]["layout"] == "NCHW"
    assert by_name["fp32-streams-callers"].details["theirs"]["setup"]["callers"] == 2
    assert by_name["torchvision-channels-last-thread"].ours is None
    assert all(by_name[name].details["ours"]["setup"]["settings"] for name in choice)


class _opened:  # noqa: N801  # stands for a function
    def __init__(self, network: Network) -> None:
        self._network = network

    def __enter__(self) -> Network:
        return self._network

    def __exit__(self, *_: object) -> None:
        pass


def test_our_engines_are_measured_alone(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "opened_network", lambda *_: _opened(network))
    (row,) = alone.benchmark_inference(
        ["resnet20"], rows=["resnet20-onnxruntime-fp32-streams"], repetitions=1, sizes=SMALL
    ).rows
    assert row.ours
    assert row.reason == "measured alone"


def test_what_is_missing_is_named(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(inference, "find_spec", lambda name: None if name == "torchvision" else found(name))
    monkeypatch.setattr(inference, "opened_network", lambda *_: _opened(network))
    (row,) = benchmark_inference(["resnet20"], rows=["resnet20-fp32-thread"], repetitions=1, sizes=SMALL).rows
    assert row.reason == "unmeasured: torchvision is not installed"
