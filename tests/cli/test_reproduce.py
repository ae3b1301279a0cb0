"""``residual reproduce`` as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from matplotlib.figure import Figure

from deepresidual.analysis import EXPERIMENT_NAMES
from deepresidual.analysis.experiments import EXPERIMENTS
from deepresidual.analysis.experiments.record import is_judged
from deepresidual.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _figures_stay_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing: figures have tests of their own."""
    monkeypatch.setattr(Figure, "savefig", lambda _figure, file, **_how: file.write(b"drawn"))


def as_json(capsys: Capture) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert document["schema_version"] == 1
    return document


def test_without_a_name_all_are_listed(capsys: Capture) -> None:
    assert main(["reproduce"]) == 0
    out = capsys.readouterr().out
    for one in EXPERIMENTS:
        assert one.name in out
        assert one.claim in out
    assert main(["reproduce", "--json"]) == 0
    rows = as_json(capsys)["experiments"]
    assert [row["name"] for row in rows] == [one.name for one in EXPERIMENTS]
    assert tuple(row["name"] for row in rows) == EXPERIMENT_NAMES
    assert rows[1]["arms"]["laptop"][:2] == ["plain-20", "resnet-20"]


def test_complexity_prints_its_verdicts_and_where_things_lie(tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "out"
    assert main(["reproduce", "complexity", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "PASS" in printed
    assert "11.282 × 10⁹" in printed
    assert f"figure  {out / 'winners'}.png" in printed
    assert f"table   {out / 'table.md'}" in printed
    assert main(["reproduce", "complexity", "--out", str(out)]) == 2
    assert "already holds an experiment; go on with --resume" in capsys.readouterr().err
    assert main(["reproduce", "complexity", "--out", str(out), "--resume", "--json"]) == 0
    assert as_json(capsys)["status"] == "finished"


def test_a_claim_that_was_not_shown_is_no_failure(tmp_path: Path, capsys: Capture) -> None:
    options = ["--scale", "smoke", "--device", "cpu", "--workers", "0", "--precision", "fp32", "--json"]
    arms = ["--arms", "plain-8", "--seeds", "1"]
    assert main(["reproduce", "responses", "--out", str(tmp_path / "out"), *options, *arms]) == 0
    document = as_json(capsys)
    assert document["out"] == str(tmp_path / "out")
    assert {row["verdict"] for row in document["verdicts"]} == {"open"}
    assert document["arms"][0]["summary"]["median_response"]["count"] == 1


def test_dry_run_shows_arms_updates_and_time(tmp_path: Path, capsys: Capture) -> None:
    assert (
        main(["reproduce", "degradation", "--scale", "smoke", "--dry-run", "--json", "--device", "cpu"]) == 0
    )
    document = as_json(capsys)
    assert [arm["name"] for arm in document["arms"]] == ["plain-8", "resnet-8", "plain-14", "resnet-14"]
    assert [arm["steps"] for arm in document["arms"]] == [4] * 4  # 2 epochs of 100 images by 50
    assert document["seconds"] == pytest.approx(sum(arm["seconds"] for arm in document["arms"]))
    times = {arm["name"]: arm["seconds"] for arm in document["arms"]}
    assert times["plain-14"] > 1.5 * times["plain-8"] > 0
    assert main(["reproduce", "depth", "--scale", "paper", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "64,000" in out
    assert "time in all, training alone: –" in out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["degredation"], "unknown experiment 'degredation' (nearest: degradation"),
        (
            ["degradation"],
            (
                "degradation at scale laptop does not say which data; expected CIFAR-10; name it: "
                "residual reproduce degradation DATA --scale laptop"
            ),
        ),
        (["depth", "digits", "--arms", "resnet-21"], "unknown arm of depth 'resnet-21' (nearest: resnet-"),
        (["depth", "digits", "--seeds", "0"], "seeds is 0; expected 1 to 1000"),
    ],
)
def test_what_cannot_be_is_one_line_and_usage(
    arguments: list[str], message: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("scale", "steps", "judged"), [("smoke", 4, False), ("smoke", 0, True), ("laptop", 4, True)]
)
def test_a_few_updates_judge_no_claim(scale: str, steps: int, judged: bool) -> None:
    assert is_judged({"scale": scale, "arms": [{"recipe": {"steps": steps}}]}) is judged


def test_smoke_says_what_it_shows(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"verdict": "FAIL", "claim": "c", "measured": "m", "published": "p", "tolerance": "t"}
    document = {"scale": "smoke", "arms": [{"recipe": {"steps": 4}}], "verdicts": [row], "figures": []}
    done = SimpleNamespace(document=document, exit_code=0, path=Path("out"))
    monkeypatch.setattr("deepresidual.analysis.experiments.reproduce", lambda *_, **__: done)
    assert main(["reproduce", "degradation", "--scale", "smoke"]) == 0
    out = capsys.readouterr().out
    assert "not judged" in out
    assert "FAIL" not in out
    assert "shows that the program runs" in out
