"""Detectors on data with boxes, by function and by command; files of results; and two of them compared."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepresidual import evaluate, save
from deepresidual.backends.detector import TorchDetector
from deepresidual.cli import main
from deepresidual.data.source import open_source
from deepresidual.data.source.validation import hold_out
from deepresidual.errors import ConfigurationError, DataError
from deepresidual.evaluation.objects import (
    DetectionEvaluation,
    DetectionSetup,
    compare_detectors,
    evaluate_results,
)
from tests.detectors import tiny_detector, write_shapes

Capture = pytest.CaptureFixture[str]
LABELS = ("square", "hen", "disc")  # in another order than that of the data, and one more


@pytest.fixture(scope="module")
def model() -> TorchDetector:
    return tiny_detector(LABELS, side_px=32)


@pytest.fixture(scope="module")
def folders(model: TorchDetector, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A detector with first weights, and one of other classes."""
    root = tmp_path_factory.mktemp("detectors")
    save(model, root / "model")
    save(tiny_detector(("cat", "dog"), side_px=32), root / "other")
    return str(root / "model"), str(root / "other")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Squares and discs in the layout of Pascal VOC."""
    return str(write_shapes(tmp_path_factory.mktemp("data") / "shapes", 4, 6))


@pytest.fixture(scope="module")
def coco(shapes: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same pictures in the layout of COCO, with numbers that have gaps."""
    root = tmp_path_factory.mktemp("coco")
    for split, numbers in (("train", range(4)), ("test", range(4, 10))):
        (root / split).mkdir()
        images, annotations = [], []
        for number in numbers:
            name = f"{number:04d}.png"
            (root / split / name).write_bytes((Path(shapes) / "JPEGImages" / name).read_bytes())
            images.append({"id": 100 + 7 * number, "file_name": name})
            box = {"bbox": [2, 3, 10, 11], "area": 110, "iscrowd": 0, "category_id": 5 + 4 * (number % 2)}
            annotations.append({"id": number, "image_id": 100 + 7 * number, **box})
        categories = [{"id": 5, "name": "disc"}, {"id": 9, "name": "square"}]
        document = {"images": images, "annotations": annotations, "categories": categories}
        (root / split / "_annotations.coco.json").write_text(json.dumps(document))
    return str(root)


def printed(capsys: Capture) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


# -- one detector --------------------------------------------------------------------------------------------


def test_classes_of_data_and_detector_are_matched_by_name(model: TorchDetector, shapes: str) -> None:
    setup = DetectionSetup.open(model, shapes)
    assert (setup.source.classes, setup.rows, setup.split) == (("disc", "square"), (2, 0), "test")
    assert {LABELS[label] for objects in setup.truth() for label in objects.labels} == {"disc", "square"}


def test_function_and_command_give_the_same(
    folders: tuple[str, str], model: TorchDetector, shapes: str, capsys: Capture
) -> None:
    measured = evaluate(model, shapes)
    assert (measured.count, measured.num_objects) == (6, 6)
    assert measured.classes == LABELS
    assert 0 < measured.num_found <= 6 * 100
    again: object = evaluate(folders[0], shapes, batch_size=2, num_workers=2)
    assert again == measured
    assert main(["evaluate", folders[0], shapes, "--json"]) == 0
    document = printed(capsys)
    assert (document["model"], document["data"]) == (folders[0], shapes)
    assert DetectionEvaluation.from_dict(document) == measured
    assert main(["evaluate", folders[0], shapes, "--details"]) == 0
    out = capsys.readouterr().out
    assert f"(test): {measured.in_words()}\n" in out
    assert "AP50 to gain" in out
    assert "1 class has no object here and is left out of the means" in out


def test_other_rules_and_sizes_are_asked_for(folders: tuple[str, str], shapes: str, capsys: Capture) -> None:
    assert main(["evaluate", folders[0], shapes, "--json", "--metric", "voc07", "--image-px", "48"]) == 0
    document = printed(capsys)
    assert (document["metric"], document["ap_small"]) == ("voc07", None)
    assert document["views"] == {"kind": "one", "image_px": 48}
    assert main(["evaluate", folders[0], shapes, "--metric", "voc07", "--details"]) == 0
    out = capsys.readouterr().out
    assert re.search(
        r"mAP \S+ \S+ by the rules of Pascal VOC 2007 \(IoU .5, precision at 11 recalls\); 6 objects", out
    )
    assert "AP50" not in out
    assert "AP at IoU .5 to .95, AP75, sizes and recalls are no part of these rules" in out


