"""The processor: its name and its instruction sets, as the operating system tells them; without torch."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# What decides how fast networks are, in the order in which processors learned it; of ARM the last five.
_TELLING = (
    "avx2",
    "avx_vnni",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "avx512_fp16",
    "amx_int8",
    "amx_bf16",
    "asimd",
    "asimddp",
    "bf16",
    "i8mm",
    "sve",
)


@functools.cache
def cpu_name() -> str:
    """Return the model of the processor; its architecture where the system does not tell more."""
    facts = _facts()
    return facts.get("model name") or platform.processor() or platform.machine()


@functools.cache
def cpu_flags() -> tuple[str, ...]:
    """Return its instruction sets by the names that Linux gives them, sorted; none on other systems."""
    facts = _facts()
    return tuple(sorted(set((facts.get("flags") or facts.get("Features") or "").split())))


def telling_flags() -> tuple[str, ...]:
    """Return those of its instruction sets that decide how fast networks are."""
    have = set(cpu_flags())
    return tuple(flag for flag in _TELLING if flag in have)


def _facts() -> dict[str, str]:
    """Return what Linux says of the first processor."""
    try:
        first = _CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
