"""A run whose records are damaged and whose checkpoint is whole goes on, and says what is lost."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch

from deepresidual.data.source import open_source
from deepresidual.errors import ConfigurationError, ModelFileError
from deepresidual.runs.folder import Run
from deepresidual.runs.read import read_plan, read_run, read_run_record
from deepresidual.runtime.signals import StopRequest
from deepresidual.training.journal import Journal
from deepresidual.training.options import TrainOptions
from deepresidual.training.resources import Resources
from deepresidual.training.seeds import train_seeds
from tests.conftest import write_photos
from tests.suites import short
from tests.training.parts import SilentJournal, a_run, a_start, record_of, rows, stop_after, weights_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


pytestmark = pytest.mark.usefixtures("no_report")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, the model that runs start from, and a finished run, which no test changes."""
    root = tmp_path_factory.mktemp("records")
    write_photos(root / "photos" / "train", 16)
    write_photos(root / "photos" / "test", 5, seed=1)
    a_start(root / "start")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepresidual.training.launch.Journal", SilentJournal)
        a_run(root / "photos", root / "run")
    return root


@pytest.fixture
def run(origin: Path, tmp_path: Path) -> Path:
    """A copy of the finished run."""
    shutil.copytree(origin / "run", tmp_path / "run")
    return tmp_path / "run"


def goes_on(origin: Path, run: Path, **options: Any) -> None:
    assert a_run(origin / "photos", run, resume=True, **options).status == "finished"


def interrupted(run: Path, name: str = "run.json") -> None:
    """Let the run be one that was stopped after its last step."""
    record = json.loads((run / name).read_text())
    (run / name).write_text(json.dumps({**record, "status": "interrupted"}))


