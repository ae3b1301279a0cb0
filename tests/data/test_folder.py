"""Image folders: layouts, names, what is passed over, and what is refused."""

from __future__ import annotations

import os
import pickle
import sys
import unicodedata
from typing import TYPE_CHECKING, Literal

import pytest

from deepresidual.data.source import SampleSource, list_images, open_source
from deepresidual.data.source.base import (
    EncodedSample,
    IgnoredFile,
    canonical_split,
    fingerprint_of,
)
from deepresidual.data.source.stratified import unit_of
from deepresidual.data.source.validation import hold_out
from deepresidual.errors import ConfigurationError, DataError
from tests.data.annotations import image
from tests.data.pictures import encode, noise
from tests.data.splits import smallest_hashes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_PNG = encode(noise(4, 5), "PNG")
_MANY = [f"{number:03}.png" for number in range(40)]


def _fill(folder: Path, names: Iterable[str] = ("a.png", "b.png"), content: bytes = _PNG) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def _split_tree(root: Path, *splits: str, classes: tuple[str, ...] = ("cat", "dog")) -> Path:
    for split in splits:
        for name in classes:
            _fill(root / split / name)
    return root


def _keys(source: SampleSource, split: str) -> list[str]:
    return [source.splits[split].read(index).key for index in range(len(source.splits[split]))]


# -- layouts ---------------------------------------------------------------------------------------------


def test_split_folders_give_splits_with_sorted_classes(tmp_path: Path) -> None:
    source = open_source(_split_tree(tmp_path / "pets", "train", "val", "test", classes=("dog", "cat")))
    assert source.name == "pets"
    assert source.classes == ("cat", "dog")
    assert list(source.splits) == ["train", "test", "val"]
    assert source.ignored == ()
    assert source.held_out == ""
    assert _keys(source, "train") == [f"train/{name}.png" for name in ("cat/a", "cat/b", "dog/a", "dog/b")]
    assert source.splits["train"].labels == [0, 0, 1, 1]
    assert source.splits["val"].read(2) == EncodedSample("val/dog/a.png", _PNG, 1)


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("training", "train"),
        ("Train", "train"),
        ("val", "val"),
        ("valid", "val"),
        ("validation", "val"),
        ("VAL", "val"),
        ("dev", "val"),
        ("test", "test"),
        ("testing", "test"),
    ],
)
def test_the_usual_names_of_splits_are_understood(tmp_path: Path, folder: str, split: str) -> None:
    other = "train" if split != "train" else "test"
    source = open_source(_split_tree(tmp_path, folder, other))
    assert set(source.splits) == {split, other}
    assert canonical_split(folder) == split
    assert len(source.split(folder)) == 4


def test_two_names_of_one_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has two val splits \(val, validation\); keep one$"):
        open_source(_split_tree(tmp_path, "train", "val", "validation"))


def test_images_in_folders_within_a_class_belong_to_it(tmp_path: Path) -> None:
    _split_tree(tmp_path, "train", "test")
    _fill(tmp_path / "train" / "cat" / "deep" / "deeper", ["c.png"])
    assert "train/cat/deep/deeper/c.png" in _keys(open_source(tmp_path), "train")


def test_a_folder_beside_the_splits_is_named_as_ignored(tmp_path: Path) -> None:
    _fill(_split_tree(tmp_path, "train", "val") / "extra" / "cat")
    assert open_source(tmp_path).ignored == (
        IgnoredFile("extra/", "not a split: neither train, val nor test"),
    )


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    for name in ("bus", "train", "test"):
        _fill(tmp_path / name, _MANY)
    source = open_source(tmp_path)
    assert source.classes == ("bus", "test", "train")
    assert set(source.splits) == {"train", "test"}


def test_folders_may_say_their_split_in_a_word_of_their_name(tmp_path: Path) -> None:
    for split in ("imagenet-train", "imagenet-val", "test2017"):
        _split_tree(tmp_path, split)
    source = open_source(tmp_path)
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 4, "val": 4, "test": 4}
    assert source.classes == ("cat", "dog")