def test_a_validation_share_is_measured(folders: tuple[str, str], shapes: str) -> None:
    measured = evaluate(folders[0], shapes, split="val", validation=0.5)
    held_out = hold_out(open_source(shapes), 0.5).split("val")
    assert (measured.split, measured.count) == ("val", len(held_out))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ["M", "D", "--corrupt", "jpeg=10"],
            2,
            "--corrupt has no meaning for a detector; leave --corrupt out",
        ),
        (["M", "D", "--views", "flip"], 2, "--views has no meaning for a detector"),
        (["M", "D", "--precision-target", "0.9"], 2, "--precision-target has no meaning for a detector"),
        (["M", "M", "D"], 2, "there are 2 models, and one of them is a detector; expected one detector"),
        (["M", "D", "--min-score", "2"], 2, "min_score is 2.0; expected a score from 0 to 1"),
        (
            ["M", "D", "--predictions", "x.txt"],
            2,
            "'x.txt'; expected a name in .json, .csv, .jsonl, .parquet",
        ),
        (["M", "digits"], 3, "digits has no boxes and M finds objects"),
        (
            ["O", "D"],
            3,
            "(disc, square); expected classes among cat, dog; train on these data: residual train",
        ),
        (["resnet20-digits", "D"], 3, "D has boxes of objects and resnet20-digits knows one class an image"),
        (["resnet20-digits", "digits", "--metric", "voc07"], 2, "--metric and --min-score are for detectors"),
    ],
)
def test_what_has_no_meaning_is_refused_in_one_sentence(
    words: list[str], code: int, message: str, folders: tuple[str, str], shapes: str, capsys: Capture
) -> None:
    names = {"M": folders[0], "O": folders[1], "D": shapes}
    assert main(["evaluate", *(names.get(word, word) for word in words)]) == code
    err = capsys.readouterr().err
    assert err.count("error:") == 1
    assert message.replace("M finds", f"{folders[0]} finds").replace("D has", "shapes has") in err


def test_options_of_classifiers_are_refused_in_python(model: TorchDetector, shapes: str) -> None:
    with pytest.raises(ConfigurationError, match="top_k has no meaning for a detector; leave it out"):
        evaluate(model, shapes, top_k=3)


# -- files of results ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".json", ".csv", ".jsonl", ".parquet"])
def test_results_that_were_written_measure_the_same(
    suffix: str, model: TorchDetector, coco: str, tmp_path: Path
) -> None:
    file = tmp_path / f"found{suffix}"
    expected = evaluate(model, coco, predictions=file)
    measured = evaluate_results(file, coco)
    # A file of COCO's has no place for classes that the data do not know, nor does the evaluation of it.
    by_name = {row.name: row for row in expected.per_class}
    assert measured.per_class == tuple(by_name[name] for name in ("disc", "square"))
    assert (measured.ap, measured.ap_interval, measured.count) == (expected.ap, expected.ap_interval, 6)


