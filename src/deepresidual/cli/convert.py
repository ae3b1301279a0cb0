"""``residual convert``: checkpoints of other libraries, in and out."""

from __future__ import annotations

from typing import Annotated, Literal

import tyro

from deepresidual.cli.options import Maybe
from deepresidual.cli.output import print_json, print_line

__all__ = ["convert"]


def convert(
    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")],
    destination: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="DESTINATION")],
    /,
    *,
    model: Maybe[str] = None,
    state_dict: Maybe[str] = None,
    to: Maybe[Literal["torchvision", "timm", "transformers", "keras"]] = None,
    num_classes: Maybe[int] = None,
    in_channels: Maybe[int] = None,
    half: bool = False,
    json: bool = False,
) -> int:
    """Turn a checkpoint from elsewhere into a model folder, or a model into another library's checkpoint.

    Args:
        source: A file or folder of torchvision, timm, transformers, Keras, TensorFlow 1, Caffe or Torch7; a
            model or run folder; a bundled or released model by name (see 'residual models');
            owner/name or owner/name@revision on the Hugging Face Hub (hf:owner/name where a folder called
            owner is here); or a URL.
        destination: The model folder to write; with --to, the file or folder that the library reads.
        model: Name of the network, where the checkpoint does not say enough; as asked, or 'residual models'.
        state_dict: Which weights to take where a file holds several, by key or prefix, such as
            state_dict_ema. Default: those that were trained, not their average.
        to: Write for this library instead.
        num_classes: Give it a new, random classifier of so many rows, for fine-tuning, where it has another
            number or none; 0 takes the classifier off.
        in_channels: Adapt the first convolution to 1 (gray) or 3 channels.
        half: Store the weights in half precision (float16), in half the space; the network still computes in
            float32.
        json: Print one JSON document.
    """
    from deepresidual.models.source import find_source

    find_source(source)
    from deepresidual.models.convert import convert as run_conversion
    from deepresidual.runtime.printable import printable

    done = run_conversion(
        source,
        destination,
        model=model,
        state_dict=state_dict,
        to=to,
        num_classes=num_classes,
        in_channels=in_channels,
        half=half,
    )
    if json:
        print_json(done.summary())
        return 0
    print_line(f"{source}: {done.network}, from {done.from_ecosystem}, recognized by {done.evidence}")
    if done.state_dict:
        print_line(f"  state dict  {printable(done.state_dict)}")
    for name, what in done.not_taken.items():
        print_line(f"  not taken   {printable(name)}: {what} (--state-dict {printable(name)} takes them)")
    if done.beside:
        names = [printable(name) for name in done.beside]
        print_line(
            f"  beside      {', '.join(names[:8])}{', …' if len(names) > 8 else ''}: not weights, left out"
        )
    for assumption in done.assumed:
        print_line(f"  assumed     {assumption}")
    for reason, count in done.dropped.items():
        print_line(f"  dropped     {count:,} tensor{'s' if count > 1 else ''}: {printable(reason)}")
    for change in done.changed:
        print_line(f"  changed     {change}")
    print_line(f"  certificate {done.certificate.line()}")
    if not done.num_classes and to is None:
        print_line(
            "  classes     none: a backbone, to train from (residual train DATA --weights "
            f"{printable(destination)}); --num-classes gives it a classifier"
        )
    print_line(f"wrote {destination}")
    return 0
