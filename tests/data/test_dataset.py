"""Data sets that are Python objects: the same samples as their files, one sentence for what is none."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import datasets
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, IterableDataset, Subset, TensorDataset
from torchvision.datasets import ImageFolder
from torchvision.transforms import RandomCrop, ToTensor

from deepresidual.data.decode import decode
from deepresidual.data.source import SampleSource, as_source, open_source
from deepresidual.data.source.base import fingerprint_of
from deepresidual.data.source.dataset import open_dataset
from deepresidual.data.source.in_memory import encoded
from deepresidual.errors import ConfigurationError, DataError, ResidualError

Pair: TypeAlias = tuple[Any, Any]


def picture(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape or (6, 8, 3), dtype=np.uint8)


def pairs(count: int = 20, num_classes: int = 2) -> list[Pair]:
    return [(Image.fromarray(picture(number)), number % num_classes) for number in range(count)]


def jpeg(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture(seed, 16, 16, 3)).save(file, "JPEG")
    return file.getvalue()


def rows_of(source: SampleSource) -> dict[str, list[tuple[NDArray[np.uint8], str]]]:
    """Return pixels and class of every sample, by split."""
    return {
        name: [
            (decode(sample.content), source.classes[sample.target])
            for sample in map(split.read, range(len(split)))
        ]
        for name, split in source.splits.items()
    }


# -- images ------------------------------------------------------------------------------------------------


@given(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3])).flatmap(
        lambda shape: arrays.arrays(np.uint8, shape)
    )
)
def test_arrays_images_and_tensors_keep_every_pixel(pixels: NDArray[np.uint8]) -> None:
    rgb = np.broadcast_to(pixels, (*pixels.shape[:2], 3))
    forms: list[Any] = [pixels, pixels[:, ::-1][:, ::-1], torch.from_numpy(pixels.transpose(2, 0, 1).copy())]
    if pixels.shape[2] == 1:
        forms += [pixels[:, :, 0], Image.fromarray(pixels[:, :, 0]), torch.from_numpy(pixels[:, :, 0].copy())]
    else:
        forms.append(Image.fromarray(pixels))
    for form in forms:
        assert np.array_equal(decode(encoded(form)), rgb)


def test_transparent_pixels_lie_over_white_as_those_of_files_do() -> None:
    pixels = picture(0, 5, 5, 4)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    assert np.array_equal(decode(encoded(pixels)), decode(file.getvalue()))


def test_a_path_and_the_bytes_of_a_file_stay_the_file(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg(0))
    assert encoded(path) == encoded(str(path)) == encoded(jpeg(0)) == jpeg(0)


# -- what is accepted --------------------------------------------------------------------------------------


def test_splits_of_a_mapping_under_their_usual_names() -> None:
    source = open_dataset({"test": pairs(4), "training": pairs(6), "valid": pairs(8)})
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 6, "test": 4, "val": 8}
    assert (source.name, source.classes, source.held_out) == ("images", ("0", "1"), "")


def test_a_data_set_without_splits_is_divided_by_its_numbers() -> None:
    once, again = open_dataset(pairs(60)), open_dataset(pairs(60))
    assert {name: len(split) for name, split in once.splits.items()}.keys() == {"train", "test"}
    assert sum(map(len, once.splits.values())) == 60
    assert "fifth" in once.held_out
    for name, split in once.splits.items():
        assert fingerprint_of(split) == fingerprint_of(again.splits[name])


@pytest.mark.parametrize("label", [1, np.int64(1), np.uint8(1), torch.tensor(1), True, np.array(1)])
def test_whole_numbers_of_any_library_are_labels(label: Any) -> None:
    source = open_dataset({"train": [*pairs(4), (picture(9), label)], "test": pairs(4)})
    assert source.split("train").labels[-1] == 1


def test_names_are_labels_and_class_names_can_be_given() -> None:
    named = [(image, ("dog", "cat")[label]) for image, label in pairs()]
    assert open_dataset({"train": named, "val": named}).classes == ("cat", "dog")
    numbers = {"train": pairs(), "val": pairs()}
    assert open_dataset(numbers, class_names=["dog", "cat"]).classes == ("dog", "cat")
    both = open_dataset({"train": pairs(), "val": named}, class_names=["dog", "cat"])
    assert both.split("train").labels == both.split("val").labels


def test_labels_that_occur_are_the_classes_where_nothing_names_them() -> None:
    gaps = [(image, 10 * label) for image, label in pairs(6, 3)]
    source = open_dataset({"train": gaps, "test": gaps[:2]})
    assert source.classes == ("0", "10", "20")
    assert source.split("train").labels == [0, 1, 2, 0, 1, 2]


def test_an_image_folder_is_read_from_its_files(photos: Path) -> None:
    of_files = open_source(photos)
    parts = {name: ImageFolder(str(photos / name)) for name in of_files.splits}
    source = open_dataset(parts)
    assert source.name == photos.name
    for name, split in source.splits.items():
        first, other = split.read(3), of_files.split(name).read(3)
        assert first.content == other.content
        assert source.classes[first.target] == of_files.classes[other.target]
        assert split.labels == parts[name].targets


def test_paths_with_labels_are_read_from_their_files(photos: Path) -> None:
    files = sorted((photos / "train").rglob("*.png"))
    source = open_dataset(
        {"train": [(str(file), file.parent.name) for file in files], "test": pairs_of(files)}
    )
    assert source.split("train").key(0) == f"{files[0].parent.name}/{files[0].name}"
    assert source.split("train").read(0).content == files[0].read_bytes()
    assert fingerprint_of(source.split("train")) == fingerprint_of(source.split("test"))


def pairs_of(files: list[Path]) -> list[Pair]:
    return [(file, file.parent.name) for file in files]


class Kept(TensorDataset):
    """A data set that has its labels apart, as torchvision's do, and counts how often it is read."""

    classes = ("no", "yes")

    def __init__(self, count: int = 30) -> None:
        images = torch.from_numpy(np.stack([picture(number).transpose(2, 0, 1) for number in range(count)]))
        super().__init__(images, torch.arange(count) % 2)
        self.targets = self.tensors[1]
        self.num_read = 0

    def __getitem__(self, index: Any) -> Any:
        self.num_read += 1
        return super().__getitem__(index)  # type: ignore[no-untyped-call]


