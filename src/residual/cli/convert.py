"""``residual convert``: checkpoints of other libraries, in and out."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro

from residual.cli.options import Maybe
from residual.cli.output import print_json, print_line

__all__ = ["convert"]


def convert(
    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")],
    destination: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DESTINATION")],
    /,
    *,
    model: Maybe[str] = None,
    to: Maybe[Literal["torchvision", "timm", "transformers", "keras"]] = None,
    num_classes: Maybe[int] = None,
    in_channels: Maybe[int] = None,
    half: bool = False,
    json: bool = False,
) -> int:
    """Turn a checkpoint from elsewhere into a model folder, or a model into another library's checkpoint.

    Args:
        source: A file or folder of torchvision, timm, transformers, Keras, TensorFlow 1, Caffe or Torch7, a
            model or run folder, or owner/name on the Hugging Face Hub.
        destination: The model folder to write; with --to, the file or folder that the library reads.
        model: Name of the network, where the checkpoint does not say enough; as asked, or 'residual models'.
        to: Write for this library instead.
        num_classes: Give it a new, random classifier of so many rows, for fine-tuning.
        in_channels: Adapt the first convolution to 1 (gray) or 3 channels.
        half: Store the weights in half precision (float16), in half the space; the network still computes in
            float32.
        json: Print one JSON document.
    """
    from residual.models.convert import convert as run_conversion

    done = run_conversion(
        source, destination, model=model, to=to, num_classes=num_classes, in_channels=in_channels, half=half
    )
    if json:
        print_json(done.summary())
        return 0
    print_line(f"{source}: {done.network}, from {done.from_ecosystem}, recognized by {done.evidence}")
    for assumption in done.assumed:
        print_line(f"  assumed     {assumption}")
    for reason, count in done.dropped.items():
        print_line(f"  dropped     {count:,} tensors: {reason}")
    for change in done.changed:
        print_line(f"  changed     {change}")
    certificate = done.certificate
    if certificate.largest_difference is None:
        print_line(f"  certificate none: {certificate.reason}")
    else:
        print_line(
            f"  certificate logits differ by at most {certificate.largest_difference:.2g} from "
            f"{certificate.reference}, whose largest is {certificate.largest_logit:.3g}"
        )
    print_line(f"wrote {destination}")
    return 0
