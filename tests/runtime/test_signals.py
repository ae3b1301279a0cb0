"""Signals as requests to stop, and what is said where nobody hears it."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from deepresidual.runtime.console import ProgressBar, note, warn
from deepresidual.runtime.signals import StopRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")


@pytest.fixture
def hangup() -> Iterator[None]:
    """Leave the handling of SIGHUP as it was."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
def test_a_terminal_that_is_closed_asks_to_stop() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop.exit_code == 143
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


@pytest.mark.usefixtures("hangup")
def test_under_nohup_it_does_not() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert stop.exit_code == 0
        signal.raise_signal(signal.SIGTERM)
        assert stop.exit_code == 143
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_what_is_said_to_a_terminal_that_is_gone_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = os.openpty()
    with open(there, "w", encoding="utf-8") as terminal:  # noqa: PTH123  # a descriptor, not a path
        monkeypatch.setattr(sys, "stderr", terminal)
        with ProgressBar(3, label="training") as bar:
            bar.update(1, "before")
            os.close(here)
            note("nobody")
            warn("hears")
            bar.update(2, "after")
            bar.line("that")
        # Nor does what waits in a buffer fail at the end.
        terminal.write("nothing")


def test_a_stream_that_is_closed_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with open(os.devnull, "w", encoding="utf-8") as closed:  # noqa: PTH123  # as pytest has it
        pass
    for stream in (closed, None):
        monkeypatch.setattr(sys, "stderr", stream)
        note("nobody")
        with ProgressBar(3, label="training") as bar:
            bar.line("hears that")
