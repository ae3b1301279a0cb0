"""Judge claims: orderings and gaps with intervals, and absolute errors where they compare."""

from __future__ import annotations

from collections.abc import Iterator

from deepresidual.analysis.experiments.experiment import TEST_ERROR, Metric, Results, Verdict
from deepresidual.runs.statistics import Summary

_FAIL = 0.2  # He et al. 2016, Table 1: "fail" is an error above 20 %
# What published results of an arm are: errors on held-out images, ten crops of them in ``imagenet``.
_PUBLISHED = ("test_error", "ten_crop_error")


def gap(
    results: Results,
    metric: Metric,
    higher: str,
    lower: str,
    *,
    source: str,
    published: str = "",
    margin: float = 0.0,
) -> Verdict:
    """Judge whether a metric of arm ``higher`` is above that of arm ``lower``.

    It is if the whole interval of the difference is above 0, and is not if all of it is below. An interval
    that holds 0 leaves the claim open: so few runs show neither.

    Args:
        results: The measurements.
        metric: The metric.
        higher: The arm that should have more.
        lower: The other.
        source: Paper and table.
        published: The paper's gap, or that it prints none. Default: that of the arms' published results, for
            an error on held-out images.
        margin: Distance below 0 that the interval may reach if the claim is only "not lower", a fraction.

    Raises:
        ValueError: ``published`` is missing for another metric, of which no table of the papers is.
    """
    if not published and metric.name not in _PUBLISHED:
        raise ValueError(f"published results are no {metric.name}: say what the source prints of it")
    claim = f"{metric.label} of {_label(results, higher)} above that of {_label(results, lower)}"
    tolerance = "interval of the difference above 0"
    if margin:
        claim = f"{metric.label} of {_label(results, higher)} not below that of {_label(results, lower)}"
        tolerance = f"interval of the difference above −{100 * margin:g} points"
    published = published or _published_gap(results, higher, lower)
    found = results.difference(metric.name, higher, lower)
    shown = points if metric.is_error else plain_difference
    if found is None:
        return not_measured(claim, source, published=published, tolerance=tolerance)
    if found.low is None or found.high is None:
        return Verdict(
            claim, f"{shown(found)}; one seed gives no interval", published, tolerance, None, source
        )
    measured = shown(found)
    passed = True if found.low > -margin else False if found.high < -margin else None
    if passed is None:
        half = (found.high - found.low) / 2
        width = f"{100 * half:.2f} points" if metric.is_error else f"{half:.2f}"
        measured += f"; a difference under {width} does not show"
    return Verdict(claim, measured, published, tolerance, passed, source)


def failing(results: Results, arm: str, *, source: str, published: str) -> Verdict:
    """Judge whether an arm fails as the paper counts it: diverged, or a test error above 20 %."""
    claim = f"{_label(results, arm)} fails"
    tolerance = "above 20 % in every run"
    result = results.arms.get(arm)
    if result is None:
        return not_measured(claim, source, published=published, tolerance=tolerance)
    summary = result.summary("test_error")
    words = [per_cent(summary)] if summary else []
    words += [f"{result.num_diverged} diverged"] if result.num_diverged else []
    passed = all(value > _FAIL for value in result.values("test_error"))
    return Verdict(claim, ", ".join(words), published, tolerance, passed, source)


def compared_with_published(
    results: Results, tolerance: float, metric: Metric = TEST_ERROR
) -> Iterator[Verdict]:
    """Yield a row for every published error of an arm, if absolute errors compare.

    Args:
        results: The measurements.
        tolerance: Largest distance in points, of the mean, or of the median or the best run if the source has
            that.
        metric: The measured error.
    """
    if not results.comparable:
        return
    for result in results.arms.values():
        summary = result.summary(metric.name)
        for published in result.arm.published:
            if summary is None or published.is_lower_bound:
                continue
            measured = summary.mean
            if "median" in published.protocol:
                measured = summary.median
            elif "best" in published.protocol:
                measured = min(result.values(metric.name))
            yield Verdict(
                f"test error of {result.arm.label}",
                per_cent(summary),
                f"{published} ({published.protocol})",
                f"± {tolerance:g} points",
                abs(100 * measured - published.top1_error) <= tolerance,
                published.source,
            )


def not_measured(claim: str, source: str, *, published: str = "", tolerance: str = "") -> Verdict:
    """Return the row of a claim whose arms were not run."""
    return Verdict(claim, "not measured", published, tolerance, None, source)


def per_cent(summary: Summary, decimals: int = 2) -> str:
    """Return an error as ``8.75 ± 0.10 % (n = 3)``: mean and deviation over the seeds."""
    deviation = "" if summary.std is None else f" ± {100 * summary.std:.{decimals}f}"
    return f"{100 * summary.mean:.{decimals}f}{deviation} % (n = {summary.count})"


def points(summary: Summary, decimals: int = 2) -> str:
    """Return a difference of errors as ``+6.70 points [4.10, 9.30]``."""
    text = f"{_signed(100 * summary.mean, decimals)} points"
    if summary.low is None or summary.high is None:
        return text
    return f"{text} [{_signed(100 * summary.low, decimals)}, {_signed(100 * summary.high, decimals)}]"


def plain_difference(summary: Summary) -> str:
    """Return a difference of numbers as ``+0.67 [0.41, 0.93]``."""
    if summary.low is None or summary.high is None:
        return _signed(summary.mean, 2)
    return f"{_signed(summary.mean, 2)} [{_signed(summary.low, 2)}, {_signed(summary.high, 2)}]"


def _published_gap(results: Results, higher: str, lower: str) -> str:
    """Return the difference of two arms' first published errors; empty where one has none."""
    rows = [results.arms[name].arm.published[:1] for name in (higher, lower) if name in results.arms]
    if len(rows) < 2 or not all(rows):
        return ""
    (first,), (second,) = rows
    if first.is_lower_bound or second.is_lower_bound:
        return f"{first} against {second}"
    gap = f"{first.top1_error - second.top1_error:.2f}".replace("-", "−")
    return (
        f"{first.top1_error:.2f} − {second.top1_error:.2f} = {gap} points ({first.network}, {second.network})"
    )


def _signed(value: float, decimals: int) -> str:
    return f"{value:+.{decimals}f}".replace("-", "−")


def _label(results: Results, arm: str) -> str:
    return results.arms[arm].arm.label if arm in results.arms else arm