def test_classes_with_words_of_splits_in_their_names_stay_classes(tmp_path: Path) -> None:
    for name in ("freight-train", "test-tube"):
        _fill(tmp_path / name, _MANY)
    assert open_source(tmp_path).classes == ("freight-train", "test-tube")
    _fill(tmp_path / "bus" / "red", _MANY)
    assert open_source(tmp_path).classes == ("bus", "freight-train", "test-tube")


@pytest.mark.parametrize("splits", [("train", "test"), ("train", "valid"), ("train", "val", "test")])
def test_splits_without_class_folders_are_not_taken_for_classes(
    tmp_path: Path, splits: tuple[str, ...]
) -> None:
    for name in splits:
        _fill(tmp_path / name, _MANY)
    with pytest.raises(
        DataError,
        match=r"has no class folders in .*train.*; expected \w+/CLASS/IMAGE, or annotations .*; sort the im",
    ):
        open_source(tmp_path)


def test_labels_follow_names_when_a_split_lists_them_in_another_order(tmp_path: Path) -> None:
    _fill(tmp_path / "train" / "zebra")
    _fill(tmp_path / "train" / "ape")
    _fill(tmp_path / "test" / "ape", ["only.png"])
    _fill(tmp_path / "test" / "zebra", ["only.png"])
    source = open_source(tmp_path)
    samples = [source.splits["test"].read(index) for index in range(2)]
    assert [(sample.key, source.classes[sample.target]) for sample in samples] == [
        ("test/ape/only.png", "ape"),
        ("test/zebra/only.png", "zebra"),
    ]


def test_only_training_images_cannot_be_evaluated(tmp_path: Path) -> None:
    source = open_source(_split_tree(tmp_path / "pets", "train"))
    with pytest.raises(
        DataError, match=r"^pets has only a training split; add a folder or file called 'val'"
    ):
        source.evaluation_split  # noqa: B018  # the property itself raises


@pytest.mark.parametrize(
    ("flat", "message"),
    [
        (
            "test",
            r"\(test/ is not used: 40 images without class folders\); add a folder or file called 'val' or",
        ),
        ("val", r"\(val/ is not used: 40 images without class folders\); .* with --validation 0\.2$"),
        ("valid", r"\(valid/ is not used: 40 images without class folders\)"),
        ("dev", r"\(dev/ is not used: it has no class folders\)"),
    ],
)
def test_test_images_without_classes_are_not_used_and_named_where_they_are_missed(
    tmp_path: Path, flat: str, message: str
) -> None:
    root = _split_tree(tmp_path / "pets", "train")
    _fill(root / flat, _MANY if flat != "dev" else ["notes.txt"])
    source = open_source(root)
    assert [file.path for file in source.ignored] == [f"{flat}/"]
    with pytest.raises(DataError, match=rf"^pets has only a training split {message}"):
        source.require_training_splits()
    # What the message advises.
    hold_out(source, 0.25).require_training_splits()
    # Beside a split with classes they are no loss.
    other = "val" if flat == "test" else "test"
    open_source(_split_tree(root, other)).require_training_splits()


def test_a_data_set_without_a_training_split_cannot_be_trained_on(tmp_path: Path) -> None:
    root = _split_tree(tmp_path / "pets", "val", "test")
    _fill(root / "train")
    with pytest.raises(
        DataError,
        match=r"^pets has no training split \(train/ is not used: 2 images without class folders\); expected",
    ):
        open_source(root).require_training_splits()


@pytest.mark.parametrize(
    ("splits", "validation", "evaluation"),
    [
        (("train", "val"), "val", "val"),
        (("train", "test"), "test", "test"),
        (("train", "val", "test"), "val", "test"),
    ],
)
def test_training_watches_val_and_the_final_figure_is_that_of_test(
    tmp_path: Path, splits: tuple[str, ...], validation: str, evaluation: str
) -> None:
    source = open_source(_split_tree(tmp_path, *splits))
    assert (source.validation_split, source.evaluation_split) == (validation, evaluation)


def test_a_split_that_does_not_exist_is_named_with_those_that_do(tmp_path: Path) -> None:
    source = open_source(_split_tree(tmp_path / "pets", "train", "val"))
    with pytest.raises(ConfigurationError, match=r"^pets has no split 'test'; expected one of train, val$"):
        source.split("test")
    with pytest.raises(ConfigurationError, match=r"^pets has no split 'trian'; expected one of train$"):
        source.split("trian")


