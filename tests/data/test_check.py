"""Checking data sets: every bad file is named, no good one is, and training agrees."""

from __future__ import annotations

import os
import pickle
import resource
import shutil
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepresidual.data import check as check_module
from deepresidual.data import check_samples
from deepresidual.data.check import KINDS, CheckReport, Finding, check
from deepresidual.data.check_kinds import OBJECT_KINDS
from deepresidual.data.decode import decode
from deepresidual.data.loader import evaluation_batches
from deepresidual.data.near_copy_findings import KINDS as NEAR_KINDS
from deepresidual.data.source import SampleSource, open_source
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.preprocess import Preprocess
from tests.data.bad_files import ERRORS, WARNINGS, plant
from tests.data.pictures import InMemory, encode, noise, waves

SHARED = Path(__file__).parents[3] / "shared" / "data"

needs_photos = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no real photos at {SHARED}")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return plant(tmp_path_factory.mktemp("planted"), (*ERRORS, *WARNINGS))


@pytest.fixture(scope="module")
def report(planted: Path) -> CheckReport:
    return check(planted, num_workers=0)


def _about(findings: tuple[Finding, ...] | list[Finding]) -> list[tuple[str, str]]:
    return sorted((finding.kind, finding.key) for finding in findings)


# -- the planted folder ----------------------------------------------------------------------------------


def test_there_are_enough_bad_files_of_enough_kinds() -> None:
    assert len(ERRORS) >= 30
    kinds = {bad.kind for bad in (*ERRORS, *WARNINGS)}
    assert set(KINDS) - kinds == {
        *(
            "structure",
            "crash",
            "oversized",
            "missing-class",
            "few-samples",
            "imbalance",
            *NEAR_KINDS,
            *OBJECT_KINDS,
        )  # have their own tests
    }


def test_every_bad_file_is_named_and_no_good_one(report: CheckReport) -> None:
    assert _about(report.findings) == sorted((bad.kind, bad.path) for bad in (*ERRORS, *WARNINGS))


@pytest.mark.parametrize("num_workers", [1, 2])
def test_any_number_of_processes_finds_the_same(planted: Path, report: CheckReport, num_workers: int) -> None:
    again = check(planted, num_workers=num_workers)
    assert sorted(map(repr, again.findings)) == sorted(map(repr, report.findings))
    assert again.num_samples == report.num_samples


def test_errors_come_first_and_have_their_severity(report: CheckReport) -> None:
    severities = [finding.severity for finding in report.findings]
    assert severities == ["error"] * len(ERRORS) + ["warning"] * len(WARNINGS)
    assert not report.ok
    assert report.counts == {
        kind: count for kind in KINDS if (count := Counter(bad.kind for bad in (*ERRORS, *WARNINGS))[kind])
    }


def test_errors_are_exactly_what_the_loader_cannot_use(planted: Path, report: CheckReport) -> None:
    record = Preprocess(8, 8, (0.5,) * 3, (0.25,) * 3)
    source = open_source(planted)
    for name, split in source.splits.items():
        batches = evaluation_batches(split, record, batch_size=8, num_workers=0)
        bad = {split.key(sample.index) for batch in batches for sample in batch.bad}
        errors = {item.key for item in report.findings if item.severity == "error" and item.split == name}
        assert errors == bad


def test_without_the_errors_all_is_well(tmp_path: Path) -> None:
    found = check(plant(tmp_path / "data", WARNINGS), num_workers=0)
    assert found.ok
    assert _about(found.findings) == sorted((bad.kind, bad.path) for bad in WARNINGS)


def test_good_pictures_alone_are_nothing_to_find_fault_with(tmp_path: Path) -> None:
    found = check(plant(tmp_path / "data", ()), num_workers=0)
    assert found == CheckReport({"train": 24, "val": 6}, 2, (), {"ant": 12, "bee": 12})
    assert found.ok


