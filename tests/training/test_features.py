"""Features of a split and their cache: every row the same to the bit, wherever it comes from."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from deepresidual.data.decode import decode
from deepresidual.errors import DataError, UnknownNameError
from deepresidual.models import TorchClassifier, create
from deepresidual.nn import ResNet
from deepresidual.preprocess import Preprocess
from deepresidual.runtime.signals import StopRequest, StopRequested
from deepresidual.spec import Head, ResNetSpec
from deepresidual.training import feature_cache, features
from deepresidual.training.feature_cache import FeatureCache
from deepresidual.training.features import Features, extract_features
from tests.conftest import COLORS
from tests.data.pictures import InMemory, noise

BOTH = Head(("layer1", "layer2"), ("mean", "std"))
SPEC = ResNetSpec(
    unit="basic", depths=(1, 1), widths=(8, 16), stem="cifar", shortcut="B", num_classes=3, head=BOTH
)
INPUT = Preprocess(crop_px=16, resize_px=18, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3))


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(noise(20, 24, seed=seed)).save(buffer, "png")
    return buffer.getvalue()


SPLIT = InMemory(tuple(png(seed) for seed in range(21)))


@pytest.fixture
def model() -> TorchClassifier:
    """A model whose classifier reads two stages."""
    return TorchClassifier(create(SPEC, seed=1), tuple(COLORS), INPUT)


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    """An empty cache."""
    return FeatureCache(tmp_path / "features")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Batches that went through a network."""
    seen: list[int] = []
    original = ResNet.pooled_features

    def counting(self: ResNet, x: Tensor) -> Tensor:
        seen.append(len(x))
        return original(self, x)

    monkeypatch.setattr(ResNet, "pooled_features", counting)
    return seen


def part(*indices: int) -> InMemory:
    return InMemory(tuple(SPLIT.contents[index] for index in indices), tuple(index % 3 for index in indices))


def segments(cache: FeatureCache) -> list[Path]:
    assert cache.folder is not None
    return sorted(cache.folder.glob("*/*.safetensors"))


def test_rows_are_what_the_classifier_reads_of_the_view_and_of_its_mirror_image(
    model: TorchClassifier,
) -> None:
    found = extract_features(model, SPLIT, num_workers=2)
    assert found.values.shape == (21, 2, 48)
    assert found.values.dtype == np.float32
    assert found.labels.tolist() == [index % 3 for index in range(21)]
    assert found.keys == [f"image-{index}" for index in range(21)]
    assert (found.bad, found.num_cached, len(found)) == ([], 0, 21)
    pixels = np.stack([INPUT.center_view(decode(content)) for content in SPLIT.contents])
    for number, shown in enumerate((pixels, pixels[:, :, ::-1].copy())):
        with torch.inference_mode():
            expected = model.network.eval().pooled_features(INPUT.normalize(torch.from_numpy(shown)))
        torch.testing.assert_close(torch.from_numpy(found.values[:, number]), expected)
    logits = torch.from_numpy(model.logits(pixels))
    torch.testing.assert_close(model.network.fc(torch.from_numpy(found.values[:, 0])).detach(), logits)


def test_a_row_is_the_same_to_the_bit_in_any_company(model: TorchClassifier, cache: FeatureCache) -> None:
    whole = extract_features(model, SPLIT)
    order = np.random.default_rng(0).permutation(21)
    shuffled = extract_features(model, part(*order), num_workers=3)
    assert np.array_equal(shuffled.values, whole.values[order])
    assert np.array_equal(extract_features(model, part(20)).values, whole.values[20:])
    # Some rows from the cache and some computed, in one view or in both.
    extract_features(model, part(3, 17), cache=cache)
    extract_features(model, part(9), cache=cache, views=("center",))
    mixed = extract_features(model, SPLIT, cache=cache, num_workers=2)
    assert mixed.num_cached == 5
    assert np.array_equal(mixed.values, whole.values)
    again = extract_features(model, part(*order), cache=cache)
    assert again.num_cached == 42
    assert np.array_equal(again.values, whole.values[order])