def test_results_have_the_numbers_of_the_data(
    folders: tuple[str, str], coco: str, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "found.json"
    words = ["evaluate", folders[0], coco, "--predictions", str(file), "--json"]
    assert main(words) == 0
    every = json.loads(file.read_text())
    assert {row["image_id"] for row in every} == {128, 135, 142, 149, 156, 163}
    assert {row["category_id"] for row in every} == {5, 9}
    least = float(np.median([row["score"] for row in every]))
    assert main([*words, "--min-score", str(least)]) == 0
    assert json.loads(file.read_text()) == [row for row in every if row["score"] >= least]


def test_a_file_of_results_is_measured_by_the_command(
    model: TorchDetector, coco: str, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "found.json"
    expected = evaluate(model, coco, predictions=file, metric="voc12")
    assert main(["evaluate", str(file), coco, "--metric", "voc12", "--json"]) == 0
    document = printed(capsys)
    assert (document["results"], document["ap"]) == (str(file), expected.ap)
    assert main(["evaluate", str(file), coco]) == 0
    assert "found.json on" in capsys.readouterr().out
    assert main(["evaluate", str(file), coco, "--device", "cpu"]) == 2
    assert "--device has no meaning for results in a file; leave --device out" in capsys.readouterr().err
    assert main(["evaluate", str(file), "digits"]) == 3
    assert "digits has no boxes; expected data with boxes" in capsys.readouterr().err


ROW = {"image_id": 128, "category_id": 5, "bbox": [0, 0, 5, 5], "score": 0.5}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.json", "{", r"r.json is damaged \(Expecting property name"),
        (
            "r.json",
            '{"annotations": []}',
            "holds no list of results; .* give the file of annotations as DATA",
        ),
        (
            "r.json",
            [{"image_id": 128}],
            "result 1 is {'image_id': 128}; expected image_id, category_id, bbox and",
        ),
        (
            "r.json",
            [ROW, {**ROW, "image_id": 129}],
            "result 2 has the image_id 129, which the data do not have",
        ),
        ("r.json", [{**ROW, "category_id": 1}], "result 1 has the category_id 1, .* expected one of 5, 9"),
        ("r.json", [{**ROW, "bbox": [1, 2, 3]}], r"result 1 has the bbox \[1, 2, 3\]; expected four numbers"),
        ("r.json", [{**ROW, "bbox": 4}], "result 1 has the bbox 4; expected four numbers"),
        ("r.json", [{**ROW, "score": "high"}], "'high'.*; expected a box and a score in finite numbers"),
        (
            "r.json",
            '[{"image_id": 128, "category_id": 5, "bbox": [0, 0, NaN, 5], "score": 1}]',
            "finite numbers",
        ),
        (
            "r.csv",
            "key,label\na,b\n",
            "r.csv has no column 'score'; expected the columns key, label, score, x0",
        ),
        ("r.csv", "key,label,score,x0,y0,x1,y1\n0004,disc,1,0,0,1,1\n", "row 1 has the key '0004', which"),
        (
            "r.csv",
            "key,label,score,x0,y0,x1,y1\ntest/0004.png,hen,1,0,0,1,1\n",
            "none of the classes of the data",
        ),
        ("gone.csv", None, "gone.csv cannot be read"),
    ],
)
def test_bad_files_of_results_are_named(
    name: str, content: Any, message: str, coco: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    if content is not None:
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(DataError, match=message):
        evaluate_results(file, coco)


def test_a_file_of_another_format_is_refused(coco: str) -> None:
    with pytest.raises(ConfigurationError, match="the file of results is 'r.txt'; expected a name in .json"):
        evaluate_results("r.txt", coco)


# -- two detectors -------------------------------------------------------------------------------------------


def test_two_detectors_are_compared_on_the_same_images(
    folders: tuple[str, str], shapes: str, capsys: Capture
) -> None:
    words = ["compare", folders[0], folders[0], shapes]
    assert main([*words, "--json"]) == 0
    document = printed(capsys)
    assert (document["count"], document["num_objects"]) == (6, 6)
    assert document["ap"] == [DetectionSetup.open(folders[0], shapes).evaluate().ap] * 2
    assert document["ap_difference"] == {"difference": 0, "interval": [0, 0], "share": 0.5}
    assert main(words) == 0
    assert "which is better cannot be told from these images" in capsys.readouterr().out


def test_a_comparison_is_that_of_the_matches(model: TorchDetector, coco: str) -> None:
    first, second = (DetectionSetup.open(each, coco) for each in (model, tiny_detector(LABELS, side_px=48)))
    compared = compare_detectors(first, second)
    assert compared.ap == pytest.approx((first.evaluate().ap, second.evaluate().ap))
    assert compared.ap_difference.difference == pytest.approx(compared.ap[1] - compared.ap[0])
    low, high = compared.ap_difference.interval
    assert low <= compared.ap_difference.difference <= high


def test_two_files_of_results_are_compared_as_their_detectors_are(
    model: TorchDetector, coco: str, tmp_path: Path, capsys: Capture
) -> None:
    other = tiny_detector(LABELS, side_px=48)
    files = [str(tmp_path / name) for name in ("a.json", "b.csv")]
    for each, file in zip((model, other), files, strict=True):
        evaluate(each, coco, predictions=file)
    assert main(["compare", *files, coco, "--split", "test", "--json"]) == 0
    document = printed(capsys)
    setups = [DetectionSetup.open(each, coco) for each in (model, other)]
    expected = {"first": files[0], "second": files[1], **compare_detectors(*setups).to_dict()}
    assert {name: document[name] for name in expected} == expected
    assert main(["compare", *files, coco, "--device", "cpu"]) == 2
    assert "--device has no meaning for results in files" in capsys.readouterr().err


def test_a_detector_and_a_classifier_are_not_compared(
    folders: tuple[str, str], shapes: str, capsys: Capture
) -> None:
    assert main(["compare", folders[0], "resnet20-digits", shapes]) == 2
    assert "finds objects and resnet20-digits tells the class of an image" in capsys.readouterr().err
    assert main(["compare", folders[0], folders[0], shapes, "--report", "page.html"]) == 2
    assert "--report has no meaning for a detector" in capsys.readouterr().err
