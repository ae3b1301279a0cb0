"""A torchvision that does not fit the torch beside it is named with what to do, not by a traceback."""

from __future__ import annotations

import runpy
import sys
from types import ModuleType

import pytest

from deepresidual.errors import MissingDependencyError
from deepresidual.nn.detection import operators


class BuiltForAnotherTorch(ModuleType):
    """What import of the usual torchvision does beside a torch for the CPU alone."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError("operator torchvision::nms does not exist")


@pytest.mark.parametrize(
    ("installed", "said"),
    [(None, "import of torchvision"), (BuiltForAnotherTorch("torchvision.ops"), "torchvision::nms does not")],
)
def test_a_torchvision_that_cannot_be_used_is_named(
    installed: ModuleType | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.ops", installed)
    with pytest.raises(MissingDependencyError, match=f"does not work beside this torch .*{said}") as caught:
        runpy.run_path(operators.__file__ or "")
    assert caught.value.exit_code == 4
    assert "install both anew" in str(caught.value)