def test_a_second_time_nothing_is_computed_or_decoded(
    model: TorchClassifier, cache: FeatureCache, passes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[tuple[int, int]] = []
    first = extract_features(model, SPLIT, cache=cache, progress=lambda *at: done.append(at))
    assert passes == [8] * 6
    assert done[-1] == (21, 21)
    assert done == sorted(done)
    passes.clear()
    monkeypatch.setattr(features, "decode", None)
    model.network.reset_classifier(7)  # which no row depends on
    second = extract_features(model, SPLIT, cache=cache)
    assert passes == []
    assert np.array_equal(second.values, first.values)


def changed_weight(model: TorchClassifier) -> TorchClassifier:
    with torch.no_grad():
        model.network.conv1.weight[0, 0, 0, 0] += 1e-6
    return model


def changed_spec(model: TorchClassifier, **fields: Any) -> TorchClassifier:
    network = create(dataclasses.replace(model.spec, **fields))
    network.load_state_dict(model.network.state_dict())
    return dataclasses.replace(model, network=network)


@pytest.mark.parametrize(
    "change",
    [
        changed_weight,
        lambda model: model.with_preprocess(dataclasses.replace(INPUT, resize_px=17)),
        lambda model: changed_spec(model, bn_eps=1e-3),
        lambda model: changed_spec(model, padding="tensorflow"),
    ],
    ids=["weights", "preprocessing", "epsilon", "padding"],
)
def test_other_weights_preprocessing_or_networks_are_never_served(
    model: TorchClassifier, cache: FeatureCache, change: Callable[[TorchClassifier], TorchClassifier]
) -> None:
    extract_features(model, SPLIT, cache=cache)
    other = change(model)
    found = extract_features(other, SPLIT, cache=cache)
    assert found.num_cached == 0
    assert np.array_equal(found.values, extract_features(other, SPLIT).values)


def test_another_head_another_torch_or_another_precision_is_another_row(
    model: TorchClassifier, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract_features(model, part(0), cache=cache)
    model.network.reset_classifier(3, head=Head(("layer1", "layer2"), ("mean",)))
    assert extract_features(model, part(0), cache=cache).num_cached == 0
    model.network.reset_classifier(3, head=BOTH)
    assert extract_features(model, part(0), cache=cache).num_cached == 2
    with monkeypatch.context() as patch:
        patch.setattr(torch, "__version__", "99.0")
        assert extract_features(model, part(0), cache=cache).num_cached == 0
    monkeypatch.setattr(feature_cache, "version_of", lambda package: f"{package} 99")
    assert extract_features(model, part(0), cache=cache).num_cached == 0


def test_a_photo_that_changed_under_its_name_is_computed_again(
    model: TorchClassifier, cache: FeatureCache
) -> None:
    extract_features(model, part(0, 1), cache=cache)
    changed = InMemory((SPLIT.contents[0], png(99)))
    found = extract_features(model, changed, cache=cache)
    assert found.num_cached == 2
    assert np.array_equal(found.values, extract_features(model, changed).values)


def test_bad_samples_are_an_error_or_left_out_and_named(model: TorchClassifier, cache: FeatureCache) -> None:
    split = InMemory((*SPLIT.contents[:3], b"no image", SPLIT.contents[4]), unreadable=frozenset({1}))
    both = r"2 images cannot be used: sample 1 \(.*\), image-3 \(.*\); repair or remove these files, "
    with pytest.raises(DataError, match=f"{both}then start again$"):
        extract_features(model, split)
    with pytest.raises(DataError, match=f"{both}or leave .* --bad-samples skip; 'residual check DATA'"):
        extract_features(model, split, bad_samples="stop", num_workers=2)
    for _ in range(2):
        found = extract_features(model, split, bad_samples="skip", cache=cache)
        assert [bad.key for bad in found.bad] == ["sample 1", "image-3"]
        assert found.indices.tolist() == [0, 2, 4]
        assert np.array_equal(found.values, extract_features(model, part(0, 2, 4)).values)
        assert found.labels.tolist() == [0, 2, 1]
    assert found.num_cached == 6
    assert extract_features(model, InMemory(())).values.shape == (0, 2, 48)


def test_behind_the_first_bad_sample_some_more_are_looked_through(
    model: TorchClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "_LOOKED_THROUGH", 2)
    split = InMemory((b"", *SPLIT.contents[:2], b""))
    with pytest.raises(
        DataError, match=r"^image-0: the file is empty \(0 bytes\); repair or remove this file"
    ):
        extract_features(model, split)


def test_a_view_that_is_none_is_refused(model: TorchClassifier) -> None:
    with pytest.raises(UnknownNameError, match="unknown view 'mirored' .nearest: mirrored"):
        extract_features(model, SPLIT, views=("mirored",))  # type: ignore[arg-type]


# -- stopping ------------------------------------------------------------------------------------------------


def test_a_signal_ends_it_and_keeps_what_is_done(
    model: TorchClassifier, cache: FeatureCache, passes: list[int]
) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done == 16:
            signal.raise_signal(signal.SIGINT)

    with StopRequest() as stop, pytest.raises(StopRequested) as raised:
        extract_features(model, SPLIT, cache=cache, stop=stop, progress=interrupt)
    assert raised.value.exit_code == 130
    passes.clear()
    assert extract_features(model, SPLIT, cache=cache).num_cached == 32
    assert passes == [8, 8]


def test_a_signal_is_heard_within_a_batch(model: TorchClassifier, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(_self: ResNet, _x: Tensor) -> Tensor:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0)
        raise AssertionError("went on")

    monkeypatch.setattr(ResNet, "pooled_features", slow)
    with StopRequest() as stop, pytest.raises(StopRequested):
        extract_features(model, SPLIT, stop=stop)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a process that it forks")
def test_a_kill_keeps_the_segments_that_are_written(
    model: TorchClassifier, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "_ROWS_OF_SEGMENT", 8)

    def die(done: int, _total: int) -> None:
        if done >= 16:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if not child:
        extract_features(model, SPLIT, cache=cache, progress=die)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    whole = extract_features(model, SPLIT)
    found = extract_features(model, SPLIT, cache=cache)
    assert found.num_cached == 32
    assert np.array_equal(found.values, whole.values)


# -- the folder ----------------------------------------------------------------------------------------------


def test_two_that_write_at_once_keep_both(model: TorchClassifier, cache: FeatureCache) -> None:
    with cache.opened(model, ["center"]) as one, cache.opened(model, ["center"]) as other:
        rows = np.arange(96, dtype=np.float32).reshape(2, 48)
        one.add(0, [b"a" * 32], rows[:1])
        other.add(0, [b"b" * 32, b"a" * 32], rows[[1, 0]])
    with cache.opened(model, ["center"]) as both:
        assert np.array_equal(both.find(b"a" * 32)[0], rows[0])
        assert np.array_equal(both.find(b"b" * 32)[0], rows[1])


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8 + int.from_bytes(content[:8], "little") + 5] ^= 1  # in the rows, which come first
    path.write_bytes(content)


def damage_header(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"rows"', b'"cows"'))


def make_longer(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"[42,", b"[43,", 1).replace(b"[21,", b"[29,"))


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        flip,
        damage_header,
        make_longer,
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"x" * 99),
    ],
    ids=["truncated", "bit", "header", "shape", "empty", "junk"],
)
def test_damaged_segments_are_ignored_and_removed(
    model: TorchClassifier, cache: FeatureCache, damage: Callable[[Path], object]
) -> None:
    whole = extract_features(model, SPLIT, cache=cache)
    damaged = segments(cache)
    for path in damaged:
        damage(path)
    assert np.array_equal(extract_features(model, SPLIT, cache=cache).values, whole.values)
    assert not any(path.exists() for path in damaged)
    assert extract_features(model, SPLIT, cache=cache).num_cached == 42