def test_details_say_what_is_wrong_and_where_the_other_one_is(report: CheckReport) -> None:
    details = {finding.key: finding.detail for finding in report.findings}
    assert details["train/ant/empty.jpg"] == "the file is empty (0 bytes)"
    assert details["train/ant/document.jpg"].startswith("not an image that can be used (found PDF); expected")
    assert details["train/bee/huge.jpg"].startswith(
        "the image is too large (65500×65500 px = 4,290 MP); expec"
    )
    assert details["train/ant/pixel.png"] == "the shorter side has 1 px"
    assert details["train/ant/copy.png"] == "the same file as train/ant/001.png"
    assert details["train/ant/saved-again.png"] == "the same picture as train/ant/003.bmp"
    assert details["train/bee/ant-too.jpg"] == "bee here, and ant as train/ant/004.jpg: the same picture"
    assert details["val/ant/trained-on.png"] == "training sees the same picture as train/ant/005.png"
    assert details["val/bee/trained-on-as-ant.webp"] == (
        "training sees the same picture as train/ant/006.webp, where it is ant and not bee"
    )
    assert details["train/ant/pipe.jpg"] == "not a regular file"
    if sys.platform == "linux":
        assert details["train/bee/memory.png"] == "cannot be read (Input/output error)"


# -- sizes and classes -----------------------------------------------------------------------------------


def _source(
    labels: list[int], sides: list[int] | None = None, classes: tuple[str, ...] = ("a", "b")
) -> SampleSource:
    sides = sides or [20] * len(labels)
    pictures = [noise(side, side + 5, seed=number) for number, side in enumerate(sides)]
    contents = tuple(encode(picture, "BMP") for picture in pictures)
    return SampleSource("memory", classes, {"train": InMemory(contents, labels)})


_EVEN = [0] * 10 + [1] * 10


@pytest.mark.parametrize(
    ("min_px", "sides", "expected"),
    [
        (16, [16] * 20, []),
        (16, [15] * 9 + [16] * 11, [("tiny", f"image-{index}") for index in range(9)]),
        (16, [15] * 11 + [16] * 9, [("tiny", "")]),
        (20, [16] * 3 + [20] * 17, [("tiny", "image-0"), ("tiny", "image-1"), ("tiny", "image-2")]),
        (0, [1] * 20, []),
        (16, [64] * 10 + [63] * 10, []),
        (16, [64] * 11 + [63] * 9, [("oversized", "")]),
    ],
)
def test_tiny_and_oversized_images(
    monkeypatch: pytest.MonkeyPatch, min_px: int, sides: list[int], expected: list[tuple[str, str]]
) -> None:
    assert check_module._OVERSIZED_PX == 1024
    monkeypatch.setattr(check_module, "_OVERSIZED_PX", 64)  # decoding larger ones takes seconds
    assert _about(check(_source(_EVEN, sides), min_px=min_px, num_workers=0).findings) == sorted(expected)


def test_a_data_set_of_small_pictures_gets_one_word_a_split() -> None:
    assert [finding.detail for finding in check("digits").findings] == [
        "1,446 of 1,446 images have a shorter side under 16 px",
        "351 of 351 images have a shorter side under 16 px",
    ]


_UNEVEN = "11 times as many; consider --class-prior equal"


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((10, 10), []),
        ((9, 20), [("few-samples", "a", "only 9 to learn from")]),
        ((1, 10), [("few-samples", "a", "only 1 to learn from")]),
        ((100, 10), []),
        ((111, 10), [("imbalance", "", f"a has 111 samples and b 10: {_UNEVEN}")]),
        ((0, 10), [("missing-class", "a", "no sample of this class")]),
        ((0, 111, 10), [
            ("missing-class", "a", "no sample of this class"),
            ("imbalance", "", f"b has 111 samples and c 10: {_UNEVEN}"),
        ]),
    ],
)  # fmt: skip
def test_classes_that_are_missing_small_or_uneven(
    counts: tuple[int, ...], expected: list[tuple[str, str, str]]
) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    source = _source(labels, classes=tuple("abc"[: len(counts)]))
    found = check(source, min_px=0, num_workers=0)
    assert [(finding.kind, finding.key, finding.detail) for finding in found.findings] == expected
    assert found.ok


