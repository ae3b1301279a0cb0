"""Which files paths stand for, and files for which a network gives no numbers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deepresidual.backends import find_images, predict_files
from deepresidual.errors import ConfigurationError, DataError, ModelFileError
from deepresidual.evaluation import evaluate
from deepresidual.explanation import explain_files
from deepresidual.models import TorchClassifier


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the current folder, which is empty."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".txt":
            path.write_text("text")
        else:
            Image.new("RGB", (8, 8)).save(path)


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("shoot [2024]/ant/*.png", ["shoot [2024]/ant/1.png", "shoot [2024]/ant/2.png"]),
        ("./shoot [2024]/*/1.png", ["shoot [2024]/ant/1.png", "shoot [2024]/bee/1.png"]),
        ("*/ant/[1].png", ["shoot [2024]/ant/1.png"]),
        ("*/b[e]e/1.png", ["shoot [2024]/bee/1.png"]),
        ("sho*[[]2024]/bee", ["shoot [2024]/bee/1.png"]),
        ("x/[1].png", ["x/[1].png"]),
        ("x/[!2].png", ["x/1.png"]),
        ("HERE/shoot [2024]/bee/?.png", ["HERE/shoot [2024]/bee/1.png"]),
    ],
)
def test_what_exists_by_its_name_is_no_pattern(here: Path, pattern: str, files: list[str]) -> None:
    write(*(f"shoot [2024]/{name}.png" for name in ("ant/1", "ant/2", "bee/1")), "x/1.png", "x/[1].png")
    found = find_images([pattern.replace("HERE", str(here))])
    assert found.files == [file.replace("HERE", str(here)) for file in files]
    assert (found.ignored, found.unusable) == ([], [])


@pytest.mark.parametrize("pattern", ["photos/**", "photos/**/", "photos/**/*", "photos", "**", "photos/*/**"])
def test_each_file_once_and_in_order(here: Path, pattern: str) -> None:
    names = ["photos/ant/1.png", "photos/ant/young/2.png", "photos/bee/1.png", "photos/bee/3.png"]
    write(*reversed(names), "photos/ant/.hidden/4.png")
    (here / "photos/ant/up").symlink_to("../..")  # a walk through it would have no end
    assert find_images([pattern]).files == names


def test_two_stars_find_files_in_folders_that_are_links(here: Path) -> None:
    write("elsewhere/1.png")
    Path("photos").mkdir()
    Path("photos/ant").symlink_to("../elsewhere")
    assert find_images(["photos/**/*.png"]).files == ["photos/ant/1.png"]


def test_overlapping_paths_give_each_file_once(here: Path) -> None:
    write("photos/a.png", "photos/b.png", "photos/note.txt")
    paths = [
        "photos/b.png",
        "photos",
        "./photos//a.png",
        str(here / "photos" / "a.png"),
        "photos/*.png",
        "photos",
    ]
    found = find_images(paths)
    assert found.files == ["photos/b.png", "photos/a.png"]
    assert [file.path for file in found.ignored] == ["photos/note.txt"]


def test_another_name_of_a_file_is_another_file(here: Path) -> None:
    write("a.png")
    Path("b.png").symlink_to("a.png")
    assert find_images(["*.png"]).files == ["a.png", "b.png"]


def test_what_stands_for_nothing_does_not_stop_the_others(here: Path) -> None:
    write("photos/ant/a.png", "photos/bee/note.txt")
    Path("photos/new").mkdir()
    found = find_images(["photos/*", "gone/*.png", "gone.png", "gone"])
    assert found.files == ["photos/ant/a.png", "gone.png", "gone"]  # their predictions are errors
    assert [str(error) for error in found.unusable] == [
        "photos/bee holds no images; note.txt is not used: no image (text)",
        "photos/new holds no images; expected JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC files",
        "the pattern gone/*.png matches no file",
    ]
    assert [file.path for file in found.ignored] == ["photos/bee/note.txt"]


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (
            ["gone.png", "gone"],
            r"^gone\.png does not exist, and 1 more path stands for no image; expected an im",
        ),
        (
            ["new", "*.tif", "gone"],
            r"^gone does not exist, and 2 more paths stand for no image; expected an im",
        ),
        (["[!", "~no-such-user"], r"does not exist"),
        (["new/**"], r"^new holds no images; expected JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF or HEIC files$"),
    ],
)
def test_nothing_at_all_is_an_error(here: Path, paths: list[str], message: str) -> None:
    Path("new").mkdir()
    with pytest.raises(DataError, match=message):
        find_images(paths)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_searched_is_named(here: Path) -> None:
    write("photos/ant/a.png", "photos/bee/b.png")
    Path("photos/bee").chmod(0)
    found = find_images(["photos/**/*.png"])
    Path("photos/bee").chmod(0o755)
    assert found.files == ["photos/ant/a.png"]
    assert [str(error) for error in found.unusable] == ["photos/bee cannot be read (Permission denied)"]


def test_an_empty_path_is_refused(here: Path) -> None:
    with pytest.raises(ConfigurationError, match="a PATH is empty"):
        find_images(["a.png", ""])


# -- outputs that are not finite ---------------------------------------------------------------------


@pytest.fixture
def red_is_nan(tiny_model: TorchClassifier) -> TorchClassifier:
    """Return a model that gives NaN for red pictures, and numbers for all others."""

    def spoil(module: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
        red, _, blue = inputs[0].mean(dim=(2, 3)).unbind(dim=1)
        return torch.where((red > blue + 1)[:, None], torch.nan, output)

    tiny_model.network.register_forward_hook(spoil)
    return tiny_model


def test_the_other_images_of_a_batch_are_predicted(red_is_nan: TorchClassifier, photos: Path) -> None:
    files = [str(path) for path in sorted(photos.glob("test/*/*-00[01].png"))]
    results = list(predict_files(red_is_nan, files, batch_size=6, num_workers=0, top_k=2))
    assert [result.path for result in results] == files
    assert [result.error for result in results] == [
        *[""] * 4, *["the outputs of the model are not finite"] * 2
    ]  # fmt: skip
    for result in results[:4]:
        assert result.prediction is not None
        (alone,) = red_is_nan.predict(result.path, top_k=2)
        assert result.prediction.classes == alone.classes
        assert result.prediction.probabilities == pytest.approx(alone.probabilities, abs=1e-6)
    assert [result.prediction for result in results[4:]] == [None, None]


def test_the_other_images_of_a_batch_are_explained(red_is_nan: TorchClassifier, photos: Path) -> None:
    files = [str(path) for path in sorted(photos.glob("test/*/*-00[01].png"))]
    results = list(explain_files(red_is_nan, files, batch_size=6, num_workers=0))
    assert [result.explanation is None for result in results] == [False] * 4 + [True] * 2
    assert results[5].error == "the outputs of the model are not finite"


def test_python_names_the_image(red_is_nan: TorchClassifier, photos: Path) -> None:
    paths = [photos / "test" / f"{name}/{name}-000.png" for name in ("blue", "red")]
    with pytest.raises(
        ModelFileError, match=r"red-000\.png: the outputs of the model are not finite; check its"
    ):
        red_is_nan.predict(paths)
    with pytest.raises(ModelFileError, match="^image 2: the outputs of the model are not finite"):
        red_is_nan.predict(Image.open(path) for path in paths)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_rank_among_logits_that_are_not_finite(tiny_model: TorchClassifier, value: float) -> None:
    logits = np.zeros((3, 3), np.float32)
    assert len(tiny_model.rank(logits)) == 3
    logits[2, 1] = value
    with pytest.raises(ModelFileError, match="^row 2: the outputs of the model are not finite"):
        tiny_model.rank(logits)


def test_an_evaluation_names_model_and_image_and_leaves_no_file(
    red_is_nan: TorchClassifier, photos: Path
) -> None:
    file = photos.parent / "all.csv"
    with pytest.raises(
        ModelFileError, match=r"^model 1: its outputs are not finite for test/red/red-000\.png; "
    ):
        evaluate(red_is_nan, photos, predictions=file, batch_size=4)
    assert not file.exists()


def test_a_folder_without_images_names_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "g").mkdir()
    (tmp_path / "g" / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(20))
    with pytest.raises(DataError, match=r"g holds no images; film\.mp4 is not used: no image \(MP4\)"):
        find_images([tmp_path / "g"])