def test_what_a_killed_process_left_is_removed_when_it_is_old(
    model: TorchClassifier, cache: FeatureCache
) -> None:
    extract_features(model, part(0), cache=cache)
    folder = segments(cache)[0].parent
    old, new = folder / ".a.safetensors.tmp", folder / ".b.safetensors.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    extract_features(model, part(0), cache=cache)
    assert (old.exists(), new.exists()) == (False, True)


def test_the_segments_used_last_stay_within_the_bound(model: TorchClassifier, tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, max_bytes=1_000_000)
    for number in range(4):
        extract_features(model, part(number), cache=cache, views=("center",))
    one, two, three, four = sorted(segments(cache), key=lambda path: path.stat().st_mtime_ns)
    for age, path in enumerate((one, two, three, four)):
        os.utime(path, ns=(age * 10**9, age * 10**9))
    size = one.stat().st_size
    used = extract_features(model, part(0), cache=cache, views=("center",))
    assert used.num_cached == 1
    cache.max_bytes = 3 * size
    extract_features(model, part(9), cache=cache, views=("center",))
    left = set(segments(cache))
    assert sum(path.stat().st_size for path in left) <= cache.max_bytes
    assert left >= {one, four}
    assert not left & {two, three}


def test_without_room_rights_or_a_home_it_computes_all_the_same(
    model: TorchClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = extract_features(model, SPLIT)

    def same(found: Features) -> bool:
        return np.array_equal(found.values, whole.values)

    (tmp_path / "file").write_text("no folder")
    assert same(extract_features(model, SPLIT, cache=FeatureCache(tmp_path / "file")))
    assert same(extract_features(model, SPLIT, cache=FeatureCache(tmp_path / "file" / "below")))
    monkeypatch.setattr(feature_cache, "cache_folder", lambda: None)
    assert same(extract_features(model, SPLIT, cache=FeatureCache()))

    def full(path: Path, _content: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(feature_cache, "write_bytes", full)
    cache = FeatureCache(tmp_path / "full")
    assert same(extract_features(model, SPLIT, cache=cache))
    assert segments(cache) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours_is_read(model: TorchClassifier, cache: FeatureCache) -> None:
    extract_features(model, part(0), cache=cache)
    folder = segments(cache)[0].parent
    folder.chmod(0o500)
    assert extract_features(model, SPLIT, cache=cache).num_cached == 2
    folder.chmod(0o700)
    shutil.rmtree(folder)