def test_labels_that_are_kept_apart_need_no_reading() -> None:
    kept = Kept(300)
    source = open_dataset({"train": kept, "val": Subset(kept, [4, 1, 3])})
    assert kept.num_read < 60
    assert source.classes == ("no", "yes")
    assert source.split("val").labels == [0, 1, 1]
    assert np.array_equal(decode(source.split("val").read(0).content), picture(4))


def test_labels_that_are_kept_apart_count_only_where_they_are_those_of_the_samples() -> None:
    class Turned(Kept):
        def __getitem__(self, index: Any) -> Any:
            image, label = super().__getitem__(index)
            return image, 1 - label

    assert open_dataset({"train": Turned(), "test": Turned()}).split("train").labels[:2] == [1, 0]


def test_subsets_and_concatenations_have_the_classes_of_what_they_are_made_of() -> None:
    kept = Kept()
    joined: Any = ConcatDataset([Subset(kept, range(10)), kept])
    source = open_dataset({"train": joined, "test": kept})
    assert (source.classes, len(source.split("train"))) == (("no", "yes"), 40)


def test_samples_may_be_mappings() -> None:
    class Mappings:
        def __len__(self) -> int:
            return 6

        def __getitem__(self, index: int) -> dict[str, Any]:
            return {"picture": picture(index), "label": index % 2, "id": index}

    with pytest.raises(DataError, match=r"sample 0: it has no image \(picture, label, id\); .* image=…"):
        open_dataset({"train": Mappings(), "test": Mappings()})
    assert len(open_dataset({"train": Mappings(), "test": Mappings()}, image="picture").classes) == 2


def test_a_test_split_without_labels_is_named_and_left_aside() -> None:
    withheld = [(image, -1) for image, _ in pairs(4)]
    source = open_dataset({"train": pairs(), "val": pairs(4), "test": withheld})
    assert list(source.splits) == ["train", "val"]
    assert [str(file) for file in source.ignored] == ["test is not used: none of its samples has a label"]


# -- Hugging Face --------------------------------------------------------------------------------------------


