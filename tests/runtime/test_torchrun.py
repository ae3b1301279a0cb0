"""The environment of torchrun: whole, or left over, or wrong; and processes that fail together."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import torch

from deepresidual.errors import (
    ConfigurationError,
    DataError,
    MachineError,
    ResidualError,
    RunError,
    UnknownNameError,
)
from deepresidual.runtime import distributed
from deepresidual.runtime.distributed import SINGLE, Processes
from deepresidual.runtime.torchrun import launched_by_torchrun, place, speaks

if TYPE_CHECKING:
    from collections.abc import Callable

CPU = torch.device("cpu")
NAMES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
)
WHOLE = {
    "RANK": "1",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "127.0.0.1",
    "MASTER_PORT": "29500",
}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Set the environment to what is given, and nothing else of torchrun's."""

    def tell(environment: dict[str, str], **changes: str | None) -> None:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in {**environment, **changes}.items():
            if value is not None:
                monkeypatch.setenv(name, value)

    return tell


def test_a_whole_environment_is_read(told: Callable[..., None]) -> None:
    told(WHOLE, TORCHELASTIC_RESTART_COUNT="2")
    assert launched_by_torchrun()
    here = place()
    assert (here.rank, here.size, here.local_rank, here.num_restarts) == (1, 4, 1, 2)
    assert (here.address, here.port) == ("127.0.0.1", 29500)
    assert not speaks()


@pytest.mark.parametrize(
    "left",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"RANK": "3"},
        {"WORLD_SIZE": "8", "LOCAL_RANK": "1"},
        {"MASTER_ADDR": "nowhere.invalid", "MASTER_PORT": "0"},
    ],
    ids=lambda left: "-".join(left) or "nothing",
)
def test_what_is_left_of_one_process_or_names_none_is_passed_over(
    told: Callable[..., None], left: dict[str, str]
) -> None:
    told(left)
    assert not launched_by_torchrun()
    assert Processes.join(CPU) is SINGLE
    assert speaks()


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (("MASTER_ADDR",), "MASTER_ADDR is missing"),
        (("MASTER_PORT",), "MASTER_PORT is missing"),
        (("LOCAL_RANK",), "LOCAL_RANK is missing"),
        (("MASTER_ADDR", "MASTER_PORT"), "MASTER_ADDR and MASTER_PORT are missing"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.parametrize("value", [None, "", " "], ids=["unset", "empty", "blank"])
def test_what_is_missing_is_named(
    told: Callable[..., None], missing: tuple[str, ...], said: str, value: str | None
) -> None:
    told(WHOLE, **dict.fromkeys(missing, value))
    with pytest.raises(
        ConfigurationError,
        match=f"^the environment of torchrun is incomplete: {said}; start with torchrun; to train in one",
    ):
        Processes.join(CPU)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("RANK", "abc", "a whole number from 0 to 3"),
        ("RANK", "4", "a whole number from 0 to 3"),
        ("RANK", "-1", "a whole number from 0 to 3"),
        ("RANK", "1.0", "a whole number from 0 to 3"),
        ("RANK", "1_0", "a whole number from 0 to 3"),
        ("RANK", "١", "a whole number from 0 to 3"),
        ("RANK", "9" * 5000, "a whole number from 0 to 3"),
        ("LOCAL_RANK", "x", "a whole number from 0 to 3"),
        ("WORLD_SIZE", "0", "a whole number from 1 to 1000000"),
        ("WORLD_SIZE", "many", "a whole number from 1 to 1000000"),
        ("MASTER_PORT", "0", "a whole number from 1 to 65535"),
        ("MASTER_PORT", "70000", "a whole number from 1 to 65535"),
        ("MASTER_PORT", "http", "a whole number from 1 to 65535"),
        ("TORCHELASTIC_RESTART_COUNT", "often", "a whole number from 0 to 1000000"),
    ],
    ids=lambda value: value[:12],
)
def test_what_is_wrong_is_named(told: Callable[..., None], name: str, value: str, expected: str) -> None:
    told(WHOLE, **{name: value})
    with pytest.raises(ConfigurationError, match=f"torchrun is wrong: {name} is '.*'; expected {expected};"):
        Processes.join(CPU)


def test_a_rank_that_was_left_behind_alone_is_not_silent(told: Callable[..., None]) -> None:
    told(WHOLE, MASTER_ADDR=None)
    assert speaks()
    told(WHOLE)
    assert not speaks()