def test_few_samples_count_in_training_and_missing_classes_everywhere() -> None:
    train = _source(_EVEN).splits["train"]
    contents = tuple(encode(noise(20, 20, seed=100 + seed), "PNG") for seed in range(2))
    source = SampleSource("memory", ("a", "b"), {"train": train, "test": InMemory(contents, [1, 1])})
    found = check(source, num_workers=0).findings
    assert [(finding.kind, finding.split, finding.key) for finding in found] == [
        ("missing-class", "test", "a")
    ]


def test_every_copy_is_named_against_the_first() -> None:
    first, other = encode(noise(20, 20), "PNG"), encode(noise(20, 20), "BMP")
    split = InMemory((first, other, first, first, encode(noise(20, 20, seed=9), "PNG")), [0, 0, 1, 0, 1])
    found = check(SampleSource("memory", ("a", "b"), {"train": split}), num_workers=0).findings
    assert [(item.kind, item.key, item.detail) for item in found if item.kind != "few-samples"] == [
        ("two-labels", "image-2", "b here, and a as image-0: the same picture"),
        ("duplicate-file", "image-3", "the same file as image-0"),
        ("duplicate-pixels", "image-1", "the same picture as image-0"),
    ]


def test_the_shape_counts_when_pictures_are_compared() -> None:
    black = (encode(np.zeros((20, 40, 3), np.uint8), "PNG"), encode(np.zeros((40, 20, 3), np.uint8), "PNG"))
    source = SampleSource("memory", ("a", "b"), {"train": InMemory(black, [0, 0]), "val": InMemory(())})
    assert {finding.kind for finding in check(source, num_workers=0).findings} == {
        "few-samples",
        "missing-class",
    }


def test_a_leak_is_found_in_every_split_but_between_no_others() -> None:
    pictures = [encode(noise(20, 20, seed=seed), "PNG") for seed in range(40)]
    splits = {
        "train": InMemory(tuple(pictures[:20]), _EVEN, "train-{}"),
        "val": InMemory((pictures[3], pictures[30], pictures[31]), [0, 0, 1], "val-{}"),
        "test": InMemory((pictures[30], pictures[31], pictures[19]), [0, 1, 1], "test-{}"),
    }
    found = check(SampleSource("memory", ("a", "b"), splits), num_workers=0).findings
    assert [(item.kind, item.split, item.key, item.detail) for item in found] == [
        ("leak", "val", "val-0", "training sees the same picture as train-3"),
        ("leak", "test", "test-2", "training sees the same picture as train-19"),
    ]


# -- what cannot be opened, and what brings decoders down ------------------------------------------------


def test_a_data_set_that_cannot_be_opened_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "train" / "cat").mkdir(parents=True)
    found = check(tmp_path)
    assert (found.num_samples, found.num_classes, found.ok) == ({}, 0, False)
    (finding,) = found.findings
    assert (finding.kind, finding.severity, finding.split, finding.key) == ("structure", "error", "", "")
    assert finding.detail.startswith("class 'cat' has no images in ")
    with pytest.raises(DataError) as error:  # it is the text that is compared
        open_source(tmp_path)
    assert finding.detail == str(error.value)


