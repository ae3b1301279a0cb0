"""``residual export``: a trained model as a file that other engines run."""

from __future__ import annotations

import shlex
import textwrap
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from deepresidual.cli.options import LocalPath, Maybe
from deepresidual.cli.output import print_json, print_line
from deepresidual.errors import ConfigurationError
from deepresidual.runtime.files import expanded
from deepresidual.runtime.printable import printable

if TYPE_CHECKING:
    from deepresidual.backends.self_test import Difference
    from deepresidual.exporting.certificate import ExportCertificate
    from deepresidual.exporting.detector import DetectionCertificate
    from deepresidual.exporting.int8_report import Int8Report

__all__ = ["export"]


def export(
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")],
    out: Annotated[tyro.conf.Positional[LocalPath], tyro.conf.arg(metavar="OUT")],
    /,
    *,
    to: Literal["onnx", "openvino", "pt2", "triton", "ovms"] = "onnx",
    resize: Literal["exact", "fast", "none"] = "exact",
    int8: bool = False,
    data: Maybe[str] = None,
    split: Maybe[str] = None,
    calibration_images: Annotated[int, tyro.conf.arg(metavar="N")] = 300,
    weight_bits: Literal[7, 8] = 7,
    max_loss: Annotated[float, tyro.conf.arg(metavar="POINTS")] = 0.5,
    min_agreement: Annotated[float, tyro.conf.arg(metavar="SHARE")] = 0.98,
    json: bool = False,
) -> int:
    """Write a trained model as a file that other engines run, checked against PyTorch on real photos.

    OUT is a folder that 'residual predict', 'evaluate' and 'compare' take like any model, without torch.

    Args:
        model: A run or model folder, or a model by name (see 'residual models').
        out: The folder to write; it is there whole or not at all.
        to: Format of the file; 'triton' and 'ovms' for a repository that these servers read. For phones and
            TensorRT see docs/how-to/other-formats.md.
        resize: Resize in model-image.onnx, which takes a whole photo: Pillow's, one node near it, or no file.
        int8: Make the convolutions int8, calibrated on training images, and measure on held-out ones what is
            lost: beyond --max-loss and --min-agreement nothing is written.
        data: The data that checks the file and that --int8 needs, as for 'residual train'. Default: what a
            run was trained with; without --int8 two photos will do.
        split: The split of it that judges. Default: test if there is one, else val.
        calibration_images: Training images to calibrate on, spread over the classes.
        weight_bits: 7 is right on every CPU; 8 loses points without a word where a CPU has no VNNI.
        max_loss: Loss of top-1 (macro F1 of several labels, AP of a detector) in points that --int8 may have;
            what is written beyond the default is noted in the certificate.
        min_agreement: Share of the images, 0 to 1, that must get the same class as in float, of a detector of
            the objects that must be found; likewise.
        json: Print one JSON document.
    """
    from deepresidual.models.source import find_source

    find_source(model)  # what is mistyped is told before torch is loaded
    _require_sensible(int8, data, split, to)
    options = None
    if int8:
        from deepresidual.exporting.int8_options import Int8Options

        own = _int8_data(model, data)
        options = Int8Options(own, split, calibration_images, weight_bits, max_loss, min_agreement)
    from deepresidual.exporting import export as run_export

    views = {} if int8 else {"data": data, "split": split}
    done = run_export(model, out, to=to, resize=resize, int8=options, **views)
    signature, certificate = done.signature, done.certificate
    if json:
        facts = {"path": str(done.path), "num_bytes": done.num_bytes}
        print_json({"model": model, **facts, "signature": signature.to_dict()})
        return 0
    print_line(f"{model}: {signature.file}, {signature.precision}, {done.num_bytes / 1e6:,.1f} MB")
    if done.int8 is not None:
        _print_int8(done.int8)
    print_line(f"  certificate  {certificate.engine} against {certificate.reference}:")
    for line in _compared(certificate, signature.precision):
        print_line(f"               {line}")
    if image := signature.image_input:
        checked = image["certificate"]
        print_line(
            f"  whole photo  {image['file']}, resize {image['resize']}: {checked['num_differing']:,} of "
            f"{checked['num_values']:,}"
        )
        most = f", by {checked['largest_level']} of 255 at most" if checked["num_differing"] else ""
        print_line(f"               pixel values differ from Pillow's{most}")
    print_line(f"wrote {printable(str(out))}")
    print_line(f"use   residual predict {shlex.quote(str(out))} PHOTOS", is_command=True)
    return 0


def _compared(certificate: ExportCertificate | DetectionCertificate, precision: str) -> list[str]:
    """Return how the file was compared with PyTorch, in lines."""
    from deepresidual.backends.self_test import Difference

    difference = certificate.difference
    if isinstance(difference, Difference):
        views = f"{difference.count} views of {certificate.images}"
        largest = f"logits differ by {difference.largest:.2g} at most{_share(difference)}"
        return [largest, *textwrap.wrap(f"same best class in {difference.agreement:.1%} of {views}", 65)]
    if precision == "int8":
        photos = f"{difference.matched_summary()}, in {difference.images} photos of {certificate.images}"
        return textwrap.wrap(photos, 65)
    photos = (
        f"all of them in {difference.equal_images:.1%} of {difference.images} photos of {certificate.images}"
    )
    return [*textwrap.wrap(difference.summary(), 65), *textwrap.wrap(photos, 65)]


def _share(difference: Difference) -> str:
    """Return how large a difference is beside the logits, in words."""
    if not 0 < difference.largest < difference.deviation:
        return f"; their deviation is {difference.deviation:.3g}"
    return f", 1/{difference.deviation / difference.largest:,.0f} of their deviation"


def _int8_data(model: str, data: str | None) -> str:
    from deepresidual.cli.evaluate import own_data
    from deepresidual.data.source import require_exists
    from deepresidual.runs.read import holds_run

    if data is None and not holds_run(expanded(model)):
        raise ConfigurationError(
            f"--int8 is given without --data, and {model} is no run",
            expected="the data that the model was trained with, or such images: --data DATA",
        )
    chosen = own_data(model) if data is None else data
    require_exists(chosen)
    return chosen


def _require_sensible(int8: bool, data: str | None, split: str | None, to: str) -> None:
    from deepresidual.data.source import require_exists

    if int8 and to == "pt2":
        raise ConfigurationError(
            "--int8 is given with --to pt2", expected="--to onnx, openvino, triton or ovms"
        )
    if split is not None and data is None and not int8:
        raise ConfigurationError("--split is given without --data", expected="both, or neither")
    if data is not None and not int8:
        require_exists(data)


def _print_int8(report: Int8Report) -> None:
    print_line(f"  calibration  {len(report.calibration):,} training images of {report.data}")
    made = f"{report.weight_bits}-bit weights, {', '.join(report.in_float)} in float"
    for number, line in enumerate(textwrap.wrap(made, 65)):
        print_line(f"  {'' if number else 'int8':11}  {line}")
    left_out = f", {report.num_left_out:,} left out" if report.num_left_out else ""
    count = next(verdict.loss.count for verdict in report.verdicts if verdict.loss is not None)
    lines = [line for verdict in report.verdicts for line in verdict.lines]
    for number, line in enumerate(lines):
        print_line(f"  {'' if number else 'gate':11}  {line}")
    print_line(f"               on {count:,} images of {report.data} ({report.split}{left_out})")
    print_line(f"               {report.statement}")
    for sentence in report.accepted:
        for number, line in enumerate(textwrap.wrap(sentence, 65)):
            print_line(f"  {'' if number else 'beyond':11}  {line}")
