"""Killing a child just before its nth system call on a file: by ptrace, or where that may not be by hooks.

The child is forked, not started, so a trial takes milliseconds although torch is loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
from typing import TYPE_CHECKING

from tests.survival import plants

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["can_trace", "run_until"]

_TRACEME, _CONT, _KILL_WITH_TRACER, _SYSCALL, _SETOPTIONS, _GET_SYSCALL_INFO = (
    0,
    7,
    1 << 20,
    24,
    0x4200,
    0x420E,
)
_SYSGOOD = 1  # a stop at a system call is SIGTRAP with this bit set
_SYSCALL_STOP = signal.SIGTRAP | 0x80
_ENTRY = 1

# The calls that change what lies in a folder, or begin or end to: by number, of <asm/unistd_64.h> and of
# <asm-generic/unistd.h>. On other machines every call counts, which takes longer and shows the same.
_X86_64 = {
    1: "write", 2: "open", 3: "close", 18: "pwrite64", 20: "writev", 74: "fsync", 75: "fdatasync",
    76: "truncate", 77: "ftruncate", 82: "rename", 83: "mkdir", 84: "rmdir", 85: "creat", 86: "link",
    87: "unlink", 257: "openat", 258: "mkdirat", 263: "unlinkat", 264: "renameat", 285: "fallocate",
    316: "renameat2", 326: "copy_file_range",
}  # fmt: skip
_GENERIC = {
    34: "mkdirat", 35: "unlinkat", 37: "linkat", 38: "renameat", 45: "truncate", 46: "ftruncate",
    47: "fallocate",
    56: "openat", 57: "close", 64: "write", 66: "writev", 68: "pwrite64", 82: "fsync", 83: "fdatasync",
    276: "renameat2", 285: "copy_file_range",
}  # fmt: skip
_NAMES = {"x86_64": _X86_64, "aarch64": _GENERIC, "riscv64": _GENERIC}.get(platform.machine())


class _SystemCall(ctypes.Structure):
    """``struct ptrace_syscall_info`` of <linux/ptrace.h>, as far as it is read here."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("pad", ctypes.c_uint8 * 3),
        ("arch", ctypes.c_uint32),
        ("instruction_pointer", ctypes.c_uint64),
        ("stack_pointer", ctypes.c_uint64),
        ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
        ("room", ctypes.c_uint64 * 4),
    )


def _ptrace(request: int, process: int, address: int = 0, data: object = 0) -> int:
    function = ctypes.CDLL(None, use_errno=True).ptrace
    function.restype = ctypes.c_long
    pointer = ctypes.byref(data) if isinstance(data, ctypes.Structure) else ctypes.c_void_p(data)  # type: ignore[arg-type]
    return int(function(ctypes.c_long(request), ctypes.c_long(process), ctypes.c_void_p(address), pointer))


def run_until(act: Callable[[], None], number: int, folder: Path, *, trace: bool) -> tuple[str, bool]:
    """Run ``act`` in a forked child, and kill it just before its ``number``-th system call on a file.

    Args:
        act: What to do.
        number: At which call, counted from 1.
        folder: Where ``act`` writes; the hooks look at nothing else.
        trace: By ptrace; else by Python's hooks, which see less.

    Returns:
        The name of the last call, and whether the child was killed there; else it has come to its end.
    """
    child = os.fork()
    if not child:
        code = 1
        with contextlib.suppress(BaseException):
            if trace:
                _ptrace(_TRACEME, 0)
                os.kill(os.getpid(), signal.SIGSTOP)
            else:
                plants.plant({"kill_at_operation": number}, folder)
            act()
            code = 0
        os._exit(code)
    if not trace:
        status = os.waitpid(child, 0)[1]
        _require_end(status)
        return "a file operation", os.WIFSIGNALED(status)
    os.waitpid(child, 0)
    _ptrace(_SETOPTIONS, child, 0, _SYSGOOD | _KILL_WITH_TRACER)
    name, count, pass_on = "", 0, 0
    while True:
        _ptrace(_SYSCALL, child, 0, pass_on)
        status = os.waitpid(child, 0)[1]
        if not os.WIFSTOPPED(status):
            _require_end(status)
            return name, False
        stopped_by = os.WSTOPSIG(status)
        pass_on = 0 if stopped_by == _SYSCALL_STOP else stopped_by
        if pass_on:
            continue
        call = _SystemCall()
        _ptrace(_GET_SYSCALL_INFO, child, ctypes.sizeof(call), call)
        if call.op != _ENTRY or (_NAMES is not None and call.number not in _NAMES):
            continue
        name, count = _NAMES[call.number] if _NAMES is not None else str(call.number), count + 1
        if count == number:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return name, True


def _require_end(status: int) -> None:
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise RuntimeError("what was to be killed has failed by itself")


def can_trace() -> bool:
    """Return whether this system lets a process trace its child and tells which calls it makes."""
    if not hasattr(ctypes.CDLL(None), "ptrace"):
        return False
    child = os.fork()
    if not child:
        allowed = _ptrace(_TRACEME, 0) == 0
        if allowed:
            os.kill(os.getpid(), signal.SIGSTOP)
            os.getppid()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSTOPPED(status):
        return False
    call = _SystemCall()
    _ptrace(_SETOPTIONS, child, 0, _SYSGOOD | _KILL_WITH_TRACER)
    _ptrace(_SYSCALL, child)
    stopped = os.WIFSTOPPED(os.waitpid(child, 0)[1])
    told = stopped and _ptrace(_GET_SYSCALL_INFO, child, ctypes.sizeof(call), call) > 0
    os.kill(child, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(child, 0)
    return told
