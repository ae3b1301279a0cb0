"""Advise what would help a detector most, each piece with its evidence; and what to do with it.

Rules in the order of what they usually bring; one that does not hold is silent.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from deepresidual.reporting.advice import MOST, Advice, data_argument
from deepresidual.reporting.pages import rounded_percent
from deepresidual.runs.detections import judged, usual_score
from deepresidual.runs.read import RunFiles
from deepresidual.runs.repeat import command_again

_PHOTO_PX = 64  # networks that begin with images of this size or more are usually of ImageNet
_WEIGHTS = "resnet18"
_SURE, _SUSPECTED = 0.7, 6  # so sure false detections where nothing is annotated are worth a look
_FEW_OBJECTS = 30  # of a class: its AP is then known to some ten points
_FEW_HELD_OUT = 50  # of all classes
_SMALL_SHARE, _SMALL_COUNT = 0.05, 20  # fewer small objects than either say little and cost little
_SMALL_GAP = 0.15  # by which small objects have a lower AP than large ones
_MUCH_ROOM = 0.9  # share of the most detections of an image that images have on average
_STILL_RISING = 0.02  # of AP in the last fifth of a run
_NAMED = 3  # classes in a sentence


def object_advice(files: RunFiles) -> list[Advice]:
    """Return the advice that holds for the run of a detector, the most helpful first."""
    evaluation = files.evaluation
    if not evaluation or not evaluation["num_objects"]:
        return []
    data, figures = data_argument(files), judged(evaluation)
    rules = (
        _train_on(files, data),
        _untested(figures),
        _hold_out_more(figures, data),
        _look_for_unannotated(figures, "box" if figures is evaluation else "mask"),
        _begin_with_photos(files, data),
        _learn_longer(files, data),
        _larger_images(files, figures, data),
        _more_detections(files, figures),
        _few_objects(figures),
    )
    return [rule for rule in rules if rule is not None][:MOST]


def object_commands(files: RunFiles) -> list[tuple[str, str]]:
    """Return what to do with the detector of a run, as commands with the places of this run."""
    run = shlex.quote(str(files.path))
    return [
        *find_commands(run, files.evaluation or {"per_class": []}),
        ("Measure it on other images", f"residual evaluate {run} OTHER-IMAGES"),
        ("Train again, with more images", command_again(files.record, data_argument(files))),
    ]


def find_commands(model: str, evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the commands that find objects in new images, from the score that suits them.

    Args:
        model: The detector, quoted for a shell.
        evaluation: Its evaluation.
    """
    score = usual_score(evaluation)
    suited = "" if score is None else f" --min-score {score:.2f}"
    return [
        ("Find objects in new images", f"residual predict {model} NEW-IMAGES{suited} --out objects.csv"),
        ("Draw them", f"residual predict {model} NEW-IMAGES{suited} --draw drawn"),
    ]


def _untested(evaluation: Mapping[str, Any]) -> Advice | None:
    lacking = [row["name"] for row in evaluation["per_class"] if not row["num_objects"]]
    if not lacking:
        return None
    names = _listed(lacking)
    return Advice(
        f"Hold out images with {names}.",
        f"{names} {'has' if len(lacking) == 1 else 'have'} no object among the images that it was measured "
        "on, so how well it finds them is not known.",
    )


def _hold_out_more(evaluation: Mapping[str, Any], data: str) -> Advice | None:
    """Advise more held-out images where there are too few objects for any figure."""
    objects, images = evaluation["num_objects"], evaluation["count"]
    if objects >= _FEW_HELD_OUT:
        return None
    return Advice(
        "Hold out more images.",
        f"It was measured on {objects:,} object{'s' if objects > 1 else ''} in {images:,} "
        f"image{'s' if images > 1 else ''}, which tells little of how it does on others.",
        f"residual train {data} --validation 0.2",
    )


def _look_for_unannotated(evaluation: Mapping[str, Any], annotation: str) -> Advice | None:
    """Advise a look at sure detections where nothing is annotated: often something is there."""
    surest = evaluation.get("false") or []
    suspected = [row for row in surest if row["kind"] == "background" and (row["score"] or 0) >= _SURE]
    if len(suspected) < _SUSPECTED or 2 * len(suspected) < len(surest):
        return None
    return Advice(
        f"Look whether objects lack their {annotation}.",
        f"Of its {len(surest)} surest false detections {len(suspected)} lie where nothing is annotated. An "
        f"object without a {annotation} counts as a false detection, and in training teaches not to find "
        "such ones.",
        section="mistakes",
    )


