"""CPU seconds of every test, its children included, and a ceiling for each folder of tests.

The clock on the wall says what else the machine does; CPU seconds say what the tests cost. ``--cpu-seconds
FILE`` writes those of each test. ``--hold-ceilings``, which ``make test-all`` gives, fails a session in which
a folder used more than ``budget.json`` allows.
"""

from __future__ import annotations

import json
import resource
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

if TYPE_CHECKING:
    from collections.abc import Generator

CEILINGS: dict[str, float] = json.loads((Path(__file__).parent / "budget.json").read_text("utf-8"))
"""CPU seconds of ``make test`` that each folder may use; "." has the files beside the folders."""

REFERENCE_SECONDS = 0.05
"""What ``reference`` takes on the machine that the ceilings were written on."""

_NAME = "cpu_seconds"
_counted = [0.0]


def count(seconds: float) -> None:
    """Count CPU seconds of processes whose parent still runs, which the system does not count yet."""
    _counted[0] += seconds


def used() -> float:
    """Return the CPU seconds of this process, of its children that ended, and what was counted by hand."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages) + _counted[0]


def reference() -> float:
    """Return the CPU seconds of a fixed computation, the least of five."""
    image, weight = torch.zeros(8, 32, 32, 32), torch.zeros(32, 32, 3, 3)
    seconds = []
    for _ in range(5):
        start = time.process_time()
        torch.nn.functional.conv2d(image, weight)
        sum(number * number for number in range(300_000))
        seconds.append(time.process_time() - start)
    return min(seconds)


def folder_of(test: str) -> str:
    """Return the folder below ``tests`` of a test's id; "." for files that stand beside the folders."""
    parts = test.split("::")[0].split("/")
    return parts[1] if len(parts) > 2 else "."


class CpuSeconds:
    """Measures each test in the process that runs it, and sums up where the reports arrive."""

    def __init__(self, config: pytest.Config) -> None:
        self._file = config.getoption("--cpu-seconds")
        self._holds = config.getoption("--hold-ceilings")
        self._start = 0.0
        self._tests: dict[str, float] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self) -> None:
        self._start = used()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.when == "teardown":
            report.user_properties.append((_NAME, used() - self._start))
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == _NAME and isinstance(value, float):
                self._tests[report.nodeid] = value

    def folders(self) -> dict[str, float]:
        """Return the sums of the folders."""
        sums: dict[str, float] = defaultdict(float)
        for test, seconds in self._tests.items():
            sums[folder_of(test)] += seconds
        return dict(sorted(sums.items(), key=lambda pair: -pair[1]))

    def exceeded(self) -> list[str]:
        """Return a line for each folder that used more than it may, on a machine of this speed."""
        slower = max(1.0, reference() / REFERENCE_SECONDS)
        return [
            f"tests/{folder} used {seconds:.0f} CPU s; expected at most {CEILINGS[folder] * slower:.0f} "
            "(tests/budget.json): take smaller networks, share runs, or mark what is long by nature test_all"
            for folder, seconds in self.folders().items()
            if seconds > CEILINGS[folder] * slower
        ]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput"):
            return
        if self._file:
            tests = {test: round(seconds, 2) for test, seconds in sorted(self._tests.items())}
            Path(self._file).write_text(json.dumps(tests, indent=1) + "\n", "utf-8")
        if self._holds and session.exitstatus == pytest.ExitCode.OK and self.exceeded():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        folders = self.folders()
        sums = ", ".join(f"{folder} {seconds:.0f}" for folder, seconds in folders.items())
        terminalreporter.write_line(f"CPU seconds: {sum(folders.values()):.0f} ({sums})")
        for line in self.exceeded() if self._holds else ():
            terminalreporter.write_line(line, red=True)
