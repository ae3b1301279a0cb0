"""Stand-ins for the objects that training programs keep beside the weights in a pickle.

torchvision's and timm's training scripts save their arguments (``argparse.Namespace``), mmdetection the
curves of its log, others a NumPy number, a path or the version of torch. torch's restricted reader refuses a
file for any of these names. Here each name stands for a class that takes whatever the pickle gives it and
does nothing with it, so that the file can be read: neither the named class nor anything of its module is
imported, called or changed. Names that are not listed are refused as before.
"""

from __future__ import annotations

import pickle
from typing import Any, Self


class StandIn:
    """An object that was in the file; nothing of it is kept but what it was.

    Attributes:
        described: What it was, for people: ``"a Namespace"``.
    """

    described = "an object"

    def __new__(cls, *_: Any) -> Self:
        """Ignore what the object would be made of."""
        return object.__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        """Ignore what the object would hold; without this method torch would set it as attributes."""


class _Dict:
    """A subclass of dict, read as a dict."""

    def __new__(cls, *_: Any) -> dict[Any, Any]:  # type: ignore[misc]  # on purpose: torch fills plain ones alone
        """Return an empty dict, which the pickle then fills."""
        return {}


class _List:
    """A relative of list, read as a list."""

    def __new__(cls, *_: Any) -> list[Any]:  # type: ignore[misc]
        """Return an empty list, which the pickle then fills."""
        return []


_CURVE = "a curve of mmengine"


class _FunctionOfCurve(StandIn):
    """A function of mmengine's curves, which their pickle names by ``getattr``: nothing is looked up.

    The attribute of anything else is refused, as every name is that is not listed.
    """

    described = "a function"

    def __new__(cls, *of: Any) -> Self:
        """Ignore which attribute it is."""
        if getattr(of[0] if of else None, "described", None) != _CURVE:
            raise pickle.UnpicklingError("GLOBAL builtins.getattr")
        return super().__new__(cls)


_OBJECTS = {
    "a Namespace": ("argparse.Namespace", "types.SimpleNamespace"),
    "a path": tuple(
        f"{module}.{name}"
        for module in ("pathlib", "pathlib._local")
        for name in ("Path", "PosixPath", "PurePath", "PurePosixPath", "PureWindowsPath", "WindowsPath")
    ),
    "a date": tuple(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    "a version": ("torch.torch_version.TorchVersion",),
    "a NumPy number": ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"),
    "a NumPy array": (
        *("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"),
        *("numpy.core.numeric._frombuffer", "numpy._core.numeric._frombuffer", "numpy.ndarray"),
    ),
    "a NumPy type": (
        "numpy.dtype",
        *(f"numpy.{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)),
        *("numpy.float16", "numpy.float32", "numpy.float64", "numpy.bool", "numpy.bool_"),
    ),
    _CURVE: ("mmengine.logging.history_buffer.HistoryBuffer",),
    # What a defaultdict makes its values with.
    "a type": tuple(f"builtins.{name}" for name in ("bool", "dict", "float", "int", "list", "str", "tuple")),
}
_DICTS = (
    "collections.defaultdict",
    *(
        f"{module}.AttributeDict"
        for module in ("lightning_fabric.utilities.data", "lightning.fabric.utilities.data")
    ),
    *(
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "lightning.pytorch.utilities.parsing.AttributeDict",
    ),
)


def _made() -> dict[str, type]:
    made: dict[str, type] = {}
    for described, names in _OBJECTS.items():
        for name in names:
            made[name] = type(name.rpartition(".")[2], (StandIn,), {"described": described})
    made["builtins.getattr"] = _FunctionOfCurve
    return made | dict.fromkeys(_DICTS, _Dict) | {"collections.deque": _List}


STAND_INS: dict[str, type] = _made()
"""Full name in a pickle → what stands for it."""