def _begin_with_photos(files: RunFiles, data: str) -> Advice | None:
    plan = files.plan
    if plan["weights"] or plan["preprocess"]["crop_px"] <= _PHOTO_PX:
        return None
    return Advice(
        "Begin with a network that knows photos.",
        f"This one began from nothing and has seen {plan['num_samples']:,} images, far fewer than a network "
        "needs to learn what images look like.",
        f"residual train {data} --weights {_WEIGHTS}",
    )


def _train_on(files: RunFiles, data: str) -> Advice | None:
    """Advise to go on with a run that was stopped early."""
    step, total = files.record.get("step", 0), files.record["total_steps"]
    if files.record.get("status") != "interrupted" or step >= total:
        return None
    return Advice(
        "Train on.",
        f"It was stopped after {step:,} of {total:,} steps, so it had not finished learning.",
        command_again(files.record, data, {"--out": files.path}) + " --resume",
    )


def _learn_longer(files: RunFiles, data: str) -> Advice | None:
    """Advise more time where AP was still rising at the end."""
    rows = [row for row in files.held_out if row["split"] == files.held_out[0]["split"] and "ap" in row]
    name = "mask_ap" if rows and all("mask_ap" in row for row in rows) else "ap"
    earlier = [row[name] for row in rows if row["step"] <= 0.8 * files.record["total_steps"]]
    if not earlier or rows[-1][name] - max(earlier) < _STILL_RISING:
        return None
    epochs = f"{2 * rows[-1]['epoch']:.0f}"
    return Advice(
        "Give it more time.",
        f"AP rose from {rounded_percent(max(earlier))} to {rounded_percent(rows[-1][name])} in the last "
        "fifth of the run: it had not finished learning.",
        command_again(files.record, data, {"--epochs": epochs}),
    )


def _larger_images(files: RunFiles, evaluation: Mapping[str, Any], data: str) -> Advice | None:
    """Advise larger images where small objects are found less well than others."""
    small = evaluation["ap_small"]
    larger = [value for size in ("medium", "large") if (value := evaluation[f"ap_{size}"]) is not None]
    if small is None or not larger or max(larger) - small < _SMALL_GAP:
        return None
    count, objects = evaluation.get("num_small") or 0, evaluation["num_objects"]
    if count < max(_SMALL_COUNT, _SMALL_SHARE * objects):
        return None
    px = files.plan["preprocess"]["crop_px"]
    return Advice(
        "Show it larger images.",
        f"AP of the {count:,} objects below 32×32 pixels (of {objects:,}) is {rounded_percent(small)}, of "
        f"larger ones {rounded_percent(max(larger))}; it sees images at {px} px.",
        command_again(files.record, data, {"--image-px": round(1.5 * px / 32) * 32}),
    )


def _more_detections(files: RunFiles, evaluation: Mapping[str, Any]) -> Advice | None:
    """Say where images have about as many detections as a detector gives at most."""
    most = (files.plan["spec"].get("detections") or {}).get("most")
    if type(most) is not int or not evaluation["count"]:
        return None
    if evaluation["num_objects"] / evaluation["count"] < _MUCH_ROOM * most:
        return None
    return Advice(
        "Let it give more detections.",
        f"An image has {evaluation['num_objects'] / evaluation['count']:.0f} objects on average, and the "
        f"detector gives {most} detections at most: the rest cannot be found.",
    )


def _few_objects(evaluation: Mapping[str, Any]) -> Advice | None:
    rows = [row for row in evaluation["per_class"] if 0 < row["num_objects"] < _FEW_OBJECTS]
    if not rows:
        return None
    rarest = min(rows, key=lambda row: row["num_objects"])
    within = rarest.get("ap_interval")
    likely = (
        f": its AP is likely between {rounded_percent(within[0])} and {rounded_percent(within[1])}"
        if within and within[0] != within[1]
        else ""
    )
    others = f", the same for {len(rows) - 1} more classes" if len(rows) > 1 else ""
    count = "one object" if rarest["num_objects"] == 1 else f"{rarest['num_objects']} objects"
    return Advice(
        f"Annotate more of {rarest['name']}.",
        f"Only {count} of it {'is' if rarest['num_objects'] == 1 else 'are'} held out{likely}{others}.",
    )


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
