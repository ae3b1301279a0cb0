"""``residual export``: a trained model as a file that other engines run."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro

from deepresidual.cli.options import LocalPath
from deepresidual.cli.output import print_json, print_line
from deepresidual.runtime.printable import printable

__all__ = ["export"]


def export(
    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")],
    out: Annotated[tyro.conf.Positional[LocalPath], tyro.conf.arg(metavar="OUT")],
    /,
    *,
    to: Literal["onnx", "openvino", "pt2", "triton", "ovms"] = "onnx",
    resize: Literal["exact", "fast", "none"] = "exact",
    json: bool = False,
) -> int:
    """Write a trained model as a file that other engines run, checked against PyTorch on real photos.

    OUT is a folder that 'residual predict', 'evaluate' and 'compare' take like any model, without torch.

    Args:
        model: A run or model folder, or a model by name (see 'residual models').
        out: The folder to write; it is there whole or not at all.
        to: Format of the file; 'triton' and 'ovms' for a repository that these servers read.
        resize: Resize in model-image.onnx, which takes a whole photo: Pillow's, one node near it, or no file.
        json: Print one JSON document.
    """
    from deepresidual.models.source import find_source

    find_source(model)  # what is mistyped is told before torch is loaded
    from deepresidual.exporting import export as run_export

    done = run_export(model, out, to=to, resize=resize)
    signature, difference = done.signature, done.certificate.difference
    if json:
        facts = {"path": str(done.path), "num_bytes": done.num_bytes}
        print_json({"model": model, **facts, "signature": signature.to_dict()})
        return 0
    print_line(f"{model}: {signature.file}, {signature.precision}, {done.num_bytes / 1e6:,.1f} MB")
    print_line(
        f"  certificate  {done.certificate.engine}: logits differ by at most {difference.largest:.2g} from "
        f"PyTorch's, whose deviation is {difference.deviation:.3g}"
    )
    print_line(f"               same best class in {difference.agreement:.1%} of {difference.count} views")
    if image := signature.image_input:
        checked = image["certificate"]
        print_line(
            f"               {image['file']}, resize {image['resize']}: {checked['num_differing']:,} of "
            f"{checked['num_values']:,} pixel values differ from Pillow's"
            + (f", by {checked['largest_level']} of 255 at most" if checked["num_differing"] else "")
        )
    print_line(f"wrote {printable(str(out))}")
    return 0