# -- without splits --------------------------------------------------------------------------------------


def test_without_splits_a_fifth_of_each_class_is_held_out_by_name(tmp_path: Path) -> None:
    names = {"cat": [f"{number:04}.png" for number in range(500)], "dog": _MANY, "emu": ["a.png", "b.png"]}
    for name, files in names.items():
        _fill(tmp_path / name, files, b"x")
    source = open_source(tmp_path)
    assert source.held_out == "a fifth of each class is held out by the hash of the file name"
    assert source.notes == ()
    train, test = _keys(source, "train"), _keys(source, "test")
    assert sorted(train + test) == [f"{name}/{file}" for name, files in names.items() for file in files]
    for label, (name, files) in enumerate(names.items()):
        assert {key for key in test if key.startswith(name)} == {
            f"{name}/{file}" for file in smallest_hashes(files)
        }
        assert source.splits["test"].labels.count(label) == max(1, len(files) // 5)


def test_the_side_of_a_name_is_this_on_every_machine(tmp_path: Path) -> None:
    # Were it to change, the test images of earlier models would become training images of later ones.
    for name in ("cat", "dog"):
        _fill(tmp_path / name, _MANY)
    test = ["002.png", "003.png", "004.png", "005.png", "022.png", "025.png", "029.png", "038.png"]
    assert _keys(open_source(tmp_path), "test") == [
        f"{name}/{file}" for name in ("cat", "dog") for file in test
    ]


def test_the_only_image_of_a_class_is_for_training(tmp_path: Path) -> None:
    for name, files in {"cat": _MANY, "dog": ["1.png"], "emu": ["1.png"], "fox": _MANY}.items():
        _fill(tmp_path / name, files)
    source = open_source(tmp_path)
    assert {"dog/1.png", "emu/1.png"} < set(_keys(source, "train"))
    assert source.notes == (
        (
            "dog, emu have 1 image each: they are used for training and cannot be tested; 5 or more a class "
            "are needed for a figure"
        ),
    )


def test_classes_of_one_image_each_leave_nothing_to_test(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        _fill(tmp_path / "pets" / name, ["1.png"])
    with pytest.raises(
        DataError,
        match="^pets: nothing can be held out for testing, since every class has one image; add images, or",
    ):
        open_source(tmp_path / "pets")


def test_copies_of_one_image_leave_nothing_to_test_and_are_called_so(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        first = image(tmp_path / "pets" / name / f"{name}.png").read_bytes()
        for copy in ("emu", "fox"):
            (tmp_path / "pets" / name / f"{copy}.png").write_bytes(first)
    with pytest.raises(DataError, match="since every class has one image, or copies of one; add images, or"):
        open_source(tmp_path / "pets")


# -- what is refused -------------------------------------------------------------------------------------


def test_a_path_that_does_not_exist_is_named_with_what_data_may_be(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"nowhere does not exist; expected 'digits', 'digit-scenes', a folder of images by class, a ",
    ):
        open_source(tmp_path / "nowhere")


def test_a_plain_file_is_refused(tmp_path: Path) -> None:
    _fill(tmp_path, ["photo.png"])
    with pytest.raises(
        DataError, match=r"photo\.png is a file; expected a folder of images by class, or a \."
    ):
        open_source(str(tmp_path / "photo.png"))


def test_a_folder_without_classes_is_refused(tmp_path: Path) -> None:
    _fill(tmp_path)
    with pytest.raises(
        DataError, match=r"has no class folders; expected train/CLASS/IMAGE and val/CLASS/IMAGE, or CLASS/IM"
    ):
        open_source(tmp_path)


@pytest.mark.parametrize("splits", [("train", "val"), ()])
def test_a_single_class_is_refused(tmp_path: Path, splits: tuple[str, ...]) -> None:
    _split_tree(tmp_path, *splits, classes=("cat",))
    if not splits:
        _fill(tmp_path / "cat", _MANY)
    with pytest.raises(DataError, match=r"has only one class \(cat\); expected at least 2; add a folder"):
        open_source(tmp_path)


def test_an_empty_class_is_named(tmp_path: Path) -> None:
    _fill(_split_tree(tmp_path, "train", "val") / "val" / "emu", [])
    _fill(tmp_path / "train" / "emu")
    with pytest.raises(
        DataError,
        match=r"^class 'emu' has no images in .*emu; add images or remove the",
    ):
        open_source(tmp_path)


def test_a_class_of_other_files_is_named_with_their_count(tmp_path: Path) -> None:
    _fill(_split_tree(tmp_path, "train") / "train" / "emu", ["a.mp4", "b.mp4"], b"\0\0\0\x18ftypmp42")
    with pytest.raises(
        DataError, match=r"^class 'emu' has no images in .*emu \(2 files of other kinds\); add"
    ):
        open_source(tmp_path)


def test_files_outside_an_empty_class_are_not_counted_as_its_own(tmp_path: Path) -> None:
    _fill(_split_tree(tmp_path, "train") / "train", ["emu.png"])
    _fill(tmp_path / "train" / "emu", [])
    with pytest.raises(DataError, match=r"^class 'emu' has no images in [^()]*emu; add images"):
        open_source(tmp_path)


def test_classes_that_differ_between_splits_are_named_on_both_sides(tmp_path: Path) -> None:
    _split_tree(tmp_path, "train", classes=("cat", "dog", "emu"))
    _split_tree(tmp_path, "valid", classes=("cat", "fox", "gnu"))
    with pytest.raises(
        DataError,
        match=r"the classes of train and valid differ \(only in train: dog, emu; only in valid: fox, gnu\);",
    ):
        open_source(tmp_path)


def test_a_class_that_one_split_lacks_is_refused_and_not_renumbered(tmp_path: Path) -> None:
    _split_tree(tmp_path, "train", classes=("ape", "cat", "dog"))
    _split_tree(tmp_path, "test", classes=("cat", "dog"))
    with pytest.raises(DataError, match=r"differ \(only in train: ape; only in test: none\)"):
        open_source(tmp_path)


@pytest.mark.parametrize(("one", "other"), [("Cat", "cat"), ("caf\u00e9", "cafe\u0301")])
def test_classes_that_look_the_same_are_refused(tmp_path: Path, one: str, other: str) -> None:
    _split_tree(tmp_path, "train", "val", classes=(one, other))
    if len(list((tmp_path / "train").iterdir())) < 2:
        pytest.skip("this file system takes the two names for one")
    with pytest.raises(
        DataError, match=r"classes '.+' and '.+' differ only in case or Unicode form; merge or r"
    ):
        open_source(tmp_path)


@pytest.mark.parametrize("train", ["NFC", "NFD"])
def test_splits_in_two_unicode_forms_have_the_same_classes(
    tmp_path: Path, train: Literal["NFC", "NFD"]
) -> None:
    # As where one was copied from a Mac. In NFD é comes before f, in NFC behind z.
    other: Literal["NFC", "NFD"] = "NFC" if train == "NFD" else "NFD"
    names = ("caf\u00e9", "cafz", "tea")
    for split, form in (("train", train), ("val", other)):
        for number, name in enumerate(names):
            _fill(tmp_path / split / unicodedata.normalize(form, name), ["a.png"], bytes([number]))
    if not (tmp_path / "train" / unicodedata.normalize(other, names[0])).exists():
        source = open_source(tmp_path)
        assert source.classes == ("cafz", "caf\u00e9", "tea")
        for part in source.splits.values():
            samples = [part.read(index) for index in range(3)]
            assert {sample.content[0]: source.classes[sample.target] for sample in samples} == dict(
                enumerate(names)
            )


def test_one_form_of_a_name_stays_as_it_is(tmp_path: Path) -> None:
    # Models that were trained on such a data set know the class by this name.
    _split_tree(tmp_path, "train", "val", classes=("cafe\u0301", "tea"))
    assert [unicodedata.is_normalized("NFD", name) for name in open_source(tmp_path).classes] == [True, True]


def test_names_that_look_alike_are_told_apart_in_the_message(tmp_path: Path) -> None:
    _split_tree(tmp_path, "train", classes=("\ufb01n", "tea"))
    _split_tree(tmp_path, "val", classes=("fin", "tea"))
    with pytest.raises(DataError, match=r"\(only in train: \\ufb01n; only in val: fin\); give both the same"):
        open_source(tmp_path)


def test_two_forms_of_a_name_in_one_split_are_refused_with_their_escapes(tmp_path: Path) -> None:
    _split_tree(tmp_path, "train", "val", classes=("caf\u00e9", "cafe\u0301"))
    if len(list((tmp_path / "train").iterdir())) < 2:
        pytest.skip("this file system takes the two names for one")
    with pytest.raises(
        DataError, match=r"classes 'cafe\\u0301' and 'caf\\xe9' differ only in case or Unicode form"
    ):
        open_source(tmp_path)


def test_test_images_in_one_folder_that_is_no_class_are_named_as_what_they_may_be(tmp_path: Path) -> None:
    _split_tree(tmp_path, "train")
    _fill(tmp_path / "test" / "unknown")
    with pytest.raises(
        DataError, match=r"only in test: unknown\); .*, or move test away if its images have no classes$"
    ):
        open_source(tmp_path)


def test_a_folder_of_tables_says_how_to_name_one(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(DataError, match=r"has no class folders; .*; give the table itself: .*/labels\.csv$"):
        open_source(tmp_path)


# -- what is passed over ---------------------------------------------------------------------------------


def test_every_ignored_file_is_named_with_the_reason(tmp_path: Path) -> None:
    root = _split_tree(tmp_path, "train")
    _fill(root / "train" / "cat", ["moving.mp4"], b"\0\0\0\x18ftypmp42")
    _fill(root / "train" / "cat", ["labels.txt"], b"cat,dog\n")
    _fill(root / "train" / "cat", ["noext", "wrong.dat"])
    _fill(root / "train" / "dog", ["zeros.bin"], bytes(40))
    _fill(root / "train" / "dog", ["empty"], b"")
    _fill(root / "train", ["loose.jpg"])
    source = open_source(root)
    assert {file.path: file.reason for file in source.ignored} == {
        "train/loose.jpg": "lies outside the class folders",
        "train/cat/moving.mp4": "no image (MP4)",
        "train/cat/labels.txt": "no image (text)",
        "train/cat/noext": "PNG under the name without an extension; rename it to use it",
        "train/cat/wrong.dat": "PNG under the name .dat; rename it to use it",
        "train/dog/zeros.bin": "no image (an unknown format)",
        "train/dog/empty": "no image (an unknown format)",
    }
    assert len(source.splits["train"]) == 4


def test_heic_photos_without_their_library_are_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deepresidual.data.source.folder.reads_heic", lambda: False)
    root = _split_tree(tmp_path, "train", "val")
    _fill(root / "train" / "cat", [f"IMG_{number:04d}.HEIC" for number in range(30)])
    (line,) = map(str, open_source(root).ignored)
    assert line.startswith(
        "train/cat/IMG_0000.HEIC and 29 more HEIC is not used: a HEIC photo, as iPhones take them; to read "
        "these: pip install 'deepresidual[heic]' ("
    )
    _fill(root / "train" / "emu", ["IMG_0001.heic", "IMG_0002.heif"])
    _fill(root / "val" / "emu", ["a.jpg"])
    with pytest.raises(
        DataError,
        match=r"^class 'emu' has no images but HEIC photos, as iPhones take them \(2\); to",
    ):
        open_source(root)


def test_heic_photos_are_samples_where_they_can_be_read(tmp_path: Path) -> None:
    root = _split_tree(tmp_path, "train")
    _fill(root / "train" / "cat", ["IMG_0001.HEIC", "scan.tiff", "x.gif", "y.avif"])
    source = open_source(root)
    assert source.ignored == ()
    assert {"train/cat/IMG_0001.HEIC", "train/cat/scan.tiff"} <= set(_keys(source, "train"))


def test_extensions_count_in_any_case(tmp_path: Path) -> None:
    names = ["a.JPG", "b.Jpeg", "c.jpe", "d.jfif", "e.PNG", "f.webp", "g.BMP"]
    _fill(_split_tree(tmp_path, "train") / "train" / "emu", names)
    keys = _keys(open_source(tmp_path), "train")
    assert [key for key in keys if key.startswith("train/emu/")] == [f"train/emu/{name}" for name in names]


def test_hidden_files_and_the_litter_of_systems_are_passed_over_in_silence(tmp_path: Path) -> None:
    root = _split_tree(tmp_path, "train", "val")
    _fill(root / "train" / "cat", [".a.png", "._b.png", "Thumbs.db", "desktop.ini", ".cache/c.png"])
    _fill(root / ".cache" / "cat")
    _fill(root / "train" / ".ipynb_checkpoints")
    _fill(root / "__MACOSX" / "cat")
    _fill(root / "train" / "__MACOSX")
    (root / ".notes" / "deep").mkdir(parents=True)
    source = open_source(root)
    assert source.ignored == ()
    assert source.classes == ("cat", "dog")
    assert len(source.splits["train"]) == 4


@pytest.mark.parametrize("name", ["__background__", "_unknown", "_", "__", "__MACOSX__"])
def test_a_class_may_begin_with_underscores(tmp_path: Path, name: str) -> None:
    source = open_source(_split_tree(tmp_path, "train", "val", classes=("cat", name)))
    assert source.classes == tuple(sorted(("cat", name)))
    assert len(source.splits["train"]) == 4


def test_a_link_that_leads_nowhere_in_place_of_a_class_or_a_split_is_named(tmp_path: Path) -> None:
    root = _split_tree(tmp_path / "pets", "train")
    (root / "train" / "emu").symlink_to(tmp_path / "gone")
    (root / "val").symlink_to(tmp_path / "gone")
    source = open_source(root)
    reason = "neither a folder nor a regular file"
    assert set(source.ignored) == {IgnoredFile("val", reason), IgnoredFile("train/emu", reason)}
    with pytest.raises(
        DataError, match=r"^pets has only a training split \(val is not used: neither a folder"
    ):
        source.require_training_splits()


def test_a_loop_of_links_does_not_hang(tmp_path: Path) -> None:
    root = _split_tree(tmp_path, "train", "val")
    (root / "train" / "cat" / "again").symlink_to(root, target_is_directory=True)
    (root / "train" / "self").symlink_to(root / "train" / "self")
    source = open_source(root)
    assert source.classes == ("cat", "dog")
    assert len(source.splits["train"]) == 4


def test_a_linked_folder_within_a_class_is_named_as_ignored(tmp_path: Path) -> None:
    root = _split_tree(tmp_path / "data", "train")
    more = _fill(tmp_path / "more", ["c.png"])
    (root / "train" / "cat" / "more").symlink_to(more, target_is_directory=True)
    source = open_source(root)
    assert len(source.splits["train"]) == 4
    assert [file.path.rstrip("/") for file in source.ignored] == ["train/cat/more"]


def test_a_linked_class_folder_and_a_linked_image_are_used(tmp_path: Path) -> None:
    root = _split_tree(tmp_path / "data", "train")
    elsewhere = _fill(tmp_path / "elsewhere", ["c.png"])
    (root / "train" / "emu").symlink_to(elsewhere, target_is_directory=True)
    (root / "train" / "cat" / "linked.png").symlink_to(elsewhere / "c.png")
    keys = _keys(open_source(root), "train")
    assert {"train/emu/c.png", "train/cat/linked.png"} < set(keys)


def test_what_is_no_file_is_named_and_never_opened(tmp_path: Path) -> None:
    root = _split_tree(tmp_path, "train")
    os.mkfifo(root / "train" / "cat" / "pipe.png")
    (root / "train" / "cat" / "broken.png").symlink_to(tmp_path / "nowhere.png")
    source = open_source(root)
    assert set(source.ignored) == {
        IgnoredFile("train/cat/pipe.png", "not a regular file"),
        IgnoredFile("train/cat/broken.png", "not a regular file"),
    }
    assert len(source.splits["train"]) == 4


# /proc/self/mem is a regular file that opens and that cannot be read, even by root.
@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has /proc")
def test_a_file_of_another_kind_that_cannot_be_read_is_named_as_ignored(tmp_path: Path) -> None:
    root = _split_tree(tmp_path, "train")
    (root / "train" / "cat" / "notes").symlink_to("/proc/self/mem")
    assert [file.path for file in open_source(root).ignored] == ["train/cat/notes"]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has /proc")
def test_an_image_that_cannot_be_read_is_named_when_it_is_read(tmp_path: Path) -> None:
    root = _split_tree(tmp_path, "train")
    (root / "train" / "cat" / "0.png").symlink_to("/proc/self/mem")
    split = open_source(root).splits["train"]
    with pytest.raises(DataError, match=r"^train/cat/0\.png cannot be read \(Input/output error\)$"):
        split.read(0)


@pytest.mark.parametrize(
    "raw",
    [
        b"new\nline.png",
        b"not \xff\xfe UTF-8.png",
        "Füße \N{CAT FACE} 猫.png".encode(),
        b" leading and trailing .png",
        b"--option.png",
        b"quote'\".png",
        b"*[?].png",
    ],
)
def test_odd_file_names_are_read_and_keep_their_name(tmp_path: Path, raw: bytes) -> None:
    root = _split_tree(tmp_path, "train")
    name = os.fsdecode(raw)
    try:
        (root / "train" / "cat" / name).write_bytes(_PNG)
    except OSError:
        pytest.skip("this file system does not take such a name")
    split = open_source(root).splits["train"]
    samples = [split.read(index) for index in range(len(split))]
    assert EncodedSample(f"train/cat/{name}", _PNG, 0) in samples
    assert len(fingerprint_of(split)) == 32
    assert len(unit_of(name)) == 64


def test_odd_class_names_are_kept(tmp_path: Path) -> None:
    classes = ("--help", "new\nline", "ß", "猫 cat")
    assert open_source(_split_tree(tmp_path, "train", "val", classes=classes)).classes == classes


def test_images_are_listed_sorted_and_relative_to_the_root(tmp_path: Path) -> None:
    _fill(tmp_path / "x" / "b", ["2.png", "10.png"])
    _fill(tmp_path / "x" / "a", ["3.png", "note.txt"])
    ignored: list[IgnoredFile] = []
    found = list(list_images(tmp_path / "x", ignored, tmp_path))
    assert found == ["x/a/3.png", "x/b/10.png", "x/b/2.png"]
    assert [file.path for file in ignored] == ["x/a/note.txt"]


# -- reading and the fingerprint -------------------------------------------------------------------------


def test_a_file_that_vanished_is_named_when_it_is_read(tmp_path: Path) -> None:
    split = open_source(_split_tree(tmp_path, "train")).splits["train"]
    (tmp_path / "train" / "cat" / "b.png").unlink()
    with pytest.raises(DataError, match=r"^train/cat/b\.png cannot be read \(No such file or directory\)$"):
        split.read(1)


def test_a_split_reads_the_same_in_another_process(tmp_path: Path) -> None:
    split = open_source(_split_tree(tmp_path, "train")).splits["train"]
    copy = pickle.loads(pickle.dumps(split))  # noqa: S301  # made on this line; what `spawn` does
    assert [copy.read(index) for index in range(4)] == [split.read(index) for index in range(4)]


def test_the_fingerprint_is_the_same_in_another_place(tmp_path: Path) -> None:
    first = open_source(_split_tree(tmp_path / "one", "train", "val"))
    second = open_source(_split_tree(tmp_path / "two", "train", "val"))
    assert fingerprint_of(first.splits["train"]) == fingerprint_of(second.splits["train"])
    assert fingerprint_of(first.splits["train"]) != fingerprint_of(first.splits["val"])


@pytest.mark.parametrize("change", ["add", "remove", "rename", "relabel", "resize"])
def test_the_fingerprint_changes_with_the_samples(tmp_path: Path, change: str) -> None:
    cat, dog = (_split_tree(tmp_path, "train") / "train" / name for name in ("cat", "dog"))
    before = fingerprint_of(open_source(tmp_path).splits["train"])
    match change:
        case "add":
            (cat / "c.png").write_bytes(_PNG)
        case "remove":
            (cat / "b.png").unlink()
        case "rename":
            (cat / "b.png").rename(cat / "c.png")
        case "relabel":
            (cat / "b.png").rename(dog / "c.png")
        case _:
            (cat / "b.png").write_bytes(_PNG + b"\0")
    assert fingerprint_of(open_source(tmp_path).splits["train"]) != before
