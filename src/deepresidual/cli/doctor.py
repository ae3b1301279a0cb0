"""``residual doctor``: check the installation and describe the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from deepresidual.cli.output import print_json, print_line
from deepresidual.errors import MissingDependencyError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["doctor"]


def doctor(*, json: bool = False) -> int:
    """Check the installation: versions, hardware, decoders, and a forward pass.

    Args:
        json: Print one JSON document.
    """
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", _python),
        ("torch", _torch),
        ("device", _device),
        ("load", _load),
        ("precision", _precision),
        ("decoders", _decoders),
        ("network", _network),
        ("detector", _detector),
        ("data", _data),
    ]
    rows: list[dict[str, Any]] = []
    for name, check in checks:
        try:
            rows.append({"check": name, "ok": True, "detail": check()})
        except Exception as error:  # noqa: BLE001  # whatever is wrong is what the user wants to read
            rows.append({"check": name, "ok": False, "detail": f"{type(error).__name__}: {error}"})
    healthy = all(row["ok"] for row in rows)
    if json:
        print_json({"ok": healthy, "checks": rows})
    else:
        for row in rows:
            print_line(f"{'ok ' if row['ok'] else 'BAD'}  {row['check']:<10} {row['detail']}")
        if not healthy:
            print_line("something above is BAD; install Residual again in a fresh virtual environment")
    return 0 if healthy else MissingDependencyError.exit_code


def _python() -> str:
    from deepresidual.runtime.provenance import versions

    found = versions()
    missing = [name for name, version in found.items() if version is None]
    if missing:
        raise ModuleNotFoundError(f"{', '.join(missing)} not installed")
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _torch() -> str:
    import torch

    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _device() -> str:
    from deepresidual.runtime.device import describe_hardware, resolve_device

    facts = describe_hardware(resolve_device("auto"))
    return f"{facts['device']} ({facts['name']}), {facts['cores']} cores"


def _precision() -> str:
    from deepresidual.backends.precision import settle_precision
    from deepresidual.runtime.device import resolve_device
    from deepresidual.zoo import entry

    settled = settle_precision("auto", entry("resnet18").spec, resolve_device("auto"), image_px=224)
    return f"resnet18 at 224 px trains in {settled}"


def _load() -> str:
    import os

    from deepresidual.runtime.openmp import describe_spinning
    from deepresidual.runtime.processes import usable_cores

    if not hasattr(os, "getloadavg"):
        return f"unknown; idle threads: {describe_spinning()}"
    load, cores = os.getloadavg()[0], usable_cores()
    busy = "busy with other programs" if load > cores / 2 else "quiet"
    return f"{busy}: load {load:.1f} on {cores} cores; idle threads: {describe_spinning()}"


def _decoders() -> str:
    import io

    import numpy as np
    from PIL import Image

    from deepresidual.data.decode import decode
    from deepresidual.data.formats import ACCEPTED, reads_heic
    from deepresidual.data.readers import reads_avif
    from deepresidual.errors import DISTRIBUTION

    picture = np.full((8, 8, 3), 128, dtype=np.uint8)
    written = [kind for kind in ACCEPTED if kind != "HEIC" and (kind != "AVIF" or reads_avif())]
    for kind in written:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, kind)
        found = decode(file.getvalue())
        if found.shape != picture.shape or abs(int(found[0, 0, 0]) - 128) > 2:
            raise ValueError(f"{kind} comes out wrong")
    lacking = [] if reads_heic() else [f"HEIC: pip install '{DISTRIBUTION}[heic]'"]
    lacking += [] if reads_avif() else ["AVIF: pip install --upgrade 'Pillow>=11.3'"]
    found_all = ", ".join([*written, *(["HEIC"] if reads_heic() else [])])
    return found_all + (f" (not installed: {'; '.join(lacking)})" if lacking else "")


def _network() -> str:
    import torch

    from deepresidual.models import create
    from deepresidual.runtime.device import resolve_device

    device = resolve_device("auto")
    network = create("resnet20").to(device).eval()
    with torch.inference_mode():
        logits = network(torch.zeros(1, 3, 32, 32, device=device))
    if not logits.isfinite().all():
        raise ArithmeticError("a forward pass gave values that are not finite")
    return "resnet20 forward pass"


def _detector() -> str:
    import torch

    from deepresidual.models import create
    from deepresidual.zoo.detectors import detector

    network = create(detector("resnet20-c4", num_classes=1)).eval()
    with torch.inference_mode():
        network(torch.zeros(1, 3, 32, 32), [(32, 32)])
    return "resnet20-c4 forward pass"


def _data() -> str:
    from deepresidual.data.source import open_source

    source = open_source("digits")
    return f"digits: {', '.join(f'{len(split):,} {name}' for name, split in source.splits.items())}"