def hugging_face(count: int = 12, **names: str) -> datasets.Dataset:
    """Return a data set of JPEGs, with the columns called as ``names`` say."""
    image, label = names.get("image", "image"), names.get("label", "label")
    features = datasets.Features(
        {
            image: datasets.Image(),
            label: datasets.ClassLabel(names=["ant", "bee"]),
            "size": datasets.Value("int64"),
        }
    )
    rows = {
        image: [{"bytes": jpeg(number), "path": None} for number in range(count)],
        label: [number % 2 for number in range(count)],
        "size": [16] * count,
    }
    return datasets.Dataset.from_dict(rows, features=features)


def test_files_of_hugging_face_stay_the_files_that_they_are() -> None:
    both = datasets.DatasetDict(train=hugging_face(), test=hugging_face(4))
    source = as_source(both)
    assert source.classes == ("ant", "bee")
    assert {name: len(split) for name, split in source.splits.items()} == {"train": 12, "test": 4}
    assert [source.split("train").read(index).content for index in (0, 7)] == [jpeg(0), jpeg(7)]
    assert source.split("train").labels == [0, 1] * 6


def test_rows_of_hugging_face_may_be_chosen_shuffled_and_formatted() -> None:
    chosen = hugging_face().shuffle(seed=1).select(range(5))
    formatted = chosen.with_transform(lambda batch: {"pixels": batch["image"]})
    plain, seen = as_source({"train": chosen, "val": chosen}), as_source({"train": formatted, "val": chosen})
    assert [plain.split("train").read(index) for index in range(5)] == [
        seen.split("train").read(index) for index in range(5)
    ]


def test_columns_of_hugging_face_are_chosen_by_type_by_name_or_as_asked() -> None:
    other = hugging_face(image="photo", label="species")
    assert as_source({"train": other, "test": other}).classes == ("ant", "bee")
    two = hugging_face().add_column("other", [number % 3 for number in range(12)])
    assert open_dataset({"train": two, "test": two}, label="other").classes == ("0", "1", "2")
    with pytest.raises(ConfigurationError, match=r"has no column 'kind'; expected one of image, label, size"):
        open_dataset(hugging_face(), label="kind")
    with pytest.raises(
        ConfigurationError, match=r"has no label column \(image, size\); name it with label=…"
    ):
        open_dataset(hugging_face().remove_columns("label"))


# -- the same whenever they are read -----------------------------------------------------------------------


class Changing:
    """Samples that are others after the first reading of all."""

    def __init__(self) -> None:
        self.is_other = False

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Pair:
        return picture(index + self.is_other), index % 2


def test_a_sample_that_has_changed_since_the_fingerprint_is_an_error() -> None:
    changing = Changing()
    split = open_dataset({"train": changing, "test": changing}).split("train")
    fingerprint = fingerprint_of(split)
    assert fingerprint_of(split) == fingerprint
    changing.is_other = True
    with pytest.raises(DataError, match=r"sample 9: its image is not the one that it was.*num_workers=0"):
        split.read(9)


def test_other_pixels_are_another_fingerprint() -> None:
    first, other = Changing(), Changing()
    other.is_other = True
    fingerprints = {
        fingerprint_of(open_dataset({"train": one, "test": one}).split("train")) for one in (first, other)
    }
    assert len(fingerprints) == 2


# -- what is refused ---------------------------------------------------------------------------------------


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(pairs())


class Broken:
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Pair:
        raise KeyError("no such row")


def with_image(image: Any) -> list[Pair]:
    return [(image, 0), (image, 1)]