@pytest.mark.parametrize("address", ["no-such-host.invalid", "x" * 300, "a..b"])
def test_an_address_that_is_nobodys_is_said_at_once(told: Callable[..., None], address: str) -> None:
    told(WHOLE, MASTER_ADDR=address)
    with pytest.raises(
        MachineError, match=r"cannot meet at .*:29500: MASTER_ADDR has no address here"
    ) as caught:
        Processes.join(CPU)
    assert caught.value.exit_code == 4


def test_a_port_that_is_taken_is_said(told: Callable[..., None]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        told(WHOLE, RANK="0", LOCAL_RANK="0", MASTER_PORT=str(other.getsockname()[1]))
        with pytest.raises(MachineError, match=r"the 4 processes cannot meet at 127.0.0.1:\d+ \(.*in use"):
            Processes.join(CPU)


def test_nobody_at_the_address_is_said_while_it_waits_and_in_the_end(
    told: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from datetime import timedelta

    monkeypatch.setattr(distributed, "_MEETING", timedelta(seconds=2))
    monkeypatch.setattr(distributed, "_SAID_AFTER_S", 0.2)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told(WHOLE, MASTER_PORT=str(port))
    with pytest.raises(
        MachineError, match=rf"the 4 processes cannot meet at 127.0.0.1:{port} \(.+\); see that"
    ):
        Processes.join(CPU)
    assert f"rank 1 waits for 4 processes to meet at 127.0.0.1:{port}" in capfd.readouterr().err


# -- failing together ------------------------------------------------------------------------------------


class Told(Processes):
    """Processes of which the others' errors are known beforehand."""

    met: tuple[ResidualError | None, ...] = ()

    def all_gather(self, value: Any) -> list[Any]:
        return [*self.met[: self.rank], value, *self.met[self.rank + 1 :]]


def ended(rank: int, met: tuple[ResidualError | None, ...], own: Exception | None) -> ResidualError:
    """Return what a rank ends with that meets ``own`` where the others meet ``met``."""
    processes = Told(rank, len(met))
    object.__setattr__(processes, "met", met)
    try:
        with processes.failing_together():
            if own is not None:
                raise own
    except ResidualError as error:
        return error
    raise AssertionError("the rank goes on")


def test_the_others_end_with_the_error_of_the_one_that_failed() -> None:
    refusal = UnknownNameError("model", "resnt20", ["resnet20"])
    echo = ended(1, (refusal, None), None)
    assert (type(echo), str(echo), echo.exit_code) == (UnknownNameError, str(refusal), 2)
    assert echo.is_echo


def test_the_one_that_failed_tells() -> None:
    own = DataError("damaged")
    told = ended(0, (None, None), own)
    assert told is own
    assert not told.is_echo


def test_of_several_the_first_tells() -> None:
    first, second = DataError("first"), RunError("second")
    assert str(ended(1, (first, None), second)) == "first"
    assert str(ended(1, (None, None, RunError("third")), second)) == "second"


def test_an_error_that_is_nobodys_fault_is_named_with_its_rank() -> None:
    echo = distributed._as_told(KeyError("shape"), 3)
    assert (str(echo), echo.exit_code) == ("rank 3 failed (KeyError: 'shape')", 1)


def test_a_rank_that_fails_says_why_although_the_others_are_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise RunError("rank 0 has lost the others")

    monkeypatch.setattr(Processes, "all_gather", gone)
    with pytest.raises(DataError, match="^damaged$"), Processes(0, 2).failing_together():
        raise DataError("damaged")
    with pytest.raises(RunError, match="has lost the others"), Processes(0, 2).failing_together():
        pass


def test_one_process_fails_as_ever() -> None:
    with pytest.raises(KeyError, match="shape"), SINGLE.failing_together():
        raise KeyError("shape")


def test_an_echo_is_not_printed_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from deepresidual import cli

    def refuse(*_: object, **__: object) -> int:
        error = DataError("damaged")
        error.is_echo = os.environ["RANK"] == "1"
        raise error

    monkeypatch.setattr("tyro.cli", refuse)
    for rank, said in (("0", "error: damaged\n"), ("1", "")):
        monkeypatch.setenv("RANK", rank)
        assert cli.main(["models"]) == 3
        assert capsys.readouterr().err == said
