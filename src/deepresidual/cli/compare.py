"""``residual compare``: test whether one model is better than another on the same images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import tyro

from deepresidual.cli.output import print_json, print_line, print_table

if TYPE_CHECKING:
    from deepresidual.evaluation import PairedComparison

__all__ = ["compare"]


def compare(
    first: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FIRST")],
    second: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SECOND")],
    /,
    *,
    json: bool = False,
) -> int:
    """Compare two models by McNemar's test on the images that only one of them has right.

    Args:
        first: The predictions of one model, a file that 'residual evaluate' wrote: .csv, .jsonl or .parquet.
        second: The same for another model or other views, on the same images.
        json: Print one JSON document.
    """
    from deepresidual.evaluation import compare as compare_results

    compared = compare_results(first, second)
    if json:
        print_json({"first": first, "second": second, **compared.to_dict()})
        return 0
    top1 = compared.top1
    print_table(
        (">top-1", ">right", ">right alone", "results"),
        [
            (
                f"{top1[0]:.2%}",
                f"{compared.both_correct + compared.only_first:,}",
                f"{compared.only_first:,}",
                first,
            ),
            (
                f"{top1[1]:.2%}",
                f"{compared.both_correct + compared.only_second:,}",
                f"{compared.only_second:,}",
                second,
            ),
            *_baseline_row(compared),
        ],
    )
    low, high = compared.difference_interval
    print_line(
        f"{compared.count:,} images: both right {compared.both_correct:,}, both wrong {compared.both_wrong:,}"
    )
    print_line(
        f"difference {100 * compared.difference:+.2f} points "
        f"(95 % interval {100 * low:+.2f} to {100 * high:+.2f}), "
        f"p = {compared.p_value:.3g} (McNemar's test, {compared.test})"
    )
    return 0


def _baseline_row(compared: PairedComparison) -> list[tuple[str, str, str, str]]:
    baseline = compared.baseline
    if baseline is None:
        return []
    return [(f"{baseline.top1:.2%}", f"{baseline.right:,}", "–", f"always {baseline.name}")]