def flipped(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 0x80
    path.write_bytes(content)


# -- run.json --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"hardware": None}, "hardware is null, not an object"),
        (
            {"hardware": {"device": "cpu", "name": "x", "threads": 10**9}},
            "hardware.threads is 1000000000, not",
        ),
        ({"versions": None, "command": 5}, "command is 5, not a list; versions is null, not an object"),
        ({"step": "x"}, "step is 'x', not a whole number from 0 on"),
        ({"step": -3}, "step is -3, not a whole number from 0 on"),
        (
            {"step": 2.5, "total_steps": None},
            "step is 2.5, not a whole number from 0 on; total_steps is null",
        ),
        ({"status": ["finished"]}, "status is a list of 1, not text"),
        ({"num_ranks": 0}, "num_ranks is 0, not a whole number from 1"),
        ({"ignored": [1]}, r"ignored[0] is 1, not an object"),
        (
            {"bad_samples": [], "not_finite": "none"},
            "bad_samples is a list of 0, not an object; not_finite is",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_a_run_can_do_without_is_replaced_and_named(
    origin: Path, run: Path, capsys: pytest.CaptureFixture[str], facts: dict[str, Any], said: str
) -> None:
    (run / "run.json").write_text(json.dumps({**record_of(run), **facts}))
    goes_on(origin, run)
    warned = " ".join(capsys.readouterr().err.split())
    assert f"run.json is damaged ({said}" in warned
    assert "what holds now takes its place" in warned
    record = record_of(run)
    assert read_run_record(run) == record
    assert (record["status"], record["step"]) == ("finished", 10)
    assert weights_of(run).keys() == weights_of(origin / "run").keys()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"a":' * 100_000, "nested too deep"),
        (b"", "Expecting value"),
        (b"\xff\xfe", "a byte that is no UTF-8"),
        (b"\0" * 400, "Expecting value"),
        (b"{}", "plan is missing"),
        (b'{"plan": {}, "plan": {}}', "the name 'plan' is there twice"),
        (b'{"plan": {"seed": NaN}}', "NaN is no JSON"),
        (b'{"plan": {"seed": 1e400}}', "the number 1e400 is too large"),
    ],
    ids=range(8),
)
def test_without_its_plan_a_run_cannot_go_on(origin: Path, run: Path, content: bytes, said: str) -> None:
    (run / "run.json").write_bytes(content)
    with pytest.raises(
        ModelFileError, match=rf"run\.json is damaged \({said}.*\); restore it from a copy, or start anew in"
    ):
        a_run(origin / "photos", run, resume=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": -1}, "plan.seed is -1, not a whole number from 0 on"),
        ({"seed": 2**63}, "plan: seed is 9223372036854775808; expected a whole number from 0 to"),
        ({"seed": True}, "plan.seed is true"),
        ({"classes": [1]}, r"plan.classes\[0\] is 1, not text"),
        ({"recipe": None}, "plan.recipe is null"),
        ({"recipe": {"augment": {}, "mix": {}}}, "plan: the recipe cannot be read"),
        ({"spec": {}}, "plan: the spec has no field"),
        ({"validation": 7}, "plan.validation is 7, not a number from 0 to 1"),
        ({"fingerprint": {"train": 3}}, "plan.fingerprint.train is 3, not text"),
        ({"surprise": 3}, "plan: the plan cannot be read"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_plan_that_is_damaged_in_a_field_names_it(
    origin: Path, run: Path, change: dict[str, Any], said: str
) -> None:
    record = record_of(run)
    (run / "run.json").write_text(json.dumps({**record, "plan": {**record["plan"], **change}}))
    with pytest.raises(ModelFileError, match=rf"run\.json is damaged \({said}"):
        a_run(origin / "photos", run, resume=True)


def test_several_seeds_name_the_one_whose_record_is_damaged(origin: Path, tmp_path: Path) -> None:
    (tmp_path / "runs" / "seed-0").mkdir(parents=True)
    (tmp_path / "runs" / "seed-0" / "run.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"seed-0/run\.json is damaged"):
        train_seeds(origin / "photos", None, tmp_path / "runs", TrainOptions(), num_seeds=2, resume=True)


# -- metrics.jsonl ---------------------------------------------------------------------------------------


def cut_a_line(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:3] + lines[4:]))


@pytest.mark.parametrize("is_interrupted", short([True, False], True), ids=["interrupted", "finished"])
@pytest.mark.parametrize(
    ("damage", "said", "aside"),
    [
        (
            lambda path: flipped(path, 30),
            "line 1 cannot be read (a byte that is no UTF-8; metrics-damaged",
            1,
        ),
        (
            lambda path: path.write_bytes(b'{"event": 3}\n' + path.read_bytes()[20:]),
            "lines 1, 2 cannot be",
            2,
        ),
        (
            lambda path: path.write_bytes(b"[" * 90_000 + path.read_bytes()),
            "line 1 cannot be read (nested",
            1,
        ),
        (lambda path: path.write_bytes(bytes(500)), "has 0 of ", 1),
        (cut_a_line, "lines up to step 10; the curves lack what is lost, the weights do not", 0),
        (lambda path: path.write_bytes(b""), "has 0 of ", 0),
        (lambda path: path.unlink(), "has 0 of ", 0),
    ],
    ids=["bit", "form", "deep", "zeros", "line", "empty", "gone"],
)
def test_lines_of_metrics_that_are_lost_are_said_and_kept_aside(
    origin: Path,
    run: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], None],
    said: str,
    aside: int,
    is_interrupted: bool,
) -> None:
    before = (run / "metrics.jsonl").read_bytes()
    if is_interrupted:
        interrupted(run)
    damage(run / "metrics.jsonl")
    damaged = (run / "metrics.jsonl").read_bytes() if (run / "metrics.jsonl").exists() else b""
    goes_on(origin, run)
    warned = " ".join(capsys.readouterr().err.split())
    assert f"of {len(before.splitlines())} lines up to step 10" in warned
    assert said in warned
    kept = run / "metrics-damaged.jsonl"
    assert (kept.read_bytes().count(b"\n") if kept.exists() else 0) == aside
    assert not kept.exists() or kept.read_bytes().splitlines()[0] == damaged.splitlines()[0]
    assert set((run / "metrics.jsonl").read_bytes().splitlines()) <= set(before.splitlines())
    read_run(run)