@pytest.mark.parametrize(
    ("present", "flat", "message"),
    [
        (("train",), None, "data has only a training split; add a folder"),
        (
            ("train",),
            "test",
            "data has only a training split (test/ is not used: 1 image without class folders)",
        ),
        (("val", "test"), None, "data has no training split; expected a folder or file called 'train'"),
        (("train", "val"), None, ""),
        (("train", "val"), "test", ""),
    ],
)
def test_a_split_that_training_needs_and_does_not_find_is_an_error(
    tmp_path: Path, present: tuple[str, ...], flat: str | None, message: str
) -> None:
    root = plant(tmp_path / "data", ())
    for name in ("train", "val", "test"):
        if name not in present:
            shutil.rmtree(root / name, ignore_errors=True)
        elif not (root / name).exists():
            shutil.copytree(root / "val", root / name)
    if flat is not None:
        (root / flat).mkdir()
        (root / flat / "a.png").write_bytes(encode(noise(20, 20), "PNG"))
    found = [finding.detail for finding in check(root, num_workers=0).findings if finding.severity == "error"]
    assert [detail[: len(message)] for detail in found] == ([message] if message else [])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_px": -1}, r"^min_px is -1; expected 0 to 16384$"),
        ({"min_px": 20_000}, r"^min_px is 20000; expected 0 to 16384$"),
        ({"num_workers": -1}, r"^num_workers is -1; expected 0 to 256$"),
        ({"num_workers": 257}, r"^num_workers is 257; expected 0 to 256$"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check("digits", **options)


@pytest.mark.skipif(sys.platform != "linux", reason="only forked processes have the decoder of this test")
@pytest.mark.parametrize("at", [(0,), (7, 8, 40), (99,)])
def test_a_file_that_kills_its_process_is_named_and_the_others_are_checked(
    monkeypatch: pytest.MonkeyPatch, at: tuple[int, ...]
) -> None:
    source = _source([0, 1] * 50)
    split = source.splits["train"]
    assert isinstance(split, InMemory)
    contents = tuple(b"BMkill" if index in at else content for index, content in enumerate(split.contents))
    parent = os.getpid()

    def deadly(content: bytes) -> object:
        if content == b"BMkill":
            assert os.getpid() != parent
            os._exit(11)
        return decode(content)

    monkeypatch.setattr(check_samples, "decode", deadly)
    found = check(replace(source, splits={"train": replace(split, contents=contents)}), num_workers=2)
    assert [(item.kind, item.key, item.detail) for item in found.findings] == [
        ("crash", f"image-{index}", "the process that decoded it died") for index in at
    ]


def test_a_bug_is_not_taken_for_a_bad_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(content: bytes) -> object:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(check_samples, "decode", broken)
    for num_workers in (0, 1):
        with pytest.raises(ZeroDivisionError, match="a bug"):
            check(_source(_EVEN), num_workers=num_workers)


def test_findings_survive_the_way_between_processes(report: CheckReport) -> None:
    assert pickle.loads(pickle.dumps(report)) == report  # noqa: S301  # made on this line


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units elsewhere")
def test_memory_does_not_grow_with_the_images() -> None:
    split = InMemory((encode(waves(600, 600), "JPEG"),) * 200, [0] * 200)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = check(SampleSource("memory", ("a", "b"), {"train": split}), num_workers=0)
    assert found.counts == {"duplicate-file": 199, "missing-class": 1}
    # 200 pictures of 1 MB when decoded; kept are 36 bytes of each. ru_maxrss counts in kB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000


# -- real photos -----------------------------------------------------------------------------------------


@needs_photos
@pytest.mark.test_all
def test_nothing_is_wrong_with_the_ants_and_bees() -> None:
    found = check(SHARED / "hymenoptera")
    assert found == CheckReport({"train": 245, "val": 153}, 2, (), {"ants": 124, "bees": 121})


@needs_photos
def test_there_is_no_false_alarm_on_250_photos_of_imagenet(tmp_path: Path) -> None:
    for path in sorted((SHARED / "imagenet-samples").iterdir()):
        # n01… to n04… have some fifty each; the rest goes together.
        name = path.name[:3] if path.name[:3] in ("n01", "n02", "n03", "n04") else "others"
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / path.name).symlink_to(path)
    found = check(tmp_path)
    assert sum(found.num_samples.values()) == 250
    assert found.findings == ()
