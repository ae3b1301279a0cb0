"""Write the page of two models on the same images: which is better, at what, and the images that tell.

Example:
    >>> write_comparison(Comparison(("a", "b"), "photos", first, second, figures), Path("c.html"))
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from deepresidual.reporting.classification import LISTED
from deepresidual.reporting.pages import rendered, require_ours, rounded_percent, shown_time
from deepresidual.reporting.pictures import embedded
from deepresidual.reporting.verdict import Verdict, verdict_of
from deepresidual.runs.baseline import Baseline
from deepresidual.runs.intervals import wilson_interval
from deepresidual.runtime.files import expanded, write_text
from deepresidual.runtime.provenance import command_line, now

Results: TypeAlias = Mapping[str, tuple[str, str]]

_SHOWN = 12  # images that only one of the two has right
_SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images.

    Attributes:
        names: What was given as the two.
        data: What they were measured on; empty: files of predictions, which do not say.
        first: True and predicted class of the first model by the name of the image.
        second: The same of the second.
        figures: The document of their paired comparison: counts, difference, interval and p-value.
        photos: PNG files of images, by name.
    """

    names: tuple[str, str]
    data: str
    first: Results
    second: Results
    figures: Mapping[str, Any]
    photos: Mapping[str, bytes] = field(default_factory=dict)

    @staticmethod
    def discordant(first: Results, second: Results) -> tuple[list[str], list[str]]:
        """Return the images that only the first has right, and only the second, as many as are shown."""
        right = [
            {key for key, (label, said) in results.items() if label == said} for results in (first, second)
        ]
        only = [sorted(right[0] - right[1]), sorted(right[1] - right[0])]
        return only[0][:_SHOWN], only[1][:_SHOWN]


def write_comparison(compared: Comparison, destination: Path) -> Path:
    """Write the page of a comparison and return its path.

    Args:
        compared: The two models.
        destination: The file; one that Residual has written before is replaced, any other is not.

    Raises:
        ConfigurationError: ``destination`` is another file.
        RunError: The page cannot be written.
    """
    destination = expanded(destination)
    require_ours(destination)
    figures = compared.figures
    verdicts = [_verdict(results, figures) for results in (compared.first, compared.second)]
    page = rendered(
        "comparison.html.jinja",
        kick=f"{compared.data or 'predictions'} · {shown_time(now())}",
        headline=_headline(verdicts, figures),
        words=_words(figures),
        names=compared.names,
        letters=("A", "B"),
        verdicts=verdicts,
        figures=figures,
        classes=_classes(compared),
        confusions=_confusions(compared),
        only=[_cards(compared, keys) for keys in Comparison.discordant(compared.first, compared.second)],
        command=shlex.join(command_line()),
    )
    write_text(destination, page)
    return destination


def _verdict(results: Results, figures: Mapping[str, Any]) -> Verdict:
    right = sum(label == said for label, said in results.values())
    support = Counter(label for label, _ in results.values())
    label = figures.get("baseline_class") or max(sorted(support), key=lambda name: support[name])
    baseline = Baseline(label, support[label], len(results))
    return verdict_of(right, len(results), wilson_interval(right, len(results)), baseline)


def _headline(verdicts: list[Verdict], figures: Mapping[str, Any]) -> str:
    first, second = verdicts
    if figures["p_value"] >= _SIGNIFICANT:
        counts = f"{first.right:,} and {second.right:,} of {first.count:,}"
        return f"No difference is shown: A and B name {counts} images right"
    better, high, low = ("A", first, second) if first.right > second.right else ("B", second, first)
    return f"{better} is better: {high.right:,} of {high.count:,} images named right, against {low.right:,}"


def _words(figures: Mapping[str, Any]) -> str:
    points = 100 * figures["difference"]
    bounds = [100 * bound for bound in figures["difference_interval"]]
    if not points:
        said = "A and B are right equally often"
    elif points < 0:
        said, bounds = f"A is {-points:.1f} points above B", [-bound for bound in reversed(bounds)]
    else:
        said = f"B is {points:.1f} points above A"
    chance = figures["p_value"]
    often = "fewer than 1 in 1,000" if chance < 0.001 else rounded_percent(chance)
    between = f"{bounds[0]:+.1f} and {bounds[1]:+.1f}"
    return (
        f"{said}; on other images the difference is likely between {between}. Two equally good models would "
        f"differ so much or more in {often} of such tests."
    )


def _classes(compared: Comparison) -> list[dict[str, Any]]:
    """Return how many images of every class each has right, the largest difference first."""
    support: Counter[str] = Counter()
    right: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    for number, results in enumerate((compared.first, compared.second)):
        for label, said in results.values():
            right[number][label] += label == said
            support[label] += number == 0
    rows = [
        {"name": name, "count": count, "first": right[0][name], "second": right[1][name]}
        for name, count in support.items()
    ]
    return sorted(rows, key=lambda row: (-abs(int(row["second"]) - int(row["first"])), str(row["name"])))


def _confusions(compared: Comparison) -> list[dict[str, Any]]:
    """Return the pairs of true and predicted class whose number differs most."""
    counts = [
        Counter((label, said) for label, said in results.values() if label != said)
        for results in (compared.first, compared.second)
    ]
    pairs = sorted({*counts[0], *counts[1]}, key=lambda pair: (-abs(counts[1][pair] - counts[0][pair]), pair))
    return [
        {"true": pair[0], "predicted": pair[1], "first": counts[0][pair], "second": counts[1][pair]}
        for pair in pairs[:LISTED]
        if counts[0][pair] != counts[1][pair]
    ]


def _cards(compared: Comparison, keys: list[str]) -> list[dict[str, Any]]:
    cards = []
    for key in keys:
        (label, first), (_, second) = compared.first[key], compared.second[key]
        photo = embedded(compared.photos[key]) if key in compared.photos else None
        cards.append({"key": key, "label": label, "first": first, "second": second, "photo": photo})
    return cards
