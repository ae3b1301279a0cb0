"""The precision of ``auto``: what pairs of times decide, what is given up, what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from deepresidual.backends import precision
from deepresidual.backends.classifier import SettledPrecision
from deepresidual.backends.precision import settle_precision
from deepresidual.errors import ConfigurationError
from deepresidual.runtime import autotune
from deepresidual.zoo import entry
from tests.conftest import TINY

CPU = torch.device("cpu")

Pass = Callable[[object, torch.Tensor, str], None]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "precision.json"


class Clock:
    """A clock that goes on only where it is told, since a busy machine is no defect."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(autotune, "time", self)

    def perf_counter(self) -> float:
        return self.now


def passes(monkeypatch: pytest.MonkeyPatch, fp32_s: float, bf16_s: float) -> list[str]:
    """Let passes take these seconds; return the list in which they are noted."""
    clock = Clock(monkeypatch)
    done: list[str] = []

    def run(network: object, images: torch.Tensor, name: str) -> None:
        done.append(name)
        clock.now += bf16_s if name == "bf16" else fp32_s

    monkeypatch.setattr(precision, "_pass", run)
    return done


def settle(**options: int | bool) -> SettledPrecision:
    return settle_precision("auto", TINY, CPU, image_px=16, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fp32_s", "bf16_s", "expected"),
    [(0.02, 0.01, "bf16"), (0.02, 0.0195, "fp32"), (0.01, 0.012, "fp32"), (0.02, 0.2, "fp32")],
)
def test_bf16_is_taken_where_it_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, fp32_s: float, bf16_s: float, expected: str
) -> None:
    passes(monkeypatch, fp32_s, bf16_s)
    assert settle().precision == expected


def test_both_are_measured_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    done = passes(monkeypatch, 0.002, 0.001)
    settle()
    assert done[:4] == ["fp32", "bf16", "fp32", "bf16"]
    assert done.count("fp32") == done.count("bf16") == 16


def test_a_slow_bf16_is_given_up_in_the_middle_of_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    forward = torch.nn.Conv2d.forward
    convolutions: list[str] = []

    def slow_in_bf16(self: torch.nn.Conv2d, x: torch.Tensor) -> torch.Tensor:
        name = "bf16" if torch.is_autocast_enabled("cpu") else "fp32"
        convolutions.append(name)
        clock.now += 0.2 if name == "bf16" else 0.01
        return forward(self, x)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", slow_in_bf16)
    assert settle() == SettledPrecision("fp32", "measured: bf16 given up at 3.0 times float32's time")
    # The network has five convolutions; after the second its time is up, 3 × 0.05 s and 0.1 s.
    assert convolutions == ["fp32"] * 5 + ["bf16"] * 2


def test_what_takes_too_long_is_unclear_and_not_remembered(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(precision, "BUDGET_S", 0.05)
    passes(monkeypatch, 0.03, 0.01)
    settled = settle()
    assert settled.precision == "fp32"
    assert "too slow or too busy here to measure" in settled.reason
    assert not cache.exists()


def test_pairs_that_do_not_agree_are_float32_and_not_remembered(cache: Path) -> None:
    rounds = autotune.Rounds({"fp32": [1.0, 1.0, 1.0, 1.0], "bf16": [0.5, 1.2, 0.5, 1.2]})
    settled, is_clear = precision._settled(rounds)
    assert (settled.precision, is_clear) == ("fp32", False)
    assert "do not agree" in settled.reason


def test_too_few_pairs_never_choose_bf16() -> None:
    settled, is_clear = precision._settled(autotune.Rounds({"fp32": [1.0, 1.0], "bf16": [0.5, 0.5]}))
    assert (settled.precision, is_clear) == ("fp32", False)


def test_a_clear_answer_is_remembered_for_this_network_alone(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    passes(monkeypatch, 0.004, 0.002)
    first = settle()
    assert cache.exists()
    done = passes(monkeypatch, 0.001, 0.1)
    assert settle() == first
    assert not done
    other = settle_precision("auto", replace(TINY, widths=(8, 16)), CPU, image_px=16)
    assert (other.precision, bool(done)) == ("fp32", True)


@pytest.mark.parametrize("training", [True, False])
def test_training_and_use_are_measured_apart(monkeypatch: pytest.MonkeyPatch, training: bool) -> None:
    passes(monkeypatch, 0.004, 0.002)
    settle(training=training)
    done = passes(monkeypatch, 0.004, 0.002)
    settle(training=not training)
    assert done


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}', "\x00" * 9, '{"a":' * 3000])
def test_a_damaged_cache_is_measured_again(
    monkeypatch: pytest.MonkeyPatch, cache: Path, content: str
) -> None:
    cache.parent.mkdir()
    cache.write_text(content)
    passes(monkeypatch, 0.004, 0.002)
    assert settle().precision == "bf16"
    done = passes(monkeypatch, 0.004, 0.002)
    assert settle().precision == "bf16"
    assert not done


def test_a_cache_that_cannot_be_written_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("RESIDUAL_CACHE", str(tmp_path / "file" / "below"))
    passes(monkeypatch, 0.004, 0.002)
    assert settle().precision == "bf16"


def test_the_real_passes_leave_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    assert settle_precision("auto", entry("resnet110.dropout").spec, CPU, image_px=8).precision in (
        "fp32",
        "bf16",
    )
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("name", "px"), [("resnet20", 32), ("resnet50", 224), ("resnet152", 224)])
def test_a_pass_is_one_to_four_images_of_at_most_two_and_a_half_billion(name: str, px: int) -> None:
    side, num_images = precision._size_of_pass(entry(name).spec, px)
    assert 1 <= num_images <= 4
    assert side <= px
    assert entry(name).spec.num_macs(side) * num_images <= 2.5e9


def test_one_pixel_in_the_end_takes_two_images() -> None:
    assert precision._size_of_pass(entry("resnet152").spec, 32)[1] >= 2


def test_what_is_asked_for_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    done = passes(monkeypatch, 1.0, 1.0)
    assert settle_precision("bf16", TINY, CPU, image_px=16) == SettledPrecision("bf16", "asked for")
    assert not done


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(
        ConfigurationError, match=r"^precision is 'fp8'; expected one of auto, fp32, bf16, fp16$"
    ):
        settle_precision("fp8", TINY, CPU, image_px=16)  # type: ignore[arg-type]