def test_a_line_that_a_kill_cut_short_is_not_worth_a_word(
    origin: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = rows(run)
    interrupted(run)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"event": "train", "step": 1')
    goes_on(origin, run)
    assert "warning" not in capsys.readouterr().err
    assert rows(run) == before
    assert not (run / "metrics-damaged.jsonl").exists()


def test_a_run_goes_on_in_the_middle_without_a_damaged_line(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import signal

    with monkeypatch.context() as patch:
        stop_after(patch, 7, signal.SIGTERM)
        assert a_run(origin / "photos", tmp_path / "run").exit_code == 143
    flipped(tmp_path / "run" / "metrics.jsonl", 30)
    goes_on(origin, tmp_path / "run")
    assert "line 1 cannot be read" in capsys.readouterr().err
    losses = [row["loss"] for row in rows(origin / "run")]
    assert [row["loss"] for row in rows(tmp_path / "run")] == losses[1:]


def test_a_checkpoint_of_an_older_version_does_not_know_how_many_lines_there_were(
    origin: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import hashlib

    interrupted(run)
    for folder in (run / "checkpoints").iterdir():
        state = json.loads((folder / "state.json").read_text())
        del state["metric_lines"]
        (folder / "state.json").write_text(json.dumps(state))
        content = (folder / "state.json").read_bytes()
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"]["state.json"] = {
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        (folder / "manifest.json").write_text(json.dumps(manifest))
    shutil.copytree(run, run.with_name("older"))
    goes_on(origin, run)
    assert "warning" not in capsys.readouterr().err
    flipped(run.with_name("older") / "metrics.jsonl", 30)
    goes_on(origin, run.with_name("older"))
    assert "line 1 cannot be read" in capsys.readouterr().err


# -- the other records -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, 20),
        lambda path: path.write_bytes(bytes(200)),
        lambda path: path.write_bytes(gzip.compress(b'\xff{"x":\n' * 9)),
        lambda path: path.write_bytes(gzip.compress(b"[" * 100_000)),
        lambda path: path.write_bytes(gzip.compress(b'["a", "b", 3]\n')),
        lambda path: path.write_bytes(gzip.compress(b"3\n")),
    ],
    ids=["cut", "zeros", "bytes", "deep", "types", "number"],
)
def test_what_the_samples_were_is_not_known_from_a_damaged_list(
    origin: Path, run: Path, tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    damage(run / "samples" / "train.jsonl.gz")
    goes_on(origin, run)  # with the same data it is not read
    shutil.copytree(origin / "photos", tmp_path / "photos")
    (tmp_path / "photos" / "train" / "red" / "red-003.png").unlink()
    with pytest.raises(
        ConfigurationError,
        match=r"have changed since .* \(in train or behind; .*train\.jsonl\.gz is damaged \(.+\), so what it",
    ):
        a_run(tmp_path / "photos", run, resume=True, weights=origin / "start")


@pytest.mark.parametrize(
    "content", short([b"", b"{}", b"\xff", b'{"a":' * 100_000], b"{}"), ids=["cut", "{}", "bytes", "deep"]
)
@pytest.mark.parametrize("is_interrupted", [True, False], ids=["interrupted", "finished"])
def test_an_evaluation_that_is_damaged_is_measured_again(
    origin: Path, run: Path, capsys: pytest.CaptureFixture[str], content: bytes, is_interrupted: bool
) -> None:
    before = json.loads((run / "evaluation.json").read_text())
    lines = (run / "metrics.jsonl").read_bytes()
    if is_interrupted:
        interrupted(run)
    (run / "evaluation.json").write_bytes(content)
    goes_on(origin, run)
    assert "evaluation.json is damaged (" in capsys.readouterr().err
    assert json.loads((run / "evaluation.json").read_text()) == before
    assert (run / "metrics.jsonl").read_bytes() == lines


def test_a_run_whose_checkpoints_are_gone_says_that_it_begins_again(
    origin: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = [row["loss"] for row in rows(run)]
    shutil.rmtree(run / "checkpoints")
    goes_on(origin, run)
    said = " ".join(capsys.readouterr().err.split())
    assert (
        f"no checkpoint to go on from: the run begins again; later lines of metrics ({len(losses)})" in said
    )
    assert [row["loss"] for row in rows(run)] == losses


def test_checkpoints_of_another_network_are_refused(origin: Path, run: Path, tmp_path: Path) -> None:
    from deepresidual.spec import ResNetSpec

    other = ResNetSpec(unit="basic", depths=(1, 1), widths=(4, 16), stem="cifar", shortcut="A", num_classes=3)
    a_run(origin / "photos", tmp_path / "other", weights=a_start(tmp_path / "wider", other))
    shutil.rmtree(run / "checkpoints")
    shutil.copytree(tmp_path / "other" / "checkpoints", run / "checkpoints")
    with pytest.raises(ModelFileError, match="checkpoints are of another network than the run; start anew"):
        a_run(origin / "photos", run, resume=True)


def test_a_manifest_that_is_nested_too_deep_is_a_damaged_checkpoint(
    origin: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupted(run)
    (run / "checkpoints" / "step-10" / "manifest.json").write_bytes(b"[" * 100_000)
    goes_on(origin, run)
    assert "step-10 cannot be used (nested too deep); the one before it is used" in capsys.readouterr().err


def test_a_report_that_cannot_be_made_does_not_end_a_run(
    origin: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "evaluation.json").write_text("{")
    plan, _ = read_plan(run)
    resources = Resources(torch.device("cpu"), StopRequest())
    Journal(Run.read_only(run, plan), open_source(origin / "photos"), resources).end()
    said = " ".join(capsys.readouterr().err.split())
    assert "there is no new report (" in said
    assert "evaluation.json is damaged" in said
