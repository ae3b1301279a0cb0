"""The report of a detector: its sentences, tables and pictures, and advice that needs evidence."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from deepresidual.errors import ModelFileError
from deepresidual.reporting import write_report, write_side_by_side
from deepresidual.reporting.object_advice import object_advice, object_commands
from deepresidual.reporting.object_charts import draw_precision
from deepresidual.reporting.objects import object_headline, object_parts, object_verdict
from deepresidual.runs.detections import detections_in_words, usual_score
from deepresidual.runs.read import RunFiles, read_run
from tests.reporting.objects import NAMES, an_evaluation, detector_run
from tests.reporting.page import Page

COUNTS = ("num_small", "num_medium", "num_large")


@pytest.fixture(scope="module")
def evaluation() -> dict[str, Any]:
    return an_evaluation()


@pytest.fixture(scope="module")
def page(finished: Path, evaluation: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Page:
    run = detector_run(finished, tmp_path_factory.mktemp("objects") / "run", evaluation)
    return Page(write_report(run).read_text())


def two_classes(**changes: Any) -> dict[str, Any]:
    """Return an evaluation of 10 images in which 60 of 80 objects are found by 70 detections."""
    row = {"num_found": 90, "ap": 0.5, "ap50": 0.7, "ap75": 0.4, "recall50": 0.9}
    return {
        "split": "test",
        "count": 10,
        "num_objects": 80,
        "ap50": 0.7,
        "ap50_interval": [0.62, 0.781],
        "per_class": [
            {**row, "name": "cat", "num_objects": 50, "threshold": threshold(0.4, 0.8, 0.8)},
            {**row, "name": "dog", "num_objects": 30, "threshold": threshold(0.7, 1.0, 2 / 3)},
        ],
        **changes,
    }


def threshold(score: float, precision: float, recall: float) -> dict[str, float]:
    return {"score": score, "precision": precision, "recall": recall, "f1": 0.5}


# -- sentences ---------------------------------------------------------------------------------------------


def test_the_headline_counts_what_is_found_and_false_at_the_thresholds() -> None:
    assert object_headline(two_classes()) == (
        "It finds 60 of 80 objects in 10 test images, with 1.0 false ones an image"
    )


@pytest.mark.parametrize(
    ("precision", "count", "words"),
    [
        (1.0, 10, "no false ones"),
        (0.4, 10, "6.0 false ones an image"),
        (0.05, 10, "76 false ones an image"),
        (0.8, 12, "a false one in every image"),
        (0.8, 100, "a false one in 10 images"),
    ],
)
def test_false_ones_are_told_as_a_frequency(precision: float, count: int, words: str) -> None:
    rows = two_classes()["per_class"][:1]
    rows[0]["threshold"] = threshold(0.4, precision, 0.8)
    document = two_classes(count=count, per_class=rows, num_objects=50)
    assert object_headline(document).endswith(f"with {words}")


def test_the_verdict_says_ap50_and_where_it_likely_lies() -> None:
    said = object_verdict(two_classes()).replace("\N{NO-BREAK SPACE}", " ")
    assert "(AP50) is 70 %; other images would likely give between 62 % and 78 %." in said


def test_without_objects_nothing_is_judged() -> None:
    nothing = two_classes(num_objects=0, ap50=0.0, ap50_interval=None)
    assert object_headline(nothing) == "There is no object to find in 10 test images"
    assert object_verdict(nothing) == ""


def test_what_never_finds_anything_is_said() -> None:
    rows = [{**row, "threshold": None} for row in two_classes()["per_class"]]
    assert object_headline(two_classes(per_class=rows, ap50=0.0)).startswith(
        "None of 80 objects in 10 test images is found"
    )


# -- the page ----------------------------------------------------------------------------------------------


def test_the_page_shows_classes_sizes_errors_and_pictures(page: Page, evaluation: dict[str, Any]) -> None:
    assert page.texts("h2")[:5] == [
        "What would help most",
        "How good",
        "What goes wrong",
        "The surest false ones",
        "Whole images",
    ]
    classes, sizes, errors = (page.rows(table) for table in page.all("table")[:3])
    assert {row[0] for row in classes[1:]} == set(NAMES)
    assert classes[-1][:2] == [NAMES[2], "no objects"]
    worst = min((row for row in evaluation["per_class"] if row["ap"] is not None), key=lambda row: row["ap"])
    assert (classes[1][0], classes[1][4]) == (worst["name"], f"{100 * worst['ap']:.1f} %")
    assert sizes[1][1:3] == [f"{evaluation['num_small']:,}", f"{100 * evaluation['ap_small']:.1f} %"]
    costly = max(evaluation["errors"], key=lambda row: row["gain"])
    assert errors[1][1:3] == [f"{costly['count']:,}", f"{100 * costly['gain']:.1f} points"]
    alts = [image.get("alt", "") for image in page.all("img")]
    assert len(alts) == len(evaluation["false"]) + len(evaluation["missed"]) + 12
    assert "Image 1 with what is annotated" in alts
    assert f"Measured on 40 test images with {evaluation['num_objects']} objects." in page.text
    assert "held out; measured on 40 of test" in page.text


def test_figures_that_training_does_not_measure_are_drawn_of_held_out_images(
    finished: Path, evaluation: dict[str, Any], tmp_path: Path
) -> None:
    run = detector_run(finished, tmp_path / "run", evaluation)
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "charts": {"loss": "loss", "ap50": "AP50"}}))
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [row | ({"ap50": 0.5} if row["event"] == "evaluation" else {}) for row in rows]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    charts = [chart.get("aria-label") for chart in Page(write_report(run).read_text()).all("svg")]
    assert charts[1:] == ["loss over epochs", "AP50 over epochs"]


def test_an_evaluation_that_counted_no_sizes_has_no_column_of_counts(
    finished: Path, evaluation: dict[str, Any], tmp_path: Path
) -> None:
    older = {name: value for name, value in evaluation.items() if name not in COUNTS}
    page = Page(write_report(detector_run(finished, tmp_path / "run", older)).read_text())
    assert page.rows(page.all("table")[1])[0] == ["size", "AP", "average recall (AR)"]


def test_the_page_is_self_contained(page: Page) -> None:
    assert page.scripts() == []
    assert [part for part in page.loads() if "data:image/jpeg;base64," not in part] == []


def test_of_pictures_that_are_gone_the_mistakes_are_listed(
    finished: Path, evaluation: dict[str, Any], tmp_path: Path
) -> None:
    run = detector_run(finished, tmp_path / "run", evaluation)
    for path in [*(run / "mistakes").iterdir(), *(run / "heat-maps").iterdir()]:
        path.unlink()
    page = Page(write_report(run).read_text())
    assert page.all("img") == []
    false, missed = (page.rows(table) for table in page.all("table")[3:5])
    surest = evaluation["false"][0]
    box = ", ".join(f"{edge:.0f}" for edge in surest["box"])
    assert (false[1][0], *false[1][3:]) == (surest["label"], box, surest["key"])
    assert [len(false) - 1, len(missed) - 1] == [len(evaluation[name]) for name in ("false", "missed")]
    assert "There are none" not in page.text
    assert "Whole images" not in page.text


def test_without_mistakes_there_are_none(finished: Path, evaluation: dict[str, Any], tmp_path: Path) -> None:
    run = detector_run(finished, tmp_path / "run", {**evaluation, "false": [], "missed": []})
    assert "There are none." in Page(write_report(run).read_text()).text


def test_curves_are_of_the_classes_with_the_most_objects(evaluation: dict[str, Any]) -> None:
    many = [
        {**evaluation["per_class"][0], "name": f"class {number}", "num_objects": 100 - number}
        for number in range(12)
    ]
    parts = object_parts({**evaluation, "per_class": many}, lambda _name: b"")
    assert "class 7<" in parts["precision"]
    assert "class 8<" not in parts["precision"]
    assert draw_precision([{**many[0], "curve": {"recall": [], "precision": []}}]) is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("ap50", 1.5, "ap50 is 1.5"),
        ("ap_interval", [0.1], "ap_interval is a list of 1, not of 2"),
        ("per_class", [{"name": "cat"}], r"per_class\[0\]"),
        ("false", [{"kind": "class"}], r"false\[0\]"),
    ],
)
def test_a_damaged_evaluation_is_named(
    finished: Path, evaluation: dict[str, Any], tmp_path: Path, field: str, value: Any, message: str
) -> None:
    run = detector_run(finished, tmp_path / "run", evaluation)
    document = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").write_text(json.dumps({**document, field: value}))
    with pytest.raises(ModelFileError, match=message):
        read_run(run)


# -- advice ------------------------------------------------------------------------------------------------


def files_of(evaluation: dict[str, Any], **plan: Any) -> RunFiles:
    settled = {"weights": "resnet18", "preprocess": {"crop_px": 256}, "spec": {}, "data": "cells", **plan}
    record = {"plan": {"num_samples": 300, **settled}, "command": [], "total_steps": 100}
    return RunFiles(Path("run"), record, [], [], evaluation)


def advised(files: RunFiles) -> list[str]:
    return [one.what for one in object_advice(files)]


def quiet(**changes: Any) -> dict[str, Any]:
    """Return an evaluation that calls for no advice."""
    sizes = {"ap_small": 0.5, "ap_medium": 0.5, "ap_large": 0.5, "false": [], "missed": []}
    return copy.deepcopy({**two_classes(), **sizes, **changes})


def test_where_nothing_is_shown_to_help_nothing_is_advised() -> None:
    assert advised(files_of(quiet())) == []


def test_sure_detections_of_nothing_are_to_be_looked_at() -> None:
    sure = [{"kind": "background", "score": 0.9}] * 8 + [{"kind": "class", "score": 0.9}] * 8
    assert advised(files_of(quiet(false=sure))) == ["Look whether objects lack their box."]
    unsure = [{**row, "score": 0.5} for row in sure]
    assert advised(files_of(quiet(false=unsure))) == []


def test_a_network_of_photos_that_knew_none_should_begin_with_weights() -> None:
    (advice,) = object_advice(files_of(quiet(), weights=""))
    assert advice.command == "residual train cells --weights resnet18"
    assert advised(files_of(quiet(), weights="", preprocess={"crop_px": 64})) == []


def test_small_objects_that_are_found_less_well_want_larger_images() -> None:
    (advice,) = object_advice(files_of(quiet(ap_small=0.2, num_small=30)))
    assert advice.command == "residual train cells --image-px 384"
    assert advice.why.startswith("AP of the 30 objects below 32×32 pixels (of 80) is 20")
    assert advised(files_of(quiet(ap_small=None, num_small=0))) == []


@pytest.mark.parametrize(("num_small", "num_objects"), [(5, 945), (19, 80), (30, 945), (None, 80)])
def test_a_few_small_objects_call_for_no_larger_images(num_small: int | None, num_objects: int) -> None:
    few = quiet(ap_small=0.0, num_small=num_small, num_objects=num_objects)
    assert advised(files_of(few)) == []


def test_commands_to_train_again_keep_the_options_of_the_run() -> None:
    files = files_of(quiet(ap_small=0.2, num_small=30))
    words = ["cells", "--out", "a", "--validation", "0.2", "--image-px", "256", "--epochs", "40"]
    files.record["command"] = ["residual", "train", *words]
    commands = dict(object_commands(files))
    assert commands["Train again, with more images"] == (
        "residual train cells --validation 0.2 --image-px 256 --epochs 40"
    )
    (advice,) = object_advice(files)
    assert advice.command == "residual train cells --validation 0.2 --epochs 40 --image-px 384"


def test_images_with_more_objects_than_detections_are_named() -> None:
    spec = {"detections": {"most": 8}}
    assert advised(files_of(quiet(), spec=spec)) == ["Let it give more detections."]
    assert advised(files_of(quiet(), spec={"detections": {"most": 100}})) == []


def test_classes_with_few_or_no_objects_are_named() -> None:
    rows = quiet()["per_class"]
    rows[1] |= {"num_objects": 5, "ap_interval": [0.1, 0.9]}
    (advice,) = object_advice(files_of(quiet(per_class=rows)))
    assert advice.what == "Annotate more of dog."
    assert "likely between 10\N{NO-BREAK SPACE}% and 90\N{NO-BREAK SPACE}%" in advice.why
    rows[1] |= {"num_objects": 0, "ap": None}
    assert advised(files_of(quiet(per_class=rows))) == ["Hold out images with dog."]


def test_with_few_held_out_objects_more_should_be() -> None:
    (advice, *_) = object_advice(files_of(quiet(num_objects=7, count=7)))
    assert advice.what == "Hold out more images."
    assert advice.why.startswith("It was measured on 7 objects in 7 images")
    assert advice.command == "residual train cells --validation 0.2"


def test_a_run_that_was_still_learning_should_go_on() -> None:
    files = files_of(quiet())
    files.held_out.extend(
        {"split": "val", "step": step, "epoch": step / 10, "ap": ap}
        for step, ap in ((50, 0.2), (80, 0.3), (100, 0.34))
    )
    (advice,) = object_advice(files)
    assert advice.command == "residual train cells --epochs 20"
    files.held_out[-1]["ap"] = 0.31
    assert advised(files) == []


def test_a_run_that_was_stopped_early_should_be_trained_on() -> None:
    files = files_of(quiet())
    files.record.update(
        status="interrupted", step=10, command=["residual", "train", "cells", "--epochs", "6"]
    )
    (advice,) = object_advice(files)
    assert (advice.what, advice.command) == (
        "Train on.",
        "residual train cells --epochs 6 --out run --resume",
    )
    files.record.update(status="finished", step=100)
    assert advised(files) == []


# -- beside other runs -------------------------------------------------------------------------------------


def test_detectors_side_by_side_show_ap_with_intervals(
    finished: Path, evaluation: dict[str, Any], tmp_path: Path
) -> None:
    runs = [detector_run(finished, tmp_path / name, evaluation) for name in ("a", "b")]
    page = Page(write_side_by_side(runs, tmp_path / "page.html").read_text())
    head, first, _ = page.rows(page.all("table")[0])
    assert head[2:5] == ["AP50and 95 %", "APand 95 %", "loss"]
    low, high = evaluation["ap_interval"]
    assert f"{100 * evaluation['ap']:.2f} %" in first[3]
    assert f"{100 * low:.2f} – {100 * high:.2f} %" in first[3]


def test_a_detector_beside_a_classifier_has_dashes_where_it_has_no_figure(
    finished: Path, evaluation: dict[str, Any], tmp_path: Path
) -> None:
    run = detector_run(finished, tmp_path / "a", evaluation)
    page = Page(write_side_by_side([finished, run], tmp_path / "page.html").read_text())
    _, first, second = page.rows(page.all("table")[0])
    assert first[2:4] == ["–", "–"]
    assert second[4:6] == ["–", "–"]
    assert len(first) == len(second)


# -- masks -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def masks() -> dict[str, Any]:
    """An evaluation of good boxes; every second mask is the wrong half of its box."""
    return an_evaluation(by_masks=True)


@pytest.fixture(scope="module")
def mask_run(finished: Path, masks: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return detector_run(finished, tmp_path_factory.mktemp("masks") / "run", masks)


def test_a_detector_with_masks_is_judged_by_them(mask_run: Path, masks: dict[str, Any]) -> None:
    page, by_masks = Page(write_report(mask_run).read_text()), masks["masks"]
    assert by_masks["ap50"] < masks["ap50"] - 0.2
    assert object_headline(masks) == object_headline(by_masks)
    said = object_verdict(masks).replace("\N{NO-BREAK SPACE}", " ")
    assert f"(AP50) is {100 * by_masks['ap50']:.0f} %" in said
    assert f"judged by boxes, AP50 is {100 * masks['ap50']:.0f} %." in said
    classes, sizes, errors = (page.rows(table) for table in page.all("table")[:3])
    boxes = {row["name"]: row for row in masks["per_class"]}
    worst = min((row for row in by_masks["per_class"] if row["ap"] is not None), key=lambda row: row["ap"])
    assert classes[0][-2:] == ["AP50 of boxes", "AP of boxes"]
    assert (classes[1][0], classes[1][4]) == (worst["name"], f"{100 * worst['ap']:.1f} %")
    assert classes[1][-2:] == [f"{100 * boxes[worst['name']][name]:.1f} %" for name in ("ap50", "ap")]
    assert sizes[1][2] == f"{100 * by_masks['ap_small']:.1f} %"
    assert sizes[1][-1] == f"{100 * masks['ap_small']:.1f} %"
    costly = max(by_masks["errors"], key=lambda row: row["gain"])
    assert errors[1][1] == f"{costly['count']:,}"
    assert "The orange surface is the mask of the detection" in page.text
    assert "mask too far off" in page.text
    assert "AP50, masks" in page.text
    assert "AP50, boxes" in page.text
    assert len([image for image in page.all("img") if "mask too far" in image.get("alt", "")]) > 0


def test_commands_and_words_follow_the_masks(mask_run: Path, masks: dict[str, Any]) -> None:
    changed = copy.deepcopy(masks)
    for row in changed["masks"]["per_class"]:
        row["threshold"] = threshold(0.625, 0.5, 0.5)
    assert usual_score(changed) == 0.62 != usual_score({**changed, "masks": None})
    run = dataclasses.replace(read_run(mask_run), evaluation=changed)
    assert any("--min-score 0.62" in line for _, line in object_commands(run))
    first, second, third = detections_in_words(masks)
    assert first.startswith(f"masks AP50 {100 * masks['masks']['ap50']:.1f} %")
    assert second.startswith(f"boxes AP50 {100 * masks['ap50']:.1f} %")
    assert third == detections_in_words(masks["masks"])[1]


def test_sure_masks_where_nothing_is_annotated_are_looked_at(mask_run: Path) -> None:
    run = read_run(mask_run)
    assert run.evaluation is not None
    by_masks = copy.deepcopy(run.evaluation["masks"])
    by_masks["false"] = [{**by_masks["false"][0], "kind": "background", "score": 0.9}] * 8
    files = dataclasses.replace(run, evaluation={**run.evaluation, "masks": by_masks})
    assert "Look whether objects lack their mask." in [advice.what for advice in object_advice(files)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ap50": 2}, "in masks ap50 is 2"),
        ({"per_class": []}, "in masks the classes are others than in per_class"),
    ],
)
def test_damaged_figures_of_masks_are_named(
    mask_run: Path, masks: dict[str, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    run = detector_run(mask_run, tmp_path / "run", {**masks, "masks": {**masks["masks"], **change}})
    with pytest.raises(ModelFileError, match=message):
        read_run(run)
