"""Advise what would help most: at most three pieces, each with its evidence and a command.

Rules in the order of what they usually bring. A rule that does not hold is silent, and what is shown not to
be the trouble is said as well.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deepresidual.reporting.pages import rounded_percent
from deepresidual.reporting.verdict import Verdict
from deepresidual.runs.baseline import overfits, training_top1
from deepresidual.runs.gains import stages_of
from deepresidual.runs.read import RunFiles

MOST = 3
"""Pieces of advice in a report."""

# Networks that begin with photos of this size or more are usually of ImageNet.
_PHOTO_PX = 64
_WEIGHTS = "resnet18"
_LEARNED_ENOUGH = 0.95
_RARE_SHARE, _RECALL_GAP = 0.5, 0.15
_MORE_MINUTES = 30
_NAMED = 3  # classes in a sentence


@dataclass(frozen=True)
class Advice:
    """One thing to do.

    Attributes:
        what: What to do, a sentence.
        why: The evidence for it, a sentence.
        command: The command to run; empty: it is no command.
        section: The section of the page that shows more; empty: none.
    """

    what: str
    why: str
    command: str = ""
    section: str = ""


def advice_of(files: RunFiles, verdict: Verdict) -> list[Advice]:
    """Return the advice that holds for a run, the most helpful first, :data:`MOST` at most."""
    untested = _test_every_class(files)
    if verdict.right == verdict.count:
        return [untested] if untested else []
    data = data_argument(files)
    found = [
        rule
        for rule in (
            untested,
            _begin_with_photos(files, data),
            _learn_longer(files, data),
            _overfits(files, verdict, data),
            _relabel(files),
            _more_images(files, verdict),
            _balance(files, data),
        )
        if rule is not None
    ]
    return found[:MOST]


def no_trouble(files: RunFiles, verdict: Verdict) -> str:
    """Return what is shown not to be the trouble; empty: nothing."""
    trained = _training_top1(files)
    if trained is None or overfits(trained, verdict.right / verdict.count, verdict.interval):
        return ""
    return f"Overfitting is not the trouble: {rounded_percent(trained)} right on its own training images."


def data_argument(files: RunFiles) -> str:
    """Return where the data of a run lies, else what its command or its plan says, quoted for a shell.

    Data that was a Python object is ``DATA``, since no argument opens it.
    """
    location = files.record.get("data_location")
    if location == "":
        return "DATA"
    words = list(files.record["command"])
    if (
        not location
        and words[:2] == ["residual", "train"]
        and len(words) > 2
        and not words[2].startswith("-")
    ):
        location = words[2]
    return shlex.quote(location or files.plan["data"])


def _training_top1(files: RunFiles) -> float | None:
    return training_top1(files.training, (files.evaluation or {}).get("step"))


def _test_every_class(files: RunFiles) -> Advice | None:
    """Advise images of classes that have none among those that the model was measured on."""
    if not files.evaluation:
        return None
    classes = files.evaluation["classes"]
    tested = {true for true, _, count in files.evaluation["confusions"] if count}
    lacking = [name for row, name in enumerate(classes) if row not in tested]
    if not lacking:
        return None
    names = ", ".join(lacking[:_NAMED]) + (
        f" and {len(lacking) - _NAMED:,} more" if len(lacking) > _NAMED else ""
    )
    has = "has" if len(lacking) == 1 else "have"
    return Advice(
        f"Add images of {names}.",
        f"{names} {has} none among the images that it was measured on, so how well it knows "
        f"{'this class' if len(lacking) == 1 else 'these classes'} is not known; of two images of a class "
        "one is held out, and five or more give a figure.",
    )


def _begin_with_photos(files: RunFiles, data: str) -> Advice | None:
    """Advise weights of ImageNet to a network of photos that knew none."""
    plan, begun = files.plan, files.record.get("begins_with") or {}
    px = plan["preprocess"]["crop_px"]
    command = f"residual train {data} --weights {_WEIGHTS}"
    if px < _PHOTO_PX:
        return None
    if not plan["weights"]:
        return Advice(
            "Begin with a network that knows photos.",
            f"This one began from nothing and has seen {plan['num_samples']:,} images, far fewer than a "
            "network needs to learn what images look like.",
            command,
        )
    if begun.get("begins_with") == "bundled":
        return Advice(
            "Begin with a network that knows photos.",
            f"This one began with {begun.get('name') or 'the bundled weights'}, which knew ten classes at "
            "32 pixels. Weights of ImageNet are fetched once.",
            command,
        )
    return None


def _overfits(files: RunFiles, verdict: Verdict, data: str) -> Advice | None:
    trained = _training_top1(files)
    if trained is None or not overfits(trained, verdict.top1, verdict.interval):
        return None
    evidence = (
        f"It overfits: {rounded_percent(trained)} right on its own training images, "
        f"{rounded_percent(verdict.top1)} on new ones."
    )
    if files.plan["weights"] and files.plan["recipe"].get("name") != "probe":
        return Advice(
            "Try without changing the network.",
            f"{evidence} A classifier on its features has far less to overfit with.",
            f"residual train {data} --recipe probe",
        )
    return Advice(
        "Vary the training images more.", evidence, f"residual train {data} --policy trivial-augment"
    )


def _learn_longer(files: RunFiles, data: str) -> Advice | None:
    """Advise more time where a run of minutes had not learned its own images by the end."""
    stages = {stage.name: stage for stage in stages_of(files)}
    trained = _training_top1(files)
    minutes = (files.record.get("length") or {}).get("minutes")
    if not minutes or "fine-tuned" not in stages or trained is None or trained >= _LEARNED_ENOUGH:
        return None
    kept = next((stage for stage in stages.values() if stage.is_kept), None)
    if kept is None or (kept.name != "probe" and trained >= kept.score):
        return None
    return Advice(
        "Give it more time.",
        f"In {minutes:g} minute{'' if minutes == 1 else 's'} it came to {rounded_percent(trained)} "
        "on its own training images: it had not finished learning.",
        f"residual train {data} --minutes {max(_MORE_MINUTES, round(3 * minutes))}",
    )


def _relabel(files: RunFiles) -> Advice | None:
    found = files.label_errors
    rows = [*(found.get("conflicts") or []), *found["rows"]] if found else []
    if not rows:
        return None
    labels = "1 label" if len(rows) == 1 else f"{len(rows):,} labels"
    return Advice(
        f"Look at {labels}.",
        "A classifier of the other images names them otherwise. The list and the command to change them "
        "stand there.",
        section="labels",
    )


def _more_images(files: RunFiles, verdict: Verdict) -> Advice | None:
    curve = files.learning_curve
    if not curve or curve["gain"] == "none":
        return None
    wrong = verdict.count - verdict.right
    fewer = max(1, round(wrong * curve["doubling"]))
    what = "More images would help most." if curve["gain"] == "a lot" else "More images would help a little."
    return Advice(
        what,
        f"Twice as many may mend about {fewer:,} of the {wrong:,} mistakes.",
        section="more",
    )


def _balance(files: RunFiles, data: str) -> Advice | None:
    """Advise balance where the rarest class of the training images is found much more seldom than others."""
    evaluation = files.evaluation or {}
    per_class = evaluation.get("per_class") or []
    supports = [row["support"] for row in per_class if row["support"]]
    if len(supports) < 2:
        return None
    rarest = min((row for row in per_class if row["support"]), key=_support)
    usual = sorted(supports)[len(supports) // 2]
    recalls = sorted(row["recall"] for row in per_class if row["support"])
    gap = recalls[len(recalls) // 2] - rarest["recall"]
    if rarest["support"] > _RARE_SHARE * usual or gap < _RECALL_GAP:
        return None
    return Advice(
        "Let rare classes count for more.",
        f"Of “{rarest['name']}”, the rarest class, {rounded_percent(rarest['recall'])} are found.",
        f"residual train {data} --balance loss",
    )


def _support(row: Mapping[str, Any]) -> int:
    return int(row["support"])
