"""Names of classes: order and distinctness."""

from __future__ import annotations

from deepresidual.zoo.labels import CIFAR10_CLASS_NAMES, imagenet_class_names, imagenet_wordnet_ids
from tests.on_demand import OnDemand

torchvision = OnDemand("torchvision")


def test_imagenet_classes_are_a_thousand_in_the_order_of_their_ids() -> None:
    ids = imagenet_wordnet_ids()
    assert len(ids) == len(set(ids)) == len(imagenet_class_names()) == 1000
    assert list(ids) == sorted(ids)
    assert all(len(wordnet_id) == 9 and wordnet_id.startswith("n") for wordnet_id in ids)


def test_imagenet_names_differ_even_without_capitals() -> None:
    names = imagenet_class_names()
    assert len({name.casefold() for name in names}) == 1000
    assert all(name == name.strip() and "/" not in name for name in names)


def test_imagenet_rows_are_torchvisions() -> None:
    there = torchvision.models._meta._IMAGENET_CATEGORIES
    different = {
        row: (ours, theirs)
        for row, (ours, theirs) in enumerate(zip(imagenet_class_names(), there, strict=True))
        if ours != theirs
    }
    assert different == {
        134: ("crane (bird)", "crane bird"),
        264: ("Cardigan Welsh corgi", "Cardigan"),
        517: ("crane (machine)", "crane"),
        638: ("maillot (tights)", "maillot"),
        639: ("maillot (tank suit)", "maillot tank suit"),
    }


def test_well_known_rows() -> None:
    names, ids = imagenet_class_names(), imagenet_wordnet_ids()
    for row, wordnet_id, name in (
        (0, "n01440764", "tench"),
        (207, "n02099601", "golden retriever"),
        (281, "n02123045", "tabby"),
        (999, "n15075141", "toilet tissue"),
    ):
        assert (ids[row], names[row]) == (wordnet_id, name)


def test_cifar10_has_ten_in_alphabetical_order() -> None:
    assert list(CIFAR10_CLASS_NAMES) == sorted(set(CIFAR10_CLASS_NAMES))
    assert len(CIFAR10_CLASS_NAMES) == 10