def with_label(label: Any) -> list[Pair]:
    return [(picture(0), label)] * 4


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "a tensor that is normalized": (
        lambda: with_image(torch.zeros(3, 8, 8)),
        r"sample 0: its image is a tensor of float32, shape \(3, 8, 8\); .*without its transforms",
    ),
    "an array of floats": (
        lambda: with_image(np.zeros((8, 8, 3))),
        r"sample 0: its image is an array of float64, .*expected uint8.*without its transforms",
    ),
    "an array of 16 bits": (lambda: with_image(np.zeros((8, 8), np.uint16)), "uint16.*convert it to uint8"),
    "channels first": (
        lambda: with_image(np.zeros((3, 8, 8), np.uint8)),
        r"shape \(3, 8, 8\); .*put the channels last",
    ),
    "channels last": (lambda: with_image(torch.zeros(8, 8, 3).byte()), r"expected \(H, W\), or \(C, H, W\)"),
    "no image": (lambda: with_image(None), "sample 0: its image is a NoneType; expected a Pillow image"),
    "a fraction": (lambda: with_label(0.5), "sample 0: its label is 0.5; expected a whole number or a name"),
    "one-hot": (lambda: with_label(np.eye(2)[0]), "its label is array.*expected one class an image"),
    "several classes": (lambda: with_label([0, 1]), r"its label is \[0, 1\]; expected one class an image"),
    "no label": (lambda: with_label(None), "sample 0 has no label; expected 0 or more"),
    "no pairs": (lambda: [1, 2, 3], "sample 0: it is an int; expected a pair of image and label"),
    "images and labels apart": (
        lambda: (np.zeros((5, 8, 8), np.uint8), np.zeros(5)),
        r"it is an ndarray; expected a pair of image and label; give list\(zip\(X, y\)\)",
    ),
    "label -1": (lambda: with_label(-1), "sample 0 has label -1; expected 0 or more"),
    "paths of splits": (
        lambda: {"train": "photos/train", "test": "photos/test"},
        r"the train split is a path \(photos/train\); expected a data set; .*a folder with train/",
    ),
    "triples": (lambda: [(picture(0), 0, 0)] * 3, "sample 0: it is a tuple of 3; expected a pair"),
    "one class": (lambda: with_label(3), r"images has only one class \(3\); expected at least 2"),
    "no samples": (list, "the data set has no samples"),
    "no splits": (dict, "the data set has no splits; expected 'train' and"),
    "a split of another name": (
        lambda: {"train": pairs(), "extra": pairs()},
        "a split is called 'extra'; expected 'train', 'val' or 'test'",
    ),
    "two splits of a name": (lambda: {"val": pairs(), "valid": pairs()}, "there are two val splits"),
    "a stream": (Stream, "the data is a Stream, whose samples are not had by number; .*into a list of"),
    "a loader": (
        lambda: DataLoader(Kept()),
        "the data is a DataLoader; expected a data set; give its .dataset",
    ),
    "a number": (lambda: 5, "the data is an int, whose samples are not had by number"),
    "a data set that raises": (Broken, "sample 0: the data set raises KeyError .'no such row'."),
    "streams of Hugging Face": (
        lambda: hugging_face().to_iterable_dataset(),
        "the data is an IterableDataset, whose samples are not had by number",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_one_sentence_says_what_cannot_be_used(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(ResidualError, match=message):
        as_source(make())


def test_a_path_is_opened_as_train_opens_it(photos: Path) -> None:
    opened = open_dataset(str(photos), name="colors")
    assert opened == dataclasses.replace(open_source(photos), name="colors", splits=opened.splits)
    assert rows_of(opened).keys() == {"train", "test"}
    with pytest.raises(ConfigurationError, match="class_names is given for a path .*; leave class_names out"):
        open_dataset(photos, class_names=["a", "b"])


def test_several_labels_are_not_asked_of_objects() -> None:
    with pytest.raises(ConfigurationError, match="a Python object holds one class an image; .*csv table"):
        as_source(pairs(), labels="several")


def test_transforms_are_refused_by_name(photos: Path) -> None:
    folder = str(photos / "train")
    with pytest.raises(DataError, match="is a tensor of float32.*without its transforms"):
        open_dataset(ImageFolder(folder, transform=ToTensor()))
    with pytest.raises(
        DataError, match="sample 0 is another picture each time it is read; .*varies images itself"
    ):
        open_dataset(ImageFolder(folder, transform=RandomCrop(3)))


def test_class_names_have_to_be_enough_and_distinct() -> None:
    with pytest.raises(DataError, match=r"sample 2 has label 2; expected 0 to 1, or the name of a class"):
        open_dataset(pairs(9, 3), class_names=["a", "b"])
    with pytest.raises(ConfigurationError, match="class_names is 'ab'; expected a list of names"):
        open_dataset(pairs(), class_names="ab")
    with pytest.raises(DataError, match="classes 'a' and 'a' differ only in case"):
        open_dataset(pairs(), class_names=["a", "a"])


def test_splits_that_name_other_classes_are_refused() -> None:
    class Other(Kept):
        classes = ("yes", "no")

    with pytest.raises(DataError, match="declare different class names; give class_names"):
        open_dataset({"train": Kept(), "test": Other()})
