"""The name and the instruction sets of a processor, as Linux writes them for x86 and ARM."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deepresidual.runtime import cpu

X86 = """processor\t: 0
model name\t: Some(R) Processor
flags\t\t: fpu sse2 avx2 avx512f avx512_vnni

processor\t: 1
model name\t: Other
"""
ARM = "processor\t: 0\nFeatures\t: fp asimd i8mm\n\n"


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    for function in (cpu.cpu_name, cpu.cpu_flags):
        function.cache_clear()
    yield
    for function in (cpu.cpu_name, cpu.cpu_flags):
        function.cache_clear()


@pytest.mark.parametrize(
    ("text", "name", "flags", "telling"),
    [
        (
            X86,
            "Some(R) Processor",
            ("avx2", "avx512_vnni", "avx512f", "fpu", "sse2"),
            ("avx2", "avx512f", "avx512_vnni"),
        ),
        (ARM, None, ("asimd", "fp", "i8mm"), ("asimd", "i8mm")),
        ("", None, (), ()),
    ],
)
def test_linux_tells_the_processor(
    text: str,
    name: str | None,
    flags: tuple[str, ...],
    telling: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "cpuinfo")
    assert (cpu.cpu_flags(), cpu.telling_flags()) == (flags, telling)
    assert cpu.cpu_name() == name if name else cpu.cpu_name()


def test_another_system_has_a_name_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "nothing")
    assert cpu.cpu_name()
    assert cpu.cpu_flags() == ()
